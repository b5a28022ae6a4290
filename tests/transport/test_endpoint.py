"""Endpoints, and what is none."""

from __future__ import annotations

import pytest

from entropy.errors import ConfigError
from entropy.transport.endpoint import format_endpoint, parse_endpoint


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("10.0.0.1:25226", ("10.0.0.1", 25226)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("[2001:db8::1]:1", ("2001:db8::1", 1)),
        ("broker1:25226", ("broker1", 25226)),
        ("Broker-1.lan.example:25226", ("Broker-1.lan.example", 25226)),
        ("10.0.0.1.example:1", ("10.0.0.1.example", 1)),
        (f"{'a' * 63}.example:1", (f"{'a' * 63}.example", 1)),
    ],
)
def test_an_endpoint(text: str, endpoint: tuple[str, int]) -> None:
    assert parse_endpoint(text) == endpoint
    assert format_endpoint(*endpoint) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "10.0.0.1",
        "10.0.0.1:",
        ":25226",
        "10.0.0.1:65536",
        "10.0.0.1:-1",
        "10.0.0.1:+1",
        "10.0.0.1: 1",
        "10.0.0.1:\u0661",
        "10.0.0.256:1",
        "10.0.0:1",
        "10.0.0.1.:1",
        "::1:25226",
        "[::1]",
        "[::g]:1",
        "[10.0.0.1]:1",
        "[]:1",
        "a b:1",
        "a..b:1",
        "-a:1",
        "a/b:1",
        "a\n:1",
        "a:1\n",
        f"{'a' * 254}:1",
        f"{'a' * 64}.example:1",
    ],
)
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(ConfigError, match="is not an endpoint"):
        parse_endpoint(text)
