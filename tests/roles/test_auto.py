"""The word `auto` in the place of a source."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.template import trust_as_template

from plugins.filter.entropy_auto import described, resolved
from tests.roles.rendering import Inventory


def device(
    uri: str, *, real: bool = True, first: str = "", name: str = "a device"
) -> dict[str, Any]:
    return {"device": name, "uri": uri, "real": real, "first": first, "reason": "it counts nothing"}


DEVICES = [
    device("alea:serial=A1", name="Araneus Alea"),
    device("alea:serial=B2", name="Araneus Alea"),
    device("", real=False, first="use its tool", name="SwiftRNG"),
    device("hwrng:name=virtio_rng.0", real=False, name="virtio_rng.0"),
]
AUTO = {"name": "noise", "uri": "auto", "credit_bits_per_second": 50000}


def test_it_is_the_first_real_device() -> None:
    assert resolved([AUTO], DEVICES) == [{**AUTO, "uri": "alea:serial=A1"}]
    assert described([AUTO], DEVICES) == ["source noise: alea:serial=A1 (Araneus Alea)"]


def test_each_gets_its_own_and_none_that_is_named() -> None:
    named = {"name": "named", "uri": "alea:serial=A1"}
    second = {"name": "more", "uri": "auto"}
    found = resolved([AUTO, named], DEVICES)
    assert [one["uri"] for one in found] == ["alea:serial=B2", "alea:serial=A1"]
    found = resolved([AUTO, second], DEVICES)
    assert [one["uri"] for one in found] == ["alea:serial=A1", "alea:serial=B2"]


ACM = "serial:/dev/serial/by-id/usb-ubld.it_TrueRNG-if00?model=truerng"


@pytest.mark.parametrize(
    ("named", "left"),
    [
        ("alea:", [ACM, "hwrng:name=tpm-rng-0"]),
        ("alea:bus=1,port=2", [ACM, "hwrng:name=tpm-rng-0"]),
        ("alea:serial=B2", ["alea:serial=A1", ACM, "hwrng:name=tpm-rng-0"]),
        ("chaoskey:", ["alea:serial=A1", "alea:serial=B2", ACM, "hwrng:name=tpm-rng-0"]),
        ("serial:/dev/ttyACM0?model=truerng", ["alea:serial=A1", "alea:serial=B2"]),
        (ACM.replace("model=truerng", "model=raw"), ["alea:serial=A1", "alea:serial=B2"]),
        ("hwrng:", ["alea:serial=A1", "alea:serial=B2", ACM]),
    ],
)
def test_what_another_source_may_have_is_not_taken(named: str, left: list[str]) -> None:
    uris = ["alea:serial=A1", "alea:serial=B2", ACM, "hwrng:name=tpm-rng-0"]
    autos = [{"name": f"{n}", "uri": "auto"} for n in range(len(uris))]
    found = resolved([{"name": "named", "uri": named}, *autos], [device(uri) for uri in uris])
    resolved_uris = [one["uri"] for one in found[1:] if one["uri"] != "auto"]
    assert resolved_uris[: len(left)] == left


def test_a_stream_of_a_device_is_that_device() -> None:
    devices = [device("chaoskey:serial=K1"), device("chaoskey:serial=K2")]
    named = {"name": "raw", "uri": "chaoskey:endpoint=raw,serial=K1"}
    assert resolved([named, AUTO], devices)[1]["uri"] == "chaoskey:serial=K2"


def test_none_is_left() -> None:
    assert resolved([AUTO], DEVICES[2:]) == [AUTO]
    assert described([AUTO], DEVICES[2:]) == [
        "source noise: no device is left that can be read"
        " (SwiftRNG: use its tool; virtio_rng.0: it counts nothing)"
    ]
    assert described([AUTO], []) == [
        "source noise: no device is left that can be read (nothing was found)"
    ]
    assert "another source has it" in described([{**AUTO}, {**AUTO, "name": "b"}], DEVICES[:1])[1]


def test_without_auto_nothing_is_looked_at() -> None:
    sources = [{"name": "one", "uri": "jitter:"}]
    assert resolved(sources, []) == sources
    assert described(sources, DEVICES) == []


def test_what_the_role_writes() -> None:
    inventory = Inventory("three")
    host = "rng1"

    def value(name: str, **more: Any) -> Any:
        text = "{{ " + name + " }}"
        return inventory._templar("entropy_feeder", host, more).template(trust_as_template(text))

    given = {
        "entropy_feeder_sources": [AUTO],
        "__entropy_feeder_trng": {"installed": True, "sources": DEVICES},
    }
    assert value("__entropy_feeder_found", **given)[0]["uri"] == "alea:serial=A1"
    assert value("__entropy_feeder_hwrng", **given) == ""
    tpm = [{"name": "tpm", "uri": "hwrng:name=tpm-rng-0"}]
    assert value("__entropy_feeder_hwrng", entropy_feeder_sources=tpm) == "tpm-rng-0"
    # Where the look was left out, the inventory's own words are written.
    assert value("__entropy_feeder_found", entropy_feeder_sources=tpm) == tpm
    item = value("__entropy_feeder_found", **given)[0]
    text = inventory.render("entropy_feeder", "feeder.toml.j2", host, item=item)
    assert 'uri = "alea:serial=A1"' in text
    assert "credit_bits_per_second" not in text
