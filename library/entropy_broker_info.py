"""Ask a broker on this host how it is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: entropy_broker_info
short_description: Ask the broker on this host how it is
description:
  - Reads the status of the broker from its control socket. Never changes anything and never fails
    because a broker is down; RV(running) says it. With O(report) it fails when a broker runs and
    does not answer, since what it holds must not be guessed.
options:
  control_socket:
    description: The control socket of the broker.
    type: path
    default: /run/entropy-broker/control.sock
  vips:
    description: Virtual addresses. RV(held_vips) says which of them this host holds now. A prefix
      length, as in V(10.0.0.5/24), is ignored.
    type: list
    elements: str
    default: []
  haproxy_socket:
    description: The statistics socket of the haproxy on this host. If given, RV(balancer) says how
      that haproxy sees the brokers.
    type: path
  report:
    description: Whether RV(report) is wanted, which M(entropy_credential) takes.
    type: bool
    default: false
  acl_path:
    description: Where the broker reads its list. Of a broker that does not run RV(report) is made
      from it.
    type: path
    default: /etc/entropy/broker/acl.json
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
    timeout_seconds: 5
  register: broker
  until: broker.running and broker.status.ready
  retries: 30
  delay: 1

- name: See who has the virtual address, and which broker gets how much of the load
  entropy_broker_info:
    vips: [10.0.0.5]
    haproxy_socket: /run/haproxy/admin.sock
  register: look

- name: Ask what it knows of credentials
  entropy_broker_info:
    report: true
  register: look
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
report:
  description: >-
    What the broker holds and has seen of the credentials, without a secret: its name, the site and
    the generation of its list. For ids with two keys, and for bootstrap keys, it says when each
    was first used and how many sessions are open with it. An empty dictionary when the broker does
    not run and O(acl_path) is no list.
  returned: when O(report)
  type: dict
  sample:
    broker_id: broker1
    site_id: lab
    generation: 7
    keys:
      vm1:
        0b1f6a2c9d3e4f50: {first_use_unix: 1769853600, sessions: 0}
        5f0c3a9e1d2b7c64: {first_use_unix: null, sessions: 0}
held_vips:
  description: Those of O(vips) that this host holds. Null if C(ip) is missing.
  returned: always
  type: list
  elements: str
  sample: ["10.0.0.5"]
balancer:
  description: >-
    What haproxy says of each broker: its word for the state, and the weight in percent. Null if
    O(haproxy_socket) was not given or nobody answers there.
  returned: always
  type: dict
  sample:
    broker1: {state: UP, weight: 75}
    broker2: {state: DRAIN, weight: 100}
"""

import csv  # noqa: E402
import ipaddress  # noqa: E402
import json  # noqa: E402
import socket  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.entropy_acl_document import parse  # noqa: E402
from ansible.module_utils.entropy_control import (  # noqa: E402
    ControlProblem,
    ControlRefused,
    NotRunning,
    ask,
)
from ansible.module_utils.entropy_files import FileProblem, read  # noqa: E402

ARGUMENTS = {
    "control_socket": {"type": "path", "default": "/run/entropy-broker/control.sock"},
    "vips": {"type": "list", "elements": "str", "default": []},
    "haproxy_socket": {"type": "path"},
    "report": {"type": "bool", "default": False},
    "acl_path": {"type": "path", "default": "/etc/entropy/broker/acl.json"},
    "timeout_seconds": {"type": "int", "default": 10},
}
BACKEND = "brokers"  # of the role entropy_haproxy
REPORTED = ("broker_id", "site_id", "generation", "keys")


def broker_status(control_socket: str, timeout_seconds: int) -> tuple[dict[str, Any], str]:
    """The status of the broker, and why there is none ("" if there is one)."""
    try:
        status = ask(control_socket, "status", timeout_seconds).get("status")
    except (NotRunning, ControlProblem) as problem:
        return {}, str(problem)
    if not isinstance(status, dict) or not status:
        return {}, f"the broker on {control_socket} answered without a status"
    return status, ""


def broker_report(control_socket: str, acl_path: str, timeout_seconds: int) -> dict[str, Any]:
    """What a broker knows of credentials; of one that does not run, what its list says.

    Raises ControlProblem when a broker runs and does not say it, FileProblem.
    """
    try:
        answer = ask(control_socket, "keys", timeout_seconds)
        if set(REPORTED) - set(answer):
            raise ControlProblem(f"the broker on {control_socket} left something out of its report")
        return {name: answer[name] for name in REPORTED}
    except NotRunning:
        pass
    except ControlRefused:  # a release that does not know the command: it knows the generation
        status = ask(control_socket, "status", timeout_seconds)["status"]
        return {
            "broker_id": status["broker_id"],
            "site_id": status["site_id"],
            "generation": status["acl_generation"],
            "keys": {},
        }
    content = read(acl_path).content
    acl = None if content is None else parse(content)
    if acl is None:
        return {}
    return {"broker_id": "", "site_id": acl.site_id, "generation": acl.generation, "keys": {}}


def held(addresses_json: str, vips: list[str]) -> list[str]:
    """Those of `vips` that are among the addresses in the output of `ip -json address`.

    Raises ValueError when one is not an address.
    """
    wanted = {ipaddress.ip_interface(vip).ip: vip for vip in vips}
    found = {
        ipaddress.ip_address(address["local"])
        for interface in json.loads(addresses_json)
        for address in interface.get("addr_info", [])
        if "local" in address
    }
    return [vip for address, vip in wanted.items() if address in found]


def balanced(statistics: str) -> dict[str, dict[str, Any]]:
    """The brokers in what haproxy answers to `show stat`: state and weight (percent) of each."""
    rows = csv.DictReader(statistics.lstrip("# ").splitlines())
    return {
        row["svname"]: {"state": row["status"].split(" ")[0], "weight": int(row["weight"] or 0)}
        for row in rows
        if row["pxname"] == BACKEND and row["svname"] != "BACKEND"
    }


def haproxy_says(path: str, timeout_seconds: int) -> dict[str, dict[str, Any]] | None:
    """What haproxy knows of the brokers, or None where nobody answers on the socket."""
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_seconds)
            connection.connect(path)
            connection.sendall(b"show stat\n")
            while part := connection.recv(65536):
                answer += part
        return balanced(answer.decode("utf-8", "replace"))
    except (OSError, ValueError, KeyError):
        return None


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    vips, timeout_seconds = module.params["vips"], module.params["timeout_seconds"]
    held_vips: list[str] | None = []
    if vips:
        try:
            held("[]", vips)
        except ValueError:
            module.fail_json(msg=f"vips: {vips} are not all addresses; write them like 10.0.0.5")
        ip = module.get_bin_path("ip")  # looks into sbin too
        held_vips = None
        if ip is not None:
            exit_status, output, _ = module.run_command([ip, "-json", "address", "show"])
            held_vips = held(output, vips) if exit_status == 0 else None
    status, problem = broker_status(module.params["control_socket"], timeout_seconds)
    result = {"running": not problem, "problem": problem, "status": status, "balancer": None}
    if module.params["haproxy_socket"]:
        result["balancer"] = haproxy_says(module.params["haproxy_socket"], timeout_seconds)
    if module.params["report"]:
        try:
            result["report"] = broker_report(
                module.params["control_socket"], module.params["acl_path"], timeout_seconds
            )
        except (ControlProblem, FileProblem) as trouble:
            module.fail_json(msg=str(trouble))
    module.exit_json(changed=False, held_vips=held_vips, **result)


if __name__ == "__main__":
    main()
