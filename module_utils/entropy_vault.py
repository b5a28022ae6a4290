"""The vault of the present ansible run: the passwords that it was started with.

Runs on the controller only. All of Ansible's own, untyped, vault code is used here.
"""

from __future__ import annotations

import os
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, match_encrypt_secret

from entropy.errors import CredentialError

SALT_BYTES = 32
# What lab/vault-password says where there is no password, so that Ansible starts all the same.
NO_PASSWORD = b"no-vault-password-is-set"


class AnsibleVault:
    """Encrypts as `ansible-vault encrypt` would, so that its other commands work on the files."""

    def __init__(self, secrets: list[tuple[str, Any]] | None) -> None:
        given = [pair for pair in secrets or () if pair[1].bytes.strip() != NO_PASSWORD]
        self._library = VaultLib(given)

    @classmethod
    def of_run(cls, loader: Any) -> AnsibleVault:
        """The vault with the passwords that a plugin's loader holds."""
        return cls(loader._vault.secrets)

    def encrypt(self, plain: bytes) -> bytes:
        """Encrypt with the identity that vault_encrypt_identity names, else the first one."""
        self._need_a_password("encrypt secrets")
        identity = constants.DEFAULT_VAULT_ENCRYPT_IDENTITY
        try:
            vault_id, secret = match_encrypt_secret(
                self._library.secrets, encrypt_vault_id=identity
            )
            # Our own salt: with the one of vault_encrypt_salt all files would share a key stream.
            encrypted: bytes = self._library.encrypt(
                plain, secret, vault_id=identity and vault_id, salt=os.urandom(SALT_BYTES)
            )
        except AnsibleError as error:
            raise CredentialError(f"the vault cannot encrypt: {error.message}") from None
        return encrypted

    def decrypt(self, encrypted: bytes, where: str) -> bytes:
        self._need_a_password(f"read {where}")
        try:
            return bytes(self._library.decrypt(encrypted))
        except AnsibleError:
            raise CredentialError(
                f"{where} cannot be decrypted with the vault password of this run: give the "
                "password with which the state directory was made, or restore the file from the "
                "newest backup of the state directory"
            ) from None

    def _need_a_password(self, what: str) -> None:
        if not self._library.secrets:
            raise CredentialError(
                f"a vault password is needed to {what}: give --vault-password-file or "
                "--ask-vault-pass, or set vault_password_file in ansible.cfg"
            )
