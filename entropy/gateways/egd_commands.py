"""The protocol of the Entropy Gathering Daemon: its commands, and what answers them.

There is no standard; egd.pl (Warner, 1999 to 2002) defines it, and QEMU's backends/rng-egd.c,
libgcrypt's random/rndegd.c and OpenSSL's RAND_egd(3) are who speaks it.

    00              how much is there   -> 4 bytes, the number of bits, most significant first
    01 N            some of N bytes     -> 1 byte, how many there are, and so many bytes
    02 N            N bytes             -> N bytes, as they come
    03 BB BB N data add N bytes of entropy, said to be worth BBBB bits -> nothing
    04              process id          -> 1 byte, the length, and the number in decimal digits

No input or output here.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from entropy.errors import RemoteProtocolError

MOST_BITS = 2**32 - 1


class Verb(Enum):
    """What a reader asks for; the value is the first byte of the command."""

    LEVEL = 0
    READ_SOME = 1
    READ_ALL = 2
    WRITE = 3
    PID = 4


class Command(NamedTuple):
    """One command. n_bytes: how many are asked for, or were written."""

    verb: Verb
    n_bytes: int = 0


# How long a command is, with its first byte; a WRITE's data come on top.
_LENGTHS = {Verb.LEVEL: 1, Verb.READ_SOME: 2, Verb.READ_ALL: 2, Verb.WRITE: 4, Verb.PID: 1}


def take_command(data: bytearray) -> Command | None:
    """Takes the first command off `data`; None while it is not all there.

    Raises RemoteProtocolError for what is no command: nothing after it can be understood. What
    a WRITE brings is erased here.
    """
    if not data:
        return None
    try:
        verb = Verb(data[0])
    except ValueError:
        raise RemoteProtocolError(f"{data[0]:#04x} is no command of EGD") from None
    length = _LENGTHS[verb]
    if len(data) < length:
        return None
    n_bytes = data[length - 1] if length > 1 else 0
    if verb is Verb.WRITE:
        length += n_bytes
        if len(data) < length:
            return None
    data[:length] = bytes(length)
    del data[:length]
    return Command(verb, n_bytes)


def level(n_bits: int) -> bytes:
    """The answer to LEVEL."""
    return min(n_bits, MOST_BITS).to_bytes(4, "big")


def some(data: bytes) -> bytes:
    """The answer to READ_SOME: at most 255 bytes."""
    return bytes([len(data)]) + data


def process_id(pid: int) -> bytes:
    """The answer to PID."""
    digits = str(pid).encode()
    return bytes([len(digits)]) + digits
