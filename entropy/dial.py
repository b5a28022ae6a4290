"""Opening a session with a broker as this machine: what the client and `entropy draw` share."""

from __future__ import annotations

import time
from typing import NamedTuple

from entropy import kernel
from entropy.client_state import ClientState
from entropy.config import ClientConfig
from entropy.credentials import Credential, load_credential
from entropy.errors import CertificateDateError, ConfigError, CredentialError
from entropy.transport.blocking import BlockingConnection
from entropy.transport.plain import PlainConnection
from entropy.transport.tls import client_context
from entropy.wire.codes import Role
from entropy.wire.keys import CredentialKeys, client_nonce, derive


def check(config: ClientConfig) -> None:
    """Read everything that a session needs, so that a wrong file is told before the first.

    Raises ConfigError, CredentialError or KernelError.
    """
    _credential(config)
    client_context(config.ca, check_dates=False)
    kernel.boot_id()


def dial(
    config: ClientConfig, state: ClientState, endpoint: str, timeout_seconds: float
) -> BlockingConnection:
    """Connect to the broker at `endpoint` and prove who we are.

    Every file is read anew: a rotated credential or CA needs no restart, and the secret is
    not in memory between draws. Raises EntropyError.
    """
    end = time.monotonic() + timeout_seconds
    login = _login(config, state)

    def connect(check_dates: bool) -> BlockingConnection:
        return BlockingConnection.connect(
            endpoint,
            context=client_context(config.ca, check_dates),
            role=Role.CLIENT,
            timeout_seconds=end - time.monotonic(),
            **login._asdict(),
        )

    try:
        return connect(check_dates=True)
    except CertificateDateError:
        # A wrong clock must not stop a first boot, so dates count only when the clock does. It is
        # asked no sooner because that takes ctypes, which costs a tenth of a draw.
        if kernel.clock_is_synchronised():
            raise
    return connect(check_dates=False)


def dial_plain(
    config: ClientConfig, state: ClientState, endpoint: str, timeout_seconds: float
) -> PlainConnection:
    """The same at a broker's port for seeds, without TLS. Raises EntropyError."""
    login = _login(config, state)
    return PlainConnection.connect_plain(
        endpoint, timeout_seconds=timeout_seconds, **login._asdict()
    )


class _Login(NamedTuple):
    """Who this machine is, this time."""

    credential: Credential
    keys: CredentialKeys
    boot_id: bytes
    counter: int
    nonce: bytes


def _login(config: ClientConfig, state: ClientState) -> _Login:
    credential = _credential(config)
    keys = derive(credential.secret)
    boot_id = state.boot_id(kernel.boot_id())
    counter = state.next_counter(boot_id)
    nonce = client_nonce(
        keys.psk,
        boot_id,
        counter,
        kernel.clocks(),
        kernel.vm_generation(),
        kernel.random_bytes(32),
    )
    return _Login(credential, keys, boot_id, counter, nonce)


def say_where(endpoint: str, error: Exception) -> str:
    """What went wrong, with the endpoint in it."""
    return str(error) if endpoint in str(error) else f"{endpoint}: {error}"


def _credential(config: ClientConfig) -> Credential:
    credential = load_credential(config.credential)
    if credential.site_id != config.site_id:
        raise ConfigError(
            f"{config.credential}: is for the site {credential.site_id!r},"
            f" but client.site_id says {config.site_id!r}"
        )
    if "draw" not in credential.permissions:
        raise CredentialError(
            f"{config.credential}: {credential.id!r} may not draw; its permissions are:"
            f" {', '.join(sorted(credential.permissions)) or 'none'}"
        )
    return credential
