"""Ask a broker on this host how it is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: entropy_broker_info
short_description: Ask the broker on this host how it is
description:
  - Reads the status of the broker from its control socket. Never changes anything and never fails
    because a broker is down; RV(running) says it.
options:
  control_socket:
    description: The control socket of the broker.
    type: path
    default: /run/entropy-broker/control.sock
  vip:
    description: A virtual address. If given, RV(holds_vip) says whether this host holds it now. A
      prefix length, as in V(10.0.0.5/24), is ignored.
    type: str
  timeout_seconds:
    description: How long the broker may take to answer.
    type: int
    default: 10
attributes:
  check_mode:
    description: Reads only.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: Never changes anything.
    support: full
author: The entropy project
"""

EXAMPLES = r"""
- name: Wait until the broker has something to give
  entropy_broker_info:
    vip: 10.0.0.5
  register: broker
  until: broker.running and broker.status.ready
  retries: 30
  delay: 1
"""

RETURN = r"""
running:
  description: Whether a broker answered on the control socket.
  returned: always
  type: bool
problem:
  description: Why there is no status, in one line. An empty string if there is one.
  returned: always
  type: str
  sample: "no broker listens on /run/entropy-broker/control.sock"
status:
  description: What the broker says of itself. An empty dictionary when it does not run.
  returned: always
  type: dict
  sample:
    broker_id: broker1
    ready: true
    acl_generation: 7
holds_vip:
  description: Whether this host holds O(vip). Null if none was given or C(ip) is missing.
  returned: always
  type: bool
"""

import ipaddress  # noqa: E402
import json  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.entropy_control import ControlProblem, NotRunning, ask  # noqa: E402

ARGUMENTS = {
    "control_socket": {"type": "path", "default": "/run/entropy-broker/control.sock"},
    "vip": {"type": "str"},
    "timeout_seconds": {"type": "int", "default": 10},
}


def broker_status(control_socket: str, timeout_seconds: int) -> tuple[dict[str, Any], str]:
    """The status of the broker, and why there is none ("" if there is one)."""
    try:
        status = ask(control_socket, "status", timeout_seconds).get("status")
    except (NotRunning, ControlProblem) as problem:
        return {}, str(problem)
    if not isinstance(status, dict) or not status:
        return {}, f"the broker on {control_socket} answered without a status"
    return status, ""


def holds(addresses_json: str, vip: str) -> bool:
    """Whether `vip` is among the addresses in the output of `ip -json address`.

    Raises ValueError when `vip` is not an address.
    """
    wanted = ipaddress.ip_interface(vip).ip
    return any(
        ipaddress.ip_address(address["local"]) == wanted
        for interface in json.loads(addresses_json)
        for address in interface.get("addr_info", [])
        if "local" in address
    )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    vip = module.params["vip"]
    holds_vip = None
    if vip:
        try:
            holds("[]", vip)
        except ValueError:
            module.fail_json(msg=f"vip: {vip} is not an address; write it like 10.0.0.5")
        ip = module.get_bin_path("ip")  # looks into sbin too
        if ip is not None:
            exit_status, output, _ = module.run_command([ip, "-json", "address", "show"])
            holds_vip = holds(output, vip) if exit_status == 0 else None
    status, problem = broker_status(
        module.params["control_socket"], module.params["timeout_seconds"]
    )
    module.exit_json(
        changed=False,
        running=not problem,
        problem=problem,
        status=status,
        holds_vip=holds_vip,
    )


if __name__ == "__main__":
    main()
