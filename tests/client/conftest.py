"""A fleet of brokers for the client's tests: real TLS and the real wire, with scripted answers."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Union

import pytest

from entropy import kernel
from entropy.authority import Issued, issue_broker, new_authority
from entropy.config import ClientConfig
from entropy.credentials import acl_entry, dump_credential, new_credential
from entropy.errors import EntropyError
from entropy.transport.tls import server_context
from entropy.wire.broker import BrokerConnection
from entropy.wire.codes import RefusedCode
from entropy.wire.frames import Auth, Block, Draw, Refused, Retry, Welcome
from entropy.wire.keys import Ephemeral

WELCOME = Welcome(frozenset({"draw"}), 600, 32, 64, 4096, 0, 10, 100)
HANG = "hang"  # answers nothing
CLOSE = "close"  # hangs up instead of answering

Answer = Union[Block, Retry, Refused, str]


def a_block(draw: Draw) -> Answer:
    """What was asked for, with full credit."""
    data = os.urandom(draw.n_bytes)
    return Block(1, min(8 * draw.n_bytes, 448), ("rng1",), data)


class FakeBroker:
    """Logs clients in as a broker does, then answers each draw with what `answer` makes of it."""

    def __init__(
        self, broker_id: str, folder: Path, authority: Issued, fleet: Fleet, *, days: int = 730
    ) -> None:
        self.broker_id = broker_id
        self.answer: Callable[[Draw], Answer] = a_block
        self.welcome = WELCOME
        self.auths: list[Auth] = []
        self.draws: list[Draw] = []
        self._fleet = fleet
        issued = issue_broker(authority, broker_id, "lab", days=days)
        certificate, key = folder / f"{broker_id}.pem", folder / f"{broker_id}.key"
        certificate.write_bytes(issued.certificate_pem)
        key.touch(0o600)
        key.write_bytes(issued.key_pem)
        self._context = server_context(str(certificate), str(key))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        for sock in self._open:
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(plain)
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            with self._context.wrap_socket(plain, server_side=True) as sock:
                self._open.append(sock)
                self._talk(sock)
        except (OSError, EntropyError):
            pass  # the client left, or the test is over

    def _talk(self, sock: ssl.SSLSocket) -> None:
        wire = BrokerConnection(
            broker_id=self.broker_id,
            epoch=bytes(16),
            ephemeral=Ephemeral.new(os.urandom(32)),
            nonce=os.urandom(32),
            certificate_sha256=self._context.certificate_sha256,
        )
        while not wire.closed:
            sock.sendall(wire.data_to_send())
            data = sock.recv(16384)
            if not data:
                return
            wire.receive_data(data)
            for message in wire.events():
                if isinstance(message, Auth):
                    self._log_in(wire, message)
                elif isinstance(message, Draw):
                    self.draws.append(message)
                    answer = self.answer(message)
                    if answer == HANG:
                        sock.recv(1)
                        return
                    if isinstance(answer, str):
                        return
                    wire.send(answer)
        sock.sendall(wire.data_to_send())

    def _log_in(self, wire: BrokerConnection, auth: Auth) -> None:
        self.auths.append(auth)
        entry = acl_entry(self._fleet.credential)
        try:
            wire.authenticate(entry.public_key, entry.psk)
        except EntropyError:
            wire.refuse(RefusedCode.AUTHENTICATION)
        else:
            wire.welcome(self.welcome)


class Fleet:
    """A folder with one client's files, and the brokers that know its credential."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.credential = new_credential("vm1", "lab", ["draw"])
        self._authority = new_authority("lab")
        (folder / "ca.pem").write_bytes(self._authority.certificate_pem)
        (folder / "state").mkdir()
        self.write_credential(dump_credential(self.credential))
        self.brokers: list[FakeBroker] = []

    def write_credential(self, text: str, mode: int = 0o600) -> None:
        path = self.folder / "credential.json"
        path.write_text(text)
        path.chmod(mode)

    def broker(self, days: int = 730) -> FakeBroker:
        """One more, called broker1, broker2...; days: of its certificate, 0 for an old one."""
        name = f"broker{len(self.brokers) + 1}"
        broker = FakeBroker(name, self.folder, self._authority, self, days=days)
        self.brokers.append(broker)
        return broker

    def forget_authority(self) -> None:
        """The client trusts another one from now on."""
        (self.folder / "ca.pem").write_bytes(new_authority("lab").certificate_pem)

    def config(self, *endpoints: str, **settings: object) -> ClientConfig:
        """The client's configuration; all brokers, unless some endpoints are given."""
        values: dict[str, object] = {
            "site_id": "lab",
            "credential": str(self.folder / "credential.json"),
            "ca": str(self.folder / "ca.pem"),
            "brokers": endpoints or tuple(broker.endpoint for broker in self.brokers),
            "state_dir": str(self.folder / "state"),
        }
        return ClientConfig(**{**values, **settings})  # type: ignore[arg-type]

    def config_file(self, *endpoints: str, **settings: object) -> str:
        """The same as a file; returns its path."""
        config = self.config(*endpoints, **settings)
        lines = ["[client]"]
        for name, value in vars(config).items():
            if name == "clone":
                continue
            if isinstance(value, bool):
                lines.append(f"{name} = {str(value).lower()}")
            elif isinstance(value, tuple):
                lines.append(f"{name} = {list(value)!r}")
            else:
                lines.append(f"{name} = {value!r}")
        lines += ["[clone]", f"generation_file = {config.clone.generation_file!r}"]
        path = self.folder / "client.toml"
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    def close(self) -> None:
        for broker in self.brokers:
            broker.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.close()


@pytest.fixture
def dead_endpoint() -> Iterator[str]:
    """An address that refuses: bound, so that nobody else gets it, but not listening."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{sock.getsockname()[1]}"


class FakeKernel:
    """Keeps what was given to the kernel, and by which way."""

    def __init__(self) -> None:
        self.added: list[tuple[bytes, int]] = []
        self.mixed: list[bytes] = []
        self.n_reseeds = 0
        self.may_credit = True

    def add_entropy(self, data: bytes, credit_bits: int) -> bool:
        if self.may_credit:
            self.added.append((data, credit_bits))
        return self.may_credit

    def reseed(self) -> bool:
        self.n_reseeds += 1
        return True


@pytest.fixture
def fake_kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    """In the place of the real one, on a machine that is not a container."""
    made = FakeKernel()
    monkeypatch.setattr(kernel, "add_entropy", made.add_entropy)
    monkeypatch.setattr(kernel, "mix", made.mixed.append)
    monkeypatch.setattr(kernel, "reseed", made.reseed)
    monkeypatch.setattr(kernel, "shares_kernel", lambda: False)
    return made
