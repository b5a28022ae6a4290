"""What the kernel is told of bytes, by whom they are given, and what is said about it."""

from __future__ import annotations

import pytest

from entropy import kernel
from entropy.into_kernel import into_kernel
from tests.first_boot.conftest import FakeKernel

DATA = bytes(64)


def test_no_more_than_it_is_worth(fake_kernel: FakeKernel) -> None:
    assert into_kernel(DATA, 448) == (448, "448 bits credited to the kernel")
    assert into_kernel(DATA, 10_000)[0] == 512
    assert fake_kernel.added == [(DATA, 448), (DATA, 512)]


def test_a_kernel_that_cannot_be_reseeded_is_said(
    fake_kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "reseed", lambda: False)
    assert "within a minute" in into_kernel(DATA, 448)[1]


@pytest.mark.parametrize(
    ("credit_bits", "options", "why"),
    [
        (448, {"credit": False}, "credit = false"),
        (0, {}, "worth nothing"),
        (-1, {}, "worth nothing"),
    ],
)
def test_without_credit(
    fake_kernel: FakeKernel, credit_bits: int, options: dict[str, bool], why: str
) -> None:
    credited_bits, how = into_kernel(DATA, credit_bits, **options)
    assert (credited_bits, fake_kernel.added, fake_kernel.mixed) == (0, [], [DATA])
    assert why in how


def test_a_shared_kernel(fake_kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "shares_kernel", lambda: True)
    assert into_kernel(DATA, 448)[0] == 0
    assert into_kernel(DATA, 448, allow_shared_kernel=True)[0] == 448


def test_without_the_privilege(fake_kernel: FakeKernel) -> None:
    fake_kernel.may_credit = False
    credited_bits, how = into_kernel(DATA, 448)
    assert (credited_bits, fake_kernel.mixed) == (0, [DATA])
    assert "CAP_SYS_ADMIN" in how
