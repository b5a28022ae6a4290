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
