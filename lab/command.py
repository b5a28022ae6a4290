"""Running programs, as the user or as root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence


class LabError(Exception):
    """Something that a person must put right; the text says what."""


def is_root() -> bool:
    return os.geteuid() == 0


def as_root(argv: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
    """The command that runs argv as root: itself for root, through sudo for anybody else."""
    settings = [f"{name}={value}" for name, value in (env or {}).items()]
    prefix = ["env", *settings] if settings else []
    if is_root():
        return [*prefix, *argv]
    if shutil.which("sudo") is None:
        raise LabError(f"{argv[0]} must run as root, and there is no sudo: run this as root")
    return ["sudo", *prefix, *argv]


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    check: bool = True,
    timeout_seconds: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program and catch what it prints.

    Raises LabError with the program's own last words if it fails (unless check is off) or
    takes longer than timeout_seconds.
    """
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"no end after {timeout_seconds:.0f} s: {' '.join(argv)}") from error
    if check and done.returncode != 0:
        words = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise LabError(f"{' '.join(argv)}\n  failed with status {done.returncode}:\n{words}")
    return done
