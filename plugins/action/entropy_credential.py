"""Make and keep the credentials of the whole fleet: the half that runs on the controller."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[2]))

from module_utils.entropy_acl_document import LIMITS, PERMISSIONS
from module_utils.entropy_controller import STATES, issue

IDS = {"type": "list", "elements": "str", "default": []}
ARGUMENTS = {
    "state_dir": {"type": "path", "required": True},
    "site_id": {"type": "str", "required": True},
    "state": {"type": "str", "choices": list(STATES), "default": "present"},
    "credentials": {
        "type": "list",
        "elements": "dict",
        "options": {
            "id": {"type": "str", "required": True},
            "permissions": {
                "type": "list",
                "elements": "str",
                "choices": list(PERMISSIONS),
                "default": ["draw"],
            },
            **{limit: {"type": "int"} for limit in LIMITS},
            "tenant": {"type": "str"},
            "external": {"type": "bool", "default": False},
            "bootstrap": {"type": "bool", "default": False},
            "addresses": IDS,
            "not_after": {"type": "str"},
        },
    },
    "brokers": IDS,
    "ids": IDS,
    "tenant": {"type": "str"},
    "rotate_after": {"type": "str"},
    "overlap": {"type": "str", "default": "7d"},
    "rebuilt": IDS,
    "reissue": IDS,
    "orphans": {"type": "str", "choices": ["report", "revoke"], "default": "report"},
    "max_revoke": {"type": "int", "default": 10},
    "bootstrap_lifetime": {"type": "str", "default": "24h"},
    "reports": {"type": "list", "elements": "dict", "default": []},
    "bootstrap": {"type": "bool", "default": False},
    "supersede": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    """The action; the work is done in module_utils. No host is ever contacted."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        try:
            return result | issue(self._loader, arguments, check=bool(self._task.check_mode))
        except AnsibleError as problem:
            return result | {"failed": True, "msg": problem.message}
