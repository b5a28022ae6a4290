"""Configuration files: what is read, and the one line that each mistake gets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from entropy.config import (
    PeerConfig,
    load_broker,
    load_client,
    load_feeder,
)
from entropy.errors import ConfigError

BROKER = """
[broker]
id = "broker1"
site_id = "lab"
listen = ["10.0.0.11:25226", "[::1]:0"]
acl = "/etc/entropy/broker/acl.json"
certificate = "/etc/entropy/broker/tls.pem"
key = "/etc/entropy/broker/tls.key"
ca = "/etc/entropy/ca.pem"
"""
FEEDER = """
[feeder]
site_id = "lab"
credential = "/etc/entropy/feeder.d/credential.json"
ca = "/etc/entropy/ca.pem"
brokers = ["10.0.0.11:25226", "10.0.0.12:25226"]
[source]
uri = "hwrng:/dev/hwrng"
"""
CLIENT = """
[client]
site_id = "lab"
credential = "/etc/entropy/credential.json"
ca = "/etc/entropy/ca.pem"
brokers = ["10.0.0.10:25226"]
"""
LOAD = {"broker": load_broker, "feeder": load_feeder, "client": load_client}
WHOLE = {"broker": BROKER, "feeder": FEEDER, "client": CLIENT}


def _file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "it.toml"
    path.write_text(text)
    return str(path)


def test_a_short_broker_file_and_its_defaults(tmp_path: Path) -> None:
    config = load_broker(_file(tmp_path, BROKER))
    assert config.listen == ("10.0.0.11:25226", "[::1]:0")
    assert config.control_socket == "/run/entropy-broker/control.sock"
    assert config.proxy.listen == ()
    assert config.reservoir.capacity_blocks == 16384
    assert config.limits.topup_interval_seconds == 600
    assert config.admin.listen == "127.0.0.1:25229"
    assert config.peers == ()


def test_a_full_broker_file(tmp_path: Path) -> None:
    text = (
        BROKER
        + """
        [proxy]
        listen = ["10.0.0.11:25227"]
        balancers = ["10.0.0.11", "fd00::12"]
        [reservoir]
        capacity_blocks = 100
        low_mark_blocks = 10
        high_mark_blocks = 50
        [limits]
        burst_bytes = 64
        [admin]
        listen = ""
        [[peers]]
        id = "broker2"
        endpoint = "10.0.0.12:25226"
        credential = "/etc/entropy/broker/credential.json"
        [[peers]]
        id = "broker3"
        endpoint = "[fd00::13]:25226"
        credential = "/etc/entropy/broker/credential.json"
        stir_interval_seconds = 60
        [agent]
        listen = ["10.0.0.11:25228", "[fd00::11]:25228"]
        balancers = ["10.0.0.12"]
        [seeds]
        listen = ["10.0.0.11:25230"]
        [clone]
        generation_file = "/run/generation"
        """
    )
    config = load_broker(_file(tmp_path, text))
    assert config.proxy.balancers == ("10.0.0.11", "fd00::12")
    assert config.reservoir.high_mark_blocks == 50
    assert config.limits.burst_bytes == 64
    assert config.limits.rate_bytes_per_second == 64
    assert config.admin.listen == ""
    assert config.peers == (
        PeerConfig("broker2", "10.0.0.12:25226", "/etc/entropy/broker/credential.json"),
        PeerConfig("broker3", "[fd00::13]:25226", "/etc/entropy/broker/credential.json", 60),
    )
    assert config.agent.listen == ("10.0.0.11:25228", "[fd00::11]:25228")
    assert config.agent.balancers == ("10.0.0.12",)
    assert config.seeds.listen == ("10.0.0.11:25230",)
    assert config.clone.generation_file == "/run/generation"
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.id = "other"  # type: ignore[misc]


def test_a_feeder_file(tmp_path: Path) -> None:
    config = load_feeder(_file(tmp_path, FEEDER + 'credit_bits_per_byte = 1\nreason = "measured"'))
    assert config.brokers == ("10.0.0.11:25226", "10.0.0.12:25226")
    assert config.source.credit_bits_per_byte == 1.0
    assert config.source.test_bits_per_byte is None
    assert config.source.reason == "measured"
    assert not config.source.lab_only_credit_kernel
    assert config.admin.listen == ""
    assert config.clone.generation_file == ""
    text = FEEDER + '[clone]\ngeneration_file = "/run/generation"'
    assert load_feeder(_file(tmp_path, text)).clone.generation_file == "/run/generation"


def test_a_client_file(tmp_path: Path) -> None:
    config = load_client(_file(tmp_path, CLIENT + "interval_seconds = 60\ncredit = false"))
    assert (config.interval_seconds, config.credit, config.seed_bytes) == (60, False, 64)


MISTAKES = [
    ("broker", ('listen = ["10', 'lisen = ["10'), "broker.lisen: unknown key; did you mean 'list"),
    ("broker", ('acl = "/etc/entropy/broker/acl.json"', ""), "broker.acl: is missing"),
    ("broker", ("/etc/entropy/ca.pem", "ca.pem"), "broker.ca: 'ca.pem' must be an absolute path"),
    ("broker", ('"broker1"', '"Broker1"'), "broker.id: 'Broker1' does not fit here"),
    ("broker", ('"broker1"', '"broker.1"'), "broker.id: 'broker.1' does not fit here"),
    ("broker", ('"broker1"', "17"), "broker.id: must be a text in quotes"),
    ("broker", ("[::1]:0", "10.0.0.300:1"), "broker.listen: "),
    ("broker", ("[::1]:0", "10.0.0.11:25226"), "stands in the list twice"),
    ("broker", ("[broker]", "[brocker]"), "brocker: unknown table; did you mean 'broker'?"),
    ("broker", ("", "[limit]\n"), "limit: unknown table; did you mean 'limits'?"),
    ("broker", ("", "[limits]\nburst_bytes = 1.5\n"), "limits.burst_bytes: must be a whole number"),
    ("broker", ("", "[limits]\nburst_bytes = true\n"), "limits.burst_bytes: must be a whole"),
    ("broker", ("", "[limits]\nburst_bytes = 1\n"), "no top-up could be met"),
    ("broker", ("", "[limits]\nburts_bytes = 1\n"), "limits.burts_bytes: unknown key; did you"),
    ("broker", ("", "[reservoir]\nlow_mark_blocks = 9999\n"), "low_mark_blocks (9999) <"),
    ("broker", ("", '[proxy]\nlisten = ["10.0.0.1:1"]\n'), "go together"),
    ("broker", ("", '[proxy]\nbalancers = ["10.0.0.0/8"]\n'), "proxy.balancers: "),
    ("broker", ("", '[agent]\nlisten = ["10.0.0.1:25228"]\n'), "agent.listen and agent.balancers"),
    ("broker", ("", '[seeds]\nlisten = ["10.0.0.1"]\n'), "seeds.listen: "),
    ("broker", ("", '[seeds]\nlisten = ["0.0.0.0:25230"]\n'), "name the broker's own"),
    ("broker", ("", '[seeds]\nlisten = ["[0:0::0]:25230"]\n'), "name the broker's own"),
    ("broker", ("", '[clone]\ngeneration_file = "here"\n'), "clone.generation_file: "),
    ("broker", ("", "[peers]\n"), "[[peers]]"),
    ("broker", ("", '[[peers]]\nid = "b2"\n'), "peers[0].endpoint: is missing"),
    ("broker", ("", "limits = 3\n"), "limits: must be a table"),
    ("broker", ("[broker]", "[broker"), "is not TOML: "),
    ("feeder", ("[source]", "[sauce]"), "there is no [source] table"),
    ("feeder", ('uri = "hwrng:/dev/hwrng"', ""), "source.uri: is missing"),
    ("feeder", ('uri = "hwrng:/dev/hwrng"', "url = 1"), "source.url: unknown key; did you mean"),
    ("feeder", ("[source]", "[source]\ncredit_bits_per_byte = 9"), "source.credit_bits_per_byte: "),
    (
        "feeder",
        ("[source]", "[source]\ncredit_bits_per_byte = 5\ntest_bits_per_byte = 2"),
        "source.test_bits_per_byte (2) is below source.credit_bits_per_byte (5)",
    ),
    ("client", ('["10.0.0.10:25226"]', "[]"), "client.brokers: must be a list with 1 or more"),
    ("client", ("10.0.0.10:25226", "10.0.0.10:0"), "client.brokers: '10.0.0.10:0' has port 0"),
    ("client", ("10.0.0.10:25226", "10.0.0.10"), "client.brokers: "),
    ("client", ("[client]", "[client]\ncredit = 1"), "client.credit: must be true or false"),
    ("client", ("[client]", "[broker]"), "broker: unknown table"),
    ("client", ("[client]", "# nothing\n#"), "site_id: unknown table"),
]


@pytest.mark.parametrize(("kind", "change", "says"), MISTAKES, ids=[m[2][:40] for m in MISTAKES])
def test_a_mistake_is_named(tmp_path: Path, kind: str, change: tuple[str, str], says: str) -> None:
    before, after = change
    whole = WHOLE[kind]
    assert before in whole
    path = _file(tmp_path, whole.replace(before, after, 1) if before else after + whole)
    with pytest.raises(ConfigError) as caught:
        LOAD[kind](path)
    message = str(caught.value)
    assert says in message
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert caught.value.exit_status == 2


def _with_peers(*peer_ids: str) -> str:
    return BROKER + "".join(
        f'[[peers]]\nid = "{peer_id}"\nendpoint = "h:1"\ncredential = "/c"\n'
        for peer_id in peer_ids
    )


@pytest.mark.parametrize(
    ("peer_ids", "says"),
    [(["broker1"], "is this broker itself"), (["b2", "b2"], "is named twice")],
)
def test_peers_are_others_and_each_once(tmp_path: Path, peer_ids: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_broker(_file(tmp_path, _with_peers(*peer_ids)))


def test_files_that_are_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load_client(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b'[client]\nsite_id = "\xe9"')
    with pytest.raises(ConfigError, match="is not TOML"):
        load_client(str(tmp_path / "latin.toml"))
