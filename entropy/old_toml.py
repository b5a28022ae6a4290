"""TOML by the package `toml`: all that Debian 11 has. Elsewhere tomllib or tomli reads it."""

from __future__ import annotations

import importlib
from typing import Any, BinaryIO

_toml: Any = importlib.import_module("toml")


class TOMLDecodeError(ValueError):
    """Named as in tomllib."""


def load(file: BinaryIO) -> dict[str, Any]:
    """Read a document as tomllib.load does. Raises TOMLDecodeError or UnicodeDecodeError."""
    text = file.read().decode()
    try:
        return dict(_toml.loads(text))
    except Exception as error:  # it also stumbles, with IndexError and others
        raise TOMLDecodeError(str(error)) from None
