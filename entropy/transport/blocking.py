"""A session over a blocking TLS socket, for a VM's client: connect, draw, close.

No asyncio, no threads. Every step has a deadline, except that looking up a host name takes as long
as the system's resolver does; endpoints that are addresses need no lookup.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import time

from entropy import errors
from entropy.credentials import Credential
from entropy.errors import EntropyError, RemoteProtocolError, RetryLater, TransportError
from entropy.transport.endpoint import parse_endpoint
from entropy.transport.tls import check_alpn, describe, peer_facts
from entropy.wire.client import ClientConnection
from entropy.wire.codes import DrawKind, Role
from entropy.wire.frames import Block, Draw, Message, Refused, Retry, Welcome
from entropy.wire.keys import CredentialKeys

_READ_BYTES = 16384
_WAIT_LIMIT_MS = (1 << 32) - 1
# An address that moves to another machine loses the first packet of a connection, and the kernel
# sends its second one only after a second, its third after three.
_FIRST_TRIES = 4
_TRY_SECONDS = 0.25
_LEAST_SECONDS = 0.001  # none at all would not wait for the connection
# And whoever waits for an answer of the machine that had the address hears nothing more, unless he
# asks: the one that has it now denies the connection.
_PROBE_SECONDS = 1


class BlockingConnection:
    """An open session with a broker. Made by `connect`; closes itself after any error."""

    __slots__ = (
        "_endpoint",
        "_refused",
        "_socket",
        "_timeout_seconds",
        "_wire",
        "broker_id",
        "welcome",
    )

    def __init__(self, endpoint: str, sock: socket.socket, timeout_seconds: float) -> None:
        self._endpoint = endpoint
        self._socket = sock
        self._timeout_seconds = timeout_seconds
        self._refused: Refused | None = None
        self._wire: ClientConnection
        self.broker_id: str
        self.welcome: Welcome

    @classmethod
    def connect(
        cls,
        endpoint: str,
        *,
        context: ssl.SSLContext,
        credential: Credential,
        keys: CredentialKeys,
        role: Role,
        boot_id: bytes,
        counter: int,
        nonce: bytes,
        timeout_seconds: float,
        broker_id: str | None = None,
    ) -> BlockingConnection:
        """Connects, proves itself and checks the broker's proof, all within `timeout_seconds`.

        broker_id: the only broker that will do, if there is one. Raises TransportError,
        AuthenticationError, RemoteProtocolError, Refused.
        """
        deadline = time.monotonic() + timeout_seconds
        sock = _connect_tls(endpoint, context, deadline)
        self = cls(endpoint, sock, timeout_seconds)
        try:
            facts = peer_facts(sock)
            wire = ClientConnection(
                role=role,
                site_id=credential.site_id,
                id=credential.id,
                key_id=credential.key_id,
                keys=keys,
                boot_id=boot_id,
                counter=counter,
                nonce=nonce,
                certificate_sha256=facts.certificate_sha256,
                certificate_names=facts.certificate_names,
                broker_id=broker_id,
            )
        except BaseException:
            self.close()
            raise
        self._open(wire, deadline)
        return self

    def _open(self, wire: ClientConnection, deadline: float) -> None:
        """Let both sides prove themselves. Closes after any error."""
        self._wire = wire
        try:
            self._next_message(deadline)
            assert wire.welcome is not None  # the first message is Welcome, or has raised
            assert wire.broker_id is not None
            self.welcome = wire.welcome
            self.broker_id = wire.broker_id
        except BaseException:
            self.close()
            raise

    def draw(self, kind: DrawKind, n_bytes: int, wait_seconds: float) -> Block:
        """Draws 1 to 4096 bytes, letting the broker take up to `wait_seconds` to find them.

        Raises RetryLater, after which one may draw again; and TransportError, Refused or a
        WireError, after which the session is over.
        """
        deadline = time.monotonic() + wait_seconds + self._timeout_seconds
        wait_ms = min(max(0, round(wait_seconds * 1000)), _WAIT_LIMIT_MS)
        try:
            self._raise_if_refused()
            if self._socket.fileno() < 0:
                raise TransportError(f"the connection to {self._endpoint} is closed")
            self._wire.send(Draw(kind, n_bytes, wait_ms))
            message = self._next_message(deadline)
        except BaseException:
            self.close()
            raise
        if isinstance(message, Retry):
            raise RetryLater(message.after_ms / 1000, message.why)
        assert isinstance(message, Block)  # the wire lets nothing else through
        return message

    def close(self) -> None:
        """Says goodbye, if that needs no waiting, and closes the socket."""
        if isinstance(self._socket, ssl.SSLSocket):
            _close(self._socket)
        else:
            self._socket.close()  # plain.py's

    def __enter__(self) -> BlockingConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next_message(self, deadline: float) -> Message:
        """Sends what is to be sent and reads one message. Refused raises."""
        what = f"talking to {self._endpoint}"
        while True:
            try:
                data = self._wire.data_to_send()
                if data:
                    self._socket.settimeout(_remaining(deadline, what))
                    self._socket.sendall(data)
                self._socket.settimeout(_remaining(deadline, what))
                data = self._socket.recv(_READ_BYTES)
            except OSError as error:
                raise describe(error, what) from None
            if data:
                self._wire.receive_data(data)
            else:
                self._hung_up(what)
            answer: Message | None = None
            for message in self._wire.events():
                if isinstance(message, Refused):
                    self._refused = message  # perhaps after an answer, which still counts
                else:
                    answer = message
            if answer is not None:
                return answer
            self._raise_if_refused()
            if not data:
                raise TransportError(f"{what}: it closed the connection")

    def _hung_up(self, what: str) -> None:
        """Nothing more will come. A connection that was cut in its middle is nobody's lie."""
        try:
            self._wire.receive_eof()
        except RemoteProtocolError as error:
            raise TransportError(f"{what}: {error}") from None

    def _raise_if_refused(self) -> None:
        if self._refused is not None:
            raise errors.Refused(self._refused.code)


