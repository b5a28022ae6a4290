"""The life of one id's keys, under any sequence of what may happen to it."""

from __future__ import annotations

import datetime
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from module_utils import entropy_keys as keys
from module_utils.entropy_ledger import (
    ACTIVE,
    PENDING,
    RETIRING,
    Key,
    LedgerCredential,
    Terms,
)
from module_utils.entropy_plan import make_plan
from module_utils.entropy_reports import Report, Use
from tests.ansible.fleet import request

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
ALLOWED = ([], [ACTIVE], [RETIRING, PENDING])  # the valid keys of an id, the older first

EVENTS = st.one_of(
    st.sampled_from(["present", "rotate", "rebuild", "revoke", "reissue", "hand out"]),
    st.tuples(st.just("days"), st.integers(1, 9)),
    st.tuples(st.just("used"), st.integers(0, 9)),
    st.tuples(st.just("sessions"), st.integers(0, 9), st.integers(0, 1)),
)


class Life:
    """One id, with a broker that sees some of its keys."""

    def __init__(self) -> None:
        self.now = START
        self.n_made = 0
        self.recorded: dict[str, LedgerCredential] = {}
        self.used: dict[str, int] = {}
        self.sessions: dict[str, int] = {}

    def held(self) -> tuple[Key, ...]:
        return self.recorded["vm1"].keys if self.recorded else ()

    def run(self, **arguments: object) -> None:
        bootstrap = bool(arguments.pop("handed_out", False))
        uses = {
            ("vm1", key.key_id): Use(self.used.get(key.key_id), self.sessions.get(key.key_id, 0))
            for key in self.held()
        }
        wanted = {"vm1": {"bootstrap": bootstrap}}
        asked = request(None if "state" in arguments else wanted, **arguments)
        asked = replace(asked, reports=[Report("b1", "lab", 1, uses)])
        plan = make_plan(self.recorded, asked, self.now)
        credential = plan.credentials["vm1"]
        if "vm1" in plan.new_keys:
            self.n_made += 1
            new = plan.new_keys["vm1"]
            made = keys.text_of(self.now)
            key = Key(f"{self.n_made:016x}", "", new.state, made, "", "", new.bootstrap_seconds)
            credential = replace(credential, keys=(*credential.keys, key))
        self.recorded = {"vm1": replace(credential, terms=Terms(("draw",)))}

    def happen(self, event: object) -> None:
        own = [key.key_id for key in self.held() if key.valid]
        if isinstance(event, tuple):
            kind, number, *rest = event
            if kind == "days":
                self.now += datetime.timedelta(days=number)
            elif kind == "used" and own:
                self.used.setdefault(own[number % len(own)], int(self.now.timestamp()))
            elif kind == "sessions" and own:
                self.sessions[own[number % len(own)]] = rest[0]
        elif event == "present":
            self.run()
        elif event == "hand out":
            self.run(handed_out=True)
        elif event == "rebuild":
            self.run(rebuilt=["vm1"])
        elif event == "reissue":
            self.run(reissue=["vm1"])
        elif event == "rotate" and own:
            self.run(state="rotated", ids=["vm1"])
        elif event == "revoke" and self.held():
            self.run(state="revoked", ids=["vm1"])


@given(st.lists(EVENTS, max_size=30))
def test_whatever_happens(events: list[object]) -> None:
    life = Life()
    life.run()
    ended: set[str] = set()
    for event in events:
        revoked_before = not any(key.valid for key in life.held())
        before = {key.key_id for key in life.held() if key.valid}
        life.happen(event)
        valid = [key for key in life.held() if key.valid]
        assert [key.state for key in valid] in ALLOWED
        # What has ended never comes back, and its end is written down.
        assert not ended & {key.key_id for key in valid}
        ended |= before - {key.key_id for key in valid}
        assert all(key.ended for key in life.held() if not key.valid)
        assert sum(not key.valid for key in life.held()) <= keys.REVOKED_KEPT
        # Nobody but the operator admits a revoked id again.
        if revoked_before:
            assert event == "reissue" or not valid
        # The key that the host is given never has an end, unless it was handed out.
        if valid:
            assert not valid[-1].until
        # An old key ends at a known moment.
        for key in valid:
            assert bool(key.until) == (key.state == RETIRING)


@given(st.lists(EVENTS, max_size=20))
def test_a_second_run_changes_nothing(events: list[object]) -> None:
    life = Life()
    life.run()
    for event in events:
        life.happen(event)
    life.run()
    life.run()  # what the first began, the second may finish: a bootstrap key long expired
    before = life.recorded
    life.run()
    assert life.recorded == before
