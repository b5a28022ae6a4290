"""`entropy first-seed`: draws one seed after the network is up, before host keys are made.

Waits for the network itself, within one time limit over everything, instead of being ordered after
network-online.target: a boot must never wait longer than that limit, also when there is no network
at all. Endpoints for seeds are asked first (transport/plain.py), since TLS would wait for the
kernel's generator; then the brokers, over TLS.
"""

from __future__ import annotations

import os
import threading
import time

from entropy import kernel
from entropy.client_state import ClientState
from entropy.config import ClientConfig
from entropy.credentials import load_credential
from entropy.dial import say_where
from entropy.errors import CredentialError, EntropyError, Refused
from entropy.into_kernel import into_kernel
from entropy.notify import NOTICE, WARNING, log
from entropy.transport.plain import PlainConnection
from entropy.wire.codes import DrawKind
from entropy.wire.keys import client_nonce, derive

FIRST_PAUSE_SECONDS = 0.2  # between two rounds over the brokers; it doubles
LONGEST_PAUSE_SECONDS = 1.0
LONGEST_TRY_SECONDS = 3.0  # for one broker
GRACE_SECONDS = 1.0  # for a resolver that hangs


def run(config: ClientConfig) -> int:
    """Seed the kernel within seed_timeout_seconds. Returns 0, with or without a seed.

    Raises CredentialError or Refused when what is configured cannot work.
    """
    late = threading.Timer(config.seed_timeout_seconds + GRACE_SECONDS, _give_up)
    late.daemon = True
    late.start()
    try:
        said = _FirstSeed(config).draw()
    finally:
        late.cancel()
    if said:
        limit = f"{config.seed_timeout_seconds} s"
        log(f"no seed within {limit}: going on without one ({said})", WARNING)
    return 0


class _FirstSeed:
    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._state = ClientState(config.state_dir)
        self._was_ready = bool(kernel.random_bytes(1))
        now = time.monotonic()
        self._end = now + config.seed_timeout_seconds
        # A kernel that is not ready is spared TLS for half of the time.
        self._tls_from = self._end - config.seed_timeout_seconds / 2
        if self._was_ready or not config.seeds:
            self._tls_from = now

    def draw(self) -> str:
        """Ask again and again. Returns "" once the kernel was fed, else why it was not."""
        said, pause_seconds = "", FIRST_PAUSE_SECONDS
        while self._left_seconds() > 0:
            said = self._draw_plain() or said
            if not said:
                return ""
            if time.monotonic() >= self._tls_from and self._draw_tls():
                return ""
            time.sleep(max(0.0, min(pause_seconds, self._left_seconds())))
            pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)
        return said

    def _left_seconds(self) -> float:
        return self._end - time.monotonic()

    def _draw_plain(self) -> str:
        said = "no broker answered"
        for endpoint in self._config.seeds:
            if self._left_seconds() <= 0:
                break
            try:
                self._draw_from(endpoint)
            except (CredentialError, Refused):
                raise
            except (EntropyError, OSError) as error:
                said = say_where(endpoint, error)
            else:
                return ""
        return said

    def _draw_from(self, endpoint: str) -> None:
        config = self._config
        credential = load_credential(config.credential)
        keys = derive(credential.secret)
        boot_id = kernel.boot_id()
        counter = self._state.next_counter(boot_id)
        nonce = client_nonce(
            keys.psk,
            boot_id,
            counter,
            kernel.clocks(),
            kernel.vm_generation(),
            kernel.random_bytes(32),
        )
        with PlainConnection.connect_plain(
            endpoint,
            credential=credential,
            keys=keys,
            boot_id=boot_id,
            counter=counter,
            nonce=nonce,
            timeout_seconds=min(self._left_seconds(), LONGEST_TRY_SECONDS),
        ) as connection:
            wait_seconds = max(0.0, self._left_seconds() - LONGEST_TRY_SECONDS)
            block = connection.draw(DrawKind.SEED, config.seed_bytes, wait_seconds)
            broker_id = connection.broker_id
        _, how = into_kernel(
            block.data,
            block.credit_bits,
            credit=config.credit,
            allow_shared_kernel=config.allow_shared_kernel,
        )
        ready = "was ready before" if self._was_ready else "was not ready before"
        log(f"first seed from {broker_id} ({endpoint}): {how}; the generator {ready}", NOTICE)

    def _draw_tls(self) -> bool:
        # Here: what it imports takes time, and where there are ports for seeds it is not needed.
        from entropy.client import Client, Fed

        return isinstance(Client(self._config).feed(DrawKind.SEED, self._left_seconds()), Fed)


def _give_up() -> None:
    log("no seed within the time-out: going on without one", WARNING)
    os._exit(0)  # the main thread may hang in the resolver, or in a kernel that is not ready
