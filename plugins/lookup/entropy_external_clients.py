"""List the clients that no play contacts: machines of customers."""

from __future__ import annotations

DOCUMENTATION = r"""
name: entropy_external_clients
short_description: List the clients that no play contacts
description:
  - Gives elements for O(entropy_credential#module:credentials) of M(entropy_credential#module),
    each with C(external) and with the permission to draw and nothing else.
  - They come from a file or from a command, a YAML or JSON list with an C(id) for each, and
    whatever else of an element applies, C(tenant) above all.
  - A command that fails, an empty answer and an element that is none are errors. A list that was
    cut short revokes nobody; see RV(entropy_credential#module:unlisted).
options:
  _terms:
    description: None.
  file:
    description: A file on the controller. An absolute path.
    type: path
  command:
    description: A program on the controller with its arguments, which prints the list. No shell is
      between.
    type: list
    elements: str
  bootstrap:
    description: Whether the key of an element that does not say it itself is a bootstrap key. It
      is, since it is handed out; it ends a day after its first use unless it is replaced.
    type: bool
    default: true
seealso:
  - module: entropy_credential
author: The entropy project
"""

EXAMPLES = r"""
- name: Issue for customers' machines too
  entropy_credential:
    state_dir: "{{ entropy_state_dir }}"
    site_id: lab
    credentials: >-
      {{ fleet + lookup('entropy_external_clients', file='/srv/customers.yml') }}

- name: Ask the provisioning system who there is
  ansible.builtin.debug:
    msg: "{{ lookup('entropy_external_clients', command=['/usr/local/bin/list-vms', '--json']) }}"
"""

RETURN = r"""
_raw:
  description: The elements.
  type: list
  elements: dict
  sample:
    - {id: customer-17, tenant: acme, external: true, bootstrap: true, permissions: [draw]}
"""

import subprocess  # noqa: E402
from collections.abc import Mapping, Sequence  # noqa: E402
from typing import Any  # noqa: E402

import yaml  # noqa: E402
from ansible.errors import AnsibleError  # noqa: E402
from ansible.plugins.lookup import LookupBase  # noqa: E402

TIMEOUT_SECONDS = 300
KNOWN = (
    "id",
    "tenant",
    "bootstrap",
    "rate_bytes_per_second",
    "burst_bytes",
    "addresses",
    "not_after",
)


def parse(text: str, where: str, *, bootstrap: bool) -> list[dict[str, Any]]:
    """The elements in a text. AnsibleError says what is wrong with it."""
    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise AnsibleError(f"{where}: this is neither YAML nor JSON{line}") from None
    if not isinstance(given, list) or not all(isinstance(e, dict) and "id" in e for e in given):
        raise AnsibleError(f"{where}: a list is needed, each element with an id; [] for nobody")
    for element in given:
        unknown = sorted(str(key) for key in element if key not in KNOWN)
        if unknown:
            raise AnsibleError(
                f"{where}: {element['id']}: unknown key {unknown[0]}; known are {', '.join(KNOWN)}"
            )
    return [
        {"bootstrap": bootstrap, **e, "id": str(e["id"]), "external": True, "permissions": ["draw"]}
        for e in given
    ]


def output_of(command: Sequence[str]) -> str:
    """What a command prints. AnsibleError if it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise AnsibleError(f"{command[0]} took longer than {TIMEOUT_SECONDS} s") from None
    except OSError as error:
        raise AnsibleError(f"{command[0]} cannot be run: {error.strerror}") from None
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise AnsibleError(f"{command[0]} ended with status {done.returncode}: {last}")
    return done.stdout


class LookupModule(LookupBase):
    """The lookup."""

    def run(
        self, terms: Sequence[str], variables: Mapping[str, Any] | None = None, **options: Any
    ) -> list[list[dict[str, Any]]]:
        self.set_options(var_options=variables, direct=options)
        path, command = self.get_option("file"), self.get_option("command")
        if terms or bool(path) == bool(command):
            raise AnsibleError("entropy_external_clients needs either file or command")
        if command:
            text, where = output_of([str(part) for part in command]), str(command[0])
        else:
            where = str(path)
            try:
                with open(where, encoding="utf-8") as file:
                    text = file.read()
            except OSError as error:
                raise AnsibleError(f"{where}: {error.strerror}") from None
        return [parse(text, where, bootstrap=bool(self.get_option("bootstrap")))]
