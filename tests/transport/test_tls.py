"""TLS as the fleet uses it: who is refused, on which side, and with which words."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from entropy.authority import issue_broker, new_authority
from entropy.errors import (
    AuthenticationError,
    ConfigError,
    CredentialError,
    RemoteProtocolError,
    TransportError,
)
from entropy.transport.aio import TlsStream, connect
from entropy.transport.blocking import BlockingConnection
from entropy.transport.tls import client_context, server_context
from tests.transport.conftest import SESSION, Fleet, echo, expired, listening, write_issued

Connector = Callable[[str, ssl.SSLContext], None]


async def _by_both(endpoint: str, context: ssl.SSLContext, error: type[Exception]) -> list[str]:
    """Connects by either transport, each of which must fail; what they say."""
    with pytest.raises(error) as by_aio:
        await connect(endpoint, context, 20)
    with pytest.raises(error) as by_blocking:
        await asyncio.to_thread(BlockingConnection.connect, endpoint, context=context, **SESSION)
    return [str(by_aio.value), str(by_blocking.value)]


def test_another_authority_is_not_trusted(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(new_authority("lab").certificate_pem)
    context = client_context(tmp_path / "other.pem", True)

    async def run() -> None:
        async with listening(fleet, echo) as server:
            for said in await _by_both(server.addresses[0], context, AuthenticationError):
                assert server.addresses[0] in said
                assert "certificate was not accepted" in said

    asyncio.run(run())


def test_the_systems_authorities_are_not_trusted(fleet: Fleet) -> None:
    assert len(fleet.context().get_ca_certs()) == 1


def test_dates_count_once_the_clock_is_right(fleet: Fleet) -> None:
    async def run() -> None:
        async with listening(fleet, echo, context=expired(fleet)) as server:
            endpoint = server.addresses[0]
            for said in await _by_both(
                endpoint, fleet.context(check_dates=True), AuthenticationError
            ):
                assert "expired" in said
            stream = await connect(endpoint, fleet.context(check_dates=False), 20)
            stream.close()

    asyncio.run(run())


def test_dates_apart_everything_else_is_checked(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(new_authority("lab").certificate_pem)
    context = client_context(tmp_path / "other.pem", False)

    async def run() -> None:
        async with listening(fleet, echo) as server:
            await _by_both(server.addresses[0], context, AuthenticationError)

    asyncio.run(run())


def test_a_client_refuses_a_server_that_speaks_something_else(fleet: Fleet) -> None:
    async def run() -> None:
        for protocols in ([], ["h2"]):
            plain = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            plain.load_cert_chain(fleet.certificate_path, fleet.key_path)
            if protocols:
                plain.set_alpn_protocols(protocols)
            server = await asyncio.start_server(
                lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=plain
            )
            async with server:
                host, port = server.sockets[0].getsockname()
                for said in await _by_both(f"{host}:{port}", fleet.context(), RemoteProtocolError):
                    assert "entropy/1" in said

    asyncio.run(run())


@pytest.mark.parametrize("protocols", [[], ["h2"], ["entropy/2"]])
def test_a_server_refuses_a_client_that_speaks_something_else(
    fleet: Fleet, protocols: list[str]
) -> None:
    handled: list[TlsStream] = []

    async def note(stream: TlsStream) -> None:
        handled.append(stream)

    async def run() -> None:
        async with listening(fleet, note) as server:
            context = ssl.create_default_context(cafile=str(fleet.ca_path))
            context.check_hostname = False
            if protocols:
                context.set_alpn_protocols(protocols)
            assert await asyncio.to_thread(_first_bytes, server.addresses[0], context) == b""
            assert server.failed_handshakes == 1

    asyncio.run(run())
    assert not handled


def test_a_server_refuses_tls_1_2(fleet: Fleet) -> None:
    async def run() -> None:
        async with listening(fleet, echo) as server:
            context = ssl.create_default_context(cafile=str(fleet.ca_path))
            context.check_hostname = False
            context.set_alpn_protocols(["entropy/1"])
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises(ssl.SSLError):
                await asyncio.to_thread(_first_bytes, server.addresses[0], context)

    asyncio.run(run())


def test_a_client_refuses_tls_1_2(fleet: Fleet) -> None:
    async def run() -> None:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        old.load_cert_chain(fleet.certificate_path, fleet.key_path)
        old.set_alpn_protocols(["entropy/1"])
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        server = await asyncio.start_server(
            lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=old
        )
        async with server:
            host, port = server.sockets[0].getsockname()
            await _by_both(f"{host}:{port}", fleet.context(), TransportError)

    asyncio.run(run())


def test_a_server_sends_no_session_tickets(fleet: Fleet) -> None:
    assert fleet.server().num_tickets == 0


def test_the_certificate_travels_with_the_connection(fleet: Fleet) -> None:
    facts = []

    async def note(stream: TlsStream) -> None:
        facts.append((stream.certificate_sha256, stream.certificate_names))

    async def run() -> None:
        async with listening(fleet, note) as server:
            stream = await connect(server.addresses[0], fleet.context(), 20)
            assert await stream.receive() == b""
            facts.append((stream.certificate_sha256, stream.certificate_names))
            stream.close()

    asyncio.run(run())
    assert facts[0][0] == facts[1][0]
    assert len(facts[0][0]) == 32
    assert facts[1][1] == ("broker1.lab.entropy.internal",)


def test_who_is_hung_up_on_is_told_so(fleet: Fleet) -> None:
    async def run() -> None:
        async with listening(fleet, echo, max_connections=0) as server:
            for said in await _by_both(server.addresses[0], fleet.context(), TransportError):
                assert re.search(r"connecting to .*: (it hung up|Connection reset by peer)", said)

    asyncio.run(run())


# Files


def test_an_authority_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        client_context(tmp_path / "ca.pem", True)
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(ConfigError, match="does not hold"):
        client_context(tmp_path / "ca.pem", True)


def test_keys_and_certificates_that_are_wrong(fleet: Fleet, tmp_path: Path) -> None:
    other, other_key = write_issued(
        issue_broker(fleet.authority, "broker2", "lab"), tmp_path, "other"
    )
    with pytest.raises(CredentialError, match="are not a certificate and its key"):
        server_context(fleet.certificate_path, other_key)
    with pytest.raises(CredentialError, match="No such file"):
        server_context(tmp_path / "none.pem", other_key)
    with pytest.raises(CredentialError, match="No such file"):
        server_context(other, tmp_path / "none.key")
    other_key.chmod(0o644)
    with pytest.raises(CredentialError, match="chmod 0640"):
        server_context(other, other_key)
    other_key.chmod(0o600)
    other.write_text("-----BEGIN CERTIFICATE-----\nx")
    with pytest.raises(CredentialError, match="are not a certificate and its key"):
        server_context(other, other_key)


def test_a_key_with_a_passphrase_does_not_ask_for_it(fleet: Fleet, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    key = load_pem_private_key(fleet.key_path.read_bytes(), None)
    path = tmp_path / "tls.key"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pass"))
    )
    path.chmod(0o600)
    with pytest.raises(CredentialError, match="are not a certificate and its key"):
        server_context(fleet.certificate_path, path)


def _first_bytes(endpoint: str, context: ssl.SSLContext) -> bytes:
    """What a server says first to a client of the standard library."""
    host, port = endpoint.rsplit(":", 1)
    with (
        socket.create_connection((host, int(port)), 20) as plain,
        context.wrap_socket(plain, server_hostname="x") as tls,
    ):
        return tls.recv(100)
