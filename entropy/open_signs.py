"""The devices that tell of clones, opened for a service that may not open them itself.

To read /dev/kmsg takes a privilege, but only when it is opened. So systemd runs this file as root
before the service (ExecStartPre=+), and it hands both devices to systemd's file descriptor store
(sd_notify(3): FDSTORE=1). The service, which has a /dev of its own and no privilege for the
log, finds them open (sd_listen_fds(3)).

Run by its path, with -I -S: nothing but the standard library may be imported here. Where there is
no such device, or nobody who listens, it does nothing, and says nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

VMCLOCK = "/dev/vmclock0"
KERNEL_LOG = "/dev/kmsg"
SIGNS = {"kmsg": KERNEL_LOG, "vmclock": VMCLOCK}  # by their names in the store

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
_TIMEOUT_SECONDS = 5.0
_kept: dict[str, int] = {}  # a second descriptor of VMClock's page, while this process lives


def hand_over(signs: Mapping[str, str] = SIGNS) -> None:
    """Put those of the devices that can be opened into the store, instead of any put there before.

    signs: paths by name. Raises OSError if nobody listens at $NOTIFY_SOCKET.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    import socket  # here, so that the services do not pay for it

    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.settimeout(_TIMEOUT_SECONDS)
        channel.connect(address)
        for name, path in signs.items():
            channel.send(f"FDSTOREREMOVE=1\nFDNAME={name}".encode())
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                continue
            # FDPOLL=0: a log whose records were overwritten has an error to tell poll(2), for
            # which systemd would throw it away.
            message = f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0".encode()
            try:
                socket.send_fds(channel, [message], [descriptor])
            finally:
                os.close(descriptor)


def handed_over() -> dict[str, int]:
    """The descriptors that this process was started with, by name: now the caller's to close.

    The first call has them; they are no matter of any process that this one starts.
    """
    given = [os.environ.get(f"LISTEN_{key}", "") for key in ("PID", "FDS", "FDNAMES")]
    if given[0] != str(os.getpid()) or not given[1].isdigit():
        return {}
    for key in ("PID", "FDS", "FDNAMES"):
        os.environ.pop(f"LISTEN_{key}", None)
    found = {}
    for number, name in zip(range(int(given[1])), given[2].split(":")):
        if name in SIGNS and name not in found:
            descriptor = _FIRST_DESCRIPTOR + number
            try:
                os.set_inheritable(descriptor, False)
                os.set_blocking(descriptor, False)
            except OSError:
                continue  # not open at all: somebody else's variables
            found[name] = descriptor
    if "vmclock" in found:
        _kept["vmclock"] = os.dup(found["vmclock"])
    return found


def vmclock_page(n_bytes: int) -> bytes:
    """The start of VMClock's page, if this process was handed it; otherwise b""."""
    try:
        return os.pread(_kept["vmclock"], n_bytes, 0)
    except (KeyError, OSError):
        return b""


if __name__ == "__main__":
    with contextlib.suppress(OSError):  # the service then has no such sign, and says which it has
        hand_over()
