"""The documentation says what the code takes, and ansible-doc can show it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from library import (
    entropy_acl,
    entropy_backup,
    entropy_broker_info,
    entropy_credential,
    entropy_keyfile,
)

ROOT = Path(__file__).parents[2]
MODULES = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        entropy_acl,
        entropy_backup,
        entropy_broker_info,
        entropy_credential,
        entropy_keyfile,
    )
}
ACTIONS = ("entropy_backup", "entropy_credential")
LOOKUPS = ("entropy_acl_entries", "entropy_external_clients", "entropy_secret")


def arguments_of(name: str) -> dict[str, Any]:
    """What the code takes. That of an action is its plugin."""
    if name not in ACTIONS:
        arguments: dict[str, Any] = MODULES[name].ARGUMENTS
        return arguments
    path = ROOT / f"plugins/action/{name}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_action", path)
    assert spec is not None
    assert spec.loader is not None
    plugin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)
    arguments = plugin.ARGUMENTS
    assert set(MODULES[name].ARGUMENTS) == set(arguments)
    return arguments


def documented(options: dict[str, Any]) -> dict[str, Any]:
    """The documented options as an argument specification."""
    spec = {}
    for name, option in options.items():
        spec[name] = {k: v for k, v in option.items() if k not in ("description", "suboptions")}
        if "suboptions" in option:
            spec[name]["options"] = documented(option["suboptions"])
    return spec


def specified(arguments: dict[str, Any]) -> dict[str, Any]:
    """An argument specification without what the documentation does not say."""
    spec = {}
    for name, argument in arguments.items():
        spec[name] = {k: v for k, v in argument.items() if k not in ("no_log", "options")}
        if "options" in argument:
            spec[name]["options"] = specified(argument["options"])
    return spec


@pytest.mark.parametrize("name", MODULES)
def test_documented_as_it_is(name: str) -> None:
    options = yaml.safe_load(MODULES[name].DOCUMENTATION)["options"]
    assert documented(options) == specified(arguments_of(name))


@pytest.mark.parametrize("name", MODULES)
def test_every_example_uses_known_arguments(name: str) -> None:
    known = set(arguments_of(name))
    for task in yaml.safe_load(MODULES[name].EXAMPLES):
        assert set(task.get(name, {})) <= known


@pytest.mark.parametrize(("kind", "names"), [("module", list(MODULES)), ("lookup", LOOKUPS)])
def test_ansible_doc_shows_it(tmp_path: Path, kind: str, names: list[str]) -> None:
    environment = {
        **os.environ,
        "ANSIBLE_HOME": str(tmp_path),
        "ANSIBLE_LIBRARY": str(ROOT / "library"),
        "ANSIBLE_LOOKUP_PLUGINS": str(ROOT / "plugins/lookup"),
    }
    command = [sys.executable, "-m", "ansible", "doc", "--json", "--type", kind, *names]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    shown = json.loads(done.stdout)
    assert set(shown) == set(names)
    for name in names:
        assert shown[name]["doc"]["description"]
        assert shown[name]["examples"]
        assert shown[name]["return"]
