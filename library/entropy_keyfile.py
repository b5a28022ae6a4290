"""Install one secret file: a credential or a TLS key."""

from __future__ import annotations

DOCUMENTATION = r"""
module: entropy_keyfile
short_description: Install a credential or a TLS key on a host
description:
  - Writes one secret file in one step and never shows what is in it, neither in the result nor in
    a diff.
  - The file has its owner, group and mode before it has its name, so nobody else can read it at
    any moment.
options:
  path:
    description: The file. Its directory must exist; the package makes it.
    type: path
    required: true
  content:
    description:
      - The text, as the lookup P(entropy_secret#lookup) gives it. Either a credential (JSON) or a
        private key (PEM).
      - An empty string is what that lookup gives in check mode before the secret was made. It is
        accepted in check mode only.
    type: str
    required: true
  owner:
    description: Who owns the file.
    type: str
    default: root
  group:
    description: The group of the file, which is that of the service that reads it.
    type: str
    required: true
  mode:
    description: The mode of the file. Write or execute for the group, or anything for others, is
      refused, as the daemons would refuse it.
    type: raw
    default: "0640"
attributes:
  check_mode:
    description: Changes nothing. A host without the package, the group or the directory is a
      change, not a failure.
    support: full
  diff_mode:
    description: Shows id, key id, owner, group and mode.
    support: full
  idempotent:
    description: Changed only if content, owner, group or mode differ.
    support: full
seealso:
  - plugin: entropy_secret
    plugin_type: lookup
author: The entropy project
"""

EXAMPLES = r"""
- name: Install the VM's credential
  entropy_keyfile:
    path: /etc/entropy/credential.json
    content: "{{ lookup('entropy_secret', inventory_hostname, state_dir=entropy_state_dir) }}"
    group: entropy-client

- name: Install the broker's TLS key
  entropy_keyfile:
    path: /etc/entropy/broker/tls.key
    content: "{{ lookup('entropy_secret', tls_id, state_dir=entropy_state_dir) }}"
    group: entropy-broker
  vars:
    tls_id: "tls:{{ inventory_hostname }}"
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
  sample: /etc/entropy/credential.json
id:
  description: The id in the credential. Null for a TLS key.
  returned: always
  type: str
  sample: vm1
key_id:
  description: The id of the key in the credential. Null for a TLS key.
  returned: always
  type: str
  sample: 0b1f6a2c9d3e4f50
before_key_id:
  description: The id of the key that was there before. Null if there was no credential.
  returned: always
  type: str
  sample: 5f0c3a9e1d2b7c64
"""

import json  # noqa: E402
from typing import Any, NamedTuple  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.entropy_files import (  # noqa: E402
    FileProblem,
    Found,
    Wanted,
    examine,
    install,
    parse_secret_mode,
)

ARGUMENTS = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str", "required": True, "no_log": True},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "required": True},
    "mode": {"type": "raw", "default": "0640"},
}


class Label(NamedTuple):
    """What may be said of a secret."""

    kind: str
    id: str | None
    key_id: str | None


UNKNOWN = Label("something else", None, None)
NOT_MADE_YET = Label("not made yet", None, None)


def label(content: bytes) -> Label:
    """What kind of secret a text is, and its ids. UNKNOWN when it is none that belongs here."""
    if content.startswith(b"-----BEGIN ") and b"PRIVATE KEY-----" in content:
        return Label("private key", None, None)
    try:
        data = json.loads(content)
        if isinstance(data["secret"], str):
            return Label("credential", str(data["id"]), str(data["key_id"]))
    except (ValueError, KeyError, TypeError):
        pass
    return UNKNOWN


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what the task asks; what it returns."""
    arguments = module.params
    path, content = arguments["path"], arguments["content"].encode()
    file = Wanted(
        path, arguments["owner"], arguments["group"], parse_secret_mode(arguments["mode"])
    )
    new = label(content) if content or not module.check_mode else NOT_MADE_YET
    if new is UNKNOWN:
        raise FileProblem(
            f"content for {path} is neither a credential nor a private key; give it what the "
            "lookup entropy_secret returns"
        )
    difference = examine(file, content)
    if difference.any and not module.check_mode:
        install(file, content)
    return {
        "changed": difference.any,
        "path": path,
        "id": new.id,
        "key_id": new.key_id,
        "before_key_id": label(difference.found.content or b"").key_id,
        "diff": {
            "before_header": path,
            "after_header": path,
            "before": _shown_before(difference.found),
            "after": _shown(new, file.owner, file.group, file.mode, difference.content),
        },
    }


def _shown_before(found: Found) -> str:
    if found.content is None:
        return ""
    return _shown(label(found.content), found.owner, found.group, found.mode, False)


def _shown(known: Label, owner: str, group: str, mode: int, replaced: bool) -> str:
    names = [f"{name}: {value}" for name, value in known._asdict().items() if value]
    lines = [*names, f"owner: {owner}", f"group: {group}", f"mode: 0{mode:o}"]
    lines.append("content: " + ("new, not shown" if replaced else "not shown"))
    return "\n".join(lines) + "\n"


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module)
    except FileProblem as problem:
        module.fail_json(msg=str(problem))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
