"""The module entropy_trng_info, in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from entropy.sources.listing import Device, as_values
from library import entropy_trng_info

RunModule = Callable[..., dict[str, Any]]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command entropy is, and the only place where commands are."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "entropy"


def write(command: Path, script: str) -> None:
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)


def test_it_gives_what_the_command_lists(run_module: RunModule, command: Path) -> None:
    write(command, f'cd {ROOT} && exec {sys.executable} -m entropy "$@"')
    result = run_module(entropy_trng_info, check=True)
    assert (result["changed"], result["installed"]) == (False, True)
    assert isinstance(result["sources"], list)


def test_every_field_is_documented(run_module: RunModule, command: Path) -> None:
    device = Device("Araneus Alea", "A1", "chaoskey", "", "alea:serial=A1", 4, 7, "why", "", "")
    (command.parent / "listed").write_text(json.dumps(as_values([device])))
    write(command, f'[ "$*" = "sources --json" ] && exec /bin/cat {command.parent}/listed')
    (listed,) = run_module(entropy_trng_info)["sources"]
    assert listed == as_values([device])[0]
    documented = yaml.safe_load(entropy_trng_info.RETURN)["sources"]["contains"]
    assert set(documented) == set(listed)


def test_no_command(run_module: RunModule, command: Path) -> None:
    result = run_module(entropy_trng_info)
    assert (result["installed"], result["sources"]) == (False, [])


def test_a_host_without_the_feeder(run_module: RunModule, command: Path) -> None:
    words = "entropy: sources is not installed here: it needs entropy-feeder"
    write(command, f"echo '{words}' >&2; exit 1")
    result = run_module(entropy_trng_info)
    assert not result.get("failed")
    assert (result["installed"], result["sources"]) == (False, [])


def test_a_command_that_fails(run_module: RunModule, command: Path) -> None:
    write(command, "echo 'entropy: no' >&2; exit 1")
    result = run_module(entropy_trng_info)
    assert result["failed"]
    assert result["msg"] == "entropy sources failed: entropy: no"
