"""The statistics of the report against the health tests themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropy.assess.windows import look
from entropy.errors import ConfigError
from entropy.health import WINDOW_BYTES

from .noise import draw


def longest_run(values: str) -> int:
    return max(
        len(run)
        for run in "".join(
            value if not i or values[i - 1] == value else f" {value}"
            for i, value in enumerate(values)
        ).split()
    )


def test_good_noise() -> None:
    samples = draw("bytes", 10 * WINDOW_BYTES + 100).tobytes()
    windows = look(samples, 7)
    assert windows.failures == ()
    for n in range(10):
        window = samples[n * WINDOW_BYTES : (n + 1) * WINDOW_BYTES]
        assert windows.byte_proportion[n] == window.count(window[0])
        parts = [f"{int.from_bytes(window[i : i + 128], 'big'):01024b}" for i in range(0, 512, 128)]
        assert windows.bit_proportion[n] == max(part.count(part[0]) for part in parts)
        if n == 0:
            assert windows.bit_repetition[n] == longest_run("".join(parts))
    assert [len(statistic) for statistic in windows[1:5]] == [10] * 4


@given(st.integers(1, 4).map(lambda n: n * WINDOW_BYTES), st.integers(1, 60))
def test_runs_go_on_over_windows(start: int, n_equal: int) -> None:
    samples = bytearray(draw("bytes", 6 * WINDOW_BYTES).tobytes())
    samples[start - n_equal - 1 : start + 1] = b"\x2a" + b"\x55" * (n_equal + 1)
    windows = look(bytes(samples), 1)
    assert windows.byte_repetition[start // WINDOW_BYTES] >= n_equal + 1


@pytest.mark.parametrize(("kind", "fails"), [("heavy bytes", True), ("bytes", False)])
def test_what_reaches_a_cutoff_is_what_failed(kind: str, fails: bool) -> None:
    windows = look(draw(kind, 40 * WINDOW_BYTES).tobytes(), 7)
    cutoffs = windows.cutoffs
    reached = (
        (windows.byte_repetition >= cutoffs.byte_repetition)
        | (windows.byte_proportion >= cutoffs.byte_proportion)
        | (windows.bit_repetition >= cutoffs.bit_repetition)
        | (windows.bit_proportion >= cutoffs.bit_proportion)
    )
    assert int(reached.sum()) == len(windows.failures)
    assert bool(windows.failures) == fails


def test_a_figure_that_no_test_can_be_cut_from() -> None:
    with pytest.raises(ConfigError, match="test_bits_per_byte"):
        look(bytes(WINDOW_BYTES), 0.01)
