"""What a run is to do about the credentials: decided from the ledger and the request alone.

Nothing is read from the store and nothing is written here. Runs on the controller only.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from entropy.errors import CredentialError
from module_utils import entropy_keys as keys
from module_utils.entropy_ledger import ACTIVE, PENDING, LedgerCredential
from module_utils.entropy_reports import Seen
from module_utils.entropy_request import PRESENT, REVOKED, ROLLED, ROTATED, Request, Wish
from module_utils.entropy_times import moment_of

Recorded = Mapping[str, LedgerCredential]


class NewKey(NamedTuple):
    """A key that is to be made: its state, and its life after its first use (0: lasting)."""

    state: str
    bootstrap_seconds: int


@dataclass
class Plan:
    """The credentials as they will be, without the keys that are to be made, and what changes."""

    credentials: dict[str, LedgerCredential]
    new_keys: dict[str, NewKey] = field(default_factory=dict)
    issued: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    rotated: list[str] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    stragglers: list[str] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)


def make_plan(recorded: Recorded, request: Request, now: datetime.datetime) -> Plan:
    """Decide what to do. CredentialError when it cannot be, or revokes too many."""
    plan = Plan(dict(recorded))
    seen = Seen(request.reports)
    for name, credential in recorded.items():
        noted = keys.note_first_use(name, credential.keys, seen)
        plan.credentials[name] = replace(credential, keys=noted)
    if request.state == PRESENT:
        _admit(plan, request, now)
        _watch_leavers(plan, recorded, request)
    elif request.state == ROLLED:
        # The hosts are given certificates after this, and those without a key must be left out.
        plan.denied = sorted(n for n in request.credentials if _is_revoked(recorded, n))
    _revoke(plan, _to_revoke(plan, request), request, now)
    for name in recorded:
        _finish(plan, name, seen, now)
    for name in _to_rotate(plan, recorded, request, now):
        _rotate(plan, name, request, now)
        plan.rotated.append(name)
    for name in _to_replace(plan, recorded, request):
        _rotate(plan, name, request, now)
        plan.rotated.append(name)
    for name, credential in plan.credentials.items():
        if credential.keys != recorded.get(name, credential).keys:
            plan.credentials[name] = replace(credential, keys=keys.forget(credential.keys))
    for listed in (plan.retired, plan.stragglers, plan.rotated, plan.updated, plan.issued):
        listed.sort()
    return plan


def _admit(plan: Plan, request: Request, now: datetime.datetime) -> None:
    """Whoever is asked for: new, known, revoked, or built anew."""
    for name, wish in request.credentials.items():
        old = plan.credentials.get(name)
        if old is None:
            plan.credentials[name] = LedgerCredential(wish.terms, (), "")
            _issue(plan, name, wish, request)
            continue
        if not old.valid_keys() and name not in request.reissue:
            plan.denied.append(name)
            continue
        if old.terms != wish.terms:
            plan.updated.append(name)
        plan.credentials[name] = replace(old, terms=wish.terms)
        if not old.valid_keys() or name in request.rebuilt:
            # What a machine that is gone may have left behind is of no use from now on.
            ended = keys.revoke(old.keys, now)
            plan.credentials[name] = replace(plan.credentials[name], keys=ended)
            _issue(plan, name, wish, request)
    plan.denied.sort()


def _is_revoked(recorded: Recorded, name: str) -> bool:
    return name in recorded and not recorded[name].valid_keys()


def _issue(plan: Plan, name: str, wish: Wish, request: Request) -> None:
    lifetime = int(request.bootstrap_lifetime.total_seconds()) if wish.bootstrap else 0
    plan.new_keys[name] = NewKey(ACTIVE, lifetime)
    plan.issued.append(name)


def _watch_leavers(plan: Plan, recorded: Recorded, request: Request) -> None:
    """Whoever has a key and is asked for no more. An external client is nobody's orphan."""
    for name, credential in sorted(recorded.items()):
        if credential.valid_keys() and name not in request.credentials:
            (plan.unlisted if credential.terms.external else plan.orphans).append(name)


def _to_revoke(plan: Plan, request: Request) -> list[str]:
    """The ids to revoke that have a key."""
    if request.state == REVOKED:
        chosen = _chosen(plan.credentials, request)
    else:
        chosen = plan.orphans if request.revoke_orphans else []
    return sorted(name for name in chosen if plan.credentials[name].valid_keys())


