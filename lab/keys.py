"""The secrets of the lab: an ssh key and a vault password, made here and kept at mode 0600."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from lab.command import run
from lab.names import STATE

SSH_KEY = STATE / "ssh_key"
KNOWN_HOSTS = STATE / "known_hosts"
SSH_CONFIG = STATE / "ssh_config"
VAULT_PASSWORD = STATE / "vault_password"


def ensure() -> None:
    """Make what is missing."""
    STATE.mkdir(mode=0o700, exist_ok=True)
    STATE.chmod(0o700)
    if not SSH_KEY.exists():
        comment = ["-C", "entropy lab"]
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", *comment, "-f", str(SSH_KEY)])
    if not VAULT_PASSWORD.exists():
        write_private(VAULT_PASSWORD, secrets.token_urlsafe(32) + "\n")


def public_key() -> str:
    return SSH_KEY.with_suffix(".pub").read_text()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def write_ssh(addresses: dict[str, str], host_keys: dict[str, str]) -> None:
    """Write known_hosts and an ssh_config with the hosts' names. Host keys stay checked."""
    lines = [f"{addresses[name]} {key}\n" for name, key in sorted(host_keys.items())]
    write_private(KNOWN_HOSTS, "".join(lines))
    entries = [f"Host {name}\n    HostName {address}\n" for name, address in addresses.items()]
    common = f"""\
Host *
    User lab
    IdentityFile "{SSH_KEY}"
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile "{KNOWN_HOSTS}"
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    ConnectTimeout 10
    ServerAliveInterval 5
    ServerAliveCountMax 3
    LogLevel ERROR
"""
    write_private(SSH_CONFIG, "".join(entries) + common)
