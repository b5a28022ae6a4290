"""Losing power between any two writes: the next run goes on, and no key that was issued is lost."""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from module_utils.entropy_store import Vault
from tests.ansible.fleet import LARGER, NOW, SMALL, Fleet

# Everything that changes what is on the disk.
WRITES = ("open", "fchmod", "fsync", "replace", "unlink", "mkdir")


class PowerLost(BaseException):
    """Nothing of ours catches it: what is on the disk stays as it was."""


@contextmanager
def power_lost_at(number: int) -> Iterator[None]:
    """Let `number` writes pass and lose power at the next."""
    left = number

    def counted(write: Callable[..., Any]) -> Callable[..., Any]:
        def or_lost(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            if left == 0:
                raise PowerLost
            left -= 1
            return write(*arguments, **named)

        return or_lost

    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            patch.setattr(os, name, counted(getattr(os, name)))
        yield


class Change(NamedTuple):
    """What a run is asked for, at what time, in a fleet that had SMALL before or nothing."""

    credentials: dict[str, dict[str, Any]]
    brokers: tuple[str, ...]
    now: datetime.datetime
    grown: bool
    generation: int

    def __call__(self, fleet: Fleet) -> None:
        fleet.ensure(self.credentials, *self.brokers, now=self.now, bootstrap=not self.grown)


BEGIN = Change(SMALL, ("b1",), NOW, grown=False, generation=1)
GROW = Change(LARGER, ("b1", "b2"), NOW, grown=True, generation=2)
RENEW = Change(SMALL, ("b1",), NOW + datetime.timedelta(days=600), grown=True, generation=1)


@pytest.mark.parametrize("change", [BEGIN, GROW, RENEW], ids=["begin", "grow", "renew"])
def test_the_next_run_goes_on(tmp_path: Path, vault: Vault, change: Change) -> None:
    original = Fleet(tmp_path / "original", vault)
    old = {}
    if change.grown:
        BEGIN(original)
        old = {name: original.credential(name).secret for name in SMALL}
    n_writes = 0
    while True:
        fleet = Fleet(tmp_path / str(n_writes), vault)
        if change.grown:
            shutil.copytree(original.state_dir, fleet.state_dir)
        try:
            with power_lost_at(n_writes):
                change(fleet)
            break
        except PowerLost:
            pass
        if change.grown:  # what was issued works on, even before the next run
            assert {name: fleet.credential(name).secret for name in old} == old
            assert {entry["id"] for entry in fleet.entries()} >= set(old)
        change(fleet)
        fleet.assert_sound()
        assert fleet.ledger().generation == change.generation
        assert {name: fleet.credential(name).secret for name in old} == old
        assert not [name for name in fleet.files() if name.endswith(".new")]
        assert not fleet.ensure(change.credentials, *change.brokers).changed
        n_writes += 1
    assert n_writes > 20
