"""`jitter:`: the kernel's CPU jitter generator, over AF_ALG (`jitterentropy_rng`).

The noise is the time that the same work takes on this CPU. A hypervisor decides what a guest
sees of that time, so in a guest it earns no credit unless the operator says otherwise.
"""

from __future__ import annotations

import errno
import os
import socket

from entropy.errors import SourceError
from entropy.sources.base import Figures, Source, StatedFigures, source_failure

_ALGORITHM = "jitterentropy_rng"
_MOST_BYTES_PER_CALL = 128  # AF_ALG's rng type answers with no more at a time

ON_A_HOST = Figures(1, 7, "CPU jitter on bare metal: conditioned by the kernel, counted low")
IN_A_GUEST = Figures(0, 7, "CPU jitter in a virtual machine: its host can shape the timing")
_HYPERVISOR_MAKERS = (
    *("qemu", "kvm", "vmware", "xen", "virtualbox", "innotek", "parallels", "bochs"),
    *("amazon", "google", "microsoft", "openstack", "apple virtualization"),
)


class JitterSource(Source):
    """Reads jitterentropy from the kernel."""

    def __init__(self, uri: str, stated: StatedFigures, root: str = "/") -> None:
        super().__init__(uri, stated)
        self._root = root
        self._socket: socket.socket | None = None

    def own_figures(self) -> Figures:
        return IN_A_GUEST if is_guest(self._root) else ON_A_HOST

    def open(self) -> None:
        self.close()
        try:
            with socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET) as listener:
                listener.bind(("rng", _ALGORITHM))
                self._socket = listener.accept()[0]
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT:
                raise SourceError(
                    f"{self.name}: this kernel has no AF_ALG sockets"
                    " (CONFIG_CRYPTO_USER_API_RNG): use another source"
                ) from None
            if error.errno == errno.ENOENT:
                raise SourceError(
                    f"{self.name}: this kernel has no {_ALGORITHM} (CONFIG_CRYPTO_JITTERENTROPY),"
                    " or the CPU's clock is too coarse for it: use another source"
                ) from None
            raise source_failure(self.name, "opening", error) from None

    def read(self, n_bytes: int) -> bytes:
        if self._socket is None:
            raise SourceError(f"{self.name}: is not open")
        samples = b""
        while len(samples) < n_bytes:
            try:
                some = self._socket.recv(min(n_bytes - len(samples), _MOST_BYTES_PER_CALL))
            except OSError as error:
                raise source_failure(self.name, "reading", error) from None
            if not some:
                raise SourceError(f"{self.name}: the kernel's jitter generator gave nothing")
            samples += some
        return samples

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def is_guest(root: str = "/") -> bool:
    """Whether a hypervisor runs under this kernel. Where nothing tells, yes: it costs credit only.

    x86 says so in /proc/cpuinfo; elsewhere the device tree has a hypervisor node, and bare
    metal is believed only where firmware names a maker that is no known hypervisor.
    """
    cpu = _text(root, "proc/cpuinfo")
    if "\nflags" in cpu:  # x86
        return " hypervisor" in cpu or _text(root, "sys/hypervisor/type") == "xen"
    if os.path.exists(os.path.join(root, "proc/device-tree/hypervisor")):
        return True
    maker = _text(root, "sys/class/dmi/id/sys_vendor").lower()
    return not maker or maker.startswith(_HYPERVISOR_MAKERS)


def _text(root: str, path: str) -> str:
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
