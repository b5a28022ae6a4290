"""`entropy seed issue`: drawn from a broker as the VM would, and of use to that VM alone."""

from __future__ import annotations

import stat
import time
import uuid
from pathlib import Path

import pytest

from entropy.cli import main
from entropy.injected_seed import unseal
from entropy.wire.codes import DrawKind
from entropy.wire.frames import Block
from tests.first_boot.conftest import Fleet

UUID = "11111111-2222-3333-4444-555555555555"


def issue(fleet: Fleet, *more: str) -> int:
    folder = fleet.folder
    words = ["seed", "issue", "--uuid", UUID, "--output", f"{folder}/seed"]
    words += ["--credential", f"{folder}/credential.json", "--ca", f"{folder}/ca.pem"]
    for broker in fleet.brokers:
        words += ["--broker", broker.endpoint]
    return main([*words, *more])


def test_what_is_issued(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    broker = fleet.broker()
    given: list[bytes] = []

    def answer(draw: object) -> Block:
        given.append(b"sixty-four bytes of a broker's " * 2 + b"xx")
        return Block(1, 448, ("rng1",), given[-1])

    broker.answer = answer
    assert issue(fleet, "--expires", "2h") == 0
    path = fleet.folder / "seed"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    seed = unseal(path.read_text(), fleet.credential)
    assert (seed.data, seed.credit_bits, seed.uuid) == (given[0], 448, uuid.UUID(UUID).bytes)
    assert abs(seed.issued_unix - time.time()) < 60
    assert seed.expires_unix - seed.issued_unix == 7200
    assert [draw.kind for draw in broker.draws] == [DrawKind.SEED]
    assert [(auth.id, auth.key_id) for auth in broker.auths] == [("vm1", fleet.credential.key_id)]
    said = capsys.readouterr()
    assert "worth 448 bits from broker1 for vm1" in said.err
    assert said.out == ""
    assert given[0].decode() not in said.err


def test_two_are_never_alike(fleet: Fleet) -> None:
    broker = fleet.broker()
    broker.answer = lambda _draw: Block(1, 448, ("rng1",), bytes(64))
    texts = set()
    for _ in range(2):
        assert issue(fleet) == 0
        texts.add((fleet.folder / "seed").read_text())
    assert len(texts) == 2
    assert len({auth.boot_id for auth in broker.auths}) == 2


def test_a_seed_that_is_worth_too_little_is_not_issued(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.broker().answer = lambda _draw: Block(1, 0, (), bytes(64))
    assert issue(fleet) == 1
    assert "its reservoir is empty" in capsys.readouterr().err
    assert not (fleet.folder / "seed").exists()


@pytest.mark.parametrize("output", ["none/seed", ""])
def test_nothing_is_drawn_for_a_file_that_cannot_be_written(
    fleet: Fleet, capsys: pytest.CaptureFixture[str], output: str
) -> None:
    broker = fleet.broker()
    path = f"{fleet.folder}/{output}"
    assert issue(fleet, "--output", path) == 1
    assert f"cannot write {path}: " in capsys.readouterr().err
    assert broker.auths == []


def test_the_seed_before_stays_until_there_is_another(fleet: Fleet) -> None:
    broker = fleet.broker()
    broker.answer = lambda _draw: Block(1, 0, (), bytes(64))
    (fleet.folder / "seed").write_text("the one before")
    assert issue(fleet) == 1
    assert (fleet.folder / "seed").read_text() == "the one before"
    assert not (fleet.folder / "seed.new").exists()


def test_the_next_broker_is_asked(fleet: Fleet) -> None:
    fleet.broker().answer = lambda _draw: "close"
    fleet.broker()
    assert issue(fleet) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        ["--expires", "tomorrow"],
        ["--expires", "0h"],
        ["--expires", "401d"],
        ["--uuid", "vm1"],
        ["--uuid", "00000000-0000-0000-0000-000000000000"],
        ["--ca", "/nowhere"],
    ],
)
def test_wrong_words(fleet: Fleet, wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    fleet.broker()
    assert issue(fleet, *wrong) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_whose_must_be_said_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["seed", "issue", "--uuid", UUID, "--broker", "127.0.0.1:1", "--id", "vm1"]
    assert main(words) == 2
    assert "--id goes with --state-dir" in capsys.readouterr().err
