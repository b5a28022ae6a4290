#!/usr/bin/python3
"""The lab's hand inside a guest: does what the lines on a virtio port say, one after the other.

A request is a JSON object on one line, and so is its answer. Bytes travel as base64.

    {"run": ["ls", "/"], "stdin": "", "timeout_seconds": 30}
        -> {"status": 0, "stdout": "...", "stderr": "..."}     (status -1: no end in that time)
    {"read": "/etc/hostname"}                                   -> {"data": "..."}
    {"write": "/etc/x", "data": "", "mode": 416, "group": "adm"} -> {}
    {"ask": ["127.0.0.1", 80] or "/run/x.sock", "data": ""}      -> {"data": "..."}

`ask` connects, sends, and returns what comes until the other side closes or a line ends.
What goes wrong is answered by {"error": "..."}. The first line, unasked, is {"up": true}.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
from typing import Any

_ASK_SECONDS = 10


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _run(request: dict[str, Any]) -> dict[str, Any]:
    with subprocess.Popen(
        request["run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            given = base64.b64decode(request["stdin"])
            out, err = process.communicate(given, timeout=request["timeout_seconds"])
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            out, err = process.communicate()
            return {"status": -1, "stdout": _text(out), "stderr": _text(err)}
    return {"status": process.returncode, "stdout": _text(out), "stderr": _text(err)}


def _read(request: dict[str, Any]) -> dict[str, Any]:
    with open(request["read"], "rb") as file:
        return {"data": _text(file.read())}


def _write(request: dict[str, Any]) -> dict[str, Any]:
    path, mode = request["write"], request["mode"]
    if mode is None:  # a file of the kernel's: in one piece, as it stands
        with open(path, "wb", buffering=0) as file:
            file.write(base64.b64decode(request["data"]))
        return {}
    os.makedirs(os.path.dirname(path), exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(base64.b64decode(request["data"]))
    shutil.chown(path, "root", request["group"])
    os.chmod(path, mode)
    return {}


def _ask(request: dict[str, Any]) -> dict[str, Any]:
    where = request["ask"]
    family = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ASK_SECONDS)
        connection.connect(where if isinstance(where, str) else tuple(where))
        connection.sendall(base64.b64decode(request["data"]))
        came = b""
        while part := connection.recv(65536):
            came += part
            if isinstance(where, str) and came.endswith(b"\n"):
                break
    return {"data": _text(came)}


def _answer(line: bytes) -> dict[str, Any]:
    request = json.loads(line)
    for name, act in (("run", _run), ("read", _read), ("write", _write), ("ask", _ask)):
        if name in request:
            try:
                return act(request)
            except (OSError, LookupError) as error:
                return {"error": f"{type(error).__name__}: {error}"}
    return {"error": f"this is no request: {sorted(request)}"}


def main() -> None:
    with open(sys.argv[1], "r+b", buffering=0) as port:
        port.write(b'{"up": true}\n')
        lines = b""
        while True:
            lines += os.read(port.fileno(), 65536)
            *whole, lines = lines.split(b"\n")
            for line in whole:
                left = memoryview(json.dumps(_answer(line)).encode() + b"\n")
                while left:
                    left = left[os.write(port.fileno(), left) :]


if __name__ == "__main__":
    main()
