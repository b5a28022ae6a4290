"""When a daemon's own machine was cloned, restored or suspended: nothing of before is used.

Two machines that go on from one snapshot hold the same blocks, the same keys of every session, the
same samples and the same state of OpenSSL's generator. So the daemon destroys all that and makes it
anew, with what tells one copy from the other mixed into it: the kernels of both may not have heard
of it yet, and give the same bytes.

Signs are looked for each second, and by whoever is about to read or send something if the last look
is LOOK_SECONDS old. What the platform gives no sign of is not seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import ssl
import time
from typing import Any, Callable

from entropy import kernel
from entropy.clone import BLIND, CloneWatch
from entropy.errors import KernelError

LOOK_SECONDS = 0.02  # a look takes 50 us: at most 1 part in 400 of the loop's time
POLL_SECONDS = 1.0


class Fresh:
    """Secret bytes of which no copy has the same: from the kernel, and from what is told apart."""

    def __init__(self, random: Callable[[int], bytes], unlike: bytes) -> None:
        self._key = hashlib.sha512(random(64) + unlike).digest()

    def bytes(self, label: str, n_bytes: int) -> bytes:
        """At most 64 bytes for one use. Other labels give other bytes."""
        return hmac.digest(self._key, label.encode(), "sha512")[:n_bytes]


class CloneGuard:
    """Looks for the signs. begin_anew is called with the reason in words and a Fresh."""

    def __init__(
        self,
        watch: CloneWatch,
        random: Callable[[int], bytes],
        begin_anew: Callable[[str, Fresh], None],
    ) -> None:
        self._watch = watch
        self._random = random
        self._begin_anew = begin_anew
        self._looked_seconds = time.monotonic()
        self.resets = 0
        self.last_reason: str | None = None

    @property
    def blind(self) -> bool:
        """Whether this platform never tells this process."""
        return self._watch.sign() in BLIND

    def check(self) -> None:
        """Look, unless that was done just now."""
        if time.monotonic() - self._looked_seconds >= LOOK_SECONDS:
            self.look()

    def look(self) -> None:
        """Look, and begin anew if there is a sign."""
        self._looked_seconds = time.monotonic()
        reason = self._watch.look()
        if reason is None:
            return
        self.resets += 1
        self.last_reason = reason
        unlike = kernel.clocks() + self._watch.generation() + reason.encode()
        with contextlib.suppress(KernelError):
            kernel.mix(unlike)
        fresh = Fresh(self._random, unlike)
        # OpenSSL's own generator, which makes the keys of TLS, is in memory and was copied too.
        ssl.RAND_add(fresh.bytes("openssl", 64), 64.0)
        self._begin_anew(reason, fresh)

    async def run(self) -> None:
        """Never returns; ends by being cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            self.look()

    def status(self) -> dict[str, Any]:
        return {
            "sign": self._watch.sign(),
            "last_reason": self.last_reason,
            "resets": self.resets,
        }

    def close(self) -> None:
        self._watch.close()
