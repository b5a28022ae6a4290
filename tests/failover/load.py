"""One client of the load: draws 64 bytes every 200 ms and writes down what became of each draw.

    python3 load.py NAME CONFIG FOLDER

Runs on a host of the fleet, with the Python and the package there: a draw is `entropy draw`'s own,
with its dialling, its waiting and its other endpoints; only what it reports is looked at.

FOLDER/NAME.jsonl gets a line for each draw: `start` and `end` (CLOCK_MONOTONIC in seconds, which
all containers of a machine share), `answers` (for each reply broker, epoch, serial, credit_bits,
origins and n_bytes), `sha256` of the bytes, which themselves stay here, `said` (what the draw said
meanwhile), and `error` where it gave up. Rests while FOLDER/rest exists, and says so by
FOLDER/NAME.rests; ends when FOLDER is gone or by a signal.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from entropy import draw
from entropy.config import ClientConfig, load_client
from entropy.dial import dial
from entropy.errors import EntropyError
from entropy.transport.blocking import BlockingConnection
from entropy.wire.codes import DrawKind
from entropy.wire.frames import Block

N_BYTES = 64
INTERVAL_SECONDS = 0.2

answers: list[dict[str, Any]] = []
said: list[str] = []


class Watched:
    """A session with a broker that notes each reply."""

    def __init__(self, connection: BlockingConnection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def draw(self, kind: DrawKind, n_bytes: int, wait_seconds: float) -> Block:
        block = self._connection.draw(kind, n_bytes, wait_seconds)
        epoch = self._connection._wire.epoch
        answers.append(
            {
                "broker": self._connection.broker_id,
                "epoch": (epoch or b"").hex(),
                "serial": block.serial,
                "credit_bits": block.credit_bits,
                "origins": list(block.origins),
                "n_bytes": len(block.data),
            }
        )
        return block


def watched(*arguments: Any, **named: Any) -> Watched:
    return Watched(dial(*arguments, **named))


def note(text: str, *_: object) -> None:
    said.append(f"{time.monotonic():.3f} {text}")


def one_draw(config: ClientConfig) -> dict[str, Any]:
    answers.clear()
    said.clear()
    drawn = io.BytesIO()
    record: dict[str, Any] = {"start": time.monotonic(), "error": None}
    try:
        draw.run(config, N_BYTES, drawn)
    except EntropyError as error:
        record["error"] = str(error)
    except Exception:
        record["error"] = traceback.format_exc()
    record["end"] = time.monotonic()
    record["sha256"] = hashlib.sha256(drawn.getvalue()).hexdigest()
    return {**record, "answers": list(answers), "said": list(said)}


def main(name: str, config_path: str, folder: Path) -> None:
    setattr(draw, "dial", watched)  # noqa: B010
    setattr(draw, "log", note)  # noqa: B010
    config = load_client(config_path)
    rest, rests = folder / "rest", folder / f"{name}.rests"
    due = time.monotonic()
    with (folder / f"{name}.jsonl").open("w", buffering=1) as file:
        while folder.exists():
            if rest.exists():
                rests.touch()
                time.sleep(0.05)
                due = time.monotonic()
                continue
            rests.unlink(missing_ok=True)
            record = one_draw(config)
            file.write(json.dumps(record) + "\n")
            due = max(due + INTERVAL_SECONDS, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
