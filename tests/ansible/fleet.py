"""A fleet's state directory for the tests, and what must be true of one at any time."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entropy.credentials import Credential, parse_credential
from module_utils.entropy_certificates import key_matches
from module_utils.entropy_issue import Outcome, ensure
from module_utils.entropy_ledger import Ledger
from module_utils.entropy_request import Request, parse_request
from module_utils.entropy_secrets import entries_for_brokers, secret_texts
from module_utils.entropy_store import Store, Vault

NOW = datetime.datetime.now(datetime.timezone.utc)
SMALL: dict[str, dict[str, Any]] = {"vm1": {}, "rng1": {"permissions": ["feed"]}}
# More of everything: an id, another permission, another limit, a broker.
LARGER: dict[str, dict[str, Any]] = {
    "vm1": {"permissions": ["draw", "peer"]},
    "rng1": {"permissions": ["feed"], "credit_bits_per_second": 1000},
    "vm2": {},
}


def request(
    credentials: Mapping[str, Mapping[str, Any]],
    *brokers: str,
    site_id: str = "lab",
    bootstrap: bool = False,
) -> Request:
    given = [
        {"permissions": ["draw"], **fields, "id": name} for name, fields in credentials.items()
    ]
    return parse_request(site_id, given, brokers, bootstrap)


class Fleet:
    """A state directory, and one call for each thing that a run does with it."""

    def __init__(self, state_dir: Path, vault: Vault) -> None:
        self.state_dir = state_dir
        self.store = Store(str(state_dir), vault)

    def ensure(
        self,
        credentials: Mapping[str, Mapping[str, Any]],
        *brokers: str,
        check: bool = False,
        bootstrap: bool = True,
        site_id: str = "lab",
        now: datetime.datetime = NOW,
    ) -> Outcome:
        wanted = request(credentials, *brokers, bootstrap=bootstrap, site_id=site_id)
        return ensure(self.store, wanted, now=now, check=check)

    def ledger(self) -> Ledger:
        ledger = self.store.read_ledger()
        assert ledger is not None
        return ledger

    def text(self, term: str, *, check: bool = False) -> str:
        return secret_texts(self.store, [term], check=check)[0]

    def credential(self, name: str) -> Credential:
        return parse_credential(self.text(name), name)

    def entries(self, *, check: bool = False) -> list[dict[str, Any]]:
        return entries_for_brokers(
            self.store, lambda names: secret_texts(self.store, names, check=check), check=check
        )

    def files(self) -> dict[str, bytes]:
        """Everything on the disk, by name."""
        return {
            str(path.relative_to(self.state_dir)): path.read_bytes()
            for path in sorted(self.state_dir.rglob("*"))
            if path.is_file()
        }

    def assert_sound(self) -> None:
        """Every id of the ledger has its secret, and the brokers' list is of the same keys."""
        ledger = self.ledger()
        listed = {entry["id"]: entry for entry in self.entries()}
        assert set(listed) == set(ledger.credentials)
        for name, recorded in ledger.credentials.items():
            credential = self.credential(name)
            assert credential.key_id.hex() == listed[name]["key_id"]
            assert listed[name]["permissions"] == list(recorded.permissions)
        for broker in ledger.certificates:
            certificate_pem = (self.state_dir / f"tls/{broker}.pem").read_bytes()
            assert key_matches(self.text(f"tls:{broker}").encode(), certificate_pem)
        raw = json.loads((self.state_dir / "ledger.json").read_text())
        assert raw["generation"] == ledger.generation
