"""What a service says to the system that runs it: readiness, its watchdog, and log lines.

The protocol is sd_notify(3): one datagram of `KEY=VALUE` lines to the socket in
$NOTIFY_SOCKET. Where there is no such socket every call is a no-op, so the daemons
run the same in a terminal, in a container and under systemd.
"""

from __future__ import annotations

import os
import sys
from typing import Callable

# syslog(3) priorities, as sd-daemon(3) writes them in front of a line
ERROR = 3
WARNING = 4
NOTICE = 5
INFO = 6

Log = Callable[[str, int], None]  # one line and its priority, as `log` takes them


def notify(state: str) -> None:
    """Tell systemd one or more states, e.g. "READY=1" or "WATCHDOG=1" (lines joined by newlines).

    Never raises: a supervisor that does not listen is no reason to stop.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    import socket  # here, so that who only logs does not pay for it

    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(state.encode(), address)
    except OSError:
        pass


def watchdog_interval_seconds() -> float | None:
    """How often to send "WATCHDOG=1": half of what systemd allows, or None without a watchdog."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # meant for another process, as sd_watchdog_enabled(3) says
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return microseconds / 2e6 if microseconds > 0 else None


def log(text: str, priority: int = INFO) -> None:
    """Write one line to standard error, with the journal's priority prefix if it reads us.

    Line breaks in the text become spaces: an event is one line, whoever worded it.
    """
    line = " ".join(text.splitlines())
    if "JOURNAL_STREAM" in os.environ or "NOTIFY_SOCKET" in os.environ:
        line = f"<{priority}>{line}"
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # nobody reads us any more
