"""SP 800-90B's two predictors that learn what follows what: sections 6.3.9 and 6.3.10.

Both count, for contexts of 1 to 16 symbols, which symbol came next, and guess the one that came
most often. Where the standard leaves something open, it is done as NIST's own tool does it.
"""

from __future__ import annotations

import numpy as np

from entropy.assess.counting import Symbols
from entropy.assess.followers import Contexts, Flags, best_before, contexts
from entropy.assess.scoreboard import Scoreboard, longest_run, prediction_estimate

_LONGEST = 16  # symbols of a context
_MMC_ENTRIES = 100_000  # for each length: pairs of a context and what followed it
_LZ78Y_CONTEXTS = 65_536  # for all lengths together
_BLOCK_STEPS = 65_536

_NO_GUESS, _WRONG, _RIGHT = 0, 1, 2


def multi_mmc(symbols: Symbols) -> float:
    """6.3.9: Markov models of orders 1 to 16; the one that was right most often is believed."""
    n = len(symbols)
    outcomes = np.full((_LONGEST, n), _NO_GUESS, dtype=np.uint8)
    known = np.ones(n, dtype=np.bool_)  # what follows no shorter context, follows no longer one
    for row, context in zip(outcomes, contexts(symbols, _LONGEST)):
        places, followers = context.places, symbols[context.places]
        best = best_before(
            context.codes, context.n_codes, followers, _entered(context, followers, n)
        )
        row[places] = np.where(best.symbol == followers, _RIGHT, _WRONG)
        seen = np.zeros(n, dtype=np.bool_)
        seen[places] = best.times > 0
        known &= seen
        row[~known] = _NO_GUESS

    board = Scoreboard(_LONGEST)
    outcome = np.empty(n, dtype=np.uint8)
    for start in range(2, n, _BLOCK_STEPS):
        block = outcomes[:, start : start + _BLOCK_STEPS]
        steps = np.arange(block.shape[1])
        outcome[start : start + len(steps)] = block[board.believed(block == _RIGHT), steps]
    right = outcome[2:] == _RIGHT
    # Where the believed model has no guess, a run of right ones goes on, in NIST's tool.
    run = longest_run(right[outcome[2:] != _NO_GUESS])
    return prediction_estimate(int(right.sum()), n - 2, run, int(symbols.max()) + 1)


def _entered(context: Contexts, followers: Symbols, n_symbols: int) -> Flags:
    """Whether a context and what followed it found room, when it first came, in the table."""
    n_values = int(followers.max()) + 1
    if context.n_codes * n_values > _MMC_ENTRIES:
        pairs = context.codes * n_values + followers
        is_new = np.ones(n_symbols, dtype=np.bool_)  # a context that comes once is new there
        is_new[: context.length] = False
        is_new[context.places] = False
        is_new[context.places[np.unique(pairs, return_index=True)[1]]] = True
        news = np.flatnonzero(is_new)
        if len(news) > _MMC_ENTRIES:
            return np.isin(pairs, pairs[context.places <= news[_MMC_ENTRIES - 1]])
    return np.ones(len(followers), dtype=np.bool_)


def lz78y(symbols: Symbols) -> float:
    """6.3.10: one dictionary of contexts; of all guesses the one that counts highest is made."""
    n = len(symbols)
    n_values = int(symbols.max()) + 1
    times = np.zeros(n, dtype=np.int64)
    guess = np.zeros(n, dtype=np.uint8)
    places = np.arange(_LONGEST, n)
    nodes = np.zeros(n - _LONGEST, dtype=np.int64)  # for each place the number of its context
    shorter = {b"": 0}
    contained, left_out = _dictionary(symbols.tobytes())
    for length in range(1, _LONGEST + 1):
        # A context is found by the one that lacks its first symbol.
        numbers = {context: number for number, context in enumerate(sorted(contained[length]))}
        longer = np.full(len(shorter) * n_values, -1, dtype=np.int64)
        for context, number in numbers.items():
            longer[shorter[context[1:]] * n_values + context[0]] = number
        shorter = numbers
        nodes = longer[nodes * n_values + symbols[places - length]]
        found = nodes >= 0
        places, nodes = places[found], nodes[found]
        fits = np.array([context not in left_out for context in sorted(contained[length])])
        asked = fits[nodes]
        if not asked.any():
            continue
        best = best_before(nodes[asked], len(numbers), symbols[places[asked]])
        # On equal counts the longer context wins.
        better = (best.times > 0) & (best.times >= times[places[asked]])
        times[places[asked][better]] = best.times[better]
        guess[places[asked][better]] = best.symbol[better]

    guessed = slice(_LONGEST + 1, None)
    right = (times[guessed] > 0) & (guess[guessed] == symbols[guessed])
    return prediction_estimate(int(right.sum()), len(right), longest_run(right), n_values)


def _dictionary(values: bytes) -> tuple[list[set[bytes]], set[bytes]]:
    """The contexts that find room, by length, and those few of them that after all do not.

    Longer ones come first. While there is room, every context is there with all shorter ones
    that it ends in, so that most places need one look; the last place keeps this so by contexts
    that found no room.
    """
    contained: list[set[bytes]] = [set() for _ in range(_LONGEST + 1)]
    left_out: set[bytes] = set()
    room = _LZ78Y_CONTEXTS
    for place in range(_LONGEST, len(values)):
        for length in range(_LONGEST, 0, -1):
            context = values[place - length : place]
            if context in contained[length]:
                break
            contained[length].add(context)
            if room == 0:
                left_out.add(context)
            else:
                room -= 1
        if room == 0:
            break
    return contained, left_out
