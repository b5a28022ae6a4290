"""`entropy assess` from its command line to the report."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from entropy import cli
from entropy.assess.samples import ProgressBar, take
from entropy.errors import SourceError
from entropy.sources.base import Figures, Source, StatedFigures

from .noise import draw

N = 12_000
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects texts and pictures, and sees that what is opened is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a report and the samples, and what was printed."""
    folder = tmp_path_factory.mktemp("assess")
    samples = draw("heavy bytes", N).tobytes()
    (folder / "a<b&c").write_bytes(samples + b"more")
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-m", "entropy", "assess", "--source", "file:a<b&c"),
            *f"--bytes {N} --credit 4.5 --test 5 --output report.html --keep kept".split(),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "kept").read_bytes() == samples
    return folder, done.stdout


def test_the_report_stands_alone(run: tuple[Path, str]) -> None:
    folder, _ = run
    html = (folder / "report.html").read_text()
    page = Page(html)
    assert page.open == []
    assert len(page.links) == 6
    for link in page.links:
        kind, _, encoded = link.partition(",")
        assert kind == "data:image/svg+xml;base64"
        svg = base64.b64decode(encoded).decode()
        assert re.findall(r'href="(?!#|data:)', svg) == []
    assert "http" not in re.sub(r"base64,[^\"]*", "", html)
    assert len(html) < 500_000


def test_what_the_report_says(run: tuple[Path, str]) -> None:
    folder, printed = run
    text = " ".join(Page((folder / "report.html").read_text()).text.split())
    assert "file:a<b&c" in text
    assert hashlib.sha256((folder / "kept").read_bytes()).hexdigest() in text
    assert "The declared credit is too high" in text
    assert "credit 4.5, tests 5 bits per byte: stated on the command line" in text
    assert "It bounds from above only." in text
    assert "It is not a validation." in text
    for line in printed.splitlines()[1:11]:
        for figure in re.findall(r"\d\.\d{6}", line):
            assert figure in text


def test_what_is_printed(run: tuple[Path, str]) -> None:
    _, printed = run
    assert re.search(r"^t-Tuple +\d\.\d{6} +\d\.\d{6}$", printed, re.MULTILINE)
    assert "The declared credit is too high.\n" in printed
    assert printed.endswith("Report: report.html\n")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ("--source dice:", 2, "dice:"),
        ("--source file:noise --bits 9", 2, "--bits"),
        ("--source file:noise --bytes 9999", 2, "--bytes 9999: from 10,000"),
        ("--source file:noise --bytes 5000000", 2, "to 4,000,000"),
        ("--source file:noise --bytes 10000 --bits 7", 2, "does not fit in --bits 7"),
        ("--source file:noise --credit 4 --test 3", 2, "test_bits_per_byte (3)"),
        ("--source file:noise --test 0.05", 2, "test_bits_per_byte"),
        ("--source file:nothing", 1, "nothing"),
        (
            "--source file:noise",
            1,
            "11000 of 1000000 samples were taken: for these alone say --bytes 11000",
        ),
        ("--source file:noise --output /nowhere/x.html", 2, "name another file with --output"),
        ("--source file:noise --output .", 2, "name another file with --output"),
    ],
)
def test_what_cannot_be_done(
    arguments: str,
    status: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("noise").write_bytes(draw("bytes", 11_000).tobytes())
    assert cli.main(["assess", *arguments.split()]) == status
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["noise"]


@pytest.mark.parametrize("missing", ["numpy", "matplotlib"])
def test_without_the_extra(missing: str) -> None:
    program = (
        f"import sys; sys.modules['{missing}'] = None; from entropy.cli import main;"
        "sys.exit(main(['assess', '--source', 'kernel:']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert missing in done.stderr
    assert "python3-numpy and python3-matplotlib" in done.stderr
    assert "entropy[assess]" in done.stderr


class Portions(Source):
    """Gives so many bytes at a time, then fails."""

    def __init__(self, *sizes: int) -> None:
        super().__init__("portions:", StatedFigures())
        self.sizes = list(sizes)
        self.is_open = False

    def own_figures(self) -> Figures:
        return Figures(0, 7, "a test")

    def open(self) -> None:
        self.is_open = True

    def read(self, n_bytes: int) -> bytes:
        if not self.sizes:
            raise SourceError("portions: no more")
        return bytes(min(n_bytes, self.sizes.pop(0)))

    def close(self) -> None:
        self.is_open = False


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_samples_come_in_portions() -> None:
    source, terminal = Portions(7, 60, 3, 9999), Terminal()
    samples = take(source, 100, ProgressBar(terminal))
    assert samples.data == bytes(100)
    assert not source.is_open
    assert "67%  67 of 100 samples" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r")  # nothing stays on the line


def test_a_source_that_fails_is_closed() -> None:
    source = Portions(7)
    with pytest.raises(SourceError, match="no more"):
        take(source, 100, ProgressBar(io.StringIO()))
    assert not source.is_open


def test_no_bar_without_a_terminal() -> None:
    stream = io.StringIO()
    take(Portions(100), 100, ProgressBar(stream))
    assert stream.getvalue() == ""
