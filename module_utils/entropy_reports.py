"""What the brokers report of the list that they hold, and what a ledger may be held against it.

Runs on the controller only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from entropy.errors import CredentialError


class Use(NamedTuple):
    """One key at one broker: its first use there, and how many sessions are open with it."""

    first_use_unix: int | None
    sessions: int


class Report(NamedTuple):
    """One broker: the generation of its list, and of the keys that change soon their use."""

    broker_id: str
    site_id: str
    generation: int
    uses: Mapping[tuple[str, str], Use]


class Seen:
    """The uses of keys over all brokers."""

    def __init__(self, reports: Iterable[Report]) -> None:
        self._uses: dict[tuple[str, str], list[Use]] = {}
        for report in reports:
            for key, use in report.uses.items():
                self._uses.setdefault(key, []).append(use)

    def first_use_unix(self, name: str, key_id: str) -> int | None:
        """The earliest use of a key at any broker, in seconds since 1970; None before one."""
        moments = [use.first_use_unix for use in self._uses.get((name, key_id), ())]
        return min((moment for moment in moments if moment is not None), default=None)

    def sessions(self, name: str, key_id: str) -> int:
        """How many sessions are open with a key."""
        return sum(use.sessions for use in self._uses.get((name, key_id), ()))


def parse_reports(given: Sequence[Mapping[str, Any]]) -> list[Report]:
    """The reports of entropy_broker_info. An empty one, of a broker without a list, is left out."""
    try:
        return [_report(fields) for fields in given if fields]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CredentialError(
            "reports: give what entropy_broker_info returns as report, a list with one element "
            "for each broker"
        ) from None


def refuse_if_lost(reports: Sequence[Report], ledger_path: str) -> None:
    """CredentialError when there is no ledger and a broker was given a list before."""
    known = [report for report in reports if report.generation > 0]
    if known:
        raise CredentialError(
            f"{ledger_path} does not exist, and {_named(known)}: this fleet has been deployed "
            "before, and its state directory is lost or the path is wrong. Restore the newest "
            "backup (playbooks/backup.yml) or correct the path. Only if there is no backup: stop "
            "the brokers, delete /etc/entropy/broker/acl.json on each, and begin a new fleet with "
            "-e entropy_bootstrap=true; every machine is then given a new credential and a new CA"
        )


def refuse_if_older(reports: Sequence[Report], generation: int, ledger_path: str) -> None:
    """CredentialError when a broker was given a newer list than the ledger knows of."""
    newer = [report for report in reports if report.generation > generation]
    if newer:
        raise CredentialError(
            f"{ledger_path} is at generation {generation}, and {_named(newer)}: it is an old copy. "
            "An older list could bring back what was revoked. Restore the newest backup of the "
            "state directory. Only if there is no newer one: run with -e entropy_supersede=true, "
            "revoke again what was revoked since, and let every host be given what it lacks"
        )


def refuse_other_sites(reports: Sequence[Report], site_id: str) -> None:
    """CredentialError when a broker serves another fleet."""
    for report in reports:
        if report.site_id != site_id:
            raise CredentialError(
                f"the broker {report.broker_id} holds a list of the site {report.site_id}, and "
                f"{site_id} was asked for: use the inventory of the same fleet, or, if that host "
                "has moved here, stop its broker and delete /etc/entropy/broker/acl.json there"
            )


def _report(fields: Mapping[str, Any]) -> Report:
    uses = {
        (str(name), str(key_id)): Use(_whole(use["first_use_unix"]), int(use["sessions"]))
        for name, keys in fields["keys"].items()
        for key_id, use in keys.items()
    }
    return Report(str(fields["broker_id"]), str(fields["site_id"]), int(fields["generation"]), uses)


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _named(reports: Sequence[Report]) -> str:
    said = [f"{r.broker_id or 'a broker'} holds generation {r.generation}" for r in reports]
    return " and ".join(said)
