"""What others see: TLS 1.3 and nothing else on the wire, and no way to push for a VM."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import podman
from lab.names import LABEL
from tests.fleet.conftest import BROKERS, Fleet

pytestmark = pytest.mark.fleet

PORTS = (25226, 25227)
PROXY_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
HANDSHAKE, APPLICATION_DATA = 22, 23
RECORD_TYPES = {20, 21, HANDSHAKE, APPLICATION_DATA}
CLIENT_HELLO, SERVER_HELLO = 1, 2
SUPPORTED_VERSIONS, TLS_1_3 = 43, b"\x03\x04"

# Acts as a feeder with the credential of the VM that it runs on, and says what came of it.
PUSH = """
import os
from entropy import kernel
from entropy.config import load_client
from entropy.credentials import load_credential
from entropy.errors import Refused
from entropy.transport.blocking import BlockingConnection
from entropy.transport.tls import client_context
from entropy.wire.codes import Role
from entropy.wire.keys import derive

config = load_client("/etc/entropy/client.toml")
credential = load_credential(config.credential)
try:
    BlockingConnection.connect(
        config.brokers[1],
        context=client_context(config.ca, check_dates=True),
        credential=credential,
        keys=derive(credential.secret),
        role=Role.FEEDER,
        boot_id=kernel.boot_id(),
        counter=2**63,
        nonce=os.urandom(32),
        timeout_seconds=10,
    )
    print("accepted")
except Refused as refused:
    print(refused.code.name)
"""

TLS_1_2 = """
import socket, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.set_alpn_protocols(["entropy/1"])
context.{limit}_version = ssl.TLSVersion.TLSv1_{minor}
try:
    with socket.create_connection(("{host}", 25226), 10) as plain:
        with context.wrap_socket(plain) as connected:
            print(connected.version())
except ssl.SSLError:
    print("refused")