def _connect_tls(endpoint: str, context: ssl.SSLContext, deadline: float) -> ssl.SSLSocket:
    what = f"connecting to {endpoint}"
    plain = connect_tcp(endpoint, what, deadline)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock = context.wrap_socket(plain, do_handshake_on_connect=False)
    except OSError as error:
        plain.close()
        raise describe(error, what) from None
    try:
        sock.settimeout(_remaining(deadline, what))
        sock.do_handshake()
        check_alpn(sock)
    except OSError as error:
        _close(sock)
        raise describe(error, what) from None
    except BaseException:
        _close(sock)
        raise
    return sock


def connect_tcp(endpoint: str, what: str, deadline: float) -> socket.socket:
    """A TCP connection to the first of the host's addresses that takes one."""
    host, port = parse_endpoint(endpoint)
    failure: EntropyError = TransportError(f"{what}: no address was found")
    try:
        # As bytes: for a text Python loads its tables of international names, for an address, too.
        found = socket.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise describe(error, what) from None
    for i, (family, kind, protocol, _, address) in enumerate(found):
        # An address that does not answer leaves their share of the time to the others.
        end = time.monotonic() + _remaining(deadline, what) / (len(found) - i)
        seconds = _TRY_SECONDS
        for n_tries in itertools.count(1):
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:  # this kernel has no such family
                failure = describe(error, what)
                break
            left_seconds = end - time.monotonic()
            try:
                _notice_death(sock)
                sock.settimeout(max(_LEAST_SECONDS, min(seconds, left_seconds)))
                sock.connect(address)
                return sock
            except OSError as error:
                sock.close()
                failure = describe(error, what)
                if not isinstance(error, socket.timeout) or left_seconds <= seconds:
                    break
            except BaseException:
                sock.close()
                raise
            if n_tries >= _FIRST_TRIES:
                seconds *= 2
    raise failure


def _notice_death(sock: socket.socket) -> None:
    """Have the kernel ask a silent peer every second whether it is there; five times at most."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 5)


def _remaining(deadline: float, what: str) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TransportError(f"{what}: timed out")
    return seconds


def _close(sock: ssl.SSLSocket) -> None:
    # Non-blocking, unwrap sends our close_notify and does not wait for the other side's.
    with contextlib.suppress(OSError, ValueError):
        sock.settimeout(0)
        sock.unwrap()
    sock.close()
