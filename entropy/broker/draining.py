"""Taking a broker away without a draw that fails: it gives nothing more, and tells everybody.

Clients are answered RETRY at once and go to their next broker; feeders and peers are refused and
do the same; haproxy's agent check says drain and /readyz fails. It ends by the operator's word or
with the process: nothing of it is remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Set
from typing import Any, Callable

from entropy.broker.service import Service
from entropy.broker.session import Session
from entropy.errors import ControlError
from entropy.notify import NOTICE, Log
from entropy.wire.codes import RefusedCode, Role

GRACE_SECONDS = 5.0  # for clients that keep a session open; who draws in it is told to go


class Draining:
    """The state of one broker's drain. sessions: those that are open, as they come and go."""

    def __init__(self, service: Service, sessions: Callable[[], Set[Session]], log: Log) -> None:
        self._service = service
        self._sessions = sessions
        self._log = log
        self._older: set[Session] = set()  # than the drain
        self._timer: asyncio.TimerHandle | None = None

    @property
    def on(self) -> bool:
        return self._service.draining

    @property
    def n_sessions(self) -> int:
        """How many sessions from before the drain are still open, with their draws."""
        return len(self._older & self._sessions())

    def command(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """{"on": true or false}, from the control socket. To say it twice changes nothing."""
        on = request.get("on")
        if not isinstance(on, bool):
            raise ControlError('drain takes "on": true or false')
        if on != self.on:
            self._begin() if on else self._end()
        return {"draining": self.on, "sessions": self.n_sessions}

    def stop(self) -> None:
        """The broker ends."""
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self) -> None:
        self._service.drain(True)
        self._older = set(self._sessions())
        for session in self._older:
            if session.role in (Role.FEEDER, Role.PEER):
                session.cut(RefusedCode.SHUTDOWN)
        self._timer = asyncio.get_running_loop().call_later(GRACE_SECONDS, self._cut_the_rest)
        self._log(f"draining: {len(self._older)} sessions are told to go elsewhere", NOTICE)

    def _end(self) -> None:
        self.stop()
        self._service.drain(False)
        self._older.clear()
        self._service.watch_low_mark()
        self._log("the drain is over: serving again", NOTICE)

    def _cut_the_rest(self) -> None:
        for session in self._older & self._sessions():
            session.cut(RefusedCode.SHUTDOWN)
