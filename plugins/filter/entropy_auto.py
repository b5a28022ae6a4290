"""Put the devices of a host in the place of the word `auto`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

AUTO = "auto"


def resolved(
    sources: list[Mapping[str, Any]], devices: list[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The sources of a host, each `auto` with the uri of a device of its own.

    The devices are those of the module entropy_trng_info: of the real ones the first that no
    other source names, or could mean (`alea:` may be any Alea, one by its port as well). Where
    there is none left, the word stays.
    """
    named = [source["uri"] for source in sources if source.get("uri") not in (None, AUTO)]
    free = [
        one["uri"]
        for one in devices
        if one["real"] and not any(_may_mean(uri, one["uri"]) for uri in named)
    ]
    found = []
    for source in sources:
        if source.get("uri") == AUTO and free:
            source = {**source, "uri": free.pop(0)}
        found.append(source)
    return found


# What names one device, wherever it is plugged in.
_NAME = re.compile(r"\b(?:serial=([^,]+)|name=(.+)|by-id/([^?]+))")


def _may_mean(uri: str, device_uri: str) -> bool:
    """Whether a source with this uri could read that device."""
    if uri.partition(":")[0] != device_uri.partition(":")[0]:
        return False
    name, device_name = _NAME.search(uri), _NAME.search(device_uri)
    return name is None or device_name is None or name.groups() == device_name.groups()


def described(sources: list[Mapping[str, Any]], devices: list[Mapping[str, Any]]) -> list[str]:
    """A sentence for each source that is `auto`: which device it is, or why it is none."""
    by_uri = {one["uri"]: one for one in devices if one["uri"]}
    sentences = []
    for source, found in zip(sources, resolved(sources, devices)):
        name = source.get("name")
        if source.get("uri") != AUTO:
            continue
        if found["uri"] == AUTO:
            seen = "; ".join(_why_not(one) for one in devices) or "nothing was found"
            sentences.append(f"source {name}: no device is left that can be read ({seen})")
        else:
            device = by_uri[found["uri"]]
            sentences.append(f"source {name}: {found['uri']} ({device['device']})")
    return sentences


def _why_not(device: Mapping[str, Any]) -> str:
    if device["real"]:
        return f"{device['device']}: another source has it, or may have it"
    if device["first"]:
        return f"{device['device']}: {device['first']}"
    return f"{device['device']}: {device['reason']}"


class FilterModule:
    """What the role entropy_feeder uses."""

    def filters(self) -> dict[str, Any]:
        return {"entropy_auto": resolved, "entropy_auto_described": described}
