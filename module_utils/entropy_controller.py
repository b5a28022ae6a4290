"""The one way from Ansible's plugins to the state directory: untyped values in, plain values out.

Whatever goes wrong leaves here as an AnsibleError that says what to do. Runs on the controller
only.
"""

from __future__ import annotations

import contextlib
import datetime
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleError

STATES = ("present", "rotated", "revoked", "authority_rolled")  # of entropy_credential


def issue(loader: Any, arguments: Mapping[str, Any], *, check: bool) -> dict[str, Any]:
    """Do what a task of entropy_credential asks for; what it returns, with the diff."""
    with _told_plainly():
        from module_utils.entropy_issue import ensure
        from module_utils.entropy_request import parse_request
        from module_utils.entropy_store import Store
        from module_utils.entropy_vault import AnsibleVault

        request = parse_request(arguments)
        store = Store(str(arguments["state_dir"]), AnsibleVault.of_run(loader))
        now = datetime.datetime.now(datetime.timezone.utc)
        return ensure(store, request, now=now, check=check).as_result()


def back_up(loader: Any, arguments: Mapping[str, Any], *, check: bool) -> dict[str, Any]:
    """Do what a task of entropy_backup asks for; what it returns."""
    with _told_plainly():
        from module_utils.entropy_backup_file import restore, save
        from module_utils.entropy_reports import parse_reports
        from module_utils.entropy_store import Store
        from module_utils.entropy_vault import AnsibleVault

        store = Store(str(arguments["state_dir"]), AnsibleVault.of_run(loader))
        path, site_id = str(arguments["path"]), str(arguments["site_id"])
        if arguments["state"] == "saved":
            return save(store, path, site_id, check=check).as_result()
        reports = parse_reports(arguments["reports"])
        supersede = bool(arguments["supersede"])
        moved = restore(store, path, site_id, reports, supersede=supersede, check=check)
        return moved.as_result()


def read_secrets(loader: Any, state_dir: str, terms: Sequence[str], *, check: bool) -> list[str]:
    """The secrets that the lookup entropy_secret gives."""
    with _told_plainly():
        from module_utils.entropy_secrets import secret_texts
        from module_utils.entropy_store import Store
        from module_utils.entropy_vault import AnsibleVault

        store = Store(str(state_dir), AnsibleVault.of_run(loader))
        return secret_texts(store, [str(term) for term in terms], check=check)


def broker_entries(
    loader: Any, state_dir: str, read_texts: Callable[[list[str]], list[str]], *, check: bool
) -> str:
    """The entries that the lookup entropy_acl_entries gives, as one text."""
    with _told_plainly():
        from module_utils.entropy_acl_document import Handed, dump_entries
        from module_utils.entropy_secrets import entries_for_brokers
        from module_utils.entropy_store import Store
        from module_utils.entropy_vault import AnsibleVault

        store = Store(str(state_dir), AnsibleVault.of_run(loader))
        return dump_entries(Handed(*entries_for_brokers(store, read_texts, check=check)))


@contextlib.contextmanager
def _told_plainly() -> Iterator[None]:
    try:
        from entropy.errors import EntropyError
    except ImportError as error:
        raise AnsibleError(
            f"the package entropy cannot be used by {sys.executable}, which runs Ansible: install "
            f"it there, in a checkout with make venv ({error})"
        ) from None
    try:
        yield
    except EntropyError as problem:
        raise AnsibleError(str(problem)) from None
    except OSError as error:
        raise AnsibleError(f"{error.filename}: {error.strerror}") from None
