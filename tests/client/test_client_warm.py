"""What the resident client keeps in memory: a draw finds there what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from entropy import client_warm

if TYPE_CHECKING:
    from tests.client.conftest import Fleet

ROOT = Path(__file__).resolve().parent.parent.parent
DEBIANS = "/usr/bin/python3"
KEEPS_CIPHERS = (3, 37, 38)  # versions of cryptography


def run(python: str, program: str, *arguments: str) -> str:
    """What a program prints."""
    return subprocess.run(
        [python, "-c", program, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def version(python: str) -> int:
    """Of its cryptography; -1 without."""
    try:
        text = run(python, "import cryptography; print(cryptography.__version__)")
    except (OSError, subprocess.CalledProcessError):
        return -1
    return int(text.partition(".")[0])


DRAW = """
import json, sys
from entropy import client, client_warm
from entropy.config import load_client
from entropy.wire.codes import DrawKind
config = load_client(sys.argv[1])
client.Resident(config)
if sys.argv[2] == "all":
    import entropy.client_feed
client_warm.load()
before = set(sys.modules)
report = client._draw(config, DrawKind.SEED, 20, 0, b"sign", [])
print(json.dumps([report["fed"][0], sorted(set(sys.modules) - before)]))
"""


def test_a_draw_imports_nothing_more_of_ours(fleet: Fleet) -> None:
    """Nor names in other scripts, for an address, nor ctypes, for a clock that is right.

    New versions of cryptography import some more at their first use.
    """
    fleet.broker()
    config = fleet.config_file(credit=False)
    credit_bits, imported = json.loads(run(sys.executable, DRAW, config, "all"))
    assert credit_bits == 448
    assert not {"ctypes", "encodings.idna", "unicodedata"} & set(imported)
    assert [name for name in imported if name.startswith("entropy.")] == []


@pytest.mark.skipif(version(sys.executable) not in KEEPS_CIPHERS, reason="they would be too much")
def test_the_ciphers_are_kept(fleet: Fleet) -> None:
    fleet.broker()
    config = fleet.config_file(credit=False)
    assert json.loads(run(sys.executable, DRAW, config, "as it is")) == [448, []]


STAND_IN = """
import sys
from entropy import client_warm
client_warm.load()
assert "entropy.client_feed" in sys.modules
assert "cryptography.x509" not in sys.modules
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from entropy.wire.keys import derive
derive(bytes(32))
cipher = ChaCha20Poly1305(bytes(32))
assert cipher.decrypt(bytes(12), cipher.encrypt(bytes(12), b"text", b""), b"") == b"text"
assert not any(name.startswith("cryptography.x509") for name in sys.modules)
client_warm.load()
from entropy.authority import certificate_names, issue_broker, new_authority
authority = new_authority("lab")
assert certificate_names(issue_broker(authority, "broker1", "lab").certificate_pem)
"""


@pytest.mark.skipif(version(DEBIANS) not in (37, 38), reason="not Debian 12's cryptography")
def test_x509_is_left_out_and_comes_back() -> None:
    """What that saves in memory is asserted in the guest, where nothing but Debian's is loaded."""
    run(DEBIANS, STAND_IN)


def test_an_import_that_fails_is_left_to_the_children(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AttributeError("what the stand-in has not")

    for name in ("cryptography.x509", "entropy.client_feed"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(client_warm, "_load_all", fail)
    client_warm._load_all_but_x509()
    assert "cryptography.x509" not in sys.modules
