"""Find, among the .deb files on the controller, those that a host needs."""

from __future__ import annotations

import hashlib
import os.path
import re
from typing import Any

from ansible.errors import AnsibleFilterError

_FILE = re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]+)_(?P<version>[^_]+)_(?P<arch>[a-z0-9-]+)\.deb")


def debs(files: list[str], names: list[str], version: str = "") -> list[dict[str, str]]:
    """One dictionary (name, version, sha256, file) for each name, in the order of `names`.

    With `version` only files of that version count. More or fewer than one file for a name is
    an error, because a guess would install something that nobody chose.
    """
    held: dict[str, list[dict[str, str]]] = {}
    for path in files:
        match = _FILE.fullmatch(os.path.basename(path))
        if match is None:
            raise AnsibleFilterError(f"{path} is not named NAME_VERSION_ARCHITECTURE.deb")
        of_version = match["version"].replace("%3a", ":")
        if version in ("", of_version):
            held.setdefault(match["name"], []).append(
                {"name": match["name"], "version": of_version, "file": path}
            )
    return [_only(name, held.get(name, []), files, version) for name in names]


def _only(name: str, found: list[dict[str, str]], files: list[str], version: str) -> dict[str, str]:
    if len(found) == 1:
        with open(found[0]["file"], "rb") as file:
            return found[0] | {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    if found:
        versions = ", ".join(sorted(deb["version"] for deb in found))
        raise AnsibleFilterError(
            f"the controller holds {name} in several versions ({versions}): say which with "
            "-e entropy_version=..., or remove the others"
        )
    wanted = f"{name} in version {version}" if version else name
    where = f" in {os.path.dirname(files[0])}" if files else ""
    raise AnsibleFilterError(
        f"the controller holds no .deb of {wanted}{where}: run `make deb`, or put the packages "
        "into packages/ in entropy_state_dir"
    )


class FilterModule:
    """What the role entropy_package uses."""

    def filters(self) -> dict[str, Any]:
        return {"entropy_debs": debs}
