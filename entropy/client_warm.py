"""What a draw needs and the resident client keeps in memory, so that a clone reseeds sooner.

A draw takes a child 30 ms of a processor's time when it has to import everything, and 9 with what
is kept here (Debian 12; emulated processors take twenty times longer and more). The rest of the
client and this must fit into 25 MiB of resident memory; how much it is depends on cryptography's
version, of which this package has to take what the machine has.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from types import ModuleType

_X509 = "cryptography.x509"


def load() -> None:
    """Import it. Costs nothing when it is there.

    What is imported is not used here (F401): it is to be in memory.
    """
    import cryptography

    version = int(cryptography.__version__.partition(".")[0])
    if version < 35:
        _load_all()
    elif version in (37, 38):
        _load_all_but_x509()
    else:  # with the ciphers it would be too much: they stay with the children
        _load_all_but_ciphers()
        if version < 39:  # the ciphers cannot be had without it, and it is most of their code
            import cryptography.x509


def _load_all() -> None:
    import entropy.client_feed
    import entropy.client_seed  # noqa: F401


def _load_all_but_ciphers() -> None:
    import ssl  # noqa: F401

    import entropy.client_seed
    import entropy.credentials
    import entropy.transport.endpoint
    import entropy.transport.tls
    import entropy.wire.frames  # noqa: F401


def _load_all_but_x509() -> None:
    """The ciphers of these versions import X.509, 2 MiB of which they call nothing.

    A stand-in takes its place meanwhile. Whoever imports it later gets the real one.
    """
    if _X509 not in sys.modules and "entropy.client_feed" not in sys.modules:
        sys.modules[_X509] = _StandIn(_X509)
        with suppress(ImportError, AttributeError, TypeError):  # the children import for themselves
            _load_all()
        del sys.modules[_X509]


class _StandIn(ModuleType):
    """Every name in it is a class, for annotations to name."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})
