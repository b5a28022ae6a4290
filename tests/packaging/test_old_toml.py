"""What stands in for tomllib on Debian 11, over a stand-in for the package `toml` itself."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from io import BytesIO
from types import ModuleType
from typing import Any

import pytest
import tomllib


@pytest.fixture(name="old_toml")
def _old_toml(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def loads(text: str) -> dict[str, Any]:
        if "[[" in text:
            raise IndexError("list index out of range")  # as toml does on some broken files
        return tomllib.loads(text)

    toml = ModuleType("toml")
    toml.loads = loads  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toml", toml)
    yield importlib.import_module("entropy.old_toml")
    del sys.modules["entropy.old_toml"]


def test_it_reads_bytes(old_toml: Any) -> None:
    document = '[client]\nsite_id = "lab"\nbrokers = ["[::1]:25226"]\ncredit = true\n'
    assert old_toml.load(BytesIO(document.encode())) == tomllib.loads(document)


@pytest.mark.parametrize("document", [b"[client", b"[[client", b"a = 1\na = 2\n"])
def test_whatever_goes_wrong_is_one_error(old_toml: Any, document: bytes) -> None:
    with pytest.raises(old_toml.TOMLDecodeError):
        old_toml.load(BytesIO(document))


def test_bytes_that_are_no_text(old_toml: Any) -> None:
    with pytest.raises(UnicodeDecodeError):
        old_toml.load(BytesIO(b"\xff"))