def _chosen(credentials: Recorded, request: Request) -> Iterable[str]:
    """What ids and tenant name. CredentialError for an id or a tenant that nobody knows."""
    unknown = sorted(request.ids - set(credentials))
    if unknown:
        raise CredentialError(
            f"ids: {', '.join(unknown)} never had a credential here: see the ids in ledger.json, "
            "and issue what is new with playbooks/credentials.yml"
        )
    of_tenant = {
        name
        for name, credential in credentials.items()
        if request.tenant and credential.terms.tenant == request.tenant
    }
    if request.tenant and not of_tenant:
        raise CredentialError(f"tenant: no credential belongs to {request.tenant}")
    return request.ids | of_tenant


def _revoke(plan: Plan, names: list[str], request: Request, now: datetime.datetime) -> None:
    if len(names) > request.max_revoke:
        some = ", ".join(names[:10]) + (" and more" if len(names) > 10 else "")
        raise CredentialError(
            f"this would revoke {len(names)} ids ({some}), more than max_revoke allows "
            f"({request.max_revoke}). Nothing was changed. If they are all to go, say so with "
            f"max_revoke={len(names)}; if not, look for what is missing in the inventory"
        )
    for name in names:
        credential = plan.credentials[name]
        plan.credentials[name] = replace(credential, keys=keys.revoke(credential.keys, now))
    plan.revoked = names
    plan.orphans = [name for name in plan.orphans if name not in names]


def _finish(plan: Plan, name: str, seen: Seen, now: datetime.datetime) -> None:
    credential = plan.credentials[name]
    finished, how = keys.finish(name, credential.keys, seen, now)
    plan.credentials[name] = replace(credential, keys=finished)
    if how == keys.SEEN:
        plan.retired.append(name)
    elif how == keys.UNSEEN:
        plan.stragglers.append(name)


def _to_rotate(
    plan: Plan, recorded: Recorded, request: Request, now: datetime.datetime
) -> list[str]:
    """The ids whose key is older than asked for, and that have no rotation under way."""
    if request.rotate_after is None:
        return []
    if request.state == ROTATED:
        if request.ids or request.tenant:
            chosen = set(_chosen(recorded, request))
        else:  # whom we cannot reach is rotated only by name: nobody would install the new key
            chosen = {n for n, c in recorded.items() if not c.terms.external}
        # A group of hosts is rotated although one of them was revoked, but never nobody at all.
        plan.denied = sorted(n for n in request.ids if not plan.credentials[n].valid_keys())
        if plan.denied and chosen == set(plan.denied):
            raise CredentialError(
                f"ids: {', '.join(plan.denied)} was revoked, so there is no key to rotate; reissue "
                "admits it again, with a new key"
            )
    else:
        chosen = {name for name in request.credentials if name in recorded}
        chosen = {name for name in chosen if not recorded[name].terms.external}
    oldest = now - request.rotate_after
    return sorted(name for name in chosen if _may_rotate(plan, recorded, name, oldest))


def _may_rotate(plan: Plan, recorded: Recorded, name: str, oldest: datetime.datetime) -> bool:
    if name in plan.new_keys or name in plan.retired or name in plan.stragglers:
        return False  # it has a new key since this run, or since the one that is now over
    valid = plan.credentials[name].valid_keys()
    return [key.state for key in valid] == [ACTIVE] and (
        moment_of(valid[0].created, "the ledger") <= oldest
    )


def _to_replace(plan: Plan, recorded: Recorded, request: Request) -> list[str]:
    """Bootstrap keys whose time has come for a lasting one: used, or no longer asked for."""
    found = []
    for name in sorted(recorded):
        if name in plan.new_keys:
            continue
        valid = plan.credentials[name].valid_keys()
        if [key.state for key in valid] != [ACTIVE] or not valid[0].bootstrap_seconds:
            continue
        wish = request.credentials.get(name)
        if valid[0].first_used or (wish is not None and not wish.bootstrap):
            found.append(name)
    return found


def _rotate(plan: Plan, name: str, request: Request, now: datetime.datetime) -> None:
    credential = plan.credentials[name]
    room = keys.make_room(credential.keys, now, request.overlap)
    plan.credentials[name] = replace(credential, keys=room)
    plan.new_keys[name] = NewKey(PENDING, 0)
