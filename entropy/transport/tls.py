"""TLS 1.3 as this fleet uses it, on both sides.

The client trusts the fleet's own authority and nothing else, checks no host name (the broker's id
is checked in the wire, against the certificate's names), and checks dates only when it is told
that the clock is right. Python completes a handshake in which no protocol was agreed on, so both
sides check ALPN afterwards. No session tickets: every connection proves itself anew.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
from typing import Any, NamedTuple

from entropy.credentials import check_secret_mode
from entropy.errors import (
    AuthenticationError,
    CertificateDateError,
    ConfigError,
    CredentialError,
    EntropyError,
    RemoteProtocolError,
    TransportError,
)

ALPN = "entropy/1"
_WRONG_DATES = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which the ssl module has no name for


class ServerContext(ssl.SSLContext):
    """A context with one certificate, and the SHA-256 of that certificate's DER form."""

    certificate_sha256 = b""


class PeerFacts(NamedTuple):
    """SHA-256 (32 bytes) of a certificate's DER form, and the DNS names in it."""

    certificate_sha256: bytes
    certificate_names: tuple[str, ...]


def client_context(ca_path: str | os.PathLike[str], check_dates: bool) -> ssl.SSLContext:
    """For connecting to brokers. ConfigError if the authority's certificate cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _only_tls_1_3(context)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    if not check_dates:
        context.verify_flags |= _NO_CHECK_TIME
    path = os.fspath(ca_path)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise ConfigError(f"{path} does not hold the authority's certificate in PEM") from None
    except OSError as error:
        raise ConfigError(
            f"cannot read the authority's certificate {path}: {error.strerror}"
        ) from None
    return context


def server_context(
    certificate_path: str | os.PathLike[str], key_path: str | os.PathLike[str]
) -> ServerContext:
    """For a broker. CredentialError if certificate or key is wrong, or the key open to others."""
    check_secret_mode(key_path)
    path = os.fspath(certificate_path)
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    _only_tls_1_3(context)
    context.num_tickets = 0
    try:
        with open(path, encoding="ascii") as file:
            der = ssl.PEM_cert_to_DER_cert(_first_certificate(file.read()))
        # A key with a passphrase would make OpenSSL ask at the terminal.
        context.load_cert_chain(path, os.fspath(key_path), password="")
    except (ssl.SSLError, ValueError):
        raise CredentialError(
            f"{path} and {os.fspath(key_path)} are not a certificate and its key, in PEM"
        ) from None
    except OSError as error:
        raise CredentialError(f"cannot read the certificate {path}: {error.strerror}") from None
    context.certificate_sha256 = hashlib.sha256(der).digest()
    return context


def check_alpn(sock: ssl.SSLSocket) -> None:
    """RemoteProtocolError if the other side did not agree to speak this protocol."""
    if sock.selected_alpn_protocol() != ALPN:
        raise RemoteProtocolError(f"the other side speaks TLS, but not {ALPN}")


def peer_facts(sock: ssl.SSLSocket) -> PeerFacts:
    """What the certificate of the other side says, after a handshake that verified it."""
    der = sock.getpeercert(True)
    shown = sock.getpeercert()
    assert der is not None  # CERT_REQUIRED
    assert shown is not None
    names: Any = shown.get("subjectAltName", ())
    return PeerFacts(
        hashlib.sha256(der).digest(), tuple(name for kind, name in names if kind == "DNS")
    )


def describe(error: OSError, what: str) -> EntropyError:
    """An error of a socket or of TLS as one of ours; `what` says what was being done, and where."""
    if isinstance(error, ssl.SSLCertVerificationError):
        kind = CertificateDateError if error.verify_code in _WRONG_DATES else AuthenticationError
        return kind(f"{what}: its certificate was not accepted: {error.verify_message}")
    if isinstance(error, (TimeoutError, socket.timeout)):  # two classes before Python 3.10
        return TransportError(f"{what}: timed out")
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return TransportError(f"{what}: it hung up")
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "the connection broke").replace("_", " ").lower()
        return TransportError(f"{what}: TLS: {reason}")
    if error.errno is not None and error.errno > 0:  # asyncio puts words of its own in strerror
        return TransportError(f"{what}: {os.strerror(error.errno)}")
    return TransportError(f"{what}: {error.strerror or error}")


def _only_tls_1_3(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])


def _first_certificate(pem: str) -> str:
    start = pem.index(ssl.PEM_HEADER)
    end = pem.index(ssl.PEM_FOOTER, start) + len(ssl.PEM_FOOTER)
    return pem[start:end] + "\n"
