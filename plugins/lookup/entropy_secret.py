"""Read one secret of the fleet from the store on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
name: entropy_secret
short_description: Read a credential or a TLS key from the fleet's store
description:
  - Gives the text that belongs into a file on a host. By default it comes from the vault-encrypted
    files that M(entropy_credential#module) keeps.
  - This is the one place to replace when the secrets of a fleet live elsewhere. A plugin of the
    same name in front of this one in C(lookup_plugins) takes over for the roles and for
    P(entropy_acl_entries#lookup).
  - A secret that does not match the fingerprint in the ledger is refused.
  - In check mode a secret that was not made yet is an empty string.
options:
  _terms:
    description: Ids of credentials, or C(tls:BROKER) for a broker's TLS key.
    required: true
  state_dir:
    description: The directory that M(entropy_credential#module) keeps.
    type: path
    required: true
seealso:
  - module: entropy_keyfile
author: The entropy project
"""

EXAMPLES = r"""
- name: Install the VM's credential
  entropy_keyfile:
    path: /etc/entropy/credential.json
    content: "{{ lookup('entropy_secret', inventory_hostname, state_dir=entropy_state_dir) }}"
    group: entropy-client
"""

RETURN = r"""
_raw:
  description: One text for each term.
  type: list
  elements: str
"""

import sys  # noqa: E402
from collections.abc import Mapping, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible.plugins.lookup import LookupBase  # noqa: E402

sys.path.append(str(Path(__file__).resolve().parents[2]))

from module_utils.entropy_controller import read_secrets  # noqa: E402


class LookupModule(LookupBase):
    """The lookup; the work is done in module_utils."""

    def run(
        self, terms: Sequence[str], variables: Mapping[str, Any] | None = None, **options: Any
    ) -> list[str]:
        self.set_options(var_options=variables, direct=options)
        check = bool((variables or {}).get("ansible_check_mode"))
        return read_secrets(self._loader, self.get_option("state_dir"), terms, check=check)
