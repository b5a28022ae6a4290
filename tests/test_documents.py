"""The documents name nothing that the tree does not have: links, files, targets, options, names."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from entropy import cli
from plugins.filter.entropy_variables import known_variables

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], key=lambda page: page.as_posix()
)
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]
EXAMPLE = sorted((ROOT / "inventories/example").rglob("*.yml"))

# What begins like a variable: the kernel's own, and one that is misspelt on purpose.
_OTHER = {"entropy_avail", "entropy_vpi"}
# What Ansible, Python, OpenSSL or the system say.
_OTHERS_WORDS = (
    *("Connection refused", "No route to host", "timed out", "Unable to parse", "as an inventory"),
    *("unable to get local issuer", "certificate has expired", "is not yet valid", "wrong version"),
    "failed to validate",
)
_SHORTEST = 9  # letters of a message that say something
_METRICS = {
    "entropy_broker_": "entropy/broker/status.py",
    "entropy_feeder_": "entropy/feeder_status.py",
    "entropy_gateway_": "entropy/gateways/egd_status.py",
}
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_PATH = re.compile(
    r"`((?:playbooks|roles|tests|entropy|docs|lab|inventories|packaging|plugins|library|molecule)/"
    r"[\w./-]*[a-z][\w./-]*)`"
)
_EXTRA = re.compile(r"(?:^|\s)-e ([a-z_]+)=")


@pytest.fixture(params=PAGES, ids=IDS)
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def code(text: str) -> Iterator[str]:
    """The spans between backticks and the indented lines of a page: what one would type."""
    for line in text.splitlines():
        if line.startswith("    "):
            yield line.strip()
        else:
            yield from re.findall(r"`([^`]+)`", line)


def anchors(text: str) -> set[str]:
    """The headings of a page as links name them."""
    titles = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}


@cache
def commands() -> dict[str, argparse.ArgumentParser]:
    """Every command by its words: "draw", "credential export"."""
    found = {}

    def walk(words: str, parser: argparse.ArgumentParser) -> None:
        found[words] = parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, below in action.choices.items():
                    walk(f"{words} {name}".strip(), below)

    walk("", cli._parser())
    return found


def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for link in _LINK.findall(text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def test_files_that_are_named_are_there(page: Path) -> None:
    for name in _PATH.findall(page.read_text()):
        assert (ROOT / name).exists() or list(ROOT.glob(f"{name}*")), name


def test_make_knows_every_target_that_is_named(page: Path) -> None:
    rules = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", rules, re.MULTILINE))
    for span in code(page.read_text()):
        for target in re.findall(r"(?:^|[;&]\s*)make ([a-z][a-z-]*)", span):
            assert target in targets, span


def test_every_command_and_option_is_one(page: Path) -> None:
    for span in code(page.read_text()):
        typed = span.partition("# ")[0]
        for part in re.split(r"[|;&]{1,2}|\$\(", typed):
            words = part.removeprefix("sudo ").strip().split()
            if len(words) < 2 or words[0] != "entropy" or not re.fullmatch("[a-z-]+", words[1]):
                continue
            name = words[1]
            assert name in commands(), span
            if f"{name} {' '.join(words[2:3])}" in commands():
                name += f" {words[2]}"
            known = {text for action in commands()[name]._actions for text in action.option_strings}
            for word in re.findall(r"(?<![\w-])--[a-z-]+", part):
                assert word in known, f"{word} in {span}"


def is_metric(name: str) -> bool:
    for prefix, file in _METRICS.items():
        if name.startswith(prefix):
            text = (ROOT / file).read_text()
            short = name.removeprefix(prefix)
            parts = (short, short.removesuffix("_total"), short.removesuffix("_bits_total"))
            if name in text or any(f'"{part}"' in text for part in parts):
                return True
            # One figure for each feeder, and two counters of blocks.
            feeder = short.removeprefix("feeder_").removesuffix("_total")
            fips = re.sub(r"^fips140_(\w+)_blocks_total$", r"\1", short)
            return f'"{feeder}"' in text or f'"{fips}"' in text
    return False


def test_every_variable_and_metric_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    for name in sorted(
        set(re.findall(r"(?<![\w./-])entropy_[a-z0-9_]+(?!\w|\*|\.py|\.json)", text))
    ):
        is_prefix = name.endswith("_")  # as in entropy_gateway_*
        assert name in known_variables() or name in _OTHER or is_prefix or is_metric(name), name


@pytest.mark.parametrize("file", EXAMPLE, ids=[f.name for f in EXAMPLE])
def test_the_example_names_variables_that_exist(file: Path) -> None:
    for name in set(re.findall(r"\bentropy_[a-z0-9_]+", file.read_text())):
        assert name in known_variables(), name


def test_what_is_given_to_playbooks_is_read_there(page: Path) -> None:
    texts = [path.read_text() for path in (ROOT / "playbooks").rglob("*.yml")]
    lines = [line for line in page.read_text().splitlines() if "strace" not in line]
    for name in _EXTRA.findall("\n".join(lines)):
        assert any(re.search(rf"\b{name}\b", text) for text in texts), name


@cache
def messages() -> tuple[frozenset[str], str]:
    """The texts in our Python, cut where a value is put in; and all our YAML in one line."""
    pieces = set()
    for folder in ("entropy", "plugins", "module_utils", "library"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    pieces.add(node.value.strip(" :;,.()"))
    yaml = [
        path.read_text()
        for folder in ("roles", "playbooks")
        for path in (ROOT / folder).rglob("*.yml")
    ]
    return frozenset(piece for piece in pieces if piece), " ".join(" ".join(yaml).split())


def test_what_it_says_is_what_it_says() -> None:
    """Each message of the page, between the places where something is left out, is one of ours."""
    pieces, yaml = messages()
    whole = "\n".join(pieces)
    long = [piece for piece in pieces if len(piece) >= _SHORTEST]
    rows = (ROOT / "docs/troubleshooting.md").read_text().splitlines()
    for row in rows:
        said = row.removeprefix("|").split(" | ")[0] if row.startswith("| `") else ""
        for message in re.findall(r"`([^`]+)`", said):
            for part in message.split("..."):
                part = part.strip(" :;,.()")
                if len(part) < _SHORTEST or part in _OTHER or any(w in part for w in _OTHERS_WORDS):
                    continue
                ours = part in whole or part in yaml or any(piece in part for piece in long)
                assert ours, f"{part!r} in {row}"


def test_readme_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert f"(docs/{page.name})" in text, page.name
    index = (ROOT / "docs/adr/README.md").read_text()
    for page in sorted((ROOT / "docs/adr").glob("[0-9]*.md")):
        assert page.name in index, page.name


def test_readme_shows_every_command() -> None:
    """But for the two that only units run."""
    text = (ROOT / "README.md").read_text()
    for name, parser in commands().items():
        runs = parser.get_default("run") is not None
        if runs and name not in ("early-seed", "first-seed", "broker", "feeder", "client"):
            assert f"`entropy {name}" in text, name
    assert "`entropy broker\\|feeder\\|client " in text


def test_the_manual_page_has_every_command_and_option() -> None:
    text = (ROOT / "packaging/debian/entropy.8").read_text()
    synopsis = text.partition(".Sh DESCRIPTION")[0]
    of_command: dict[str, str] = {}
    for entry in synopsis.split("\n.Nm\n")[1:]:
        words = entry.splitlines()[0].removeprefix(".Cm ")
        for name in words.split(" | "):
            of_command[name] = of_command.get(name, "") + entry
    for name, parser in commands().items():
        if parser.get_default("run") is None:
            continue
        assert name in of_command, name
        for action in parser._actions:
            for option in action.option_strings:
                if option.startswith("--") and option != "--help":
                    assert f"Fl {option[1:]}" in of_command[name], f"{name} {option}"
