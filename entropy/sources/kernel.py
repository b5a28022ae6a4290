"""`kernel:`: the local kernel's own generator, as a stand-in where there is no noise source.

What it gives looks perfect and is worth nothing as credit: it is the output of a generator that
may itself be waiting for a seed. For a lab that has no device at all, and for a demonstration,
`lab_only_credit_kernel` lets it stand in, and says so in the reason.
"""

from __future__ import annotations

import os

from entropy.errors import ConfigError
from entropy.sources.base import Figures, Source, StatedFigures

_HONEST = Figures(0, 7, "the local kernel's generator is no noise source")
_LAB_ONLY = Figures(1, 7, "LAB ONLY: the local kernel's generator stands in for a device")


class KernelSource(Source):
    """Reads what /dev/urandom gives, without needing that path (getrandom)."""

    def __init__(
        self, uri: str, stated: StatedFigures, lab_only_credit_kernel: bool = False
    ) -> None:
        super().__init__(uri, stated)
        self._lab_only_credit_kernel = lab_only_credit_kernel
        if stated.credit_bits_per_byte and not lab_only_credit_kernel:
            raise ConfigError(
                f"{self.name}: the kernel's own generator earns no credit. Name a device, or,"
                " in a lab without one, set lab_only_credit_kernel"
            )

    def own_figures(self) -> Figures:
        return _LAB_ONLY if self._lab_only_credit_kernel else _HONEST

    def open(self) -> None:
        pass

    def read(self, n_bytes: int) -> bytes:
        return os.urandom(n_bytes)

    def close(self) -> None:
        pass
