"""A fleet's state directory for the tests, and what must be true of one at any time."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entropy.credentials import Credential, parse_credential
from module_utils.entropy_acl_document import Handed
from module_utils.entropy_authorities import key_matches
from module_utils.entropy_issue import ensure
from module_utils.entropy_ledger import Ledger
from module_utils.entropy_outcome import Outcome
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


DEFAULTS: dict[str, Any] = {
    "site_id": "lab",
    "state": "present",
    "credentials": None,
    "brokers": (),
    "ids": (),
    "tenant": None,
    "rotate_after": None,
    "overlap": "7d",
    "rebuilt": (),
    "reissue": (),
    "orphans": "report",
    "max_revoke": 10,
    "bootstrap_lifetime": "24h",
    "reports": (),
    "bootstrap": False,
    "supersede": False,
}


def request(
    credentials: Mapping[str, Mapping[str, Any]] | None, *brokers: str, **arguments: Any
) -> Request:
    """What a task with these arguments asks for."""
    given = credentials and [
        {"permissions": ["draw"], **fields, "id": name} for name, fields in credentials.items()
    ]
    given = given if given is None else list(given)
    return parse_request({**DEFAULTS, "credentials": given, "brokers": brokers, **arguments})


def report(
    generation: int,
    keys: Mapping[str, Mapping[str, tuple[int | None, int]]] | None = None,
    *,
    broker_id: str = "b1",
    site_id: str = "lab",
) -> dict[str, Any]:
    """A broker's report: of each key its first use (seconds since 1970) and its sessions."""
    return {
        "broker_id": broker_id,
        "site_id": site_id,
        "generation": generation,
        "keys": {
            name: {
                key_id: {"first_use_unix": unix, "sessions": sessions}
                for key_id, (unix, sessions) in of_id.items()
            }
            for name, of_id in (keys or {}).items()
        },
    }


class Fleet:
    """A state directory, and one call for each thing that a run does with it."""

    def __init__(self, state_dir: Path, vault: Vault) -> None:
        self.state_dir = state_dir
        self.store = Store(str(state_dir), vault)

    def ensure(
        self,
        credentials: Mapping[str, Mapping[str, Any]] | None,
        *brokers: str,
        check: bool = False,
        now: datetime.datetime = NOW,
        **arguments: Any,
    ) -> Outcome:
        """One task with state=present, unless the arguments say otherwise."""
        wanted = request(credentials, *brokers, **{"bootstrap": True, **arguments})
        return ensure(self.store, wanted, now=now, check=check)

    def do(self, state: str, *brokers: str, **arguments: Any) -> Outcome:
        """One task with another state."""
        return self.ensure(None, *brokers, state=state, **arguments)

    def key_ids(self, name: str, *states: str) -> list[str]:
        """The keys of an id that are in one of these states, the newest last."""
        keys = self.ledger().credentials[name].keys
        return [key.key_id for key in keys if key.state in states]

    def used(self, name: str, key_id: str, *, unix: int | None = None) -> dict[str, Any]:
        """The report of a broker that has seen a key."""
        unix = int(NOW.timestamp()) if unix is None else unix
        return report(self.ledger().generation, {name: {key_id: (unix, 0)}})

    def ledger(self) -> Ledger:
        ledger = self.store.read_ledger()
        assert ledger is not None
        return ledger

    def text(self, term: str, *, check: bool = False) -> str:
        return secret_texts(self.store, [term], check=check)[0]

    def credential(self, name: str) -> Credential:
        return parse_credential(self.text(name), name)

    def entries(self, *, check: bool = False) -> list[dict[str, Any]]:
        return self.handed(check=check).entries  # type: ignore[return-value]

    def handed(self, *, check: bool = False) -> Handed:
        """What is handed to the brokers' hosts."""
        texts = lambda names: secret_texts(self.store, names, check=check)  # noqa: E731
        return Handed(*entries_for_brokers(self.store, texts, check=check))

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
        listed = {(entry["id"], entry["key_id"]): entry for entry in self.entries()}
        valid = {(n, k.key_id) for n, c in ledger.credentials.items() for k in c.valid_keys()}
        assert set(listed) == valid
        on_disk = {path.stem for path in (self.state_dir / "credentials").iterdir()}
        assert on_disk == {name for name, _ in valid}
        for name in on_disk:
            credential, recorded = self.credential(name), ledger.credentials[name]
            key_id = credential.key_id.hex()
            assert key_id == recorded.valid_keys()[-1].key_id
            assert listed[name, key_id]["permissions"] == list(recorded.terms.permissions)
            held = self.store.read_credentials(name, ledger.site_id)
            assert [c.key_id.hex() for c in held] == [k.key_id for k in recorded.valid_keys()]
        for broker in ledger.certificates:
            certificate_pem = (self.state_dir / f"tls/{broker}.pem").read_bytes()
            assert key_matches(self.text(f"tls:{broker}").encode(), certificate_pem)
        raw = json.loads((self.state_dir / "ledger.json").read_text())
        assert raw["generation"] == ledger.generation
