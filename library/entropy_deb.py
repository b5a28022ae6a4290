"""Install .deb files in one transaction."""

from __future__ import annotations

DOCUMENTATION = r"""
module: entropy_deb
short_description: Install Debian packages that lie on the host, in one transaction
description:
  - M(ansible.builtin.apt) installs one file at a time, which cannot upgrade packages that require
    each other in the same version. This module hands all of them to C(apt-get) at once.
  - A package is current when dpkg has it in the wanted version and, if this module installed it,
    from the same file. What was built anew under an old version number is installed anew.
  - What the packages depend on comes from the distribution. When that fails, the package lists are
    fetched and it is tried once more; a host that has all it needs wants no network.
options:
  packages:
    description: The packages.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name of the package.
        type: str
        required: true
      version:
        description: The version that the file holds.
        type: str
        required: true
      sha256:
        description: SHA-256 of the file.
        type: str
        required: true
      file:
        description: The name of the file in O(directory). A path before it is ignored.
        type: str
        required: true
  directory:
    description: Where the files are on the host.
    type: path
    required: true
  lock_seconds:
    description: How long to wait while another process holds dpkg's lock.
    type: int
    default: 300
attributes:
  check_mode:
    description: Says what would be installed. The files need not be there yet.
    support: full
  diff_mode:
    description: Shows the versions before and after.
    support: full
  idempotent:
    description: Changed only if a package was not current.
    support: full
author: The entropy project
"""

EXAMPLES = r"""
- name: Install the client
  entropy_deb:
    packages:
      - name: entropy-client
        version: 0.1.0
        sha256: "{{ digest }}"
        file: entropy-client_0.1.0_all.deb
    directory: /var/cache/entropy
"""

RETURN = r"""
installed:
  description: The packages that were installed (in check mode would be installed).
  returned: always
  type: list
  elements: str
  sample: [entropy-client]
"""

import os  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

# Which file each package came from; dpkg itself does not remember.
STAMPS = "/var/lib/dpkg/entropy-debs"


def versions_and_states(module: AnsibleModule, names: list[str]) -> list[list[str]]:
    """Return name, version and dpkg's abbreviation of the state of each that it knows."""
    show = ["dpkg-query", "--show", "--showformat", r"${Package} ${Version} ${db:Status-Abbrev}\n"]
    # The status is 1 when one of them is unknown; the others are listed all the same.
    _, listed, _ = module.run_command([*show, *names])
    return [words for line in listed.splitlines() if len(words := line.split()) == 3]


def installed_versions(known: list[list[str]]) -> dict[str, str]:
    """Return the version of each package that is fully installed."""
    return {name: version for name, version, state in known if state.startswith("ii")}


def is_half_installed(known: list[list[str]]) -> bool:
    """Whether an installation of one of them was cut off: unpacked, or not to the end."""
    return any(state[1:2] in ("U", "F", "H") for _, _, state in known)


def finish(module: AnsibleModule, paths: list[str]) -> bool:
    """Install packages by dpkg alone, and return whether that did it.

    apt-get touches nothing where it left packages that need each other at two versions.
    """
    options = ["--force-confdef", "--force-confold"]
    status, _, _ = module.run_command(["dpkg", *options, "--install", *paths])
    return bool(status == 0)


def stamp_path(name: str) -> str:
    return os.path.join(STAMPS, f"{name}.sha256")


def stamped(name: str) -> str:
    """Return the digest of the file that the package came from, or an empty string."""
    try:
        with open(stamp_path(name), encoding="ascii") as stamp:
            return stamp.read().strip()
    except FileNotFoundError:
        return ""


def is_current(package: dict[str, str], versions: dict[str, str]) -> bool:
    digest = stamped(package["name"])
    return versions.get(package["name"]) == package["version"] and digest in ("", package["sha256"])


def install(module: AnsibleModule, paths: list[str], lock_seconds: int) -> None:
    environment = {
        "DEBIAN_FRONTEND": "noninteractive",
        "NEEDRESTART_MODE": "l",
        "LC_ALL": "C.UTF-8",
    }
    lock = ["-o", f"DPkg::Lock::Timeout={lock_seconds}"]
    apt_get = ["apt-get", "--yes", "--quiet", *lock]
    command = [*apt_get, "-o", "Dpkg::Options::=--force-confdef", "-o"]
    command += ["Dpkg::Options::=--force-confold", "--no-install-recommends"]
    command += ["--reinstall", "--allow-downgrades", "install", *paths]
    status, out, error = module.run_command(command, environ_update=environment)
    if status != 0 and "dpkg: error" not in out + error:
        # Perhaps the lists are missing or too old to find what the packages depend on.
        module.run_command([*apt_get, "update"], environ_update=environment)
        status, out, error = module.run_command(command, environ_update=environment)
    if status != 0:
        lines = [line for line in (out + error).splitlines() if line.strip()]
        # The line after dpkg's own says why; what follows is only who was told.
        why = next((i for i, line in enumerate(lines) if line.startswith("dpkg: error")), -3)
        said = " / ".join(lines[why:][:3])
        module.fail_json(
            msg=f"apt-get could not install {' '.join(paths)}: {said}",
            stdout=out,
            stderr=error,
        )


def main() -> None:
    options: dict[str, Any] = {
        "packages": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "version": {"type": "str", "required": True},
                "sha256": {"type": "str", "required": True},
                "file": {"type": "str", "required": True},
            },
        },
        "directory": {"type": "path", "required": True},
        "lock_seconds": {"type": "int", "default": 300},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    packages, directory = module.params["packages"], module.params["directory"]
    known = versions_and_states(module, [package["name"] for package in packages])
    before = installed_versions(known)
    wanted = [package for package in packages if not is_current(package, before)]
    if wanted and not module.check_mode:
        paths = [os.path.join(directory, os.path.basename(p["file"])) for p in wanted]
        if not (is_half_installed(known) and finish(module, paths)):
            install(module, paths, module.params["lock_seconds"])
        os.makedirs(STAMPS, mode=0o755, exist_ok=True)
        for package in wanted:
            with open(stamp_path(package["name"]), "w", encoding="ascii") as stamp:
                stamp.write(package["sha256"] + "\n")
    names = [package["name"] for package in wanted]
    module.exit_json(
        changed=bool(wanted),
        installed=names,
        diff={
            "before": "".join(f"{name} {before.get(name, 'absent')}\n" for name in names),
            "after": "".join(f"{p['name']} {p['version']}\n" for p in wanted),
        },
    )


if __name__ == "__main__":
    main()
