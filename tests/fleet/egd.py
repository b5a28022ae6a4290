"""The gateway of a deployed fleet, as a guest's QEMU and as its operator see it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from tests.fleet.conftest import BROKERS, Fleet

HOST, ID = "vm4", "vm4.gateway"
UNIT = "entropy-gateway@egd"
CREDENTIAL = "/etc/entropy/gateway/credential.json"
SOCKET, ENDPOINT = "/run/entropy-gateway/egd/socket", "127.0.0.1:25240"
# As inventories/lab/group_vars/entropy_gateways.yml has them.
RATE_BYTES_PER_SECOND, BURST_BYTES = 64, 128
TOTAL_RATE_BYTES_PER_SECOND, TOTAL_BURST_BYTES = 96, 192
BUFFER_BYTES = 512
# In the group of the sockets, and not.
USER, STRANGER = "lab", "nobody"
WORTH_BYTES, BLOCK_BYTES = 56, 64  # what is handed out of a block of a broker's, and its size

# What every script of a reader begins with; Python's standard library and nothing of ours.
READER = f"""
import json, socket, time
SOCKET, ENDPOINT = {SOCKET!r}, {ENDPOINT!r}
def reader(where):
    if where.startswith("/"):
        channel = socket.socket(socket.AF_UNIX)
        channel.settimeout(50)
        channel.connect(where)
        return channel
    host, port = where.rsplit(":", 1)
    return socket.create_connection((host, int(port)), 50)
def take(channel, n_bytes):
    data = b""
    while len(data) < n_bytes:
        part = channel.recv(n_bytes - len(data))
        assert part, "the gateway hung up"
        data += part
    return data
def asked(channel, command, n_bytes):
    channel.sendall(command)
    return take(channel, n_bytes)
"""
_STATUS = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:25233/status", timeout=5).read().decode())
"""


class Books(NamedTuple):
    """Bytes, and the bits that they are worth."""

    n_bytes: int
    credit_bits: int


class Gateway:
    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def read(self, script: str, user: str = USER) -> Any:
        """What a script of a reader prints, as JSON. It begins with READER."""
        command = f"runuser -u {user} -- /usr/bin/python3 -"
        return json.loads(self.fleet.ssh(HOST, command, stdin=READER + script).stdout)

    def draw(self, n_bytes: int) -> bytes:
        """So many bytes, at most 255, by the socket."""
        command = f"bytes([2, {n_bytes}])"
        script = f"print(json.dumps(asked(reader(SOCKET), {command}, {n_bytes}).hex()))"
        return bytes.fromhex(self.read(script))

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.fleet.python(HOST, _STATUS)))

    def is_full(self) -> bool:
        """Whether it draws no more."""
        return bool(self.status()["accounting"]["held_bytes"] >= BUFFER_BYTES)

    def drawn(self) -> Books:
        """As the gateway counts."""
        of = self.status()["accounting"]
        return Books(of["drawn_bytes"], of["drawn_bits"])

    def delivered(self) -> Books:
        """As the brokers count."""
        found = [
            client
            for broker in BROKERS
            for client in self.fleet.status(broker)["clients"]
            if client["id"] == ID
        ]
        return Books(
            sum(client["delivered_bytes"] for client in found),
            sum(client["delivered_bits"] for client in found),
        )

    def pid(self) -> str:
        return self.fleet.ssh(HOST, f"systemctl show --value -p MainPID {UNIT}").stdout.strip()
