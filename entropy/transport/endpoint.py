"""Endpoints as people write them: "10.0.0.1:25226", "[2001:db8::1]:25226", "broker1.lan:25226"."""

from __future__ import annotations

import re
import socket

from entropy.errors import ConfigError

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"  # what a resolver takes
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*", re.IGNORECASE)
_PORT = re.compile(r"[0-9]{1,5}")


def parse_endpoint(text: str) -> tuple[str, int]:
    """Host and port. ConfigError if the text is not an endpoint. Port 0 is one (any free port)."""
    host, colon, port_text = text.rpartition(":")
    if not colon or not _PORT.fullmatch(port_text) or int(port_text) > 65535:
        raise ConfigError(f"{text!r} is not an endpoint: write ADDRESS:PORT, as in 10.0.0.1:25226")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        good = _is_address(socket.AF_INET6, host)
    elif ":" in host:
        raise ConfigError(f"{text!r} is not an endpoint: write an IPv6 address as [{host}]:PORT")
    elif re.fullmatch(r"[0-9.]*", host):
        good = _is_address(socket.AF_INET, host)
    else:
        good = _HOST_NAME.fullmatch(host) is not None
    if not good:
        raise ConfigError(f"{text!r} is not an endpoint: {host!r} is neither an address nor a name")
    return host, int(port_text)


def format_endpoint(host: str, port: int) -> str:
    """The text of an endpoint."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_address(family: int, text: str) -> bool:
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True
