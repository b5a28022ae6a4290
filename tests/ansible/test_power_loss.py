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
from tests.ansible.fleet import LARGER, NOW, SMALL, Fleet, report

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


Arguments = dict[str, Any]


def do(state: str, **arguments: Any) -> Arguments:
    return {"credentials": None, "state": state, **arguments}


LATER = NOW + datetime.timedelta(days=600)
BEGIN: Arguments = {"credentials": SMALL}
# With the report of a broker that has seen every pending key.
RETIRE: Arguments = {"credentials": SMALL, "reports": "all seen"}
ROTATE, REVOKE = do("rotated", ids=["vm1"]), do("revoked", ids=["vm1"])
ROLL = do("authority_rolled", overlap="0s")


class Change(NamedTuple):
    """The last of some tasks, in which power is lost, and what holds after it.

    `kept` are the ids whose key is the same before and after. A task that is not `repeatable`
    goes on with something else when it is asked for again.
    """

    tasks: tuple[Arguments, ...]
    generation: int
    kept: tuple[str, ...] = ("rng1", "vm1")
    repeatable: bool = True


CHANGES = {
    "begin": Change((BEGIN,), 1, kept=()),
    "grow": Change((BEGIN, {"credentials": LARGER, "brokers": ["b1", "b2"]}), 2),
    "renew": Change((BEGIN, {"credentials": SMALL, "now": LATER}), 1),
    "rotate": Change((BEGIN, ROTATE), 2, kept=("rng1",)),
    "retire": Change((BEGIN, ROTATE, RETIRE), 3),
    "rebuild": Change(
        (BEGIN, {"credentials": SMALL, "rebuilt": ["vm1"]}), 2, kept=("rng1",), repeatable=False
    ),
    "revoke": Change((BEGIN, REVOKE), 2, kept=("rng1",)),
    "revoke in a rotation": Change((BEGIN, ROTATE, REVOKE), 3, kept=("rng1",)),
    "roll: trust": Change((BEGIN, ROLL), 1, repeatable=False),
    "roll: sign": Change((BEGIN, ROLL, ROLL), 1, repeatable=False),
    "roll: end": Change((BEGIN, ROLL, ROLL, ROLL), 1, repeatable=False),
}


def run(fleet: Fleet, task: Arguments) -> bool:
    """Run a task; whether it changed anything."""
    named = {"brokers": ["b1"], **task}
    if named.get("reports"):
        ledger = fleet.ledger()
        pending = {
            name: {key.key_id: (1, 0) for key in credential.keys if key.state == "pending"}
            for name, credential in ledger.credentials.items()
        }
        named["reports"] = [report(ledger.generation, pending)]
    return fleet.ensure(named.pop("credentials"), *named.pop("brokers"), **named).changed


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_the_next_run_goes_on(tmp_path: Path, vault: Vault, change: Change) -> None:
    original = Fleet(tmp_path / "original", vault)
    *prepare, last = change.tasks
    for task in prepare:
        run(original, task)
    old = {name: original.credential(name).secret for name in change.kept}
    ledger_before = (original.state_dir / "ledger.json").read_bytes() if prepare else None
    n_writes = 0
    while True:
        fleet = Fleet(tmp_path / str(n_writes), vault)
        if prepare:
            shutil.copytree(original.state_dir, fleet.state_dir)
        try:
            with power_lost_at(n_writes):
                run(fleet, last)
            break
        except PowerLost:
            pass
        ledger_now = fleet.store.read("ledger.json")
        if ledger_now is not None:  # what is in force works, even before the next run
            assert {entry["id"] for entry in fleet.entries()} >= set(change.kept)
            assert {name: fleet.credential(name).secret for name in old} == old
        if change.repeatable or ledger_now == ledger_before:
            run(fleet, last)
        # What was to be deleted is deleted by any run, whatever it is for.
        tidy = fleet.ensure(last["credentials"] or SMALL, *last.get("brokers", ["b1"]))
        assert not tidy.changed or not change.repeatable
        fleet.assert_sound()
        assert fleet.ledger().generation == change.generation
        assert {name: fleet.credential(name).secret for name in old} == old
        assert not [name for name in fleet.files() if name.endswith(".new")]
        n_writes += 1
    fleet.assert_sound()
    assert fleet.ledger().generation == change.generation
    assert n_writes > 5
