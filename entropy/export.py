"""`entropy credential export`: hands one credential to a provisioning system, on the controller.

Reads the state directory that the playbooks keep and changes nothing in it. The credential goes to
standard output or into a file that its owner alone can read, and nowhere else; what there is to
say about it goes to standard error.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from entropy.ansible_vault import decrypt, read_password
from entropy.credentials import Credential, dump_credential, fingerprint, parse_credential
from entropy.errors import CredentialError, EntropyError
from entropy.notify import log
from entropy.wire.keys import derive

JSON, CLOUD_INIT = "json", "cloud-init"
_LEDGER_VERSIONS = (1, 2)
_VALID = ("active", "pending", "retiring")


def run(
    credential_id: str, *, state_dir: str, password_file: str, form: str, output: str | None
) -> int:
    """Export the newest key of an id. Raises CredentialError, with what to do."""
    credential, ca_pem, said = look_up(credential_id, state_dir, password_file)
    hand_over(
        dump_credential(credential) if form == JSON else cloud_config(credential, ca_pem), output
    )
    log(said)
    return 0


def look_up(
    credential_id: str, state_dir: str, password_file: str
) -> tuple[Credential, bytes, str]:
    """The newest key of an id, the certificates that go with it (PEM), and what to say of it.

    Raises CredentialError, with what to do.
    """
    with _shared_lock(state_dir):
        ledger = _read_ledger(state_dir)
        key = _newest_key(ledger, credential_id, state_dir)
        credential = _read_credential(state_dir, credential_id, key, read_password(password_file))
        ca_pem = _read_authorities(state_dir, ledger)
    return credential, ca_pem, _said(credential_id, key, ledger)


def hand_over(text: str, output: str | None) -> None:
    """Write a text to a file that its owner alone can read, or to standard output."""
    if output is None:
        print(text, end="")
    else:
        _write(output, text)


def check_output(output: str | None) -> None:
    """EntropyError if `hand_over` could not write there; for before what cannot be had again."""
    if output is None:
        return
    try:
        if os.path.isdir(output):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        os.close(_create(f"{output}.new"))
        os.unlink(f"{output}.new")
    except OSError as error:
        raise EntropyError(f"cannot write {output}: {error.strerror}") from None


def cloud_config(credential: Credential, ca_pem: bytes) -> str:
    """User data for cloud-init: the CA's certificate and the credential, where the client reads
    them. The package must be in the image, since it brings the group."""
    files = (
        ("/etc/entropy/ca.pem", "root:root", "0644", ca_pem),
        (
            "/etc/entropy/credential.json",
            "root:entropy-client",
            "0640",
            dump_credential(credential).encode(),
        ),
    )
    lines = ["#cloud-config", "write_files:"]
    for path, owner, mode, content in files:
        lines += [
            f"  - path: {path}",
            f"    owner: {owner}",
            f'    permissions: "{mode}"',
            "    encoding: b64",
            f"    content: {base64.b64encode(content).decode()}",
        ]
    lines += ["runcmd:", "  - [systemctl, restart, --no-block, entropy-client.service]"]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def _shared_lock(state_dir: str) -> Iterator[None]:
    """Wait for a run that is writing, and keep others from writing meanwhile."""
    try:
        descriptor = os.open(os.path.join(state_dir, ".lock"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise CredentialError(
            f"{state_dir} holds no fleet's credentials: name the inventory's entropy_state_dir"
        ) from None
    except OSError as error:
        raise CredentialError(
            f"{state_dir} is not a state directory that can be read: {error.strerror}"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _read_ledger(state_dir: str) -> Mapping[str, Any]:
    where = os.path.join(state_dir, "ledger.json")
    try:
        ledger: dict[str, Any] = json.loads(_read(where))
        version = ledger["version"]
    except (ValueError, KeyError, TypeError):
        raise CredentialError(f"{where} is damaged: restore the newest backup") from None
    if version not in _LEDGER_VERSIONS:
        raise CredentialError(f"{where}: version {version} was written by another release; use it")
    return ledger


def _newest_key(ledger: Mapping[str, Any], credential_id: str, state_dir: str) -> Mapping[str, Any]:
    recorded = ledger["credentials"].get(credential_id)
    if recorded is None:
        raise CredentialError(
            f"{state_dir} has no credential for {credential_id}: add it to the inventory or to "
            "entropy_external_clients and run playbooks/credentials.yml"
        )
    valid: list[dict[str, Any]] = [key for key in recorded["keys"] if key["state"] in _VALID]
    if not valid:
        raise CredentialError(f"{credential_id} was revoked: there is nothing to export")
    return valid[-1]


def _read_credential(
    state_dir: str, credential_id: str, key: Mapping[str, Any], password: bytes
) -> Credential:
    where = os.path.join(state_dir, "credentials", f"{credential_id}.json")
    text = decrypt(_read(where), password, where)
    try:
        data = json.loads(text)
        held = [parse_credential(json.dumps(c), where) for c in data.get("keys", [data])]
    except (ValueError, TypeError, AttributeError):
        raise CredentialError(f"{where} holds no credential: restore the newest backup") from None
    for credential in held:
        public = derive(credential.secret).public
        if (credential.key_id.hex(), fingerprint(public)) == (key["key_id"], key["fingerprint"]):
            return credential
    raise CredentialError(
        f"{where} does not hold the key {key['fingerprint']} that the ledger names: restore both "
        "from the newest backup"
    )


def _read_authorities(state_dir: str, ledger: Mapping[str, Any]) -> bytes:
    """All certificates that a machine must trust, the one that signs first."""
    states = {a["name"]: a["state"] for a in ledger.get("authorities", ())} or {"ca": "active"}
    names = sorted(states, key=lambda name: states[name] != "active")
    return b"".join(_read(os.path.join(state_dir, "ca", f"{name}.pem")) for name in names)


def _said(credential_id: str, key: Mapping[str, Any], ledger: Mapping[str, Any]) -> str:
    """What whoever exports a credential should know of it."""
    text = f"{credential_id}: key {key['key_id']}, made {key['created']}"
    seconds = key.get("bootstrap_seconds", 0)
    if seconds and key.get("first_used"):
        text += f", was used first on {key['first_used']} and ends {seconds} s after that"
    elif seconds:
        text += f", ends {seconds} s after its first use unless it is replaced"
    else:
        text += ", is a lasting one"
    return text + f"; known to the brokers from generation {ledger['generation']} on"


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise CredentialError(f"cannot read {path}: {error.strerror}") from None


def _write(path: str, text: str) -> None:
    """Replace a file in one step, for its owner alone from the first moment on."""
    temporary = f"{path}.new"
    try:
        with open(_create(temporary), "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        raise EntropyError(f"cannot write {path}: {error.strerror}") from None


def _create(path: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