"""


def test_a_vm_cannot_push(fleet: Fleet) -> None:
    before = fleet.status("broker1")
    assert fleet.python("vm4", PUSH).strip() == "PERMISSION"
    after = fleet.status("broker1")
    assert "vm4" not in [feeder["id"] for feeder in after["feeders"]]
    assert after["refusals"]["permission"] == before["refusals"]["permission"] + 1
    # All that came in since then came from the feeder.
    fed = sum(feeder["fed_bits"] for feeder in after["feeders"])
    assert fed == after["accounting"]["fed_bits"]


@pytest.mark.parametrize("limit", ["maximum", "minimum"])
def test_only_tls_1_3_is_spoken(fleet: Fleet, limit: str) -> None:
    minor, said = {"maximum": ("2", "refused"), "minimum": ("3", "TLSv1.3")}[limit]
    addresses = [fleet.vip, *(fleet.state["hosts"][broker]["address"] for broker in BROKERS)]
    for address in addresses:
        script = TLS_1_2.format(limit=limit, minor=minor, host=address)
        assert fleet.python("vm4", script).strip() == said


def test_the_bridge_carries_tls_1_3_and_nothing_else(fleet: Fleet, tmp_path: Path) -> None:
    capture(fleet, tmp_path / "bridge.pcap")
    flows = streams((tmp_path / "bridge.pcap").read_bytes())
    hellos: list[bytes] = []
    for (_, _, _, to_port), data in flows.items():
        if to_port == PORTS[1]:  # haproxy says first for whom it connects
            assert data.startswith(PROXY_SIGNATURE)
            data = data[16 + struct.unpack_from("!H", data, 14)[0] :]
        for kind, body in records(data):
            assert kind in RECORD_TYPES
            if kind == HANDSHAKE:
                assert body[0] in (CLIENT_HELLO, SERVER_HELLO)  # all that TLS 1.3 leaves open
                hellos += [body]
    n_server = sum(body[0] == SERVER_HELLO for body in hellos)
    assert n_server >= 2  # client to haproxy, haproxy to a broker
    assert all(TLS_1_3 in extension(body, SUPPORTED_VERSIONS) for body in hellos)


def capture(fleet: Fleet, path: Path) -> None:
    """What goes over the bridge while a VM draws through the virtual address and from a broker."""
    words = ["run", "--rm", "--network", "host", "--label", LABEL, "--cap-add", "NET_RAW"]
    words += [str(fleet.state["image"]), "tcpdump", "-i", str(fleet.state["bridge"]), "-U"]
    words += ["--immediate-mode", "-s", "0", "-w", "-"]
    words += ["tcp", "port", str(PORTS[0]), "or", str(PORTS[1])]
    direct = f"{fleet.state['hosts']['broker2']['address']}:25226"
    with (
        path.open("wb") as file,
        subprocess.Popen(
            podman.command(words), stdout=file, stderr=subprocess.PIPE, text=True
        ) as tcpdump,
    ):
        assert tcpdump.stderr is not None
        while "listening on" not in tcpdump.stderr.readline():
            assert tcpdump.poll() is None, "tcpdump does not run"
        for endpoint in (f"{fleet.vip}:25226", direct):
            config = fleet.client_at("vm4", endpoint)
            for _ in range(4):  # so that haproxy on one broker passes one on to the other
                fleet.ssh("vm4", f"entropy draw --config {config} --bytes 16 | wc -c")
        tcpdump.terminate()
        tcpdump.communicate(timeout=20)


def streams(pcap: bytes) -> dict[tuple[bytes, int, bytes, int], bytes]:
    """The bytes that each side of each TCP connection sent, in order, from its first on.

    Connections that were open before are left out: where a record starts is not known there.
    """
    order = "<" if pcap[:4] == b"\xd4\xc3\xb2\xa1" else ">"
    segments: dict[tuple[bytes, int, bytes, int], dict[int, bytes]] = {}
    starts: dict[tuple[bytes, int, bytes, int], int] = {}
    at = 24
    while at + 16 <= len(pcap):
        n_captured = struct.unpack_from(f"{order}I", pcap, at + 8)[0]
        packet = pcap[at + 16 + 14 : at + 16 + n_captured]  # behind the Ethernet header
        at += 16 + n_captured
        ip_bytes, total = (packet[0] & 15) * 4, struct.unpack_from("!H", packet, 2)[0]
        tcp = packet[ip_bytes:total]
        source, target, sequence = struct.unpack_from("!HHI", tcp)
        flow = (packet[12:16], source, packet[16:20], target)
        if tcp[13] & 2:  # SYN
            starts[flow] = sequence + 1
        payload = tcp[(tcp[12] >> 4) * 4 :]
        if payload:
            segments.setdefault(flow, {})[sequence] = payload
    found = {}
    for flow, start in starts.items():
        data = b""
        for sequence, payload in sorted(segments.get(flow, {}).items()):
            if sequence == start + len(data):
                data += payload
        found[flow] = data
    return found


def records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The TLS records of one side: type and body. Fails where there is none."""
    while len(data) >= 5:
        kind, version, n_bytes = struct.unpack_from("!B2sH", data)
        assert version in (b"\x03\x01", b"\x03\x03"), f"not a TLS record: {data[:16].hex()}"
        yield kind, data[5 : 5 + n_bytes]
        data = data[5 + n_bytes :]


def extension(hello: bytes, wanted: int) -> bytes:
    """The body of one extension of a ClientHello or ServerHello; empty if it is not there."""
    at = 4 + 2 + 32
    at += 1 + hello[at]  # session id
    if hello[0] == CLIENT_HELLO:
        at += 2 + struct.unpack_from("!H", hello, at)[0]  # cipher suites
        at += 1 + hello[at]  # compression
    else:
        at += 3
    end = at + 2 + struct.unpack_from("!H", hello, at)[0]
    at += 2
    while at < end:
        kind, n_bytes = struct.unpack_from("!HH", hello, at)
        if kind == wanted:
            return hello[at + 4 : at + 4 + n_bytes]
        at += 4 + n_bytes
    return b""


def test_files_of_secrets_are_for_their_service_alone(fleet: Fleet) -> None:
    wanted = {
        "vm1": {"/etc/entropy/credential.json": "root entropy-client 640"},
        "rng1": {"/etc/entropy/feeder.d/credential.json": "root entropy-feeder 640"},
        "broker1": {
            "/etc/entropy/credential.json": "root entropy-client 640",
            "/etc/entropy/broker/credential.json": "root entropy-broker 640",
            "/etc/entropy/broker/acl.json": "root entropy-broker 640",
            "/etc/entropy/broker/tls.key": "root entropy-broker 640",
        },
    }
    for host, files in wanted.items():
        for path, owner in files.items():
            assert fleet.ssh(host, f"stat -c '%U %G %a' {path}").stdout.strip() == owner
    permissions = json.loads(fleet.ssh("vm1", "cat /etc/entropy/credential.json").stdout)
    assert permissions["permissions"] == ["draw"]
