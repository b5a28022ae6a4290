# GNU General Public License v3.0+ (see LICENSE)
"""One line after the recap: how long the run took, and which tasks took most of it."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: entropy_elapsed
type: aggregate
short_description: how long a run and its slowest tasks took
description:
  - Prints one line after the recap, with the seconds that the run took and its slowest tasks.
requirements:
  - enabled in C(callbacks_enabled)
"""

N_SLOWEST = 3


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "entropy_elapsed"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._start_seconds = time.monotonic()
        self._task_start_seconds = self._start_seconds
        self._task_name = ""
        self._tasks: list[tuple[float, str]] = []

    def _close(self) -> None:
        if self._task_name:
            elapsed = time.monotonic() - self._task_start_seconds
            self._tasks.append((elapsed, self._task_name))
            self._task_name = ""

    def _open(self, task: Any) -> None:
        self._close()
        self._task_name = str(task.get_name())
        self._task_start_seconds = time.monotonic()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._open(task)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self._open(task)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._close()

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._close()
        slowest = sorted(self._tasks, reverse=True)[:N_SLOWEST]
        words = ", ".join(f"{name} {seconds:.1f} s" for seconds, name in slowest)
        total = time.monotonic() - self._start_seconds
        self._display.display(f"{total:.0f} s" + (f"; longest: {words}" if words else ""))
