"""A fleet of one broker, as files; and what goes on at its end of a session."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from entropy.authority import Issued, issue_broker, new_authority
from entropy.credentials import Credential
from entropy.errors import AuthenticationError
from entropy.transport.aio import Server, TlsStream, serve
from entropy.transport.tls import ServerContext, client_context, server_context
from entropy.wire.broker import BrokerConnection
from entropy.wire.codes import RefusedCode, RetryReason, Role
from entropy.wire.frames import (
    Accepted,
    Auth,
    Block,
    Draw,
    Feed,
    Message,
    Recall,
    Retry,
    Welcome,
)
from entropy.wire.keys import Ephemeral, derive

CREDENTIAL = Credential("lab", "vm1", b"k" * 8, b"s" * 32, frozenset({"draw"}))
KEYS = derive(CREDENTIAL.secret)
STRANGER = derive(b"o" * 32)
WELCOME = Welcome(frozenset({"draw"}), 600, 32, 64, 4096, 1000000, 10, 16384)
RETRY_BYTES = 11  # a draw of this many is put off, one of the next number refused,
REFUSE_BYTES = 12
SILENCE_BYTES = 13  # and of this one not answered
SESSION: dict[str, Any] = {
    "credential": CREDENTIAL,
    "keys": KEYS,
    "role": Role.CLIENT,
    "boot_id": b"b" * 16,
    "counter": 1,
    "nonce": b"n" * 32,
    "timeout_seconds": 20.0,
}

Handler = Callable[[TlsStream], Coroutine[Any, Any, None]]


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


HAS_IPV6 = _has_ipv6()


class Fleet(NamedTuple):
    folder: Path
    authority: Issued
    ca_path: Path
    certificate_path: Path
    key_path: Path

    def context(self, *, check_dates: bool = True) -> Any:
        return client_context(self.ca_path, check_dates)

    def server(self) -> ServerContext:
        return server_context(self.certificate_path, self.key_path)


def write_issued(issued: Issued, folder: Path, name: str) -> tuple[Path, Path]:
    """The files of a certificate and its key."""
    certificate_path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    certificate_path.write_bytes(issued.certificate_pem)
    key_path.write_bytes(issued.key_pem)
    key_path.chmod(0o640)
    return certificate_path, key_path


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    folder = tmp_path_factory.mktemp("fleet")
    authority = new_authority("lab")
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    files = write_issued(issue_broker(authority, "broker1", "lab"), folder, "tls")
    return Fleet(folder, authority, folder / "ca.pem", *files)


@contextmanager
def silent_listener() -> Iterator[socket.socket]:
    """Answers no attempt to connect, as a machine that is gone: its queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener


def expired(fleet: Fleet) -> ServerContext:
    """A broker whose certificate ended when it was made."""
    issued = issue_broker(fleet.authority, "broker1", "lab", days=0)
    return server_context(*write_issued(issued, fleet.folder, "expired"))


def broker_end(certificate_sha256: bytes) -> BrokerConnection:
    return BrokerConnection(
        broker_id="broker1",
        epoch=b"E" * 16,
        ephemeral=Ephemeral.new(b"e" * 32),
        nonce=b"N" * 32,
        certificate_sha256=certificate_sha256,
    )


def react(wire: BrokerConnection, message: Message) -> None:
    """What a broker says to a message."""
    if isinstance(message, Auth):
        known = (message.id, message.key_id) == (CREDENTIAL.id, CREDENTIAL.key_id)
        keys = KEYS if known else STRANGER
        try:
            wire.authenticate(keys.public, keys.psk)
            wire.welcome(WELCOME)
        except AuthenticationError:
            wire.refuse(RefusedCode.AUTHENTICATION)
    elif isinstance(message, Draw):
        if message.n_bytes == RETRY_BYTES:
            wire.send(Retry(1500, RetryReason.EMPTY))
        elif message.n_bytes == REFUSE_BYTES:
            wire.refuse(RefusedCode.PERMISSION)
        elif message.n_bytes != SILENCE_BYTES:
            wire.send(Block(1, 8, ("rng1",), b"\xaa" * message.n_bytes))
    elif isinstance(message, Feed):
        wire.send(Accepted(message.sequence + len(message.blocks), message.credit_bits, 1, 2))
    elif isinstance(message, Recall):
        wire.send(Accepted(message.sequence, 0, 1, 2))


async def mini_broker(stream: TlsStream) -> None:
    """A handler that speaks the wire."""
    wire = broker_end(stream.certificate_sha256)
    while True:
        await stream.send(wire.data_to_send())
        if wire.closed:
            return
        data = await stream.receive()
        if not data:
            return
        wire.receive_data(data)
        for message in wire.events():
            react(wire, message)


async def echo(stream: TlsStream) -> None:
    while data := await stream.receive():
        await stream.send(data)


@asynccontextmanager
async def listening(fleet: Fleet, handler: Handler, **options: Any) -> AsyncIterator[Server]:
    """A server on a free port of the loopback; errors of its handlers fail the test."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    context = options.pop("context", None) or fleet.server()
    server = await serve(options.pop("endpoint", "127.0.0.1:0"), context, handler, **options)
    try:
        yield server
    finally:
        server.close()
        await server.wait_closed()
        assert server.connections == 0
        asyncio.get_running_loop().set_exception_handler(None)
    assert not complaints
