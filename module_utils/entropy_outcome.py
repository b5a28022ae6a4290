"""What a run of entropy_credential returns; nothing in it is secret.

Runs on the controller only.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple

from entropy.authority import remaining_fraction
from module_utils import entropy_keys as keys
from module_utils.entropy_authorities import Authorities
from module_utils.entropy_certificates import RENEW_BELOW_FRACTION
from module_utils.entropy_ledger import ACTIVE, RETIRING, Authority, Ledger, LedgerCredential
from module_utils.entropy_plan import Plan
from module_utils.entropy_reports import Seen
from module_utils.entropy_request import Request
from module_utils.entropy_store import LEDGER


class Outcome(NamedTuple):
    """What was done, or in check mode would be done. `before` is None when a fleet begins."""

    before: Ledger | None
    after: Ledger
    plan: Plan
    authorities: Authorities
    certificate_pems: Mapping[str, bytes]
    request: Request
    now: datetime.datetime

    @property
    def changed(self) -> bool:
        return self.before != self.after

    @property
    def ca_pem(self) -> bytes:
        """All certificates that every machine must trust now."""
        return self.authorities.bundle_pem

    def as_result(self) -> dict[str, Any]:
        """What a task returns."""
        plan = self.plan
        return {
            "changed": self.changed,
            "generation": self.after.generation,
            "issued": plan.issued,
            "updated": plan.updated,
            "rotated": plan.rotated,
            "retired": plan.retired,
            "stragglers": plan.stragglers,
            "waiting": self._waiting(),
            "revoked": plan.revoked,
            "denied": plan.denied,
            "orphans": plan.orphans,
            "unlisted": plan.unlisted,
            "bootstraps": self._bootstraps(),
            "ca_pem": self.ca_pem.decode(),
            "authority": self._authority(),
            "certificates": {
                broker: {
                    "fingerprint": self.after.certificates[broker].fingerprint,
                    "expires": self.after.certificates[broker].expires,
                    "certificate_pem": self.certificate_pems[broker].decode(),
                }
                for broker in self.request.brokers
            },
            "diff": {
                "before_header": LEDGER,
                "after_header": LEDGER,
                "before": _shown(self.before, self.after),
                "after": _shown(self.after, self.before),
            },
        }

    def _waiting(self) -> list[dict[str, Any]]:
        """The ids with two keys: until when the older one works, and if the newer was seen."""
        seen = Seen(self.request.reports)
        found = []
        for name, credential in sorted(self.after.credentials.items()):
            old = keys.retiring(credential.keys)
            if old is None:
                continue
            new = credential.keys[-1] if name not in self.plan.new_keys else None
            unix = seen.first_use_unix(name, new.key_id) if new else None
            found.append({"id": name, "until": old.until, "seen": unix is not None})
        return found

    def _bootstraps(self) -> list[dict[str, Any]]:
        """The ids whose key was handed out for a machine's first boot, and when that key ends."""
        return [
            {"id": name, "expires": keys.bootstrap_end(key) or None}
            for name, credential in sorted(self.after.credentials.items())
            for key in credential.valid_keys()
            if key.bootstrap_seconds
        ]

    def _authority(self) -> dict[str, Any]:
        roll, after = self.authorities.roll(self.request.overlap)
        active, pem = self.authorities.active, self.authorities.active_pem
        return {
            "fingerprint": active.certificate.fingerprint,
            "expires": active.certificate.expires,
            "roll": roll,
            "next_step_after": after,
            "roll_advised": bool(pem) and remaining_fraction(pem, self.now) < RENEW_BELOW_FRACTION,
        }


def _shown(ledger: Ledger | None, other: Ledger | None) -> str:
    """What a diff shows of a ledger: where it differs from the other, without digests."""
    if ledger is None:
        return ""
    lines = [f"site_id: {ledger.site_id}", f"generation: {ledger.generation}"]
    lines += [f"authority: {_authority_line(authority)}" for authority in ledger.authorities]
    for name, credential in sorted(ledger.credentials.items()):
        if other is None or other.credentials.get(name) != credential:
            lines.append(f"{name}: {_credential_line(credential)}")
    for name, certificate in sorted(ledger.certificates.items()):
        if other is None or other.certificates.get(name) != certificate:
            lines.append(
                f"certificate of {name}: "
                f"{_certificate_line(certificate.fingerprint, certificate.expires)}"
            )
    return "\n".join(lines) + "\n"


def _credential_line(credential: LedgerCredential) -> str:
    terms = credential.terms
    parts = [f"[{', '.join(terms.permissions)}]"]
    parts += [f"{limit}: {value}" for limit, value in sorted(terms.limits.items())]
    for name in ("tenant", "not_after"):
        if getattr(terms, name):
            parts.append(f"{name}: {getattr(terms, name)}")
    if terms.addresses:
        parts.append(f"addresses: {' '.join(terms.addresses)}")
    for key in credential.valid_keys():
        state = "" if key.state == ACTIVE else f" {key.state}"
        until = f" until {key.until}" if key.state == RETIRING else ""
        parts.append(f"{key.fingerprint}{state}{until}")
    if not credential.valid_keys():
        parts.append("revoked" if credential.keys else "a new key")
    return ", ".join(parts)


def _authority_line(authority: Authority) -> str:
    certificate = authority.certificate
    line = _certificate_line(certificate.fingerprint, certificate.expires)
    return line if authority.state == ACTIVE else f"{authority.state}, {line}"


def _certificate_line(fingerprint: str, expires: str) -> str:
    return f"{fingerprint}, expires {expires}" if fingerprint else "to be made"
