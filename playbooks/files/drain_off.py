"""Tell the broker that runs to serve again: drain_off.py CONTROL_SOCKET.

It is asked directly: the command on the disk may be of a release that does not know drains.
"""

import socket
import sys

with socket.socket(socket.AF_UNIX) as control:
    control.settimeout(10)
    control.connect(sys.argv[1])
    control.sendall(b'{"command": "drain", "on": false}\n')
    control.recv(65536)
