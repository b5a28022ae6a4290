"""`entropy status`: asks a broker how it is, and sets the answer out for people."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from typing import Any

from entropy.errors import ControlError

TIMEOUT_SECONDS = 5.0
_LONGEST_REPLY_BYTES = 64 * 1024 * 1024


def run(control_path: str, *, as_json: bool) -> int:
    """Print the status of the broker behind the control socket. Raises ControlError."""
    answer = ask(control_path, "status")
    try:
        status = answer["status"]
        lines = [] if as_json else as_text(status, now=time.time())
    except (KeyError, TypeError) as error:
        raise ControlError(
            f"{control_path}: the answer is not a status that this version understands ({error})"
        ) from None
    print(json.dumps(status, indent=2, sort_keys=True) if as_json else "\n".join(lines))
    return 0


def ask(control_path: str, command: str, **arguments: Any) -> dict[str, Any]:
    """Send one command and return the answer. Raises ControlError."""
    reply = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(TIMEOUT_SECONDS)
            channel.connect(control_path)
            channel.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            while not reply.endswith(b"\n") and len(reply) < _LONGEST_REPLY_BYTES:
                part = channel.recv(65536)
                if not part:
                    break
                reply += part
    except FileNotFoundError:
        raise ControlError(
            f"{control_path}: there is no such socket: does a broker run on this machine?"
        ) from None
    except PermissionError:
        raise ControlError(
            f"{control_path}: not allowed: run this as root or as the broker's user"
        ) from None
    except TimeoutError:
        raise ControlError(f"{control_path}: no answer in {TIMEOUT_SECONDS:g} s") from None
    except OSError as error:
        why = error.strerror or str(error)
        raise ControlError(f"{control_path}: cannot ask the broker: {why}") from None
    try:
        answer = json.loads(reply)
        if answer["ok"]:
            return dict(answer)
        why = str(answer["error"])
    except (ValueError, KeyError, TypeError):
        raise ControlError(f"{control_path}: the answer is not a broker's") from None
    raise ControlError(f"{control_path}: the broker says: {why}")


def as_text(status: dict[str, Any], *, now: float) -> list[str]:
    """The lines that a person reads."""
    held, books = status["reservoir"], status["accounting"]
    ready = "ready" if status["ready"] else "not ready"
    if status.get("draining"):
        ready = "draining"
    lines = [
        f"broker {status['broker_id']} of {status['site_id']}: {ready},"
        f" up {duration(status['uptime_seconds'])}, version {status['version']}",
        f"reservoir   {held['held_blocks']} of {held['capacity_blocks']} blocks"
        f" {bar(held['held_blocks'], held['capacity_blocks'])}"
        f" {held['held_bits']} bits, {held['imported_blocks']} blocks from peers",
        f"came in     {books['fed_bits']} bits fed + {books['imported_bits']} imported",
        f"went        {books['delivered_bits']} delivered, {books['exported_bits']} exported,"
        f" {books['spent_bits']} spent on conditioning, {books['lost_bits']} lost",
        f"sessions    {status['sessions']} open, {status['waiting_draws']} draws waiting,"
        f" access list generation {status['acl_generation']}",
    ]
    refusals = {code: n for code, n in status["refusals"].items() if n}
    if refusals:
        lines.append("refused     " + ", ".join(f"{code} {n}" for code, n in refusals.items()))
    lines += _table(
        ("FEEDER", "STATE", "FED BITS", "LOST BITS", "RECALLED BITS", "LAST FED"),
        [
            (
                feeder["id"],
                "connected" if feeder["connected"] else "away",
                feeder["fed_bits"],
                feeder["lost_bits"],
                feeder["recalled_bits"],
                _ago(feeder["last_feed_unix"], now),
            )
            for feeder in status["feeders"]
        ],
    )
    lines += _table(
        ("PEER", "ENDPOINT", "STATE", "IMPORTED BITS", "LAST IMPORT", "LAST ERROR"),
        [
            (
                peer["id"],
                peer["endpoint"],
                peer["state"],
                peer["imported_bits"],
                _ago(peer["last_import_unix"], now),
                peer["last_error"] or "",
            )
            for peer in status["peers"]
        ],
    )
    lines += _table(
        ("CLIENT", "STATE", "DRAWS", "BYTES", "BITS", "LAST DRAW", "WHICH WAS"),
        [
            (
                client["id"],
                "connected" if client["connected"] else "",
                client["draws"],
                client["delivered_bytes"],
                client["delivered_bits"],
                _ago(client["last_draw_unix"], now),
                f"{client['last_kind']}, {client['last_credit_bits']} bits"
                if client["last_kind"]
                else "",
            )
            for client in status["clients"]
        ],
    )
    if status["alarms"]:
        lines.append("")
    lines += [f"ALARM {_ago(alarm['unix'], now)}: {alarm['text']}" for alarm in status["alarms"]]
    return lines


def bar(part: float, whole: float, width: int = 20) -> str:
    """How full something is, in `width` characters between brackets."""
    full = round(width * part / whole) if whole else 0
    return "[" + "#" * full + "." * (width - full) + "]"


def duration(seconds: float) -> str:
    """A time span in its two largest units, e.g. "2 h 5 min"."""
    whole = max(0, int(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def _ago(unix: float | None, now: float) -> str:
    return "never" if unix is None else f"{duration(now - unix)} ago"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Columns as wide as what is in them; numbers to the right. Nothing without rows."""
    if not rows:
        return []
    columns = list(zip(head, *rows))
    widths = [max(len(str(cell)) for cell in column) for column in columns]
    right = [all(isinstance(cell, int) for cell in column[1:]) for column in columns]
    lines = [""]
    for row in [head, *rows]:
        cells = [
            str(cell).rjust(width) if to_right else str(cell).ljust(width)
            for cell, width, to_right in zip(row, widths, right)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
