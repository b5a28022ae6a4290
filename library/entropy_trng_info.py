"""List the generators of this host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: entropy_trng_info
short_description: List the hardware random number generators of this host
description:
  - Gives what C(entropy sources) lists. Needs the package entropy-feeder on the host, opens no
    device, never changes anything, and does not fail where the package is missing;
    RV(installed) says it.
options: {}
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
- name: See what is plugged in
  entropy_trng_info:
  become: true  # or the processes that hold a device are not seen
  register: trng

- name: Show the sources that can be used as they are
  ansible.builtin.debug:
    msg: "{{ trng.sources | selectattr('real') | map(attribute='uri') }}"
"""

RETURN = r"""
installed:
  description: Whether the host has the command.
  returned: always
  type: bool
sources:
  description: The generators, those first that a feeder would rather read.
  returned: always
  type: list
  elements: dict
  contains:
    device:
      description: What it is.
      type: str
      sample: Araneus Alea
    serial_number:
      description: Its serial number, or an empty string.
      type: str
    driver:
      description: The kernel driver that holds it; usbfs stands for a program. May be empty.
      type: str
      sample: chaoskey
    holder:
      description: The process that has it open, as far as this user may see that.
      type: str
      sample: process 812 (entropy)
    uri:
      description: The source to name in a feeder's configuration. Empty if it cannot be read.
      type: str
      sample: alea:serial=ALEA7
    credit_bits_per_byte:
      description: What a byte of it counts for.
      type: float
    test_bits_per_byte:
      description: What a byte of it should look like at least.
      type: float
    reason:
      description: Why it has these two figures.
      type: str
    first:
      description: What has to be done before it can be read. May be empty.
      type: str
    note:
      description: What else an operator should know. May be empty.
      type: str
    real:
      description: Whether it is a device that can be read as it is and earns credit.
      type: bool
"""

import json  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

ARGUMENTS: dict[str, Any] = {}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    entropy = module.get_bin_path("entropy")
    if entropy is None:
        module.exit_json(changed=False, installed=False, sources=[])
    exit_status, output, said = module.run_command([entropy, "sources", "--json"])
    if exit_status != 0:
        # A host of the fleet without the feeder's package has the command, and says so.
        if "needs entropy-feeder" in said:
            module.exit_json(changed=False, installed=False, sources=[])
        module.fail_json(msg=f"entropy sources failed: {said.strip()}")
    module.exit_json(changed=False, installed=True, sources=json.loads(output))


if __name__ == "__main__":
    main()
