"""The run's own vault: files that ansible-vault can open, and clear words when it cannot."""

from __future__ import annotations

from typing import Any

import pytest
from ansible import constants
from ansible.parsing.vault import VaultLib, VaultSecret

from entropy.errors import CredentialError
from module_utils.entropy_vault import AnsibleVault

OLD, NEW = ("old", VaultSecret(b"the old password")), ("new", VaultSecret(b"the new password"))
PLAIN = b'{"secret": "x"}\n'


def test_ansible_vault_opens_what_we_write() -> None:
    encrypted = AnsibleVault([OLD]).encrypt(PLAIN)
    assert VaultLib([OLD]).decrypt(encrypted) == PLAIN
    assert PLAIN not in encrypted


def test_we_open_what_ansible_vault_writes() -> None:
    encrypted = VaultLib([NEW]).encrypt(PLAIN, NEW[1])
    assert AnsibleVault([OLD, NEW]).decrypt(encrypted, "x") == PLAIN


def test_the_named_identity_encrypts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DEFAULT_VAULT_ENCRYPT_IDENTITY", "new")
    encrypted = AnsibleVault([OLD, NEW]).encrypt(PLAIN)
    assert encrypted.startswith(b"$ANSIBLE_VAULT;1.2;AES256;new\n")
    assert AnsibleVault([NEW]).decrypt(encrypted, "x") == PLAIN


def test_an_identity_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DEFAULT_VAULT_ENCRYPT_IDENTITY", "absent")
    with pytest.raises(CredentialError, match="the vault cannot encrypt"):
        AnsibleVault([OLD]).encrypt(PLAIN)


def test_a_fixed_salt_of_the_configuration_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two files with one salt would share their key stream.
    monkeypatch.setenv("ANSIBLE_VAULT_ENCRYPT_SALT", "the same for all")
    vault = AnsibleVault([OLD])
    assert vault.encrypt(PLAIN) != vault.encrypt(PLAIN)


NONE = ("default", VaultSecret(b"no-vault-password-is-set\n"))  # as a script of the checkout says


@pytest.mark.parametrize("secrets", [None, [], [NONE]])
def test_without_a_password(secrets: list[tuple[str, Any]] | None) -> None:
    vault = AnsibleVault(secrets)
    with pytest.raises(CredentialError, match="give --vault-password-file"):
        vault.encrypt(PLAIN)
    with pytest.raises(CredentialError, match="a vault password is needed to read /s/vm1"):
        vault.decrypt(AnsibleVault([OLD]).encrypt(PLAIN), "/s/vm1")


def test_the_word_for_no_password_is_passed_over() -> None:
    encrypted = AnsibleVault([NONE, OLD]).encrypt(PLAIN)
    assert VaultLib([OLD]).decrypt(encrypted) == PLAIN


@pytest.mark.parametrize("damage", [b"", b"{}", b"$ANSIBLE_VAULT;1.1;AES256\n00\n"])
def test_what_cannot_be_decrypted(damage: bytes) -> None:
    for encrypted in (damage, AnsibleVault([NEW]).encrypt(PLAIN)):
        with pytest.raises(CredentialError, match="/s/vm1 cannot be decrypted with the vault p"):
            AnsibleVault([OLD]).decrypt(encrypted, "/s/vm1")
