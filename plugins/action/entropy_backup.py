"""Save and restore a fleet's state directory: the half that runs on the controller."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[2]))

from module_utils.entropy_controller import back_up

ARGUMENTS = {
    "state_dir": {"type": "path", "required": True},
    "site_id": {"type": "str", "required": True},
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["saved", "restored"], "default": "saved"},
    "reports": {"type": "list", "elements": "dict", "default": []},
    "supersede": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    """The action; the work is done in module_utils. No host is ever contacted."""

    _requires_connection = False
    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        try:
            return result | back_up(self._loader, arguments, check=bool(self._task.check_mode))
        except AnsibleError as problem:
            return result | {"failed": True, "msg": problem.message}
