"""What playbooks say about credentials, and which new keys no broker has seen yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SHOWN_IDS = 20
_OF_THE_HOST = ("host", "role", "path", "group")


def wanted(fleet: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What entropy_credential is told of each credential: not where on its host it belongs."""
    return [
        {key: value for key, value in of_id.items() if key not in _OF_THE_HOST} for of_id in fleet
    ]


def lines(outcome: Mapping[str, Any], away: list[str], state: str) -> list[str]:
    """What an operator should know of a run of entropy_credential, one line each.

    `outcome` is what that module returned, `away` the names of the brokers that could not be
    reached, `state` what the run was for.
    """
    found = [*_done(outcome), *_two_keys(outcome), *_not_used(outcome), *_authority(outcome)]
    if away and (state == "revoked" or outcome["revoked"]):
        found.append(
            f"NOT REVOKED YET at {_some(away)}, which cannot be reached: whoever is revoked can "
            "draw there until it is stopped, or reached by another run of this playbook or of "
            "site.yml."
        )
    elif away:
        found.append(f"{_some(away)} cannot be reached and gets the list at the next run.")
    return found


def refusals(published: Iterable[Mapping[str, Any]], outcome: Mapping[str, Any]) -> list[str]:
    """Which broker did not take the list, and why. `published` are results of entropy_acl."""
    what = "NOT REVOKED YET at " if outcome["revoked"] else ""
    return [
        f"{what}{result['item']['name']}: {result['msg']}"
        for result in published
        if result.get("failed") and not result.get("unreachable")
    ]


def stale_certificates(asked: Iterable[Mapping[str, Any]], outcome: Mapping[str, Any]) -> list[str]:
    """The brokers that run with another certificate than the one that was issued to them.

    `asked` are results of entropy_broker_info. A broker that does not run, or is of a release that
    does not say it, is not among them.
    """
    issued = outcome.get("certificates", {})
    found = []
    for result in asked:
        status = result.get("status") or {}
        shown, name = status.get("certificate_fingerprint"), status.get("broker_id")
        if shown and name in issued and shown != issued[name]["fingerprint"]:
            found.append(str(name))
    return found


def revoked_ids(ledger: Mapping[str, Any]) -> list[str]:
    """The ids in `ledger` (ledger.json, read) that had a key and have none."""
    return sorted(
        name
        for name, credential in ledger["credentials"].items()
        if all(key["state"] == "revoked" for key in credential["keys"])
    )


def newest_keys(ledger: Mapping[str, Any], ids: Iterable[str]) -> dict[str, str]:
    """The id of the newest key of each of `ids` that `ledger` (ledger.json, read) has a key of."""
    of_ids = ledger["credentials"]
    valid = {
        name: [key["key_id"] for key in of_ids[name]["keys"] if key["state"] != "revoked"]
        for name in ids
        if name in of_ids
    }
    return {name: keys[-1] for name, keys in valid.items() if keys}


def unseen(installed: Iterable[Mapping[str, Any]], reports: list[Mapping[str, Any]]) -> list[str]:
    """The ids of the installed credentials whose key is waited for and was used nowhere yet.

    `installed` are results of entropy_keyfile; a key that no report names is not waited for.
    """
    found = []
    for result in installed:
        name, key_id = result.get("id"), result.get("key_id")
        uses = [
            report["keys"][name][key_id]
            for report in reports
            if key_id in report.get("keys", {}).get(name, {})
        ]
        if uses and all(use["first_use_unix"] is None for use in uses):
            found.append(str(name))
    return sorted(set(found))


def rebuilt(hosts: Iterable[Mapping[str, Any]], outcome: Mapping[str, Any]) -> list[str]:
    """The ids whose host had no credential, although one was made in an earlier run.

    `hosts` are the variables of the hosts that were given theirs in this run.
    """
    return sorted(
        result["id"]
        for of_host in hosts
        for result in of_host.get("entropy_credentials_secret", {}).get("results", [])
        if result.get("id")
        and result.get("before_key_id", "unknown") is None
        and result["id"] not in outcome["issued"]
    )


