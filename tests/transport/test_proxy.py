"""The header of the PROXY protocol, byte by byte."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropy.errors import RemoteProtocolError
from entropy.transport.proxy import (
    HEAD_BYTES,
    SIGNATURE,
    network_of,
    plain_address,
    rest_bytes,
    source_address,
)

TCP_4 = bytes((10, 0, 0, 7, 10, 0, 0, 1)) + struct.pack("!HH", 40000, 25227)
TCP_6 = bytes.fromhex("20010db8000000000000000000000007") + bytes(16) + bytes(4)
MAPPED = bytes.fromhex("00000000000000000000ffff0a000007") + bytes(16) + bytes(4)


def header(command: int, family: int, rest: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


@pytest.mark.parametrize(
    ("data", "address"),
    [
        (header(0x21, 0x11, TCP_4), "10.0.0.7"),
        (header(0x21, 0x11, TCP_4 + b"\x04\x00\x03abc"), "10.0.0.7"),
        (header(0x21, 0x21, TCP_6), "2001:db8::7"),
        (header(0x21, 0x21, MAPPED), "10.0.0.7"),
        (header(0x20, 0x00, b""), None),
        (header(0x20, 0x11, TCP_4), None),
        (header(0x20, 0x00, b"what the balancer adds"), None),
        (header(0x21, 0x00, b""), None),
    ],
)
def test_good_headers(data: bytes, address: str | None) -> None:
    head, rest = data[:HEAD_BYTES], data[HEAD_BYTES:]
    assert rest_bytes(head) == len(rest)
    assert source_address(head, rest) == address


@pytest.mark.parametrize(
    "data",
    [
        header(0x11, 0x11, TCP_4),  # version 1 in binary does not exist
        header(0x22, 0x11, TCP_4),  # nor does this command
        header(0x21, 0x12, TCP_4),  # UDP
        header(0x21, 0x31, bytes(216)),  # a Unix socket
        header(0x21, 0x11, TCP_4[:-1]),
        header(0x21, 0x21, TCP_4),
        header(0x21, 0x11, bytes(513)),
        header(0x20, 0x00, bytes(65535)),
        b"PROXY TCP4 10.0.0.7 10.0.0.1 40000 25227\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(16),
        bytes(16),
    ],
)
def test_malformed_headers(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        rest_bytes(data[:HEAD_BYTES])


@given(
    st.binary(min_size=4, max_size=4)
    | st.builds(
        lambda *numbers: struct.pack("!BBH", *numbers),
        st.sampled_from([0x20, 0x21]),
        st.sampled_from([0, 0x11, 0x21]),
        st.integers(0, 600),
    )
)
def test_any_header_is_bounded(tail: bytes) -> None:
    try:
        n_bytes = rest_bytes(SIGNATURE + tail)
    except RemoteProtocolError:
        return
    assert n_bytes <= 512
    address = source_address(SIGNATURE + tail, bytes(n_bytes))
    assert address in (None, "0.0.0.0", "::")


def test_plain_addresses() -> None:
    assert plain_address("::ffff:10.0.0.7") == "10.0.0.7"
    assert plain_address("::ffff:1") == "::ffff:1"
    assert plain_address("10.0.0.7") == "10.0.0.7"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_whose_connections_count_together(address: str, network: str) -> None:
    assert network_of(address) == network
