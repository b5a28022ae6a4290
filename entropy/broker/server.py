"""The broker's life: start, accept, stop."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Coroutine
from typing import Any, Callable

from entropy.admin import Admin
from entropy.broker import agent
from entropy.broker import status as report
from entropy.broker.access import Access
from entropy.broker.check import check
from entropy.broker.control import Control
from entropy.broker.draining import Draining
from entropy.broker.peer import PeerLink
from entropy.broker.ports import Ports
from entropy.broker.service import Service
from entropy.broker.session import Session
from entropy.broker.uses import FirstUses
from entropy.clone import CloneWatch
from entropy.clone_guard import CloneGuard, Fresh
from entropy.config import BrokerConfig
from entropy.notify import NOTICE, Log, log, notify, watchdog_interval_seconds
from entropy.reservoir import Reservoir
from entropy.transport.pace import HandshakePace
from entropy.transport.plain_stream import PlainStream
from entropy.transport.stream import TlsStream
from entropy.wire.codes import RefusedCode
from entropy.wire.keys import Ephemeral

__all__ = ["Broker", "check", "run"]

EPHEMERAL_SECONDS = 60.0
STATUS_SECONDS = 10.0
FEED_IS_RECENT_SECONDS = 60.0
STRANGERS_LOG_SECONDS = 10.0


class Broker:
    """One broker in this process. `random` gives bytes of the kernel's generator.

    After `start`: `addresses` are its endpoints with their real ports, `admin_address` is the
    host and port of its HTTP server, if it has one.
    """

    def __init__(
        self,
        config: BrokerConfig,
        *,
        random: Callable[[int], bytes] = os.urandom,
        say: Log = log,
    ) -> None:
        self.config = config
        self.broker_id = config.id
        self.random = random
        self.log = say
        self.sessions: set[Session] = set()
        self.peers: list[PeerLink] = []
        self.addresses: list[str] = []
        self.certificate_sha256 = b""
        self.epoch: bytes
        self.ephemeral: Ephemeral
        self.access: Access
        self.service: Service
        self._ports = Ports(config, self._handle, self._handle_seeds, self.agent_line)
        self.clones: CloneGuard
        self._draining: Draining
        self._control: Control | None = None
        self._admin: Admin | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._peer_tasks: list[asyncio.Task[None]] = []
        self._applying = asyncio.Lock()  # one access list at a time
        self._started_seconds = 0.0
        self._stopping = False
        self._n_strangers = 0
        self._strangers_logged_seconds = float("-inf")

    async def start(self) -> None:
        """Read all files and listen. Raises ConfigError, CredentialError or TransportError."""
        check(self.config)
        config = self.config
        self._started_seconds = time.monotonic()
        self.epoch = self.random(16)
        self.ephemeral = Ephemeral.new(self.random(32))
        self.access = Access(config.acl, config.site_id, self.random)
        reservoir = Reservoir(
            broker_id=config.id,
            epoch=self.epoch,
            capacity_blocks=config.reservoir.capacity_blocks,
            export_above_blocks=config.reservoir.high_mark_blocks,
            kernel_bytes=self.random,
        )
        self.service = Service(
            config,
            reservoir,
            self.access,
            monotonic_seconds=time.monotonic,
            unix_seconds=time.time,
            log=self.log,
            uses=FirstUses(config.state_dir, self.log),
        )
        watch = CloneWatch(config.clone.generation_file)
        self.clones = CloneGuard(watch, self.random, self._begin_anew)
        self._draining = Draining(self.service, lambda: self.sessions, self.log)
        try:
            await self._ports.start()
            self.addresses = self._ports.addresses
            self.certificate_sha256 = self._ports.certificate_sha256
            self._control = Control(
                config.control_socket,
                {
                    "status": lambda _: {"status": self.status()},
                    "keys": lambda _: report.keys(self),
                    "apply-acl": lambda _: self.apply_acl(),
                    "drain": self._draining.command,
                },
            )
            await self._control.start()
            if config.admin.listen:
                self._admin = Admin(
                    config.admin.listen,
                    healthy=lambda: None,
                    ready=self.not_ready,
                    metrics=lambda: report.metrics(self),
                    status=self.status,
                )
                await self._admin.start()
        except BaseException:
            await self.stop()
            raise
        turn = asyncio.Lock()
        self.peers = [
            PeerLink(peer, config, self.service, self.current_epoch, turn, self.random, self.log)
            for peer in config.peers
        ]
        self.service.fell_low = self._nudge_peers
        self.service.watch_low_mark()  # it starts empty
        self._start_peers()
        self._tasks = [_part(self._replace_ephemeral()), _part(self.clones.run())]

    async def stop(self) -> None:
        """Tell every session that this broker shuts down, and leave nothing behind."""
        self._stopping = True
        self._draining.stop()
        self._ports.close()  # cancels the sessions, and they say goodbye
        tasks = [*self._tasks, *self._peer_tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._ports.wait_closed()
        if self._admin is not None:
            await self._admin.stop()
        if self._control is not None:
            await self._control.stop()
        self.service.reservoir.destroy_all()
        self.clones.close()

    @property
    def admin_address(self) -> tuple[str, int] | None:
        return None if self._admin is None else self._admin.address

    def status(self) -> dict[str, Any]:
        """The status as JSON; see the contract of `entropy status --json`."""
        return report.status(self)

    def uptime_seconds(self) -> float:
        return time.monotonic() - self._started_seconds

    def not_ready(self) -> str | None:
        """Why no balancer should send clients here; None if it should.

        A broker that is empty for a moment but is fed, or given to by a peer, is ready: its
        clients wait.
        """
        if self._stopping:
            return "shutting down"
        if self.service.draining:
            return "draining"
        if self.service.reservoir.held_blocks:
            return None
        # Not by the wall clock: set back, it would call a feed of long ago recent for as long.
        recent_seconds = time.monotonic() - FEED_IS_RECENT_SECONDS
        for record in self.service.logins.ids:
            if record.sessions and record.last_feed_seconds > recent_seconds:
                return None
        if any(peer.last_import_seconds > recent_seconds for peer in self.peers):
            return None
        return "the reservoir is empty, and no feeder or peer brings anything"

    def agent_line(self) -> str:
        """What haproxy's agent check is told."""
        reservoir = self.service.reservoir
        return agent.words(
            draining=self.service.draining,
            problem=self.not_ready(),
            held_blocks=reservoir.held_blocks,
            capacity_blocks=reservoir.capacity_blocks,
        )

    @property
    def seeds_addresses(self) -> list[str]:
        return self._ports.seeds_addresses

    @property
    def agent_addresses(self) -> list[str]:
        return self._ports.agent_addresses

    def over_limit(self) -> int:
        return self._ports.over_limit

    def failed_handshakes(self) -> int:
        return self._ports.failed_handshakes

    def note_stranger(self, what: str, address: str) -> None:
        """Somebody was refused before proving who it is: one line in ten seconds says so."""
        self._n_strangers += 1
        now = time.monotonic()
        if now - self._strangers_logged_seconds >= STRANGERS_LOG_SECONDS:
            more = f" (and {self._n_strangers - 1} more since)" if self._n_strangers > 1 else ""
            self.log(f"{address}: refused: it {what}{more}", NOTICE)
            self._strangers_logged_seconds, self._n_strangers = now, 0

    async def _handle(self, stream: TlsStream) -> None:
        await self._run_session(Session(self, stream))

    async def _handle_seeds(self, stream: PlainStream) -> None:
        await self._run_session(Session(self, stream, seeds_only=True))

    async def _run_session(self, session: Session) -> None:
        self.sessions.add(session)
        try:
            await session.run()
        finally:
            self.sessions.discard(session)

    async def apply_acl(self) -> dict[str, Any]:
        """Read the access list anew, cut the sessions of keys that are gone; its generation."""
        async with self._applying:
            gone = await asyncio.to_thread(self.access.reload)
            cut = [session for session in self.sessions if session.key in gone]
            for session in cut:
                session.cut(RefusedCode.AUTHENTICATION)
            for _ in self.service.logins.adopt_list():
                await asyncio.sleep(0)
            acl = self.access.acl
            self.log(
                f"access list of generation {acl.generation} applied: {len(acl.entries)}"
                f" entries, {len(gone)} no longer valid, {len(cut)} sessions cut",
                NOTICE,
            )
            return {"generation": acl.generation}

    @property
    def pace(self) -> HandshakePace:
        return self._ports.pace

    def current_epoch(self) -> bytes:
        """The epoch, after looking whether another one has to begin."""
        self.clones.check()
        return self.epoch

    def _begin_anew(self, reason: str, fresh: Fresh) -> None:
        """This machine was copied: destroy what the copy has too. Nobody is answered meanwhile."""
        n_blocks, n_sessions = self.service.reservoir.held_blocks, len(self.sessions)
        self.epoch = fresh.bytes("epoch", 16)
        self.ephemeral = Ephemeral.new(fresh.bytes("ephemeral", 32))
        for session in list(self.sessions):
            session.drop()
        self._ports.cut_all()
        self.service.reservoir.begin_anew(self.epoch, fresh.bytes("reservoir", 64))
        for task in self._peer_tasks:
            task.cancel()
        self._start_peers()
        self.service.watch_low_mark()
        self.service.alarms.note(
            self.broker_id,
            f"{reason}: this machine was cloned, restored or suspended: {n_blocks} blocks and all"
            f" keys are destroyed, {n_sessions} sessions cut",
        )

    def _start_peers(self) -> None:
        self._peer_tasks = [_part(peer.run()) for peer in self.peers]
        self._peer_tasks += [_part(peer.stir()) for peer in self.peers]

    def _nudge_peers(self) -> None:
        for peer in self.peers:
            peer.nudge()

    async def _replace_ephemeral(self) -> None:
        """Sessions that are being opened keep the one that they began with; then it is gone."""
        while True:
            await asyncio.sleep(EPHEMERAL_SECONDS)
            self.ephemeral = Ephemeral.new(self.random(32))


