"""python -m lab.guest [DEB...]: a guest to look around in; each line is a command for its shell."""

from __future__ import annotations

import sys
from pathlib import Path

from lab.command import LabError
from lab.guest import pieces
from lab.guest.machine import Machine
from lab.names import CHECKOUT
from lab.progress import say


def main() -> int:
    debs = [Path(word).resolve() for word in sys.argv[1:]]
    try:
        made = pieces.ensure(debs or sorted((CHECKOUT / "dist").glob("*.deb")))
        with Machine.start("look", made) as guest:
            say(f"a guest is up; its console is in {guest.console}; end of input ends it")
            for line in sys.stdin:
                done = guest.run(["sh", "-c", line], check=False)
                print(done.stdout + done.stderr, end="", flush=True)
                if done.status:
                    say(f"status {done.status}")
    except LabError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
