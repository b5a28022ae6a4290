"""Waiting for the first credential: a machine made from an image has none when it starts.

Whatever provisions the machine (cloud-init, a person) puts the files there later. Until then the
client counts as ready, so that nothing waits for it, and looks for them twice a second: a stat(2)
each costs next to nothing, and inotify(7) is not in Python's library.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from entropy.errors import EntropyError
from entropy.notify import NOTICE, log, notify, watchdog_interval_seconds

LOOK_SECONDS = 0.5
SETTLE_SECONDS = 5.0  # who writes a file gives it its content and its owner one after the other


def wait_for_files(paths: Sequence[str], check: Callable[[], None]) -> None:
    """Return at once if all files are there, else when they are and `check` raises nothing.

    Once they are there and `check` (which raises EntropyError) is still unhappy after
    SETTLE_SECONDS, returns all the same: what is wrong then is wrong for good.
    """
    missing = _missing(paths)
    if not missing:
        return
    said: list[str] = []
    settled = 0.0
    watchdog_seconds = watchdog_interval_seconds()
    notified = time.monotonic()
    notify("READY=1")
    while True:
        if missing:
            settled = 0.0
        else:
            settled = settled or time.monotonic() + SETTLE_SECONDS
            try:
                check()
                return
            except EntropyError:
                if time.monotonic() >= settled:
                    return
        if missing and missing != said:
            said = missing
            text = f"waiting for {' and '.join(missing)}, to be put there by whatever issues it"
            log(text, NOTICE)
            notify(f"STATUS={text}")
        if watchdog_seconds and time.monotonic() - notified >= watchdog_seconds:
            notify("WATCHDOG=1")
            notified = time.monotonic()
        time.sleep(min(LOOK_SECONDS, watchdog_seconds or LOOK_SECONDS))
        missing = _missing(paths)


def _missing(paths: Sequence[str]) -> list[str]:
    return [path for path in paths if not os.path.exists(path)]
