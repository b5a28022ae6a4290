"""The walls of the design, read from the sources: who may import, open and call what."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "entropy"
MOST_LINES = 400

# No input, no output, no clock: given the same, they do the same.
PURE = ("entropy.wire", "entropy.health", "entropy.conditioner", "entropy.reservoir")
IMPURE = {"socket", "ssl", "asyncio", "time", "os", "logging", "select", "selectors", "random"}
# What runs on every VM.
CLIENT = (
    "entropy.client",
    "entropy.draw",
    "entropy.config",
    "entropy.__main__",
    "entropy.early",
    "entropy.first_seed",
)
NOT_ON_A_CLIENT = {"asyncio", "logging", "random", "http", "urllib", "cryptography.x509"}


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}


def _nodes(tree: ast.AST, *, lazy: bool) -> Iterator[ast.AST]:
    """Every node; without what only type checkers read and, unless `lazy`, function bodies."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if not lazy and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        yield child
        yield from _nodes(child, lazy=lazy)


def imports(name: str, *, lazy: bool = True) -> set[str]:
    """The modules that one module imports, ours with every package on the way to them."""
    found = set()
    for node in _nodes(TREES[name], lazy=lazy):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative imports are not read by these tests"
            assert node.module is not None
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {node.module} | (members & FILES.keys())
    for module in list(found):
        parts = module.split(".")
        found |= {".".join(parts[:n]) for n in range(1, len(parts))}
    return found


def closure(*roots: str) -> set[str]:
    """Our modules that are loaded when `roots` are, and when their functions run.

    The command line is the exception: it imports each command on its own.
    """
    seen: set[str] = set()
    waiting = [
        name
        for name in FILES
        if name in roots
        or name.startswith(
            tuple(f"{root}." for root in roots if FILES.get(root, Path()).name == "__init__.py")
        )
    ]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += imports(name, lazy=name != "entropy.cli") & FILES.keys()
    return seen


def test_what_is_pure_imports_nothing_impure() -> None:
    for name in closure(*PURE):
        assert not imports(name) & IMPURE, f"{name} is pure, or imported by what is pure"


def test_broker_and_client_never_import_each_other() -> None:
    brokers = {name for name in FILES if name.startswith("entropy.broker")} | {"entropy.reservoir"}
    clients = {name for name in FILES if name.startswith("entropy.client")}
    clients |= {"entropy.draw", "entropy.dial", "entropy.early", "entropy.first_seed"}
    assert not closure("entropy.broker") & clients
    assert not closure(*CLIENT) & brokers
    assert not closure("entropy.gateways") & (brokers | clients)
    assert not closure("entropy.feeder") & (brokers | clients)


def test_the_client_imports_only_what_it_uses() -> None:
    for name in closure(*CLIENT):
        # One keeps loaded what old ciphers bring along in any case.
        kept = {"cryptography.x509"} if name == "entropy.client_warm" else set()
        assert not (imports(name) - kept) & NOT_ON_A_CLIENT, name
        if name != "entropy.config":
            assert "dataclasses" not in imports(name), name


def test_the_client_parses_as_python_3_9() -> None:
    for name in closure(*CLIENT):
        ast.parse(FILES[name].read_text(), feature_version=(3, 9))
        assert name in ("entropy", "entropy.__main__") or _has_future_annotations(name), name


def _has_future_annotations(name: str) -> bool:
    if not TREES[name].body[1:]:
        return True  # a docstring alone
    return any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__"
        for node in TREES[name].body
    )


def test_a_running_client_has_loaded_nothing_heavy() -> None:
    """The same as above for what others import, seen in a real interpreter."""
    program = (
        "import sys, entropy.cli, entropy.client, entropy.draw, entropy.config;"
        "print(*sorted({'asyncio', 'logging', 'random', 'cryptography.x509'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def _uses(name: str, word: str) -> bool:
    return any(
        (isinstance(node, ast.Attribute) and node.attr == word)
        or (isinstance(node, ast.alias) and node.name == word)
        for node in ast.walk(TREES[name])
    )


@pytest.mark.parametrize(("word", "only"), [("ioctl", "entropy.kernel"), ("argv", "entropy.cli")])
def test_one_module_alone(word: str, only: str) -> None:
    assert [name for name in FILES if _uses(name, word)] == [only]


OPENERS = {"open", "open_code", "read_text", "read_bytes", "fdopen"}
SECRETS = {"credential", "credential_path", "key", "key_path", "secret", "secret_path", "acl"}


def test_only_credentials_opens_secrets() -> None:
    """As far as it can be read: nobody else opens something that bears a secret's name."""
    for name, tree in TREES.items():
        if name == "entropy.credentials":
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            opener = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if opener in OPENERS:
                words = {getattr(part, "attr", getattr(part, "id", "")) for part in ast.walk(node)}
                assert not words & SECRETS, f"{name}:{node.lineno} opens {words & SECRETS}"


def test_no_file_grows_too_long() -> None:
    too_long = {
        str(path.relative_to(ROOT)): n_lines
        for path in FILES.values()
        if (n_lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert not too_long


def test_the_readers_of_these_tests_see_something() -> None:
    assert "entropy.errors" in imports("entropy.config")
    assert "entropy.wire.codes" in closure("entropy.config")
    assert _uses("entropy.cli", "argv")
    assert not _uses("entropy.cli", "ioctl")
