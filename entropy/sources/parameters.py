"""What a source URI says behind its colon: `serial=A1`, `bus=1,port=2.3`, `model=onerng`."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from entropy.errors import ConfigError


def parameters(uri: str, text: str, known: Collection[str], separator: str = ",") -> dict[str, str]:
    """The parameters in `text`, KEY=VALUE each. ConfigError for an unknown, empty or second one."""
    found: dict[str, str] = {}
    for part in text.split(separator) if text else []:
        key, equals, value = part.partition("=")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}=?" if near else f"known are {', '.join(known)}"
            raise ConfigError(f"{uri!r}: {key!r} is not known there; {hint}")
        if not equals or not value:
            raise ConfigError(f"{uri!r}: {key} needs a value: {key}=...")
        if key in found:
            raise ConfigError(f"{uri!r}: {key} stands there twice")
        found[key] = value
    return found


def one_of(uri: str, key: str, value: str, choices: Collection[str]) -> str:
    """`value`, which must be among the choices, or ConfigError."""
    if value not in choices:
        raise ConfigError(f"{uri!r}: {key} is one of {', '.join(choices)}, not {value!r}")
    return value
