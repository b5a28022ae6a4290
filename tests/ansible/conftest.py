"""What the tests of the modules and plugins share."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import ansible.module_utils
import pytest
from ansible.module_utils.testing import patch_module_args

from entropy.errors import CredentialError

# What Ansible does when it packs a module: our module_utils beside its own.
ansible.module_utils.__path__.append(str(Path(__file__).parents[2] / "module_utils"))

RunModule = Callable[..., dict[str, Any]]


class CheapVault:
    """Stands in for the vault: no key derivation, another ciphertext each time, a checksum."""

    def encrypt(self, plain: bytes) -> bytes:
        nonce = os.urandom(8)
        return b"cheap" + nonce + hashlib.sha256(plain).digest() + base64.b85encode(plain)

    def decrypt(self, encrypted: bytes, where: str) -> bytes:
        try:
            plain = base64.b85decode(encrypted[45:])
        except ValueError:
            plain = b""
        if encrypted[:5] != b"cheap" or hashlib.sha256(plain).digest() != encrypted[13:45]:
            raise CredentialError(f"{where} cannot be decrypted")
        return plain


@pytest.fixture(autouse=True)
def _no_disk_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test can cut the power of this machine, so none needs to wait for its disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def vault() -> CheapVault:
    return CheapVault()


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Run a module in this process; what it printed for Ansible, with the text under "printed"."""

    def run(
        module: ModuleType, *, check: bool = False, diff: bool = True, **arguments: Any
    ) -> dict[str, Any]:
        given = {"_ansible_check_mode": check, "_ansible_diff": diff, **arguments}
        capsys.readouterr()
        with patch_module_args(given), pytest.raises(SystemExit):
            module.main()
        printed = capsys.readouterr().out
        return {**json.loads(printed), "printed": printed}

    return run
