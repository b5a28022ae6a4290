"""What things are called and where they are, for this checkout."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

# Two checkouts on one machine have two fleets.
PREFIX = "entropy-" + hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:8]
LABEL_KEY = "entropy.lab"
LABEL = f"{LABEL_KEY}={PREFIX}"

# State of this checkout's fleet: keys, addresses, what the controller keeps. Mode 0700.
STATE = CHECKOUT / ".lab"

# Held while a command changes the lab of a checkout.
LOCK = Path(".cache/lab.lock")

# State that must not outlive a boot: mount namespaces, what the kernel was set to before. Tests
# of what a lab leaves behind have a place of their own: there may be another checkout's lab.
RUN = Path(os.environ.get("ENTROPY_LAB_RUN", "/run/entropy-lab"))

# Last octet of each address in the fleet's subnet.
VIP_OCTET = 10
OCTETS = {
    "broker1": 11,
    "broker2": 12,
    "rng1": 21,
    "rng2": 22,
    "vm1": 31,
    "vm2": 32,
    "vm3": 33,
    "vm4": 34,
}
FEEDERS = ("rng1", "rng2")


def container(host: str) -> str:
    """Podman's name for the container of a host of the fleet."""
    return f"{PREFIX}-{host}"
