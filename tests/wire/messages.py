"""Strategies: any message that the wire allows."""

from __future__ import annotations

from hypothesis import strategies as st

from entropy.wire.codes import DrawKind, RefusedCode, RetryReason, Role
from entropy.wire.frames import (
    Accepted,
    Auth,
    Block,
    Draw,
    Feed,
    Hello,
    Message,
    Recall,
    Refused,
    Retry,
    Welcome,
)

U16 = st.integers(0, (1 << 16) - 1)
U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, (1 << 64) - 1)
IDS = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?", fullmatch=True)
BROKER_IDS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
PERMISSIONS = st.frozensets(st.sampled_from(["draw", "feed", "peer"]))


def exactly(n_bytes: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=n_bytes, max_size=n_bytes)


HELLOS = st.builds(Hello, BROKER_IDS, exactly(16), exactly(32), exactly(32))
AUTHS = st.builds(
    Auth, st.sampled_from(Role), IDS, exactly(8), exactly(16), U64, exactly(32), exactly(32)
)
WELCOMES = st.builds(Welcome, PERMISSIONS, U32, U16, U32, U32, U32, U32, U32, exactly(32))
DRAWS = st.builds(Draw, st.sampled_from(DrawKind), st.integers(1, 4096), U32)
RECALLS = st.builds(Recall, U64)
ACCEPTEDS = st.builds(Accepted, U64, U32, U32, U32)
RETRIES = st.builds(Retry, U32, st.sampled_from(RetryReason))
REFUSEDS = st.builds(Refused, st.sampled_from(RefusedCode))


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    data = draw(st.binary(min_size=1, max_size=200) | exactly(4096))
    origins = tuple(draw(st.lists(IDS, max_size=16)))
    return Block(draw(U64), draw(st.integers(0, 8 * len(data))), origins, data)


@st.composite
def feeds(draw: st.DrawFn) -> Feed:
    held = tuple(draw(st.lists(exactly(64), max_size=3)) * draw(st.integers(1, 10)))
    return Feed(draw(U64), draw(st.integers(0, 512 * len(held))), held)


REQUESTS: st.SearchStrategy[Draw | Feed | Recall] = st.one_of(DRAWS, feeds(), RECALLS)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    HELLOS,
    AUTHS,
    WELCOMES,
    DRAWS,
    blocks(),
    feeds(),
    RECALLS,
    ACCEPTEDS,
    RETRIES,
    REFUSEDS,
)
