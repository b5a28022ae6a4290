"""The daemons' configuration files: TOML in, frozen dataclasses out.

The table that bears the daemon's name becomes the object itself, every other table an
attribute of it: `config.listen`, `config.limits.burst_bytes`, `config.peers[0].endpoint`.
Every value is checked here, so that a daemon that starts can trust what it was given. An
unknown key is an error that names the nearest known one; every error says the file and
the key.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from entropy import config_values as values
from entropy.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    try:
        import tomli as tomllib
    except ImportError:
        from entropy import old_toml as tomllib


@dataclass(frozen=True)
class ProxyConfig:
    """Where haproxy hands connections over with a PROXY v2 header."""

    listen: tuple[str, ...] = ()
    balancers: tuple[str, ...] = ()  # the only addresses that may connect there


@dataclass(frozen=True)
class ReservoirConfig:
    """How many 64-byte blocks the broker holds."""

    capacity_blocks: int = 16384
    low_mark_blocks: int = 4096  # below it the broker draws from its peer, up to the high mark
    high_mark_blocks: int = 8192  # peers are given only what feeders brought above it


@dataclass(frozen=True)
class LimitsConfig:
    """What one client may take, and what all together may ask for."""

    rate_bytes_per_second: int = 64
    burst_bytes: int = 4096
    credit_bits_per_second: int = 1_000_000  # the most that one feeder may claim
    max_connections: int = 20_000
    max_connections_per_address: int = 256
    max_wait_seconds: int = 30
    max_waiting_draws: int = 4096
    topup_interval_seconds: int = 600
    topup_bytes: int = 32
    seed_interval_seconds: int = 600  # a seed within this time of the last counts as a topup


@dataclass(frozen=True)
class AdminConfig:
    """The HTTP port for health, metrics and status; "" means none."""

    listen: str = ""


@dataclass(frozen=True)
class AgentConfig:
    """Where haproxy's agent checks learn this broker's weight: plain TCP, no secret."""

    listen: tuple[str, ...] = ()
    balancers: tuple[str, ...] = ()  # the only addresses that are answered


@dataclass(frozen=True)
class SeedsConfig:
    """Where VMs without TLS, in their first seconds, may draw a seed and nothing else."""

    listen: tuple[str, ...] = ()


@dataclass(frozen=True)
class CloneConfig:
    """How a machine learns that it was cloned, beside the signs that its platform gives."""

    generation_file: str = ""  # for tests: a file whose change is taken for such a sign


@dataclass(frozen=True)
class PeerConfig:
    """Another broker that this one tops up from, and the credential that it draws with."""

    id: str
    endpoint: str
    credential: str
    stir_interval_seconds: int = 0  # push bytes of our kernel there, without credit; 0: never


@dataclass(frozen=True)
class BrokerConfig:
    """broker.toml."""

    id: str
    site_id: str
    listen: tuple[str, ...]
    acl: str
    certificate: str
    key: str
    ca: str
    control_socket: str = "/run/entropy-broker/control.sock"
    state_dir: str = "/var/lib/entropy-broker"
    proxy: ProxyConfig = ProxyConfig()
    reservoir: ReservoirConfig = ReservoirConfig()
    limits: LimitsConfig = LimitsConfig()
    admin: AdminConfig = AdminConfig("127.0.0.1:25229")
    agent: AgentConfig = AgentConfig()
    seeds: SeedsConfig = SeedsConfig()
    clone: CloneConfig = CloneConfig()
    peers: tuple[PeerConfig, ...] = ()


@dataclass(frozen=True)
class SourceConfig:
    """One source of noise; a figure that is None is the source's own default."""

    uri: str
    credit_bits_per_byte: float | None = None
    test_bits_per_byte: float | None = None
    reason: str | None = None
    lab_only_credit_kernel: bool = False
    fips140: bool = False  # drop blocks that fail the statistical tests of FIPS 140-2


@dataclass(frozen=True)
class FeederConfig:
    """feeder.d/NAME.toml."""

    site_id: str
    credential: str
    ca: str
    brokers: tuple[str, ...]  # its own first; the others only when that one is away
    source: SourceConfig
    max_pending_blocks: int = 64
    admin: AdminConfig = AdminConfig()
    clone: CloneConfig = CloneConfig()


