"""What a task asks of the fleet's credentials, checked before anything is read or written.

Runs on the controller only.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from entropy.errors import CredentialError
from entropy.wire.codes import is_broker_id, is_id, is_site_id
from module_utils.entropy_acl_document import LIMITS, PERMISSIONS
from module_utils.entropy_ledger import Terms
from module_utils.entropy_reports import Report, parse_reports
from module_utils.entropy_times import duration_of, moment_of, text_of

# Each limit is sent as an unsigned number of 32 bits.
MAX_LIMIT = 2**32 - 1
PRESENT, ROTATED, REVOKED, ROLLED = "present", "rotated", "revoked", "authority_rolled"


@dataclass(frozen=True)
class Wish:
    """One id as it should be. `bootstrap`: its first key is handed out and expires."""

    terms: Terms
    bootstrap: bool = False


@dataclass(frozen=True)
class Request:
    """What a task wants of a fleet; see the documentation of the module for each."""

    site_id: str
    state: str
    credentials: Mapping[str, Wish]
    brokers: Sequence[str]
    ids: frozenset[str]
    tenant: str
    rotate_after: datetime.timedelta | None
    overlap: datetime.timedelta
    bootstrap_lifetime: datetime.timedelta
    rebuilt: frozenset[str]
    reissue: frozenset[str]
    revoke_orphans: bool
    max_revoke: int
    reports: Sequence[Report]
    bootstrap: bool
    supersede: bool


def parse_request(arguments: Mapping[str, Any]) -> Request:
    """Check the arguments of a task. CredentialError names everything that is wrong with them."""
    site_id, state = str(arguments["site_id"]), str(arguments["state"])
    credentials, brokers = arguments["credentials"] or [], arguments["brokers"]
    ids = [str(credential["id"]) for credential in credentials]
    wrong = [
        *_wrong_site_id(site_id),
        *(f"{_quoted(name)} is not an id: {_ID_RULE}" for name in ids if not is_id(name)),
        *(
            f"{_quoted(name)} is not a broker's id: {_BROKER_RULE}"
            for name in brokers
            if not is_broker_id(name)
        ),
        *(f"credentials: the id {name} is there {n} times" for name, n in _repeated(ids)),
        *(f"brokers: the id {name} is there {n} times" for name, n in _repeated(brokers)),
        *_wrong_choice(state, arguments),
    ]
    for credential in credentials:
        wrong += _wrong_limits(credential)
        wrong += _wrong_terms(credential)
    if wrong:
        raise CredentialError("; ".join(wrong))
    rotate_after = arguments["rotate_after"]
    if rotate_after is None and state == ROTATED:
        rotate_after = "0s"
    bootstrap_lifetime = duration_of(arguments["bootstrap_lifetime"], "bootstrap_lifetime")
    if not bootstrap_lifetime:
        raise CredentialError("bootstrap_lifetime must be longer than nothing")
    return Request(
        site_id=site_id,
        state=state,
        credentials={str(credential["id"]): _wish(credential) for credential in credentials},
        brokers=[str(broker) for broker in brokers],
        ids=frozenset(map(str, arguments["ids"])),
        tenant=arguments["tenant"] or "",
        rotate_after=duration_of(rotate_after, "rotate_after") if rotate_after else None,
        overlap=duration_of(arguments["overlap"], "overlap"),
        bootstrap_lifetime=bootstrap_lifetime,
        rebuilt=frozenset(map(str, arguments["rebuilt"])),
        reissue=frozenset(map(str, arguments["reissue"])),
        revoke_orphans=arguments["orphans"] == "revoke",
        max_revoke=int(arguments["max_revoke"]),
        reports=parse_reports(arguments["reports"]),
        bootstrap=bool(arguments["bootstrap"]),
        supersede=bool(arguments["supersede"]),
    )


_ID_RULE = "1 to 63 of a-z 0-9 . _ - with a letter or digit first and last"
_BROKER_RULE = "1 to 63 of a-z 0-9 - with a letter or digit first and last"


def _wish(credential: Mapping[str, Any]) -> Wish:
    given = set(credential["permissions"])
    not_after = credential.get("not_after")
    terms = Terms(
        permissions=tuple(name for name in PERMISSIONS if name in given),
        limits={name: int(credential[name]) for name in LIMITS if credential.get(name) is not None},
        tenant=credential.get("tenant") or "",
        external=bool(credential.get("external")),
        addresses=tuple(sorted(map(_network, credential.get("addresses") or ()))),
        not_after=text_of(moment_of(not_after, "not_after")) if not_after else "",
    )
    return Wish(terms, bool(credential.get("bootstrap")))


def _wrong_site_id(site_id: str) -> list[str]:
    if is_site_id(site_id):
        return []
    return [f"site_id: {_quoted(site_id)} is not a site: {_BROKER_RULE}"]


def _wrong_choice(state: str, arguments: Mapping[str, Any]) -> list[str]:
    """Arguments that say nothing in this state would be a misunderstanding."""
    wrong = []
    chosen = bool(arguments["ids"]) or bool(arguments["tenant"])
    if state == REVOKED and not chosen:
        wrong.append("state=revoked needs ids or tenant: it never means everybody")
    if state in (PRESENT, ROLLED) and chosen:
        wrong.append(f"ids and tenant choose nothing with state={state}; leave them out")
    if state != PRESENT:
        wrong += [
            f"{name} belongs to state=present" for name in ("rebuilt", "reissue") if arguments[name]
        ]
        if arguments["orphans"] == "revoke":
            wrong.append("orphans=revoke belongs to state=present")
    elif arguments["credentials"] is None:
        wrong.append("state=present needs credentials, all that the fleet should have")
    if arguments["max_revoke"] < 0:
        wrong.append("max_revoke must be 0 or more")
    if arguments["tenant"] and not is_id(arguments["tenant"]):
        wrong.append(f"tenant: {_quoted(arguments['tenant'])} is not a tenant: {_ID_RULE}")
    return wrong


def _wrong_limits(credential: Mapping[str, Any]) -> list[str]:
    name = credential["id"]
    wrong = [] if credential["permissions"] else [f"credentials: {name} has no permissions"]
    for limit in LIMITS:
        value = credential.get(limit)
        if value is not None and not _least(limit) <= value <= MAX_LIMIT:
            wrong.append(f"credentials: {name}: {limit} must be {_least(limit)} to {MAX_LIMIT}")
    return wrong


def _wrong_terms(credential: Mapping[str, Any]) -> list[str]:
    name, wrong = credential["id"], []
    tenant = credential.get("tenant")
    if tenant and not is_id(tenant):
        wrong.append(f"credentials: {name}: tenant {_quoted(tenant)} is not one: {_ID_RULE}")
    if credential.get("external") and set(credential["permissions"]) != {"draw"}:
        wrong.append(f"credentials: {name}: an external client may draw and nothing else")
    if credential.get("not_after"):
        try:
            moment_of(credential["not_after"], f"credentials: {name}: not_after")
        except CredentialError as problem:
            wrong.append(str(problem))
    for address in credential.get("addresses") or ():
        try:
            _network(address)
        except ValueError:
            wrong.append(
                f"credentials: {name}: {_quoted(address)} is no address and no network; write it "
                "like 10.0.0.7 or 10.0.0.0/24"
            )
    return wrong


def _network(text: object) -> str:
    """An address or a network in its one way of writing."""
    return str(ipaddress.ip_network(str(text)))


def _least(limit: str) -> int:
    """A feeder may be allowed no credit at all; a draw of no bytes makes no sense."""
    return 0 if limit == "credit_bits_per_second" else 1


def _repeated(names: Sequence[str]) -> list[tuple[str, int]]:
    return [(name, n) for name, n in Counter(names).items() if n > 1]


def _quoted(name: object) -> str:
    return repr(str(name))
