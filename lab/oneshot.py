"""One command in a new container of an image: how tests use programs that the host lacks."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab import image, lifecycle, podman
from lab.names import LABEL
from lab.recipe import Recipe

FOLDER = "/mnt"


def arguments(
    image_name: str,
    argv: Sequence[str],
    folder: Path | None,
    *,
    with_stdin: bool = False,
    timeout_seconds: float = 600,
) -> list[str]:
    """Podman's arguments: no network, and the folder, if any, read-only at FOLDER.

    The container ends after timeout_seconds by itself: whoever started it may be killed, and
    nothing is to be left behind.
    """
    words = ["run", "--rm", "--network", "none", "--label", LABEL]
    words += ["--timeout", str(math.ceil(timeout_seconds))]
    if with_stdin:
        words.append("--interactive")
    if folder is not None:
        words += ["--volume", f"{folder.resolve()}:{FOLDER}:ro", "--workdir", FOLDER]
    return [*words, image_name, *argv]


def run(
    argv: Sequence[str],
    *,
    folder: Path | None = None,
    recipe: Recipe = image.FLEET,
    stdin: str | None = None,
    timeout_seconds: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run argv in a new container and return what came of it; its status is the caller's to judge.

    What is in folder is found under /mnt, which is also the working directory. Raises LabError
    where no container can be run at all.
    """
    lifecycle.prepare()
    words = arguments(
        image.ensure(recipe),
        argv,
        folder,
        with_stdin=stdin is not None,
        timeout_seconds=timeout_seconds + 10,  # ours first: its message says what was run
    )
    return podman.podman(*words, stdin=stdin, check=False, timeout_seconds=timeout_seconds)
