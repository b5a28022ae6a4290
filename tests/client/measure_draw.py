"""What a draw of the resident client costs a machine: memory between draws, and processor's time.

    .venv/bin/python -m tests.client.measure_draw [PYTHON]

PYTHON, which need not be the one that runs this, is what the client runs under: /usr/bin/python3 by
default, with its own cryptography. The broker is in this process and is not counted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.client.conftest import Fleet

ROOT = Path(__file__).resolve().parent.parent.parent
N_DRAWS = 50

CLIENT = """
import os, resource, sys
from entropy import cli, client, client_warm
from entropy.config import load_client
from entropy.wire.codes import DrawKind

def spent_seconds():
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)

cli._parser()
config, n_draws = load_client(sys.argv[1]), int(sys.argv[2])
resident = client.Resident(config)
sys.stderr = open(os.devnull, "w")

def draw():
    work = lambda: client._draw(config, DrawKind.SEED, 10.0, 0, None, [])
    _, report = resident._in_child(work, 11.0)
    assert report["fed"][0] == 448, report

draw()
client_warm.load()
draw()
before = spent_seconds()
for _ in range(n_draws):
    draw()
each_ms = 1000 * (spent_seconds() - before) / n_draws
kib = next(line for line in open("/proc/self/status") if line.startswith("VmRSS:")).split()[1]
print(f"{each_ms:.1f} ms of a processor's time for a draw; {kib} KiB resident between two")
"""


def main() -> int:
    python = sys.argv[1] if len(sys.argv) > 1 else "/usr/bin/python3"
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(Path(folder))
        fleet.broker()
        # As it is installed: with bytecode.
        shutil.copytree(ROOT / "entropy", Path(folder, "lib", "entropy"))
        environment = {**os.environ, "PYTHONPATH": f"{folder}/lib"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        subprocess.run(
            [python, "-m", "compileall", "-q", f"{folder}/lib"], env=environment, check=True
        )
        config = fleet.config_file(credit=False)
        argv = [python, "-c", CLIENT, config, str(N_DRAWS)]
        done = subprocess.run(argv, env=environment, cwd=folder, check=False)
        fleet.close()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
