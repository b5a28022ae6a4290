"""The statistical tests of FIPS 140-2, against a slow reading of the standard's own words."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entropy import fips140
from entropy.config import load_feeder
from entropy.errors import ConfigError, HealthFailure
from entropy.fips140 import BLOCK_BYTES, RUNS, BlockTests, failure
from entropy.health import STARTUP_BYTES, WINDOW_BYTES
from entropy.intake import Intake
from entropy.sources.base import Figures


def noise(n_bytes: int, seed: str = "noise") -> bytes:
    return hashlib.shake_256(seed.encode()).digest(n_bytes)


def by_the_book(block: bytes) -> set[str]:
    """The names of the tests that a block fails."""
    bits = "".join(f"{byte:08b}" for byte in block)
    failed = set()
    if not 9725 < bits.count("1") < 10275:
        failed.add("monobit")
    counts = Counter(bits[i : i + 4] for i in range(0, 20_000, 4))
    poker = 16 / 5000 * sum(count**2 for count in counts.values()) - 5000
    if not 2.16 < poker < 46.17:
        failed.add("poker")
    runs = Counter((value, len(list(run))) for value, run in itertools.groupby(bits))
    if any(length >= 26 for _, length in runs):
        failed.add("long run")
    for value in "01":
        for length, (least, most) in enumerate(RUNS, 1):
            count = sum(
                number
                for (of, n), number in runs.items()
                if of == value and (n == length or (length == 6 and n > 6))
            )
            if not least <= count <= most:
                failed.add("runs")
    words = [block[i : i + 4] for i in range(0, BLOCK_BYTES, 4)]
    if any(one == other for one, other in zip(words, words[1:])):
        failed.add("continuous run")
    return failed


@pytest.mark.parametrize(
    "block",
    [
        *(noise(BLOCK_BYTES, f"{n}") for n in range(20)),
        bytes(BLOCK_BYTES),
        b"\xff" * BLOCK_BYTES,
        b"\xaa" * BLOCK_BYTES,
        bytes(range(250)) * 10,
        noise(BLOCK_BYTES - 4) + noise(4, "last") * 1,
        noise(1000) + b"samesame" + noise(1492),
        noise(1000) + b"\x01\xff\xff\xff\x80" + noise(1495),  # 26 ones
        noise(1000) + b"\x01\xff\xff\xff\x00" + noise(1495),  # 25
        noise(1000) + b"\xfe\x00\x00\x00\x7f" + noise(1495),  # 26 zeros
        bytes(byte | 1 << n % 8 if n % 9 == 0 else byte for n, byte in enumerate(noise(2500))),
        bytes(byte | 1 << n % 8 if n % 3 == 0 else byte for n, byte in enumerate(noise(2500))),
    ],
)
def test_the_same_verdict_as_the_standard_step_by_step(block: bytes) -> None:
    why, book = failure(block), by_the_book(block)
    assert bool(why) == bool(book), (why, book)
    if why:
        assert why.partition(":")[0] in book


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(0, 19_000), st.booleans())
def test_runs_of_any_length_anywhere(length: int, place: int, value: bool) -> None:
    bits = list(f"{int.from_bytes(noise(BLOCK_BYTES), 'big'):020000b}")
    bits[place : place + length] = str(int(value)) * length
    block = int("".join(bits), 2).to_bytes(BLOCK_BYTES, "big")
    assert bool(failure(block)) == bool(by_the_book(block))


# Each bound, from both sides


@pytest.mark.parametrize(
    ("n_ones", "fails"), [(9725, True), (9726, False), (10274, False), (10275, True)]
)
def test_the_bounds_of_monobit(n_ones: int, fails: bool) -> None:
    bits = [int(bit) for bit in f"{int.from_bytes(noise(BLOCK_BYTES), 'big'):020000b}"]
    wrong = sum(bits) - n_ones
    of_those = [place for place, bit in enumerate(bits) if bit == (wrong > 0)]
    for place in random.Random(1).sample(of_those, abs(wrong)):
        bits[place] ^= 1
    block = int("".join(map(str, bits)), 2).to_bytes(BLOCK_BYTES, "big")
    assert (failure(block) == f"monobit: {n_ones} ones") is fails


@pytest.mark.parametrize(
    ("apart", "fails"),
    # 16/5000 (8 x 312^2 + 8 x 313^2 + 2 d^2 + d or so) - 5000: 2.09, 2.32, 45.2 and 46.3
    [(18, True), (19, False), (84, False), (85, True)],
)
def test_the_bounds_of_poker(apart: int, fails: bool) -> None:
    """Nibbles as often as each other, but for two of as many ones, which are `apart` from that."""
    counts = [312] * 8 + [313] * 8
    counts[0x5] += apart
    counts[0x3] -= apart
    nibbles = [f"{nibble:x}" for nibble, count in enumerate(counts) for _ in range(count)]
    random.Random(2).shuffle(nibbles)
    assert failure(bytes.fromhex("".join(nibbles))).startswith("poker") is fails


def test_the_bounds_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As FIPS 140-2 prints them, and all inside: checked by drawing them close around a block."""
    assert RUNS == ((2315, 2685), (1114, 1386), (527, 723), (240, 384), (103, 209), (103, 209))
    block = noise(BLOCK_BYTES)
    bits = f"{int.from_bytes(block, 'big'):020000b}"
    runs = Counter((value, min(len(list(run)), 6)) for value, run in itertools.groupby(bits))
    close = [sorted((runs["0", length], runs["1", length])) for length in range(1, 7)]
    monkeypatch.setattr(fips140, "RUNS", close)
    assert failure(block) == ""
    for bound in close:
        for side, step in ((0, 1), (1, -1)):
            bound[side] += step
            assert failure(block).startswith("runs")
            bound[side] -= step


