"""Install the list of credentials on a broker and have the running broker take it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: entropy_acl
short_description: Install the list of credentials on a broker, and have the broker confirm it
description:
  - Writes the whole list in one step, and asks the broker, if it runs, to take it. The broker is
    not restarted; it answers with the generation that is in force.
  - The list holds public keys and pre-shared keys, never the secret of a VM.
  - A list that is older than what the broker already has is refused, and so is one in which an
    id is missing that was not revoked. O(entries) says who was.
options:
  path:
    description: Where the broker reads its list.
    type: path
    default: /etc/entropy/broker/acl.json
  site_id:
    description: The name of the fleet. A list of another fleet in O(path) is not overwritten.
    type: str
    required: true
  generation:
    description: The generation that M(entropy_credential) returned.
    type: int
    required: true
  entries:
    description:
      - All credentials that are valid, and the ids that were revoked, as the lookup
        P(entropy_acl_entries#lookup) gives them, a JSON text. It holds pre-shared keys.
      - One text and not a list, because Ansible would look for each of its secrets in everything
        that it logs and returns, which takes half a minute with 10,000 entries.
    type: str
    required: true
  owner:
    description: Who owns the file.
    type: str
    default: root
  group:
    description: The group of the file, which is the broker's.
    type: str
    default: entropy-broker
  mode:
    description: The mode of the file. Write or execute for the group, or anything for others, is
      refused, as the broker would refuse it.
    type: raw
    default: "0640"
  control_socket:
    description:
      - The control socket of the broker. When nothing listens there the file alone is written and
        the broker reads it when it starts.
    type: path
    default: /run/entropy-broker/control.sock
  timeout_seconds:
    description: How long the broker may take to answer.
    type: int
    default: 10
  max_shrink:
    description: How many ids may be missing in the new list that stand in O(path) and were not
      revoked. None, unless a ledger had to be restored from an old backup.
    type: int
    default: 0
attributes:
  check_mode:
    description: Asks the broker what it holds and changes nothing. A host without the package,
      the group or the directory is a change, not a failure.
    support: full
  diff_mode:
    description: Shows ids, key ids, permissions and limits.
    support: full
  idempotent:
    description: Changed only if the file changed or the running broker held an older generation.
    support: full
seealso:
  - module: entropy_credential
author: The entropy project
"""

EXAMPLES = r"""
- name: Publish the credentials to every broker, whatever --limit says
  entropy_acl:
    site_id: lab
    generation: "{{ issued.generation }}"
    entries: "{{ lookup('entropy_acl_entries', state_dir=entropy_state_dir) }}"
  delegate_to: "{{ item }}"
  run_once: true
  loop: "{{ groups['entropy_brokers'] }}"
  register: published
"""

RETURN = r"""
generation:
  description: The generation that O(path) now holds (in check mode would hold).
  returned: always
  type: int
  sample: 7
running:
  description: Whether a broker answered on the control socket.
  returned: always
  type: bool
confirmed_generation:
  description: >-
    The generation that the running broker says is in force. Null when no broker runs. In check
    mode the one that it has now.
  returned: always
  type: int
  sample: 7
path:
  description: The file.
  returned: always
  type: str
  sample: /etc/entropy/broker/acl.json
"""

import os  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.entropy_acl_document import (  # noqa: E402
    AclDocument,
    document,
    dump,
    parse,
    parse_entries,
    shown,
    vanished,
)
from ansible.module_utils.entropy_control import (  # noqa: E402
    ControlProblem,
    ControlRefused,
    NotRunning,
    ask,
)
from ansible.module_utils.entropy_files import (  # noqa: E402
    FileProblem,
    Found,
    Wanted,
    examine,
    install,
    parse_secret_mode,
)

ARGUMENTS = {
    "path": {"type": "path", "default": "/etc/entropy/broker/acl.json"},
    "site_id": {"type": "str", "required": True},
    "generation": {"type": "int", "required": True},
    "entries": {"type": "str", "required": True, "no_log": True},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "entropy-broker"},
    "mode": {"type": "raw", "default": "0640"},
    "control_socket": {"type": "path", "default": "/run/entropy-broker/control.sock"},
    "timeout_seconds": {"type": "int", "default": 10},
    "max_shrink": {"type": "int", "default": 0},
}


class Stale(Exception):
    """What was asked for is older than what is there, lacks something, or is of another fleet."""


def refuse_if_stale(wanted: AclDocument, installed: AclDocument | None, path: str) -> None:
    """Raise Stale unless `wanted` may take the place of what is installed."""
    if installed is None:
        return
    if installed.site_id != wanted.site_id:
        raise Stale(
            f"{path} belongs to the site {installed.site_id} and not to {wanted.site_id}: this "
            "inventory or this state directory is for another fleet. If the host has moved, "
            f"stop its broker, delete {path} and run again"
        )
    if installed.generation > wanted.generation:
        raise Stale(_older(f"{path} holds", installed.generation, wanted.generation))
    if installed.generation == wanted.generation and installed.entries != wanted.entries:
        raise Stale(
            f"{path} has the same generation {wanted.generation} with other entries: it was edited "
            "by hand, or the state directory on the controller is an old copy. Restore the newest "
            f"copy of the state directory; if it is the newest, delete {path} and run again"
        )


