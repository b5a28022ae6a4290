"""USB generators in Debian's stock kernel, from the plug to the broker's books.

The tests tell one story, in the order in which they stand here.
"""

from __future__ import annotations

from typing import Any

import pytest

from lab.guest.machine import Machine
from tests.guest.site import SPARE_CONTROLLER, URIS, Site

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def site(guest: Machine) -> Site:
    return Site(guest)


def holds(books: dict[str, int]) -> bool:
    """Whether credit is conserved."""
    came = books["fed_bits"] + books["imported_bits"]
    names = ("held", "delivered", "exported", "spent", "lost")
    return came == sum(books[f"{name}_bits"] for name in names)


def test_the_kernels_own_driver_takes_an_alea_first(site: Site) -> None:
    site.guest.run(["systemctl", "start", "entropy-feeder@hwrng"])
    site.guest.until("it waits", lambda: "delivers nothing for now" in site.said("hwrng"))
    site.make_device("alea")
    site.guest.until("chaoskey holds the Alea", lambda: site.driver("alea") == "chaoskey")
    site.guest.until(
        "it is the kernel's generator",
        lambda: b"TEST0001" in site.guest.read("/sys/class/misc/hw_random/rng_current"),
    )
    listed = site.listed()
    alea = next(device for device in listed if device["uri"] == URIS["alea"])
    assert (alea["driver"], alea["real"]) == ("chaoskey", True)
    assert URIS["hwrng"] in [device["uri"] for device in listed]


def test_what_the_kernel_drives_is_read_by_its_name(site: Site) -> None:
    """By a feeder that ran before there was any generator; the driver is not taken from it."""
    site.await_state("hwrng", "delivering")
    site.await_more("hwrng")
    assert site.driver("alea") == "chaoskey"
    site.guest.run(["systemctl", "stop", "entropy-feeder@hwrng"])


def test_a_feeder_comes_up_when_its_device_does(site: Site) -> None:
    site.unplug("alea")
    site.guest.run(["systemctl", "enable", "entropy-feeder@alea"])
    assert site.unit("alea", "ActiveState") == "inactive"

    site.plug("alea")
    site.await_state("alea", "delivering")
    site.await_more("alea")
    assert site.driver("alea") == "usbfs", "taken from chaoskey"
    assert site.unit("alea", "NRestarts") == "0"

    pid = site.unit("alea", "MainPID")
    alea = next(device for device in site.listed() if device["uri"] == URIS["alea"])
    assert alea["holder"].startswith(f"process {pid} ")
    owner = site.guest.run(["stat", "--format=%U %G", f"/proc/{pid}"]).stdout.split()
    assert owner == ["entropy-feeder", "entropy-feeder"]
    node = site.guest.run(["stat", "--format=%U %G %a", site.node("alea")]).stdout.split()
    assert node == ["root", "entropy-feeder", "660"]


def test_who_cannot_have_the_device_is_told_why(site: Site) -> None:
    """A second feeder, seeing as little as the unit does, and somebody else's program."""
    pid = site.unit("alea", "MainPID")
    sample = "entropy sample --source alea: --bytes 1"
    as_feeder = "setpriv --reuid=entropy-feeder --regid=entropy-feeder --init-groups"
    hidden = f"mount -t proc -o hidepid=invisible proc /proc && exec {as_feeder} {sample}"
    done = site.guest.run(["unshare", "--mount", "sh", "-c", hidden], check=False)
    assert f"serial number TEST0001, is claimed by process {pid} (entropy): end that" in done.stderr

    as_nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    done = site.guest.run([*as_nobody.split(), *sample.split()], check=False)
    assert f"no permission to open {site.node('alea')}: install the udev rule" in done.stderr


