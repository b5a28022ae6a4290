"""Talk to a broker on the same host through its control socket.

One JSON object per line each way. Standard library only, Python 3.9.
"""

from __future__ import annotations

import json
import socket
import time
from typing import Any

# The status of a broker with 10,000 clients is about 2 MB.
MAX_ANSWER_BYTES = 64 * 1024 * 1024


class NotRunning(Exception):
    """No broker listens on the socket."""


class ControlProblem(Exception):
    """A broker listens and did not do as asked."""


class ControlRefused(ControlProblem):
    """The broker answered that it will not, and why."""


def ask(control_socket: str, command: str, timeout_seconds: float) -> dict[str, Any]:
    """Send one command and return the broker's answer, whose "ok" is true.

    Raises NotRunning, ControlProblem, or ControlRefused with the broker's own words.
    """
    deadline = time.monotonic() + timeout_seconds
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_seconds)
        try:
            connection.connect(control_socket)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            raise NotRunning(f"no broker listens on {control_socket}") from None
        except OSError as error:
            reason = "timed out" if isinstance(error, socket.timeout) else error.strerror
            raise ControlProblem(f"{control_socket} cannot be reached: {reason}") from None
        try:
            connection.sendall(json.dumps({"command": command}).encode() + b"\n")
            line = _read_line(connection, deadline)
        except OSError as error:
            raise ControlProblem(_silent(control_socket, error, timeout_seconds)) from None
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
        raise ControlProblem(f"what listens on {control_socket} does not answer like a broker")
    if not answer["ok"]:
        raise ControlRefused(f"the broker refused {command}: {answer.get('error', 'no reason')}")
    return answer


def _read_line(connection: socket.socket, deadline: float) -> bytes:
    received = bytearray()
    while b"\n" not in received[-65536:]:
        left_seconds = deadline - time.monotonic()
        if left_seconds <= 0:
            raise socket.timeout()
        connection.settimeout(left_seconds)
        chunk = connection.recv(65536)
        if not chunk or len(received) > MAX_ANSWER_BYTES:
            break
        received += chunk
    return bytes(received)


def _silent(control_socket: str, error: OSError, timeout_seconds: float) -> str:
    if isinstance(error, socket.timeout):
        what = f"did not answer within {timeout_seconds:g} s"
    else:
        what = f"closed the connection ({error.strerror})"
    return f"the broker on {control_socket} {what}; see journalctl -u entropy-broker"
