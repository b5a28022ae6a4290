"""`entropy drain`: takes this machine's broker out of service before work on it, and back."""

from __future__ import annotations

import sys
import time

from entropy.errors import ControlError
from entropy.status import ask

POLL_SECONDS = 0.2


def run(control_path: str, *, off: bool, wait_seconds: float) -> int:
    """Begin a drain and wait for the last session, or end it. Raises ControlError.

    Returns 0, or 1 if sessions are still open after wait_seconds; the drain goes on then.
    """
    answer = ask(control_path, "drain", on=not off)
    if off:
        print("the broker serves again", file=sys.stderr)
        return 0
    deadline = time.monotonic() + wait_seconds
    while answer["sessions"] and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        try:
            answer = ask(control_path, "drain", on=True)
        except ControlError as error:
            raise ControlError(f"while waiting for the sessions to end: {error}") from None
    if not answer["sessions"]:
        print("drained: nobody is being served", file=sys.stderr)
        return 0
    print(
        f"draining: {answer['sessions']} sessions are still open after {wait_seconds:g} s",
        file=sys.stderr,
    )
    return 1
