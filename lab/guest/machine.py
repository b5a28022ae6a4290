"""A guest from its start to its end, and the way to have things done in it.

    with Machine.start("usb", pieces) as guest:
        guest.run(["systemctl", "start", "entropy-broker"])

No accelerator: the processor is emulated, so a guest runs on every machine, and slowly. Nothing
is shared with it but one port, through which `agent.py` is told what to do. Unless `arguments` give
it some it has no network and no disk, and what it writes is gone when it ends.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from lab.command import LabError
from lab.guest.overlay import Overlay
from lab.guest.pieces import FOLDER, Pieces

T = TypeVar("T")

MEMORY_MIB = 1024
# At most. A busy machine may need many times what an idle one does.
BOOT_SECONDS = 180
PATIENCE_SECONDS = 120
_LOOK_SECONDS = 0.2

KERNEL_WORDS = (
    "console=ttyS0",
    "panic=-1",  # ends qemu
    "mitigations=off",  # emulated, they only cost time
    "systemd.show_status=no",
)


class Done:
    """What came of a program."""

    def __init__(self, status: int, stdout: bytes, stderr: bytes) -> None:
        self.status = status
        self.stdout = stdout.decode(errors="replace")
        self.stderr = stderr.decode(errors="replace")


class Machine:
    """A running guest. Use `start`; what it says on its console is in the file `console`."""

    def __init__(self, process: subprocess.Popen[bytes], console: Path) -> None:
        self._process = process
        self._lines = b""
        self.console = console

    @classmethod
    def start(
        cls,
        name: str,
        pieces: Pieces,
        *,
        processor: str = "max",
        kernel_words: Sequence[str] = (),
        arguments: Sequence[str] = (),
        overlay: Overlay | None = None,
        snapshot: Path | None = None,
    ) -> Machine:
        """Start a guest and wait until its agent answers. Raises LabError if it never does.

        processor: qemu's -cpu, "max,-rdrand,-rdseed" for one without a generator of its own.
        kernel_words, arguments: more for the kernel's command line, and for qemu's.
        overlay: files that it has from the start.
        snapshot: go on from there (monitor.py) instead of booting, once the monitor says so. All
        else must be as it was, but for the devices' properties and the name.
        """
        console = FOLDER / f"{name}.console"
        with open(console, "wb"):
            pass
        argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"]
        argv += ["-accel", "tcg,thread=multi", "-cpu", processor, "-smp", "2"]
        argv += ["-m", f"{MEMORY_MIB}M"]
        argv += ["-display", "none", "-serial", f"file:{console}"]
        archive = pieces.archive
        added = b"" if overlay is None else overlay.to_bytes()
        if added:
            archive = FOLDER / f"{name}.cpio"
            shutil.copyfile(pieces.archive, archive)
            with open(archive, "ab") as file:
                file.write(added)
        argv += ["-kernel", str(pieces.kernel), "-initrd", str(archive)]
        argv += ["-append", " ".join([*KERNEL_WORDS, *kernel_words])]
        argv += ["-chardev", "stdio,id=agent,signal=off", "-device", "virtio-serial-pci"]
        argv += ["-device", "virtserialport,chardev=agent,name=lab.agent", *arguments]
        if snapshot:
            argv += ["-S", "-incoming", f"exec:cat {shlex.quote(str(snapshot))}"]
        # Whatever becomes of this process, qemu goes with it.
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        guest = cls(process, console)
        if snapshot:
            return guest
        try:
            guest._answer(BOOT_SECONDS)
        except BaseException:
            guest.stop()
            raise
        finally:
            if added:  # it was read before the guest could answer
                archive.unlink()
        return guest

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Pull the plug. There is nothing in it that anybody would miss."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    # What can be done in it

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        check: bool = True,
        timeout_seconds: float = PATIENCE_SECONDS,
    ) -> Done:
        """Run a program as root. LabError if it fails (unless check is off) or does not end."""
        answer = self._request(
            {"run": list(argv), "stdin": _text(stdin), "timeout_seconds": timeout_seconds},
            timeout_seconds + PATIENCE_SECONDS,
        )
        done = Done(answer["status"], _bytes(answer["stdout"]), _bytes(answer["stderr"]))
        if done.status == -1:
            raise LabError(f"in the guest, no end after {timeout_seconds:g} s: {' '.join(argv)}")
        if check and done.status != 0:
            said = (done.stderr or done.stdout).strip()
            raise LabError(f"in the guest, {' '.join(argv)}\n  failed ({done.status}):\n{said}")
        return done

    def read(self, path: str) -> bytes:
        """A file's content. LabError if there is none."""
        return _bytes(self._request({"read": path})["data"])

    def write(
        self, path: str, data: str | bytes, *, mode: int | None = 0o644, group: str = "root"
    ) -> None:
        """Make or replace a file of root's. Mode None: the file is there, and a kernel's."""
        raw = data.encode() if isinstance(data, str) else data
        self._request({"write": path, "data": _text(raw), "mode": mode, "group": group})

    def ask(self, where: str | tuple[str, int], data: bytes) -> bytes:
        """What is answered on a socket: to the end, or to the end of a line on a path's."""
        return _bytes(self._request({"ask": where, "data": _text(data)})["data"])

    def until(
        self, what: str, look: Callable[[], T | None], *, timeout_seconds: float = PATIENCE_SECONDS
    ) -> T:
        """Look again and again until something true is seen, and return it.

        What is not there yet may be an error. LabError with the last of them if time is up.
        """
        end = time.monotonic() + timeout_seconds
        while True:
            last = ""
            try:
                if seen := look():
                    return seen
            except GuestError as error:
                last = f": {error}"
            if time.monotonic() > end:
                raise LabError(f"it never came to that within {timeout_seconds:g} s: {what}{last}")
            time.sleep(_LOOK_SECONDS)

    def _request(
        self, request: dict[str, Any], timeout_seconds: float = PATIENCE_SECONDS
    ) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise LabError(self._ended()) from None
        answer = self._answer(timeout_seconds)
        if "error" in answer:
            raise GuestError(f"in the guest: {answer['error']}")
        return answer

    def _answer(self, timeout_seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        end = time.monotonic() + timeout_seconds
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._lines:
            left_seconds = end - time.monotonic()
            if left_seconds < 0 or not select.select([descriptor], [], [], left_seconds)[0]:
                raise LabError(
                    f"the guest has not answered for {timeout_seconds:g} s;{self._last_words()}"
                )
            part = os.read(descriptor, 65536)
            if not part:
                raise LabError(self._ended())
            self._lines += part
        line, _, self._lines = self._lines.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ended(self) -> str:
        return f"the guest has ended;{self._last_words()}"

    def _last_words(self) -> str:
        lines = self.console.read_text(errors="replace").splitlines()[-12:]
        return f" the end of {self.console}:\n" + "\n".join(lines)


class GuestError(LabError):
    """The guest is well and says that this cannot be done."""


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
