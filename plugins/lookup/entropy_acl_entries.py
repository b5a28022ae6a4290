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
options:
  _terms:
    description: None.
  state_dir:
    description: The directory that M(entropy_credential#module) keeps.
    type: path
    required: true
    vars:
      - name: entropy_state_dir
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
  description: One element, the list of entries.
  type: list
  elements: list
"""
