"""PROXY protocol version 2, as haproxy's specification describes it (section 2.2): reading only.

The header is read by its exact length, so that the TLS bytes behind it stay in the socket.
"""

from __future__ import annotations

import contextlib
import socket
import struct

from entropy.errors import ConfigError, RemoteProtocolError

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
HEAD_BYTES = 16
_LIMIT_BYTES = 512  # addresses take 36 at most, and what a balancer adds to them is short
_HEAD = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP_4, _TCP_6 = 0x00, 0x11, 0x21
_ADDRESS_BYTES = {_TCP_4: 12, _TCP_6: 36}  # two addresses and two ports


def rest_bytes(head: bytes) -> int:
    """How many bytes follow the 16 of `head`. RemoteProtocolError if it is not such a header."""
    signature, command, family, n_bytes = _HEAD.unpack(head)
    if signature != SIGNATURE or command not in (_LOCAL, _PROXY):
        raise RemoteProtocolError("no PROXY header of version 2 came")
    if command == _PROXY and family != _UNSPECIFIED and family not in _ADDRESS_BYTES:
        raise RemoteProtocolError(f"the PROXY header is not of a TCP connection ({family:#04x})")
    least_bytes = _ADDRESS_BYTES.get(family, 0) if command == _PROXY else 0
    if not least_bytes <= n_bytes <= _LIMIT_BYTES:
        raise RemoteProtocolError(f"the PROXY header cannot be of {n_bytes} bytes")
    return int(n_bytes)


def source_address(head: bytes, rest: bytes) -> str | None:
    """The address that the balancer was called from, as text.

    None if the connection is the balancer's own (LOCAL: its health check) or of unknown kind.
    """
    _, command, family, _ = _HEAD.unpack(head)
    if command == _LOCAL or family == _UNSPECIFIED:
        return None
    if family == _TCP_4:
        return socket.inet_ntop(socket.AF_INET, rest[:4])
    return plain_address(socket.inet_ntop(socket.AF_INET6, rest[:16]))


def plain_address(text: str) -> str:
    """An IPv4 address that was mapped into IPv6 as what it is; others as they are."""
    return text[7:] if text.startswith("::ffff:") and "." in text else text


def canonical_address(text: str) -> str:
    """An address as the kernel writes it. ConfigError if it is none."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            return plain_address(socket.inet_ntop(family, socket.inet_pton(family, text)))
    raise ConfigError(f"{text!r} is not an address of a balancer")


def network_of(address: str) -> str:
    """Whose connections count together: an IPv4 address alone, the /64 around an IPv6 address."""
    if ":" not in address:
        return address
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8)) + "/64"
