"""The module files of the actions, which are only run when something is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from library import entropy_backup, entropy_credential


def test_it_says_that_the_action_plugin_is_missing(
    run_module: Callable[..., dict[str, Any]],
) -> None:
    arguments = {"state_dir": "/s", "site_id": "lab", "credentials": [{"id": "vm1"}]}
    result = run_module(entropy_credential, bootstrap=True, **arguments)
    assert "add the project's plugins/action to action_plugins in ansible.cfg" in result["msg"]
    result = run_module(entropy_backup, state_dir="/s", site_id="lab", path="/b")
    assert "add the project's plugins/action to action_plugins in ansible.cfg" in result["msg"]
