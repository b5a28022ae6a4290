"""The estimators again, step by step as SP 800-90B section 6.3 writes them down: slow, and made
without a look at those of the package. Only what NIST's tool adds to the text is as there.

Symbols are bytes with values from 0. Predictors return what they counted: how many guesses were
right, how many there were, and the longest run.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict

Z = 2.5758293035489008


def _bound(p: float, n: int) -> float:
    return min(1.0, p + Z * math.sqrt(p * (1 - p) / (n - 1)))


def most_common_value(s: bytes) -> float:
    return -math.log2(_bound(Counter(s).most_common(1)[0][1] / len(s), len(s)))


def collision(s: bytes) -> float:
    waits = []
    index = 0
    while True:
        end = next((j for j in range(index, len(s)) if s[j] in s[index:j]), None)
        if end is None:
            break
        waits.append(end - index + 1)
        index = end + 1
    v = len(waits)
    mean = sum(waits) / v
    deviation = math.sqrt(sum((t - mean) ** 2 for t in waits) / (v - 1))
    target = mean - Z * deviation / math.sqrt(v)

    def expected(p: float) -> float:
        q = 1 - p

        def f(z: float) -> float:  # F(1/z) = Gamma(3, z) z^-3 e^z
            return (z * z + 2 * z + 2) / z**3

        half = (1 / p - 1 / q) / 2
        return p / q**2 * (1 + half) * f(1 / q) - p / q * half

    low, high = 0.5, 1.0 - 1e-12
    if expected(low) < target:
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expected(middle) > target else (low, middle)
    return -math.log2(low)


def markov(s: bytes) -> float:
    first = [math.log2(s.count(bit) / len(s)) if bit in s else -math.inf for bit in (0, 1)]
    steps = Counter(zip(s, s[1:]))

    def step(a: int, b: int) -> float:
        n = steps[a, 0] + steps[a, 1]
        return math.log2(steps[a, b] / n) if steps[a, b] else -math.inf

    sequences = ["0" * 128, "01" * 64, "0" + "1" * 127, "1" + "0" * 127, "10" * 64, "1" * 128]
    likeliest = max(
        first[int(x[0])] + sum(step(int(a), int(b)) for a, b in zip(x, x[1:])) for x in sequences
    )
    return min(1.0, -likeliest / 128)


def compression(s: bytes) -> float:
    words = [tuple(s[i : i + 6]) for i in range(0, len(s) - 5, 6)]
    d, n = 1000, len(words)
    last: dict[tuple[int, ...], int] = {}
    distances = []
    for i, word in enumerate(words, 1):
        if i > d:
            distances.append(i - last[word] if word in last else i)
        last[word] = i
    v = n - d
    logs = [math.log2(x) for x in distances]
    mean = sum(logs) / v
    deviation = 0.5907 * math.sqrt(sum(x * x for x in logs) / (v - 1) - mean**2)
    target = mean - Z * deviation / math.sqrt(v)

    def g(z: float) -> float:
        total = inner = 0.0
        for t in range(1, n + 1):
            if t > d:
                total += inner + math.log2(t) * z * (1 - z) ** (t - 1)
            inner += math.log2(t) * z * z * (1 - z) ** (t - 1)
        return total / v

    low, high = 1 / 64, 1.0
    if g(low) * 64 <= target:
        return 1.0
    for _ in range(30):
        p = (low + high) / 2
        low, high = (p, high) if g(p) + 63 * g((1 - p) / 63) > target else (low, p)
    return -math.log2(low) / 6


def tuples(s: bytes) -> tuple[float | None, float | None]:
    n = len(s)
    often, seldom = [], []
    length = 1
    while True:
        counts = Counter(s[i : i + length] for i in range(n - length + 1)).values()
        if max(counts) < 2:
            break
        if max(counts) >= 35:
            often.append((max(counts) / (n - length + 1)) ** (1 / length))
        else:
            equal = sum(c * (c - 1) // 2 for c in counts)
            seldom.append((equal / math.comb(n - length + 1, 2)) ** (1 / length))
        length += 1

    def bits(p: list[float]) -> float | None:
        return -math.log2(_bound(max(p), n)) if p else None

    return bits(often), bits(seldom)


def _judge(s: bytes, start: int, guesses: list[list[int | None]]) -> tuple[int, int, int]:
    """Steps 3 and 4 of the predictors: guesses[i] are those of all subpredictors for s[i]."""
    n_predictors = len(guesses[-1])
    scores = [0] * n_predictors
    winner = right = run = longest = 0
    for i in range(start, len(s)):
        guess = guesses[i][winner]
        if guess == s[i]:
            right += 1
            run += 1
            longest = max(longest, run)
        elif guess is not None:  # NIST's tool: no guess, no end of a run
            run = 0
        for j in range(n_predictors):
            if guesses[i][j] == s[i]:
                scores[j] += 1
                if scores[j] >= scores[winner]:
                    winner = j
    return right, len(s) - start, longest


def multi_mcw(s: bytes) -> tuple[int, int, int]:
    def commonest(window: bytes) -> int:
        counts = Counter(window)
        highest = max(counts.values())
        return next(x for x in reversed(window) if counts[x] == highest)

    windows = (63, 255, 1023, 4095)
    guesses = [
        [commonest(s[i - w : i]) if i >= w else None for w in windows] for i in range(len(s))
    ]
    return _judge(s, 63, guesses)


def lag(s: bytes) -> tuple[int, int, int]:
    guesses = [[s[i - d] if i >= d else None for d in range(1, 129)] for i in range(len(s))]
    return _judge(s, 1, guesses)


def _best(counts: dict[int, int]) -> int | None:
    return max(counts, key=lambda y: (counts[y], y)) if counts else None


def multi_mmc(s: bytes, most_entries: int = 100_000) -> tuple[int, int, int]:
    models: list[dict[bytes, dict[int, int]]] = [defaultdict(dict) for _ in range(16)]
    n_entries = [0] * 16
    guesses: list[list[int | None]] = [[None] * 16]
    for i in range(1, len(s)):
        guesses.append([None] * 16)
        for d in range(1, min(16, i) + 1):
            counts = models[d - 1].get(s[i - d : i])
            if counts is None:
                break  # nor has any longer one come before
            guesses[i][d - 1] = _best(counts)
        for d in range(1, min(16, i) + 1):
            counts = models[d - 1].get(s[i - d : i], {})
            if s[i] in counts:
                counts[s[i]] += 1
            elif n_entries[d - 1] < most_entries:
                models[d - 1][s[i - d : i]][s[i]] = 1
                n_entries[d - 1] += 1
    return _judge(s, 2, guesses)


def lz78y(s: bytes, most_contexts: int = 65_536) -> tuple[int, int, int]:
    contexts: dict[bytes, dict[int, int]] = {}
    right = run = longest = 0
    for i in range(16, len(s)):
        guess, highest = None, 0
        for length in range(16, 0, -1):
            counts = contexts.get(s[i - length : i])
            best = _best(counts) if counts else None
            if counts and best is not None and counts[best] > highest:
                guess, highest = best, counts[best]
        if i > 16:
            run = run + 1 if guess == s[i] else 0
            right += guess == s[i]
            longest = max(longest, run)
        for length in range(16, 0, -1):
            context = s[i - length : i]
            if context in contexts or len(contexts) < most_contexts:
                followers = contexts.setdefault(context, {})
                followers[s[i]] = followers.get(s[i], 0) + 1
    return right, len(s) - 17, longest
