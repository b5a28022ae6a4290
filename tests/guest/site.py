"""A site within one guest: a broker, feeders of emulated USB generators, a client; and its eyes.

The credentials are made here, by the code that makes a fleet's, and handed over through the
guest's agent: what is in the guest's memory is all that there ever is of them.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from entropy.authority import issue_broker, new_authority
from entropy.credentials import acl_entry, dump_credential, entry_as_json, new_credential
from lab.guest.machine import GuestError, Machine

SITE_ID = "guest"
ENDPOINT = "127.0.0.1:25226"
CONTROL_SOCKET = "/run/entropy-broker/control.sock"
DEVICES = Path(__file__).resolve().parent / "devices"
PORTS = {"alea": 25231, "truerng": 25232, "hwrng": 25233}  # of the feeders' own pages
# As `entropy sources` names them.
URIS = {
    "alea": "alea:serial=TEST0001",
    "truerng": "serial:/dev/serial/by-id/usb-ubld.it_TrueRNG_TEST0002-if00?model=truerng",
    "hwrng": "hwrng:name=Alea II TRNG-TEST0001",  # what chaoskey makes of the Alea
}
CONTROLLERS = {"alea": "dummy_udc.0", "truerng": "dummy_udc.1"}
BUSES = {"alea": 1, "truerng": 2}  # where their plugs lead to
SPARE_CONTROLLER = "dummy_udc.2"
RATE_BYTES_PER_SECOND = 12500

BROKER = f"""
[broker]
id = "broker1"
site_id = "{SITE_ID}"
listen = ["{ENDPOINT}"]
acl = "/etc/entropy/broker/acl.json"
certificate = "/etc/entropy/broker/tls.pem"
key = "/etc/entropy/broker/tls.key"
ca = "/etc/entropy/ca.pem"
[admin]
listen = ""
"""
FEEDER = """
[feeder]
site_id = "{site_id}"
credential = "/etc/entropy/feeder.d/{name}.json"
ca = "/etc/entropy/ca.pem"
brokers = ["{endpoint}"]
[source]
uri = "{uri}"
[admin]
listen = "127.0.0.1:{port}"
"""
CLIENT = f"""
[client]
site_id = "{SITE_ID}"
credential = "/etc/entropy/credential.json"
ca = "/etc/entropy/ca.pem"
brokers = ["{ENDPOINT}"]
"""


class Site:
    """Everything installed and configured in a guest, nothing plugged in, the broker running."""

    def __init__(self, guest: Machine) -> None:
        self.guest = guest
        self._write_files()
        guest.run(["modprobe", "--all", "dummy_hcd", "libcomposite"])
        guest.run(["systemctl", "start", "entropy-broker"])

    def _write_files(self) -> None:
        authority = new_authority(SITE_ID)
        broker = issue_broker(authority, "broker1", SITE_ID)
        write = self.guest.write
        write("/etc/modprobe.d/dummy_hcd.conf", "options dummy_hcd num=3 is_high_speed=0\n")
        write("/etc/entropy/ca.pem", authority.certificate_pem)
        write("/etc/entropy/broker/tls.pem", broker.certificate_pem)
        entries = []
        for name, permission, path, service in (
            ("alea", "feed", "/etc/entropy/feeder.d/alea.json", "feeder"),
            ("truerng", "feed", "/etc/entropy/feeder.d/truerng.json", "feeder"),
            ("hwrng", "feed", "/etc/entropy/feeder.d/hwrng.json", "feeder"),
            ("vm1", "draw", "/etc/entropy/credential.json", "client"),
        ):
            credential = new_credential(name, SITE_ID, [permission])
            entries.append(entry_as_json(acl_entry(credential)))
            write(path, dump_credential(credential), mode=0o640, group=f"entropy-{service}")
        acl = {"version": 1, "site_id": SITE_ID, "generation": 1, "entries": entries}
        for path, data in (
            ("broker/tls.key", broker.key_pem),
            ("broker/acl.json", json.dumps(acl)),
            ("broker.toml", BROKER),
        ):
            write(f"/etc/entropy/{path}", data, mode=0o640, group="entropy-broker")
        for name, uri in URIS.items():
            text = FEEDER.format(
                site_id=SITE_ID,
                name=name,
                endpoint=ENDPOINT,
                uri=uri,
                port=PORTS[name],
            )
            path = f"/etc/entropy/feeder.d/{name}.toml"
            write(path, text, mode=0o640, group="entropy-feeder")
        for name in CONTROLLERS:
            write(f"/usr/local/bin/{name}", (DEVICES / f"{name}.py").read_bytes(), mode=0o755)
        write("/etc/entropy/client.toml", CLIENT, mode=0o640, group="entropy-client")

    # The devices

    def make_device(self, name: str) -> None:
        """Start what emulates it, which also plugs it in."""
        words = ["systemd-run", "--quiet", f"--unit={name}", f"/usr/local/bin/{name}"]
        self.guest.run([*words, CONTROLLERS[name], str(RATE_BYTES_PER_SECOND)])

    def plug(self, name: str, controller: str | None = None) -> None:
        """Into its own plug, or into another controller's."""
        self._controller(name, controller or CONTROLLERS[name])

    def unplug(self, name: str) -> None:
        self._controller(name, "")

    def _controller(self, name: str, text: str) -> None:
        path = f"/sys/kernel/config/usb_gadget/{name}/UDC"
        self.guest.write(path, f"{text}\n", mode=None)

    def alea_gives(self, kind: str) -> None:
        """From now on: noise, zeros, or nothing."""
        self.guest.write("/run/alea/gives", kind)

    def driver(self, name: str) -> str:
        """The driver of the device's first interface; "" for none."""
        link = f"/sys/bus/usb/devices/{BUSES[name]}-1:1.0/driver"
        return self.guest.run(["readlink", link], check=False).stdout.strip().rpartition("/")[2]

    def node(self, name: str) -> str:
        """The device's file of libusb's. It changes whenever the device is plugged in."""
        folder = f"/sys/bus/usb/devices/{BUSES[name]}-1"
        numbers = [int(self.guest.read(f"{folder}/{part}")) for part in ("busnum", "devnum")]
        return "/dev/bus/usb/{:03}/{:03}".format(*numbers)

    def listed(self) -> list[dict[str, Any]]:
        """What `entropy sources` finds."""
        found: list[dict[str, Any]] = json.loads(
            self.guest.run(["entropy", "sources", "--json"]).stdout
        )
        return found

    # The daemons

    def broker(self) -> dict[str, Any]:
        """The broker's status."""
        answer = json.loads(self.guest.ask(CONTROL_SOCKET, b'{"command":"status"}\n'))
        status: dict[str, Any] = answer["status"]
        return status

    def fed(self, name: str) -> dict[str, Any]:
        """What the broker has booked of a feeder."""
        entry: dict[str, Any] = next(f for f in self.broker()["feeders"] if f["id"] == name)
        return entry

    def feeder(self, name: str) -> dict[str, Any]:
        """The feeder's own status. GuestError as long as nobody answers."""
        request = b"GET /status HTTP/1.1\r\n\r\n"
        answer = self.guest.ask(("127.0.0.1", PORTS[name]), request)
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise GuestError(f"the feeder's page: {head.decode(errors='replace')}")
        status: dict[str, Any] = json.loads(body)
        return status

    def unit(self, name: str, what: str) -> str:
        """A property of the unit of a feeder."""
        argv = ["systemctl", "show", "--value", f"--property={what}", f"entropy-feeder@{name}"]
        return self.guest.run(argv).stdout.strip()

    def said(self, name: str) -> str:
        """All that the unit of a feeder has said so far."""
        argv = ["journalctl", "--quiet", "--output=cat", f"--unit=entropy-feeder@{name}"]
        return self.guest.run(argv).stdout

    # Conditions

    def await_state(self, name: str, state: str) -> dict[str, Any]:
        """Wait until the feeder says of its source what contains `state`; returns its status."""

        def look() -> dict[str, Any] | None:
            status = self.feeder(name)
            return status if state in status["source"]["state"] else None

        return self.guest.until(f"{name} is {state}", look)

    def await_trouble(self, name: str) -> None:
        """Wait until the feeder says of its source anything but that it delivers."""
        self.guest.until(
            f"{name} is missed", lambda: self.feeder(name)["source"]["state"] != "delivering"
        )

    def await_pushed(self, name: str, *, quiet_seconds: float = 0.0) -> None:
        """Wait until all that the feeder has is with the broker, and that so long.

        quiet_seconds is for a source that has just gone silent: what it gave is still on its way.
        Several looks must agree too, since a busy machine's guest gets on only now and then.
        """
        since_seconds, seen_bits, n_looks = 0.0, -1, 0

        def look() -> bool:
            nonlocal since_seconds, seen_bits, n_looks
            books = self.feeder(name)["accounting"]
            pushed = not books["held_bits"] and books["accepted_bits"] == books["sent_bits"]
            if not pushed or books["sent_bits"] != seen_bits:
                since_seconds, n_looks = time.monotonic(), 0
            seen_bits = books["sent_bits"]
            n_looks += pushed
            quiet = time.monotonic() - since_seconds >= quiet_seconds
            return pushed and quiet and n_looks >= (5 if quiet_seconds else 1)

        self.guest.until(f"all of {name} is pushed", look)

    def await_more(self, name: str) -> int:
        """Wait until the broker has booked more of the feeder than now; returns all, in bits."""
        before = self.fed(name)["fed_bits"]

        def look() -> int:
            bits: int = self.fed(name)["fed_bits"]
            return bits if bits > before else 0

        return self.guest.until(f"{name} feeds", look)