def test_a_feeder_without_its_device_waits_and_a_serial_one_comes(site: Site) -> None:
    site.guest.run(["systemctl", "enable", "--now", "entropy-feeder@truerng"])
    site.guest.until("it says so", lambda: "delivers nothing for now" in site.said("truerng"))
    assert site.unit("truerng", "ActiveState") == "active"

    # One that is enabled and does not run comes with its device, also after another's.
    site.guest.run(["systemctl", "stop", "entropy-feeder@truerng"])
    site.make_device("truerng")
    site.await_state("truerng", "delivering")
    site.await_more("truerng")
    site.await_more("alea")
    assert [d["driver"] for d in site.listed() if d["uri"] == URIS["truerng"]] == ["cdc_acm"]
    port = site.guest.run(["stat", "--format=%U %G %a", "/dev/ttyACM0"]).stdout.split()
    assert port == ["root", "entropy-feeder", "660"]


@pytest.mark.parametrize("name", ["alea", "truerng"])
def test_unplugged_and_plugged_in_again(site: Site, name: str) -> None:
    pid = site.unit(name, "MainPID")
    site.await_state(name, "delivering")

    site.unplug(name)
    site.await_trouble(name)
    site.plug(name)
    site.await_state(name, "delivering")
    site.await_more(name)
    assert site.unit(name, "MainPID") == pid
    assert site.feeder(name)["source"]["failures"] == 0


def test_an_alea_that_returns_at_another_port_is_found(site: Site) -> None:
    site.unplug("alea")
    site.await_trouble("alea")
    site.plug("alea", SPARE_CONTROLLER)
    site.await_state("alea", "delivering")
    site.await_more("alea")
    assert site.driver("alea") == "", "nothing is where it was"

    site.unplug("alea")
    site.await_trouble("alea")
    site.plug("alea")
    site.await_state("alea", "delivering")


def test_stuck_data_is_caught_and_goes_nowhere(site: Site) -> None:
    site.await_state("alea", "delivering")
    assert site.feeder("alea")["source"]["failures"] == 0
    # Let the broker have all that the device gave: now it is known what must not grow.
    site.alea_gives("nothing")
    site.await_pushed("alea", quiet_seconds=1.5)
    fed = site.fed("alea")["fed_bits"]
    sent = site.feeder("alea")["accounting"]["sent_bits"]

    site.alea_gives("zeros")
    status = site.await_state("alea", "retired")
    assert status["source"]["failures"] == 1
    assert len(status["alarms"]) == 1
    assert "ALARM: alea" in site.said("alea")
    site.guest.until("the recall is booked", lambda: site.fed("alea")["recalled_bits"] > 0)
    after = site.feeder("alea")["accounting"]
    assert after["sent_bits"] == sent
    assert after["recalled_bits"] == site.fed("alea")["recalled_bits"]
    assert after["held_bits"] == 0
    assert site.fed("alea")["fed_bits"] == fed
    assert site.unit("alea", "ActiveState") == "active"

    # A person who restarts it with the fault still there changes nothing.
    pid = site.unit("alea", "MainPID")
    site.guest.run(["systemctl", "restart", "entropy-feeder@alea"])
    site.await_state("alea", "the start-up test fails")
    assert site.unit("alea", "MainPID") != pid
    assert site.feeder("alea")["accounting"]["born_bits"] == 0
    assert site.fed("alea")["fed_bits"] == fed
    assert holds(site.broker()["accounting"])

    # The device is well again, and nobody has to say so.
    site.alea_gives("noise")
    site.await_state("alea", "delivering")
    assert site.await_more("alea") > fed


def test_a_device_that_returns_stuck_is_shut_out(site: Site) -> None:
    site.await_state("alea", "delivering")
    site.unplug("alea")
    site.alea_gives("zeros")
    site.await_trouble("alea")
    site.await_pushed("alea")
    before = site.fed("alea")["fed_bits"]

    site.plug("alea")
    site.await_state("alea", "the start-up test fails")
    assert site.fed("alea")["fed_bits"] == before

    site.alea_gives("noise")
    site.await_state("alea", "delivering")
    assert site.await_more("alea") > before


def test_what_is_served_came_from_them(site: Site) -> None:
    draw = ["entropy", "draw", "--config", "/etc/entropy/client.toml", "--bytes", "64"]
    done = site.guest.run(draw)
    assert "64 bytes worth 448 bits from broker1" in done.stderr
    books: dict[str, Any] = site.broker()["accounting"]
    assert books["delivered_bits"] == 448
    assert holds(books)
