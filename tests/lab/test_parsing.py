"""What the lab reads from the machine."""

from __future__ import annotations

import platform
import random
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import aptsources, host, keys, network
from lab.command import LabError
from lab.firewall import Rules

STANZAS = """\
# ours
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm
 bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/mirror.gpg

Types: deb
URIs: https://third.example/debian
Suites: bookworm
Components: stable

Types: deb-src
URIs: http://mirror.example/source
Suites: bookworm
Components: main

Enabled: no
Types: deb
URIs: http://mirror.example/off
Suites: bookworm
Components: main

Types: deb
URIs: file:/srv/mirror
Suites: bookworm
Components: main
"""

ONE_LINE = """\
# deb http://mirror.example/debian bookworm main
deb http://mirror.example/debian bookworm main non-free # comment
deb [arch=amd64 signed-by=/etc/keys/s.asc] https://mirror.example/s bookworm-security/updates main
deb [arch=amd64] https://third.example/linux/debian bookworm stable
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/debian bookwormish main
deb cdrom:[Debian]/ bookworm main
"""


def test_debians_main_is_found_in_stanzas() -> None:
    option = "[signed-by=/usr/share/keyrings/mirror.gpg] "
    assert aptsources.stanza_sources(STANZAS, "bookworm") == [
        f"deb {option}http://mirror.example/debian bookworm main",
        f"deb {option}http://mirror.example/debian bookworm-updates main",
    ]


def test_debians_main_is_found_in_lines() -> None:
    found = aptsources.one_line_sources(ONE_LINE, "bookworm")
    assert found == [
        "deb http://mirror.example/debian bookworm main",
        "deb [signed-by=/etc/keys/s.asc] https://mirror.example/s bookworm-security/updates main",
    ]
    assert aptsources.keyrings(found) == [Path("/etc/keys/s.asc")]


@pytest.mark.parametrize(
    ("system", "suite", "expected"),
    [
        ({"ID": "debian", "VERSION_CODENAME": "bookworm"}, "bookworm", "http://m.example/d"),
        ({"ID": "debian", "VERSION_CODENAME": "bookworm"}, "bullseye", "http://m.example/d"),
        ({"ID": "debian", "VERSION_CODENAME": "trixie"}, "bookworm", "http://named.example/d"),
        ({"ID": "fedora"}, "bookworm", "http://named.example/d"),
    ],
)
def test_the_mirror_is_the_machines_own_where_it_is_debian(
    system: dict[str, str],
    suite: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "sources.list").write_text("deb http://m.example/d bookworm main\n")
    monkeypatch.setattr(aptsources, "APT", tmp_path)
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: system)
    monkeypatch.setenv("ENTROPY_LAB_MIRROR", "http://named.example/d")
    assert aptsources.sources(suite) == [f"deb {expected} {suite} main"]


def test_a_machine_without_a_mirror_is_told_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aptsources, "APT", tmp_path)
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "fedora"})
    monkeypatch.delenv("ENTROPY_LAB_MIRROR", raising=False)
    with pytest.raises(LabError, match="ENTROPY_LAB_MIRROR"):
        aptsources.sources("bookworm")


@settings(max_examples=30)
@given(st.lists(st.integers(0, 2**24 - 1).map(lambda n: 10 << 24 | n), max_size=40), st.data())
def test_the_subnet_overlaps_with_nothing_taken(starts: list[int], data: st.DataObject) -> None:
    lengths = data.draw(
        st.lists(st.integers(14, 32), min_size=len(starts), max_size=len(starts)), label="lengths"
    )
    taken = [
        IPv4Network((start, length), strict=False)
        for start, length in zip(starts, lengths, strict=True)
    ]
    random.seed(data.draw(st.integers(0, 1000), label="seed"))
    subnet = network.free_subnet(taken)
    assert subnet.prefixlen == 24
    assert not any(subnet.overlaps(other) for other in taken)


def test_no_subnet_is_left() -> None:
    with pytest.raises(LabError, match="no subnet is left"):
        network.free_subnet([IPv4Network("10.0.0.0/8")])


def test_default_routes_take_nothing() -> None:
    names = ["default", "0.0.0.0/1", "128.0.0.0/1", "10.8.0.0/16", "192.0.2.7"]
    assert network.networks(names) == [IPv4Network("10.8.0.0/16"), IPv4Network("192.0.2.7/32")]


def test_podmans_rules_are_told_from_others() -> None:
    rules = Rules(
        """\
# Generated
*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:NETAVARK_FORWARD - [0:0]
-A FORWARD -m comment --comment "a rule of netavark" -j NETAVARK_FORWARD
-A NETAVARK_FORWARD -s 10.1.2.0/24 -j ACCEPT
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
:NETAVARK-1 - [0:0]
-A NETAVARK-1 -j NETAVARK-1
-A POSTROUTING -o eth0 -j MASQUERADE
COMMIT
"""
    )
    assert rules.podmans() == [("filter", "NETAVARK_FORWARD"), ("nat", "NETAVARK-1")]
    jump = ["-A", "FORWARD", "-m", "comment", "--comment", "a rule of netavark"]
    assert rules.jumps == [("filter", [*jump, "-j", "NETAVARK_FORWARD"])]
    assert rules.n_rules == {"filter": 2, "nat": 2}
    assert rules.closed == {"filter"}


def test_elsewhere_than_on_debian_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = {"ID": "fedora", "PRETTY_NAME": "Fedora Linux 43"}
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: system)
    with pytest.raises(LabError, match=r"Fedora Linux 43.*: podman runc$"):
        host.install(["podman", "runc"])


def test_what_is_private_is_written_so(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("older")
    path.chmod(0o644)
    keys.write_private(path, "newer")
    assert path.read_text() == "newer"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