def test_a_word_is_compared_across_blocks() -> None:
    block = noise(BLOCK_BYTES)
    assert failure(block) == failure(block, block[4:8]) == ""
    assert failure(block, block[:4]).startswith("continuous run")


def test_good_samples_fail_now_and_then() -> None:
    """About 8 blocks in 10,000: of the first 10,000 of this noise 7 do, and here are 3 of them."""
    failed = [n for n in range(2700, 3700) if failure(noise(BLOCK_BYTES, f"{n}"))]
    assert failed == [2909, 3282, 3652]


@given(st.lists(st.integers(1, 6000), min_size=1, max_size=12))
def test_blocks_do_not_hang_on_the_sizes_of_pushes(sizes: list[int]) -> None:
    samples = bytearray(noise(sum(sizes)))
    samples[2600:2608] = b"samesame" if len(samples) > 2608 else samples[2600:2608]
    tests = BlockTests()
    passed: list[tuple[bytes, int]] = []
    position = 0
    for size in sizes:
        chunk = bytes(samples[position : position + size])
        position += size
        passed += tests.push(chunk, 1000 + position).passed
    expected = [
        (bytes(samples[start : start + BLOCK_BYTES]), 1000 + start + BLOCK_BYTES)
        for start in range(0, len(samples) - BLOCK_BYTES + 1, BLOCK_BYTES)
        if start != BLOCK_BYTES
    ]
    assert passed == expected
    assert tests.held_bytes == len(samples) % BLOCK_BYTES
    assert tests.n_passed + tests.n_dropped == len(samples) // BLOCK_BYTES
    assert tests.destroy() == len(samples) % BLOCK_BYTES
    assert tests.held_bytes == 0


# Between the health tests and the conditioner

FIGURES = Figures(4, 7, "for this test")


def test_a_dropped_block_leaves_a_gap_in_the_positions() -> None:
    """A block's end is where its last sample lay, whatever was dropped before."""
    intake = Intake(FIGURES, block_tests=BlockTests())
    samples = bytearray(noise(STARTUP_BYTES + 20 * WINDOW_BYTES))
    # The second block of 2500, after the start-up test.
    start = STARTUP_BYTES + BLOCK_BYTES + 100
    samples[start : start + 8] = b"samesame"
    # In portions as they come from a device.
    fresh = []
    for i in range(0, len(samples), 700):
        fresh += intake.push(bytes(samples[i : i + 700]))
    kept = [*range(BLOCK_BYTES), *range(2 * BLOCK_BYTES, 20 * WINDOW_BYTES)]
    kept = kept[: (20 * WINDOW_BYTES // BLOCK_BYTES - 1) * BLOCK_BYTES]
    n_raw = 144  # 576 bits at 4 each
    ends = [STARTUP_BYTES + kept[i + n_raw - 1] + 1 for i in range(0, len(kept) - n_raw + 1, n_raw)]
    assert [block.end_position for block in fresh] == ends
    first = bytes(samples[STARTUP_BYTES : STARTUP_BYTES + n_raw])
    assert fresh[0].data == hashlib.sha512(b"entropy/1 conditioner\0" + first).digest()


def test_a_failing_window_takes_the_block_in_the_making_with_it() -> None:
    tests = BlockTests()
    intake = Intake(FIGURES, block_tests=tests)
    intake.push(noise(STARTUP_BYTES + 2 * WINDOW_BYTES))
    assert tests.held_bytes == 2 * WINDOW_BYTES
    with pytest.raises(HealthFailure):
        intake.push(bytes(WINDOW_BYTES))
    assert tests.held_bytes == 0
    assert intake.failed_permanently


@pytest.mark.parametrize(("line", "wanted"), [("fips140 = true", True), ("", False)])
def test_it_is_off_unless_the_configuration_says(line: str, wanted: bool, tmp_path: Path) -> None:
    path = tmp_path / "feeder.toml"
    text = '[feeder]\nsite_id = "a"\ncredential = "/c"\nca = "/ca"\nbrokers = ["127.0.0.1:1"]\n'
    path.write_text(f'{text}[source]\nuri = "alea:"\n{line}\n')
    assert load_feeder(str(path)).source.fips140 is wanted
    path.write_text(f'{text}[source]\nuri = "alea:"\nfips140 = 1\n')
    with pytest.raises(ConfigError, match=r"source\.fips140: must be true or false"):
        load_feeder(str(path))
