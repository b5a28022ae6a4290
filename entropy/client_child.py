"""Work in a process of its own, which is gone when the work is done.

A draw needs TLS and ciphers, 14 MiB of code that the client would otherwise keep between two
draws; and it has keys in its memory. A child takes both with it when it ends, and one that hangs
(a resolver, a kernel that is not ready) can be ended from outside.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

from entropy import errors
from entropy.errors import EntropyError
from entropy.notify import ERROR, log

_REPORT_BYTES = 65536
_ERRORS = {kind.__name__: kind for kind in (errors.ConfigError, errors.CredentialError)}


class Child:
    """A fork of this process that runs `work` and reports what that returned, as JSON has it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.close(reader)
                _work(work, writer)
            finally:
                os._exit(1)  # nothing of the parent's is ever run to its end here
        os.close(writer)
        self._pid = pid
        self.descriptor = reader  # readable when there is a report

    def report(self) -> Any:
        """Wait for the end of the work and return what it returned.

        Raises ConfigError and CredentialError as the work did, KernelError for all else: also
        when the child ended without a word.
        """
        text = b""
        while part := os.read(self.descriptor, _REPORT_BYTES):
            text += part
        self.end()
        try:
            report = json.loads(text)
        except ValueError:
            raise errors.KernelError("the process that draws ended before its time") from None
        if "error" in report:
            raise _ERRORS.get(report["error"], errors.KernelError)(report["text"])
        return report["result"]

    def end(self) -> None:
        """End it, whatever it is doing. May be called again."""
        if not self._pid:
            return
        pid, self._pid = self._pid, 0
        os.close(self.descriptor)
        os.kill(pid, signal.SIGKILL)  # it is ours until it is waited for
        os.waitpid(pid, 0)


def _work(work: Callable[[], Any], writer: int) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    try:
        report = {"result": work()}
    except EntropyError as error:
        report = {"error": type(error).__name__, "text": str(error)}
    except Exception as error:
        log(f"a fault in the program: {type(error).__name__}: {error}", ERROR)
        return
    os.write(writer, json.dumps(report).encode())
    os._exit(0)
