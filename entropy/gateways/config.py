"""gateway.toml: what every gateway of a machine needs, and a table for each protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from entropy import config_values as values
from entropy.config import AdminConfig, CloneConfig, _document, _nearest, _values
from entropy.errors import ConfigError
from entropy.transport.endpoint import parse_endpoint

UNIX = "unix:"
_LONGEST_PATH_BYTES = 107  # sockaddr_un


@dataclass(frozen=True)
class EgdConfig:
    """Where the protocol of the Entropy Gathering Daemon is spoken, and how fast."""

    listen: tuple[str, ...]  # unix:/PATH or ADDRESS:PORT
    rate_bytes_per_second: int = 128  # for each connection, in the long run
    burst_bytes: int = 1024  # and at once
    total_rate_bytes_per_second: int = 256  # for all of them together
    total_burst_bytes: int = 8192
    max_connections: int = 1024


@dataclass(frozen=True)
class GatewayConfig:
    """gateway.toml, as the gateway of one protocol reads it."""

    site_id: str
    credential: str
    ca: str
    brokers: tuple[str, ...]  # in order
    egd: EgdConfig
    buffer_bytes: int = 1024
    admin: AdminConfig = field(default_factory=AdminConfig)
    clone: CloneConfig = field(default_factory=CloneConfig)


def load_gateway(path: str) -> GatewayConfig:
    """Read gateway.toml. Raises ConfigError."""
    document = _document(path)
    for key in document:
        if key not in ("gateway", *_TABLES):
            raise ConfigError(f"{path}: {key}: unknown table{_nearest(key, ('gateway', *_TABLES))}")
    for key in ("gateway", "egd"):
        if not isinstance(document.get(key), dict):
            raise ConfigError(f"{path}: there is no [{key}] table: is this a gateway's file?")
    found = _values(f"{path}: gateway", document["gateway"], _GATEWAY, GatewayConfig)
    for name, (readers, kind) in _TABLES.items():
        if name in document:
            found[name] = kind(**_values(f"{path}: {name}", document[name], readers, kind))
    return GatewayConfig(**found)


def is_loopback(endpoint: str) -> bool:
    """Whether only this machine reaches it. False for a name: it may lead anywhere."""
    import ipaddress

    if endpoint.startswith(UNIX):
        return True
    try:
        return ipaddress.ip_address(parse_endpoint(endpoint)[0]).is_loopback
    except ValueError:
        return False


def _listen(value: Any) -> str:
    """unix:/PATH, or the address of an interface: EGD knows no login, so never all of them."""
    text = values.text(value)
    if text.startswith(UNIX):
        path = values.path(text.removeprefix(UNIX))
        if len(path.encode()) > _LONGEST_PATH_BYTES:
            raise ValueError(f"{path!r} is too long for a socket: {_LONGEST_PATH_BYTES} bytes")
        return text
    if values.is_every_address(values.listen_endpoint(text)[0]):
        raise ValueError(
            f"{text!r} would serve everybody who reaches this machine, and EGD knows no login:"
            " name one address, best 127.0.0.1"
        )
    return text


_Readers = Mapping[str, values.Reader]
_GATEWAY: _Readers = {
    "site_id": values.label,
    "credential": values.path,
    "ca": values.path,
    "brokers": values.several(values.endpoint),
    "buffer_bytes": values.whole(64, 65_536),
}
_RATE = values.whole(1, 1_000_000)
_TABLES: dict[str, tuple[_Readers, Any]] = {
    "egd": (
        {
            "listen": values.several(_listen),
            "rate_bytes_per_second": _RATE,
            "burst_bytes": values.whole(1, 16_777_216),
            "total_rate_bytes_per_second": _RATE,
            "total_burst_bytes": values.whole(1, 16_777_216),
            "max_connections": values.whole(1, 65_536),
        },
        EgdConfig,
    ),
    "admin": ({"listen": values.listen_or_none}, AdminConfig),
    "clone": ({"generation_file": values.path_or_none}, CloneConfig),
}
