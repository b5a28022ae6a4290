"""The split of the Python package over the Debian packages holds together."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from .layout import CHECKOUT, MODULES, SERVICES, SHARED, claims, package_of

# Runs all services in one process, and is imported by nothing but its command.
ALL_IN_ONE = {"entropy/demo.py"}


@pytest.mark.parametrize("package", SERVICES)
def test_what_a_package_claims_is_there(package: str) -> None:
    for pattern, files in claims(package).items():
        assert pattern.startswith(MODULES)
        assert files, f"{package}.install: {pattern} names nothing"


def test_no_file_is_claimed_twice() -> None:
    named = Counter(path for package in SERVICES for f in claims(package).values() for path in f)
    assert [path for path, times in named.items() if times > 1] == []


def test_a_package_imports_only_what_it_depends_on() -> None:
    packages = package_of()
    wrong = []
    for path, package in packages.items():
        if str(path.relative_to(CHECKOUT)) in ALL_IN_ONE:
            continue
        for imported in _imported_at_once(path):
            if packages[imported] not in (package, SHARED):
                wrong.append(f"{path.name} ({package}) needs {imported} ({packages[imported]})")
    assert wrong == []


def test_what_a_client_installs_is_python_3_9() -> None:
    for path, package in package_of().items():
        if package in (SHARED, "entropy-client"):  # compiled there, whether it is run or not
            ast.parse(path.read_text(), str(path), feature_version=(3, 9))


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
