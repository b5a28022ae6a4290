"""Which package a module goes to, read from the files that the build itself reads."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DEBIAN = CHECKOUT / "packaging" / "debian"
MODULES = "usr/lib/python3/dist-packages/"
SHARED = "python3-entropy"
SERVICES = ("entropy-broker", "entropy-feeder", "entropy-client", "entropy-gateway")
UNITS = {
    "entropy-broker.service": 1.5,  # the most that each may be exposed
    "entropy-feeder@.service": 2.0,
    "entropy-client.service": 2.0,
    "entropy-gateway@.service": 1.5,
}


def claims(package: str) -> dict[str, list[Path]]:
    """What a service's package claims: each pattern, and the Python files that it names."""
    found = {}
    for pattern in (DEBIAN / f"{package}.install").read_text().split():
        files = []
        for path in CHECKOUT.glob(pattern.removeprefix(MODULES)):
            files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
        found[pattern] = files
    return found


def package_of() -> dict[Path, str]:
    """The package of each Python file: python3-entropy's are those that no service claims."""
    packages = dict.fromkeys((CHECKOUT / "entropy").rglob("*.py"), SHARED)
    for package in SERVICES:
        for files in claims(package).values():
            packages.update(dict.fromkeys(files, package))
    return packages