def _part(running: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.get_running_loop().create_task(running)
    task.add_done_callback(_tell_of_a_bug)
    return task


def _tell_of_a_bug(task: asyncio.Task[None]) -> None:
    """A part that ended by itself would be missed by nobody: the broker goes on serving."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        what = "a bug ended a part of the broker: restart it"
        task.get_loop().call_exception_handler({"message": what, "exception": error})


def run(config: BrokerConfig) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status; raises EntropyError at start."""
    return asyncio.run(_run(config))


async def _run(config: BrokerConfig) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    broker = Broker(config)
    await broker.start()
    log(f"broker {config.id} of site {config.site_id} listens on {', '.join(broker.addresses)}")
    notify("READY=1")
    reporting = asyncio.create_task(_report(broker))
    await stop.wait()
    notify("STOPPING=1")
    log("shutting down", NOTICE)
    reporting.cancel()
    await broker.stop()
    return 0


async def _report(broker: Broker) -> None:
    """Tell systemd that the loop turns, and how full the reservoir is."""
    watchdog_seconds = watchdog_interval_seconds()
    pause_seconds = min(STATUS_SECONDS, watchdog_seconds or STATUS_SECONDS)
    while True:
        reservoir = broker.service.reservoir
        state = f"STATUS={reservoir.held_blocks} of {reservoir.capacity_blocks} blocks"
        notify(state if watchdog_seconds is None else f"{state}\nWATCHDOG=1")
        await asyncio.sleep(pause_seconds)