@dataclass(frozen=True)
class ClientConfig:
    """client.toml."""

    site_id: str
    credential: str
    ca: str
    brokers: tuple[str, ...]
    state_dir: str = "/var/lib/entropy-client"
    credit: bool = True  # false: mix in, but tell the kernel that it is worth nothing
    allow_shared_kernel: bool = False  # credit even in a container
    seed_bytes: int = 64
    seed_timeout_seconds: int = 10
    interval_seconds: int = 0  # between top-ups; 0: what the broker names
    seeds: tuple[str, ...] = ()  # brokers' ports without TLS, for a boot before the kernel is ready
    early_seed: bool = True  # false: leave an injected seed alone
    first_seed: bool = True  # false: draw none before host keys are made
    two_brokers: bool = False  # a seed is made of two brokers' replies, or there is none
    clone: CloneConfig = CloneConfig()


def load_broker(path: str) -> BrokerConfig:
    """Read broker.toml. Raises ConfigError."""
    document = _document(path)
    peers = document.pop("peers", [])
    if not isinstance(peers, list) or not all(isinstance(peer, dict) for peer in peers):
        raise ConfigError(f"{path}: peers must be written as [[peers]] tables")
    found = _main(path, document, "broker", _BROKER, BrokerConfig)
    found["peers"] = tuple(
        PeerConfig(**_values(f"{path}: peers[{i}]", peer, _PEER, PeerConfig))
        for i, peer in enumerate(peers)
    )
    config = BrokerConfig(**found)
    _check_broker(path, config)
    return config


def load_feeder(path: str) -> FeederConfig:
    """Read a feeder's file. Raises ConfigError."""
    document = _document(path)
    if "source" not in document:
        raise ConfigError(f"{path}: there is no [source] table: name the device there by its uri")
    config = FeederConfig(**_main(path, document, "feeder", _FEEDER, FeederConfig))
    credit, test = config.source.credit_bits_per_byte, config.source.test_bits_per_byte
    if credit is not None and test is not None and test < credit:
        raise ConfigError(
            f"{path}: source.test_bits_per_byte ({test:g}) is below source.credit_bits_per_byte"
            f" ({credit:g}): the tests must expect at least what is counted"
        )
    return config


def load_client(path: str) -> ClientConfig:
    """Read client.toml. Raises ConfigError."""
    config = ClientConfig(**_main(path, _document(path), "client", _CLIENT, ClientConfig))
    if config.two_brokers and len(config.brokers) < 2:
        raise ConfigError(f"{path}: client.two_brokers: client.brokers names one endpoint only")
    return config


def _check_broker(path: str, config: BrokerConfig) -> None:
    """What no single key can be wrong about."""
    marks = config.reservoir
    if not marks.low_mark_blocks < marks.high_mark_blocks <= marks.capacity_blocks:
        raise ConfigError(
            f"{path}: reservoir.low_mark_blocks ({marks.low_mark_blocks}) <"
            f" reservoir.high_mark_blocks ({marks.high_mark_blocks}) <="
            f" reservoir.capacity_blocks ({marks.capacity_blocks}) must hold"
        )
    if config.limits.burst_bytes < config.limits.topup_bytes:
        raise ConfigError(
            f"{path}: limits.burst_bytes ({config.limits.burst_bytes}) is below"
            f" limits.topup_bytes ({config.limits.topup_bytes}): no top-up could be met"
        )
    balanced: dict[str, ProxyConfig | AgentConfig] = {"proxy": config.proxy, "agent": config.agent}
    for name, table in balanced.items():
        if bool(table.listen) != bool(table.balancers):
            raise ConfigError(
                f"{path}: {name}.listen and {name}.balancers go together: name both or neither"
            )
    ids = [peer.id for peer in config.peers]
    for peer_id in ids:
        if peer_id == config.id:
            raise ConfigError(f"{path}: peers: {peer_id!r} is this broker itself")
        if ids.count(peer_id) > 1:
            raise ConfigError(f"{path}: peers: {peer_id!r} is named twice")