def authority_line(authority: Mapping[str, Any]) -> str:
    """Where the replacement of the CA stands, and what comes next."""
    after = authority["next_step_after"]
    now = f"Run this again after {after}" if after else "Run this again"
    return {
        "none": f"The fleet trusts one CA, {authority['fingerprint']}.",
        "trusting": f"Every machine of this run trusts both CAs. {now}, for the certificates.",
        "signing": f"The brokers have certificates by the new CA. {now}, to forget the old one.",
    }[authority["roll"]]


def words(given: str | Iterable[object]) -> list[str]:
    """What an operator named: a list, or one text with commas or spaces between the names."""
    return given.replace(",", " ").split() if isinstance(given, str) else [str(of) for of in given]


def _done(outcome: Mapping[str, Any]) -> Iterable[str]:
    if outcome["rotated"]:
        yield f"Two keys from now on: {_some(outcome['rotated'])}."
    if outcome["retired"]:
        yield f"The new key was seen and the old one has ended: {_some(outcome['retired'])}."
    if outcome["revoked"]:
        yield f"Revoked: {_some(outcome['revoked'])}."


def _two_keys(outcome: Mapping[str, Any]) -> Iterable[str]:
    pending = [of for of in outcome["waiting"] if of["id"] not in outcome["rotated"]]
    if pending:
        untils = [f"{of['id']} (until {of['until']})" for of in pending]
        yield f"Not seen with the new key yet, the old one goes on working: {_some(untils)}."
    if outcome["stragglers"]:
        yield (
            "The old key ended and no broker has seen the new one: "
            f"{_some(outcome['stragglers'])}. Run site.yml when these can be reached."
        )
    used = [of for of in outcome["bootstraps"] if of["expires"]]
    if used:
        ends = [f"{of['id']} (ends {of['expires']})" for of in used]
        yield f"Working with a bootstrap key, export the next one: {_some(ends)}."


def _authority(outcome: Mapping[str, Any]) -> Iterable[str]:
    if outcome["authority"]["roll_advised"]:
        yield (
            f"The fleet's CA ends on {outcome['authority']['expires']}: replace it with "
            "playbooks/roll_authority.yml."
        )


def _not_used(outcome: Mapping[str, Any]) -> Iterable[str]:
    if outcome["denied"]:
        names = outcome["denied"]
        yield (
            f"Revoked earlier, so skipped: {_some(names)}. Take these out of the inventory, or "
            f"admit them again with -e reissue={names[0]}."
        )
    if outcome["orphans"]:
        yield (
            f"Still valid, and in no inventory: {_some(outcome['orphans'])}. If these are gone for "
            f"good: playbooks/revoke.yml -e ids={','.join(outcome['orphans'][:SHOWN_IDS])}"
        )
    if outcome["unlisted"]:
        yield (
            "Still valid, and the list of external clients no longer has them: "
            f"{_some(outcome['unlisted'])}. If these are gone for good: playbooks/revoke.yml "
            f"-e ids={','.join(outcome['unlisted'][:SHOWN_IDS])}"
        )


def _some(names: Iterable[str]) -> str:
    known = list(names)
    more = f" and {len(known) - SHOWN_IDS} more" if len(known) > SHOWN_IDS else ""
    return ", ".join(known[:SHOWN_IDS]) + more


class FilterModule:
    """What the playbooks use."""

    def filters(self) -> dict[str, Any]:
        return {
            "entropy_credential_lines": lines,
            "entropy_credentials_wanted": wanted,
            "entropy_newest_keys": newest_keys,
            "entropy_refusals": refusals,
            "entropy_revoked_ids": revoked_ids,
            "entropy_stale_certificates": stale_certificates,
            "entropy_unseen": unseen,
            "entropy_rebuilt": rebuilt,
            "entropy_authority_line": authority_line,
            "entropy_words": words,
        }
