"""`entropy seed issue`: draws a seed from a broker on a VM's behalf and seals it for that VM.

For the operator or the provisioning system, where the VM's credential is. The broker debits its
reservoir as for any draw, so the credit that travels with the seed was born at a feeder. The seed
itself is never printed or kept: what comes out can be opened with the VM's credential alone.
"""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Sequence
from ssl import SSLContext
from typing import NamedTuple

from entropy.credentials import Credential, load_credential
from entropy.errors import CredentialError, EntropyError
from entropy.export import check_output, hand_over, look_up
from entropy.injected_seed import NONCE_BYTES, InjectedSeed, seal
from entropy.notify import log
from entropy.transport.blocking import BlockingConnection
from entropy.transport.tls import client_context
from entropy.wire.codes import DrawKind, Role
from entropy.wire.frames import Block
from entropy.wire.keys import client_nonce, derive

SEED_BYTES = 64
READY_BITS = 256  # what a kernel wants before it is ready: less than that is not worth a delivery
TIMEOUT_SECONDS = 10.0
WAIT_SECONDS = 20.0  # in a broker's queue


class Holder(NamedTuple):
    """On whose behalf: the credential, and the certificates (PEM) that its machine trusts."""

    credential: Credential
    ca_pem: bytes


def by_store(credential_id: str, state_dir: str, password_file: str) -> Holder:
    """From the controller's state directory. Raises CredentialError, with what to do."""
    credential, ca_pem, _ = look_up(credential_id, state_dir, password_file)
    return Holder(credential, ca_pem)


def by_files(credential_path: str, ca_path: str) -> Holder:
    """From credential.json and ca.pem. Raises CredentialError."""
    try:
        with open(ca_path, "rb") as file:
            ca_pem = file.read()
    except OSError as error:
        raise CredentialError(f"cannot read {ca_path}: {error.strerror}") from None
    return Holder(load_credential(credential_path), ca_pem)


def run(
    holder: Holder,
    *,
    instance: bytes,
    valid_seconds: int,
    brokers: Sequence[str],
    output: str | None,
) -> int:
    """Issue one seed for the machine with the UUID `instance` (16 bytes). Returns 0.

    brokers: endpoints, asked in order. output: a file, mode 0600; None for standard output.
    Raises EntropyError when no broker gives one.
    """
    credential = holder.credential
    if "draw" not in credential.permissions:
        raise CredentialError(f"{credential.id} may not draw: nothing can be drawn on its behalf")
    check_output(output)  # first: what is drawn is debited, whether it arrives or not
    broker_id, block = _draw_from_one(brokers, holder)
    issued_unix = int(time.time())
    seed = InjectedSeed(
        uuid=instance,
        issued_unix=issued_unix,
        expires_unix=issued_unix + valid_seconds,
        credit_bits=min(block.credit_bits, 8 * len(block.data)),
        nonce=os.urandom(NONCE_BYTES),
        data=block.data,
    )
    hand_over(seal(credential, seed) + "\n", output)
    until = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seed.expires_unix))
    machine = uuid.UUID(bytes=instance)
    log(
        f"a seed worth {seed.credit_bits} bits from {broker_id} for {credential.id}"
        f" (key {credential.key_id.hex()}) on the machine {machine}, until {until}"
    )
    return 0


def _draw_from_one(brokers: Sequence[str], holder: Holder) -> tuple[str, Block]:
    said = "no broker was named"
    with tempfile.NamedTemporaryFile(suffix=".pem") as ca:
        ca.write(holder.ca_pem)
        ca.flush()
        context = client_context(ca.name, check_dates=True)
    for endpoint in brokers:
        try:
            broker_id, block = _draw(endpoint, holder.credential, context)
        except (EntropyError, OSError) as error:
            said = str(error) if endpoint in str(error) else f"{endpoint}: {error}"
            continue
        if block.credit_bits >= READY_BITS:
            return broker_id, block
        said = f"{endpoint}: what it has is worth {block.credit_bits} bits: its reservoir is empty"
    raise EntropyError(f"no seed was issued: {said}")


def _draw(endpoint: str, credential: Credential, context: SSLContext) -> tuple[str, Block]:
    keys = derive(credential.secret)
    # To the broker this is a boot of its own that ends at once. The VM's are others.
    boot_id, counter = os.urandom(16), 1
    with BlockingConnection.connect(
        endpoint,
        context=context,
        credential=credential,
        keys=keys,
        role=Role.CLIENT,
        boot_id=boot_id,
        counter=counter,
        nonce=client_nonce(keys.psk, boot_id, counter, b"", b"", os.urandom(32)),
        timeout_seconds=TIMEOUT_SECONDS,
    ) as connection:
        return connection.broker_id, connection.draw(DrawKind.SEED, SEED_BYTES, WAIT_SECONDS)