_Readers = Mapping[str, values.Reader]
_BROKER: _Readers = {
    "id": values.label,
    "site_id": values.label,
    "listen": values.several(values.own_address),
    "acl": values.path,
    "certificate": values.path,
    "key": values.path,
    "ca": values.path,
    "control_socket": values.path,
    "state_dir": values.path,
}
_PEER: _Readers = {
    "id": values.label,
    "endpoint": values.endpoint,
    "credential": values.path,
    "stir_interval_seconds": values.whole(0, 86_400),
}
_FEEDER: _Readers = {
    "site_id": values.label,
    "credential": values.path,
    "ca": values.path,
    "brokers": values.several(values.endpoint),
    "max_pending_blocks": values.whole(1, 4096),
}
_CLIENT: _Readers = {
    "site_id": values.label,
    "credential": values.path,
    "ca": values.path,
    "brokers": values.several(values.endpoint),
    "state_dir": values.path,
    "credit": values.flag,
    "allow_shared_kernel": values.flag,
    "seed_bytes": values.whole(1, 64),
    "seed_timeout_seconds": values.whole(1, 20),  # the unit may take 30 to start
    "interval_seconds": values.whole(0, 86_400),
    "seeds": values.several(values.endpoint, at_least=0),
    "early_seed": values.flag,
    "first_seed": values.flag,
    "two_brokers": values.flag,
}
_SOURCE: _Readers = {
    "uri": values.text,
    "credit_bits_per_byte": values.bits_per_byte,
    "test_bits_per_byte": values.bits_per_byte,
    "reason": values.text,
    "lab_only_credit_kernel": values.flag,
    "fips140": values.flag,
}
_BALANCED: _Readers = {
    "listen": values.several(values.own_address, at_least=0),
    "balancers": values.several(values.address, at_least=0),
}
_BLOCKS = values.whole(1, 4_194_304)  # each takes some 500 bytes of memory: at most 2 GiB
# The other tables of a daemon's file, by name.
_SUBTABLES: dict[str, tuple[_Readers, Any]] = {
    "proxy": (_BALANCED, ProxyConfig),
    "agent": (_BALANCED, AgentConfig),
    "seeds": ({"listen": values.several(values.own_address, at_least=0)}, SeedsConfig),
    "clone": ({"generation_file": values.path_or_none}, CloneConfig),
    "reservoir": (
        {
            "capacity_blocks": _BLOCKS,
            "low_mark_blocks": values.whole(0, 4_194_304),
            "high_mark_blocks": _BLOCKS,
        },
        ReservoirConfig,
    ),
    "limits": (
        {
            "rate_bytes_per_second": values.whole(1, 1_000_000_000),
            "burst_bytes": values.whole(1, 1_000_000_000),
            "credit_bits_per_second": values.whole(1, 4_294_967_295),
            "max_connections": values.whole(1, 1_000_000),
            "max_connections_per_address": values.whole(1, 1_000_000),
            "max_wait_seconds": values.whole(0, 3600),
            "max_waiting_draws": values.whole(1, 1_000_000),
            "topup_interval_seconds": values.whole(1, 86_400),
            "topup_bytes": values.whole(1, 4096),
            "seed_interval_seconds": values.whole(1, 86_400),
        },
        LimitsConfig,
    ),
    "admin": ({"listen": values.listen_or_none}, AdminConfig),
    "source": (_SOURCE, SourceConfig),
}


def _document(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return dict(tomllib.load(file))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None


def _main(
    path: str, document: dict[str, Any], name: str, readers: _Readers, kind: type[Any]
) -> dict[str, Any]:
    """Read the table called `name`, and the other tables that this kind of file has."""
    subtables = [f.name for f in dataclasses.fields(kind) if f.name in _SUBTABLES]
    for key in document:
        if key != name and key not in subtables:
            known = [name, *subtables, *(["peers"] if name == "broker" else [])]
            raise ConfigError(f"{path}: {key}: unknown table{_nearest(key, known)}")
    if not isinstance(document.get(name), dict):
        raise ConfigError(f"{path}: there is no [{name}] table: is this a {name}'s file?")
    found = _values(f"{path}: {name}", document[name], readers, kind)
    for subtable in subtables:
        if subtable in document:
            sub_readers, sub_kind = _SUBTABLES[subtable]
            where = f"{path}: {subtable}"
            found[subtable] = sub_kind(**_values(where, document[subtable], sub_readers, sub_kind))
    return found


def _values(where: str, table: Any, readers: _Readers, kind: type[Any]) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: must be a table")
    for key in table:
        if key not in readers:
            raise ConfigError(f"{where}.{key}: unknown key{_nearest(key, readers)}")
    found = {}
    for key, read in readers.items():
        if key in table:
            try:
                found[key] = read(table[key])
            except ValueError as error:
                raise ConfigError(f"{where}.{key}: {error}") from None
    for field in dataclasses.fields(kind):
        if (
            field.name in readers
            and field.name not in found
            and field.default is dataclasses.MISSING
        ):
            raise ConfigError(f"{where}.{field.name}: is missing")
    return found


def _nearest(key: str, known: Any) -> str:
    import difflib  # on the way to an error only

    near = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are: {', '.join(known)}"
