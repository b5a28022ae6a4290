"""Reads files that ansible-vault encrypted, without Ansible: format 1.1 and 1.2, AES256.

The format is in Ansible's documentation, "Format of files encrypted with Ansible Vault": a header
line, then hexadecimal digits in lines, which are those of three lines: salt, HMAC and ciphertext,
each as hexadecimal digits. PBKDF2-HMAC-SHA256 with 10,000 rounds gives 80 bytes: 32 for
AES-256-CTR, 32 for HMAC-SHA256 over the ciphertext, and the first counter. The padding is PKCS#7's.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
import subprocess

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from entropy.credentials import read_secret
from entropy.errors import CredentialError

PASSWORD_FILE_VARIABLE = "ANSIBLE_VAULT_PASSWORD_FILE"
_VERSIONS = (b"1.1", b"1.2")
_ROUNDS = 10_000
_BLOCK_BYTES = 16


def read_password(path: str) -> bytes:
    """The password in a file, or what a program at that path prints. CredentialError if none."""
    if os.path.isfile(path) and os.access(path, os.X_OK):
        try:
            done = subprocess.run([os.path.abspath(path)], stdout=subprocess.PIPE, check=True)
        except (OSError, subprocess.CalledProcessError):
            raise CredentialError(f"{path} is a program and gave no password") from None
        password = done.stdout.strip(b"\r\n")
    else:
        password = read_secret(path).strip()
    if not password:
        raise CredentialError(f"{path} holds no password")
    return password


def decrypt(encrypted: bytes, password: bytes, where: str) -> bytes:
    """What a file holds; `where` names it in errors. CredentialError if the password is wrong."""
    header, _, body = encrypted.partition(b"\n")
    magic, version, cipher = [*header.strip().split(b";"), b"", b"", b""][:3]
    if (magic, cipher) != (b"$ANSIBLE_VAULT", b"AES256") or version not in _VERSIONS:
        raise CredentialError(f"{where} is not encrypted as ansible-vault does it")
    try:
        inner = binascii.unhexlify(b"".join(body.split()))
        salt, wanted, ciphertext = (binascii.unhexlify(part) for part in inner.split(b"\n"))
    except ValueError:
        raise CredentialError(f"{where} is damaged: restore it from the newest backup") from None
    keys = hashlib.pbkdf2_hmac("sha256", password, salt, _ROUNDS, 80)
    found = hmac.digest(keys[32:64], ciphertext, "sha256")
    if not hmac.compare_digest(found, wanted):
        raise CredentialError(
            f"{where} cannot be decrypted with this password: give the one with which the state "
            "directory was made"
        )
    decryptor = Cipher(algorithms.AES(keys[:32]), modes.CTR(keys[64:80])).decryptor()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    if not padded or not 1 <= padded[-1] <= _BLOCK_BYTES:
        raise CredentialError(f"{where} is damaged: restore it from the newest backup")
    return padded[: -padded[-1]]
