"""What a draw needs and the resident client may keep in memory, so that a clone reseeds sooner.

A draw takes a child 66 ms of a processor's time when it has to import everything, and 31 with what
is kept here (Debian 12; emulated processors take twenty times longer). All together would be 27 MiB
of resident memory, of which the client may have 25: the ciphers stay with the children.
"""

from __future__ import annotations


def load() -> None:
    """Import it. Costs nothing when it is there."""
    import hashlib  # noqa: F401
    import hmac  # noqa: F401
    import ssl  # noqa: F401

    import cryptography

    import entropy.client_seed
    import entropy.credentials
    import entropy.transport.endpoint
    import entropy.transport.tls
    import entropy.wire.frames  # noqa: F401

    # In these versions the ciphers cannot be had without it, and it is most of their code.
    if int(cryptography.__version__.partition(".")[0]) < 39:
        import cryptography.x509
