"""`entropy status --client`: what this machine's client remembers, and what its kernel can."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from entropy import kernel
from entropy.client_state import ClientState
from entropy.clone import BLIND, CloneWatch
from entropy.errors import ControlError, KernelError
from entropy.status import duration

STATE_DIR = "/var/lib/entropy-client"


def run(state_dir: str = STATE_DIR, *, as_json: bool) -> int:
    """Print it. Raises ControlError."""
    status = look(state_dir)
    print(
        json.dumps(status, indent=2, sort_keys=True)
        if as_json
        else "\n".join(as_text(status, now=time.time()))
    )
    return 0


def look(state_dir: str) -> dict[str, Any]:
    """The state file, and under "kernel" what was found out now."""
    if not os.path.exists(state_dir):
        raise ControlError(f"{state_dir}: there is no such folder: has a client run here?")
    try:
        state = ClientState(state_dir).read()
    except PermissionError:
        raise ControlError(f"{state_dir}: not allowed: run this as root") from None
    except OSError as error:
        raise ControlError(f"{state_dir}: cannot be read: {error.strerror}") from None
    watch = CloneWatch()
    found: dict[str, Any] = {
        "sign_of_clones": watch.sign(),
        "shared": kernel.shares_kernel(),
        "ready": bool(kernel.random_bytes(1)),
    }
    watch.close()
    try:
        found.update(kernel.probe()._asdict())
    except KernelError as error:
        raise ControlError(str(error)) from None
    return {**state, "kernel": found}


def as_text(status: dict[str, Any], *, now: float) -> list[str]:
    """The lines that a person reads."""
    fed = "never"
    fed_unix = status.get("last_fed_unix")
    if isinstance(fed_unix, (int, float)):  # the file may have been edited, or cut short
        broker, kind, worth, credited = (
            status.get(key, "?")
            for key in ("last_broker", "last_kind", "last_credit_bits", "credited_to_kernel_bits")
        )
        fed = (
            f"{duration(now - fed_unix)} ago by {broker}:"
            f" {kind} worth {worth} bits, {credited} of them credited"
        )
    can = status["kernel"]
    lines = [f"last fed    {fed}"]
    words = ["ready" if can["ready"] else "not ready"]
    words.append("readers wait when it runs short" if can["blocks"] else "readers never wait")
    if can["shared"]:
        words.append("it is the host's: nothing is credited")
    elif not can["credits"]:
        words.append("this user may not credit it")
    lines.append(f"generator   {', '.join(words)}")
    sign = can["sign_of_clones"]
    lines.append(f"clones      {sign}{': it would not be told' if sign in BLIND else ''}")
    own = status.get("generation")
    if isinstance(own, dict) and own.get("boot_id") == status.get("boot_id"):
        lines.append(
            "identity    logs in under a boot id of its own, since it was cloned or restored"
        )
    return lines