def refuse_if_smaller(missing: list[str], max_shrink: int, path: str) -> None:
    """Raise Stale when more ids vanish than may."""
    if len(missing) > max_shrink:
        some = ", ".join(missing[:10]) + (" and more" if len(missing) > 10 else "")
        raise Stale(
            f"{path} would lose {len(missing)} ids that the ledger does not call revoked ({some}): "
            "the ledger was damaged or is another one. Restore the newest copy of the state "
            f"directory. If they are to go, say so with max_shrink={len(missing)}"
        )


def refuse_if_running_is_newer(wanted: AclDocument, running_generation: int) -> None:
    """Raise Stale when the running broker has a newer list, whatever its file says."""
    if running_generation > wanted.generation:
        raise Stale(_older("the running broker holds", running_generation, wanted.generation))


def _older(holder: str, theirs: int, ours: int) -> str:
    return (
        f"{holder} generation {theirs} and the ledger is at {ours}: the state directory on the "
        "controller is an old copy. An older list could bring back what was revoked. Restore the "
        "newest copy of the state directory and run again"
    )


def running_generation(control_socket: str, timeout_seconds: int) -> int | None:
    """The generation in force in the running broker; None when no broker runs."""
    try:
        answer = ask(control_socket, "status", timeout_seconds)
    except NotRunning:
        return None
    try:
        return int(answer["status"]["acl_generation"])
    except (KeyError, TypeError, ValueError):
        raise ControlProblem(
            f"the status of the broker on {control_socket} names no acl_generation"
        ) from None


def apply(file: Wanted, acl: AclDocument, found: Found, control_socket: str, timeout: int) -> None:
    """Have the broker read the file and confirm its generation.

    When the broker refuses the file, what was there before is put back, because a broker that
    restarts with a file that it refuses would not come up. Raises ControlProblem, NotRunning.
    """
    try:
        confirmed = ask(control_socket, "apply-acl", timeout).get("generation")
    except ControlRefused:
        if found.content is None:
            os.unlink(file.path)
        else:
            install(file, found.content)
        raise
    if confirmed != acl.generation:
        raise ControlProblem(
            f"the broker confirmed generation {confirmed} and not {acl.generation}; does it read "
            f"another file than {file.path}?"
        )


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what the task asks; what it returns."""
    arguments = module.params
    file = Wanted(
        arguments["path"],
        arguments["owner"],
        arguments["group"],
        parse_secret_mode(arguments["mode"]),
    )
    handed = parse_entries(arguments["entries"])
    acl = document(arguments["site_id"], arguments["generation"], handed.entries)
    content = dump(acl).encode()
    difference = examine(file, content)
    installed = None if difference.found.content is None else parse(difference.found.content)
    if difference.found.content is not None and installed is None:
        module.warn(f"{file.path} was not a list of credentials; it is replaced")
    refuse_if_stale(acl, installed, file.path)
    if installed is not None:
        missing = vanished(installed, acl, handed.revoked)
        refuse_if_smaller(missing, arguments["max_shrink"], file.path)
    control_socket, timeout_seconds = arguments["control_socket"], arguments["timeout_seconds"]
    confirmed = running_generation(control_socket, timeout_seconds)
    outdated = False
    if confirmed is not None:
        refuse_if_running_is_newer(acl, confirmed)
        outdated = difference.content or confirmed < acl.generation
    if not module.check_mode:
        if difference.any:
            install(file, content)
        if outdated:
            apply(file, acl, difference.found, control_socket, timeout_seconds)
            confirmed = acl.generation
    return {
        "changed": difference.any or outdated,
        "path": file.path,
        "generation": acl.generation,
        "running": confirmed is not None,
        "confirmed_generation": confirmed,
        "diff": _diff(file, acl, difference.found, installed) if difference.any else {},
    }


def _diff(file: Wanted, acl: AclDocument, found: Found, installed: AclDocument | None) -> Any:
    before = "" if found.content is None else f"{found.owner}:{found.group} 0{found.mode:o}\n"
    return {
        "before_header": file.path,
        "after_header": file.path,
        "before": shown(installed) + before,
        "after": shown(acl) + f"{file.owner}:{file.group} 0{file.mode:o}\n",
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module)
    except (FileProblem, Stale, ControlProblem, ValueError) as problem:
        module.fail_json(msg=str(problem))
    except NotRunning:
        module.fail_json(msg="the broker stopped while its list was being replaced; run again")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
