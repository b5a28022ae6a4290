"""The machine's own apt settings, for the image: mirrors, proxy, and certificates it trusts."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from lab.command import LabError, run

APT = Path("/etc/apt")
CERTIFICATES = Path("/usr/local/share/ca-certificates")

# Names a mirror of Debian where the machine itself has none.
MIRROR_VARIABLE = "ENTROPY_LAB_MIRROR"

# Settings of the machine's apt that a container on it needs too.
_SETTING = re.compile(r"Acquire::(https?|Check-Valid-Until|Check-Date|Retries|ForceIPv[46])\b")
_ONE_LINE = re.compile(r"^deb\s+(?:\[([^]]*)\]\s+)?(https?://\S+)\s+(\S+)\s+([^#]+)")


def sources(suite: str) -> list[str]:
    """One-line apt sources of Debian's main for a suite, from the machine's own files.

    Lines are as in sources.list; of the options only the keyring's path is kept. Where the
    machine runs another release of Debian its mirror is taken, elsewhere what
    ENTROPY_LAB_MIRROR says. Raises LabError where there is neither.
    """
    system = platform.freedesktop_os_release()
    own_suite = system.get("VERSION_CODENAME", "") if system.get("ID") == "debian" else ""
    found: list[str] = []
    for path in [APT / "sources.list", *sorted(APT.glob("sources.list.d/*"))]:
        if path.suffix == ".list" and path.is_file():
            found += one_line_sources(path.read_text(), own_suite)
        elif path.suffix == ".sources":
            found += stanza_sources(path.read_text(), own_suite)
    mirror = [line for line in found if line.endswith(f" {own_suite} main")]
    if not own_suite or not mirror:
        named = os.environ.get(MIRROR_VARIABLE)
        if not named:
            raise LabError(
                "this machine's apt names no mirror of Debian:"
                f" set {MIRROR_VARIABLE} to the URL of one"
            )
        return [f"deb {named} {suite} main"]
    if own_suite != suite:
        return [f"{mirror[0].removesuffix(f' {own_suite} main')} {suite} main"]
    return found


def one_line_sources(text: str, suite: str) -> list[str]:
    """Debian's main in the old format, `deb [options] URI SUITE COMPONENTS`."""
    found = []
    for line in text.splitlines():
        match = _ONE_LINE.match(line.strip())
        if match and _is_debian(match[3], match[4].split(), suite):
            keyring = re.search(r"signed-by=(/\S+)", match[1] or "")
            found.append(_line(match[2], match[3], keyring[1] if keyring else None))
    return found


def stanza_sources(text: str, suite: str) -> list[str]:
    """Debian's main in the format of stanzas (`Types:`, `URIs:`, `Suites:`, `Components:`)."""
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        fields = _fields(stanza)
        if "deb" not in fields.get("types", []) or fields.get("enabled") == ["no"]:
            continue
        keyrings = [word for word in fields.get("signed-by", []) if word.startswith("/")]
        for uri in fields.get("uris", []):
            found += [
                _line(uri, name, keyrings[0] if keyrings else None)
                for name in fields.get("suites", [])
                if uri.startswith("http") and _is_debian(name, fields.get("components", []), suite)
            ]
    return found


def _fields(stanza: str) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            fields.setdefault(name, []).extend(line.split())
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.lower()
            fields[name] = value.split()
    return fields


def _is_debian(suite_name: str, components: list[str], suite: str) -> bool:
    # Third parties use Debian's suite names, but not its component.
    return "main" in components and (
        suite_name == suite or suite_name.startswith((f"{suite}-", f"{suite}/"))
    )


def _line(uri: str, suite_name: str, keyring: str | None) -> str:
    option = f"[signed-by={keyring}] " if keyring else ""
    return f"deb {option}{uri} {suite_name} main"


def keyrings(lines: list[str]) -> list[Path]:
    """Keyrings that source lines name and that no Debian package puts there."""
    named = {Path(match[1]) for match in re.finditer(r"signed-by=([^]\s]+)", "\n".join(lines))}
    return sorted(path for path in named if not path.name.startswith("debian-archive-"))


def settings() -> list[str]:
    """Lines of apt.conf: how this machine reaches its mirrors."""
    lines = [
        line
        for line in run(["apt-config", "dump"], check=False).stdout.splitlines()
        if _SETTING.match(line) and not line.endswith('"";')
    ]
    for scheme in ("http", "https"):
        proxy = os.environ.get(f"{scheme}_proxy")
        if proxy and not any(line.startswith(f"Acquire::{scheme}::Proxy ") for line in lines):
            lines.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    return lines


def certificates() -> list[Path]:
    """Authorities that this machine's administrator added."""
    return sorted(CERTIFICATES.rglob("*.crt")) if CERTIFICATES.is_dir() else []
