"""Standard input, output and error of the command line, whatever the caller made of them."""

from __future__ import annotations

import os
import sys


def have_streams() -> None:
    """Fill in what the caller has closed (`>&-`), or the next file to be opened takes its place.

    What goes to standard output then fails, as it would without this; messages are lost.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is this one. Programs that we run inherit it too.
            os.open("/dev/full" if number == 1 else os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
    # Open until the process ends, so no `with`.
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
