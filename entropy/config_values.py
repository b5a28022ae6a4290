"""What one value in a configuration file may be.

Each reader takes the value as TOML gave it and returns it checked, or raises ValueError
that says in words what is wrong with it. config.py adds the file and the key.
"""

from __future__ import annotations

import re
from typing import Any, Callable

from entropy.errors import ConfigError
from entropy.transport.endpoint import parse_endpoint

Reader = Callable[[Any], Any]


def text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text in quotes, not empty")
    return value


def label(value: Any) -> str:
    """A name that becomes one label of a DNS name in the broker's certificate."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text(value)):
        raise ValueError(
            f"{value!r} does not fit here: 1 to 63 of a-z 0-9 - with a letter or digit at both ends"
        )
    return str(value)


def path(value: Any) -> str:
    if not text(value).startswith("/"):
        raise ValueError(f"{value!r} must be an absolute path")
    return str(value)


def path_or_none(value: Any) -> str:
    return "" if value == "" else path(value)


def endpoint(value: Any) -> str:
    """A place to connect to: its port is a real one."""
    if listen_endpoint(value)[1] == 0:
        raise ValueError(f"{value!r} has port 0: nothing can be reached there")
    return str(value)


def listen_endpoint(value: Any) -> tuple[str, int]:
    try:
        return parse_endpoint(text(value))
    except ConfigError as error:
        raise ValueError(str(error)) from None


def listen(value: Any) -> str:
    """A place to listen at; port 0 lets the system choose."""
    listen_endpoint(value)
    return str(value)


def own_address(value: Any) -> str:
    """A place to listen at, of this machine's alone: the virtual address is haproxy's."""
    if is_every_address(listen_endpoint(value)[0]):
        raise ValueError(
            f"{value!r} is every address of this machine, and the virtual one is haproxy's:"
            " name the broker's own"
        )
    return str(value)


def is_every_address(host: str) -> bool:
    """However it is written: "0.0.0.0", "::", "0:0:0:0:0:0:0:0", "::ffff:0.0.0.0"."""
    import ipaddress  # no client listens, so none pays for it

    try:
        found = ipaddress.ip_address(host)
    except ValueError:  # a name
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_unspecified


def listen_or_none(value: Any) -> str:
    return "" if value == "" else listen(value)


def address(value: Any) -> str:
    import ipaddress  # only a broker behind haproxy pays for it

    ipaddress.ip_address(text(value))
    return str(value)


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def whole(least: int, most: int) -> Reader:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}, not {value!r}")
        return value

    return read


def bits_per_byte(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 8:
        raise ValueError(f"must be a number of bits from 0 to 8, not {value!r}")
    return float(value)


def several(read: Reader, *, at_least: int = 1) -> Reader:
    def read_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) < at_least:
            count = "" if at_least == 0 else f" with {at_least} or more entries"
            raise ValueError(f"must be a list{count}")
        entries = tuple(read(entry) for entry in value)
        for entry in entries:
            if entries.count(entry) > 1:
                raise ValueError(f"{entry!r} stands in the list twice")
        return entries

    return read_all
