"""The split of the Python package over the Debian packages holds together."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cryptography
import pytest

from .layout import CHECKOUT, MODULES, SERVICES, SHARED, claims, package_of

_CRYPTOGRAPHY = str(Path(cryptography.__file__).parents[1])


@pytest.mark.parametrize("package", SERVICES)
def test_what_a_package_claims_is_there(package: str) -> None:
    for pattern, files in claims(package).items():
        assert pattern.startswith(MODULES)
        assert files, f"{package}.install: {pattern} names nothing"


def test_no_file_is_claimed_twice() -> None:
    named = Counter(path for package in SERVICES for f in claims(package).values() for path in f)
    assert [path for path, times in named.items() if times > 1] == []


def test_a_file_may_move_between_packages_and_back() -> None:
    """Or dpkg refuses the older release, where a fleet is rolled back."""
    control = (CHECKOUT / "packaging/debian/control").read_text()
    replaced = {
        paragraph.split("\n", 1)[0].removeprefix("Package: "): set(
            re.findall(r"[a-z0-9-]+", "".join(re.findall(r"^Replaces: (.*)$", paragraph, re.M)))
        )
        for paragraph in control.split("\n\n")
        if paragraph.startswith("Package: ")
    }
    assert replaced == {SHARED: set(SERVICES)} | {service: {SHARED} for service in SERVICES}


def test_a_package_imports_only_what_it_depends_on() -> None:
    packages = package_of()
    wrong = []
    for path, package in packages.items():
        if path.name.startswith("demo"):
            continue  # all services in one process, which only its command imports
        for imported in _imported_at_once(path):
            if packages[imported] not in (package, SHARED):
                wrong.append(f"{path.name} ({package}) needs {imported} ({packages[imported]})")
    assert wrong == []


def test_what_a_client_installs_is_python_3_9() -> None:
    for path, package in package_of().items():
        if package in (SHARED, "entropy-client"):  # compiled there, whether it is run or not
            ast.parse(path.read_text(), str(path), feature_version=(3, 9))


@pytest.mark.parametrize(
    ("command", "package"),
    [
        ("sample --source kernel: --bytes 1", "entropy-feeder"),
        ("sources", "entropy-feeder"),
        ("assess --source kernel:", "entropy-feeder"),
        ("client --config /nowhere", "entropy-client"),
        ("draw --config /nowhere --bytes 1", "entropy-client"),
        ("gateway egd --config /nowhere", "entropy-gateway"),
        ("demo", "entropy-broker"),
    ],
)
def test_a_command_without_its_package_says_which(
    command: str, package: str, tmp_path: Path
) -> None:
    _install(tmp_path, SHARED)
    done = _entropy(tmp_path, command)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert package in done.stderr


def test_a_client_needs_no_other_service(tmp_path: Path) -> None:
    _install(tmp_path, SHARED, "entropy-client")
    done = _entropy(tmp_path, "draw --config /nowhere --bytes 1")
    assert done.returncode == 2
    assert "/nowhere: cannot be read" in done.stderr


def _install(folder: Path, *installed: str) -> None:
    for path, package in package_of().items():
        if package in installed:
            copy = folder / path.relative_to(CHECKOUT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)


def _entropy(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    # -S: the checkout itself is installed in this Python's site-packages.
    code = f"import sys; sys.path += [{str(folder)!r}, {_CRYPTOGRAPHY!r}]"
    code += f"; from entropy.cli import main; sys.exit(main({command.split()!r}))"
    argv = [sys.executable, "-S", "-c", code]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, cwd=folder)


def _imported_at_once(path: Path) -> Iterator[Path]:
    """The files of ours that importing this one imports; what a function imports waits."""
    waiting = list(ast.parse(path.read_text(), str(path)).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                yield from _file(name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from _file(alias.name)
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ClassDef)):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                continue
            waiting += [
                child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)
            ]


def _file(module: str) -> Iterator[Path]:
    path = CHECKOUT.joinpath(*module.split("."))
    if module.partition(".")[0] == "entropy":
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                yield candidate


def test_only_a_feeders_host_gets_what_its_devices_need() -> None:
    control = (CHECKOUT / "packaging/debian/control").read_text()
    needs = {}
    for paragraph in control.split("\n\n"):
        for name in re.findall(r"^Package: (.*)$", paragraph, re.MULTILINE):
            needs[name] = {
                word
                for word in ("libusb-1.0-0", "python3-usb", "python3-serial")
                if f" {word}" in paragraph.partition("Description:")[0]
            }
    assert needs.pop("entropy-feeder") == {"libusb-1.0-0", "python3-usb", "python3-serial"}
    assert set().union(*needs.values()) == set()
