"""List the credentials that the brokers must know."""

from __future__ import annotations

DOCUMENTATION = r"""
name: entropy_acl_entries
short_description: List the credentials that the brokers must know
description:
  - Gives the O(entropy_acl#module:entries) of M(entropy_acl#module) for every active key in the
    ledger, sorted by id, with public key, pre-shared key, permissions and limits. The secrets of
    the VMs are not in it, but the pre-shared keys are secrets too.
  - Costs one decryption, whatever the size of the fleet. An entry that is missing in the store's
    list is made from the credential, through P(entropy_secret#lookup).
  - In check mode before anything was issued the list is empty.
  - The list is one JSON text, as M(entropy_acl#module) takes it.
options:
  _terms:
    description: None.
  state_dir:
    description: The directory that M(entropy_credential#module) keeps.
    type: path
    required: true
seealso:
  - module: entropy_acl
author: The entropy project
"""

EXAMPLES = r"""
- name: Publish the credentials
  entropy_acl:
    site_id: lab
    generation: "{{ issued.generation }}"
    entries: "{{ lookup('entropy_acl_entries', state_dir=entropy_state_dir) }}"
"""

RETURN = r"""
_raw:
  description: One element, the entries as a JSON text.
  type: list
  elements: str
"""

import sys  # noqa: E402
from collections.abc import Mapping, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible.plugins.loader import lookup_loader  # noqa: E402
from ansible.plugins.lookup import LookupBase  # noqa: E402

sys.path.append(str(Path(__file__).resolve().parents[2]))

from module_utils.entropy_controller import broker_entries  # noqa: E402


class LookupModule(LookupBase):
    """The lookup; the work is done in module_utils."""

    def run(
        self, terms: Sequence[str], variables: Mapping[str, Any] | None = None, **options: Any
    ) -> list[str]:
        self.set_options(var_options=variables, direct=options)
        check = bool((variables or {}).get("ansible_check_mode"))
        state_dir = self.get_option("state_dir")
        # By its name: whoever replaces entropy_secret replaces it here too.
        secrets = lookup_loader.get("entropy_secret", loader=self._loader, templar=self._templar)

        def read_texts(ids: list[str]) -> list[str]:
            texts: list[str] = secrets.run(ids, variables, state_dir=state_dir)
            return texts

        return [broker_entries(self._loader, state_dir, read_texts, check=check)]
