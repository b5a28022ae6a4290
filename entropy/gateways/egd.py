"""The EGD gateway: QEMU's virtio-rng, GnuPG and OpenSSL draw from the fleet through it.

A part draws from the brokers into a buffer (`drawing`), the desk says who gets which of its bytes
(`egd_desk`), and here both meet the sockets. When the buffer is empty, who waits goes on waiting,
and who would not is told that there is nothing: nothing ever stands in for the fleet's bytes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket

from entropy import kernel, notify
from entropy.clone import CloneWatch
from entropy.gateways import egd_status, sockets
from entropy.gateways.buffer import Buffer
from entropy.gateways.config import GatewayConfig, is_loopback
from entropy.gateways.drawing import Drawing, own_credential
from entropy.gateways.egd_desk import Desk, Reader, State
from entropy.notify import NOTICE, WARNING, Log
from entropy.transport.tls import client_context

LOOK_SECONDS = 1.0
_LEAST_WAIT_SECONDS = 0.01
_CUT_LOG_SECONDS = 60.0  # between two lines about readers that speak something else
_MOST_AT_ONCE_BYTES = 1024  # that are read of one reader before others have their turn
_MOST_UNSENT_BYTES = 512  # to one reader; who takes nothing is given nothing more


def check(config: GatewayConfig) -> None:
    """Read all that the configuration names. Raises ConfigError, CredentialError, KernelError."""
    own_credential(config)
    client_context(config.ca, check_dates=False)
    kernel.boot_id()


def run(config: GatewayConfig) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status; raises EntropyError at the start."""
    check(config)
    asyncio.run(_run(config))
    return 0


async def _run(config: GatewayConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gateway = EgdGateway(config)
    await gateway.start()
    notify.log(f"EGD at {', '.join(gateway.addresses)}; sign of clones: {gateway.watch.sign()}")
    notify.notify("READY=1")
    waiting = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({waiting, *gateway.tasks}, return_when=asyncio.FIRST_COMPLETED)
    notify.notify("STOPPING=1")
    waiting.cancel()
    await gateway.stop()
    for task in done - {waiting}:
        task.result()  # a part that ended by itself is a bug: say which


class EgdGateway:
    """One gateway in this process. After `start`, `addresses` are its endpoints."""

    def __init__(self, config: GatewayConfig, *, say: Log = notify.log) -> None:
        self.config = config
        self.buffer = Buffer(config.buffer_bytes)
        self.watch = CloneWatch(config.clone.generation_file)
        self.addresses: list[str] = []
        self.resets = 0  # how often this machine was cloned, restored or suspended
        self.last_reason: str | None = None
        self.over_limit = 0
        self._cut_said_seconds = float("-inf")
        self._say = say
        self._loop = asyncio.get_running_loop()
        self.desk = Desk(config.egd, self.buffer, os.getpid(), self._loop.time())
        self.drawing = Drawing(
            config, self.buffer, before_use=self.look, changed=self.serve, say=say
        )
        self._connections: dict[Reader, _Connection] = {}
        self._listeners: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self.admin = egd_status.admin_for(config.admin.listen, self)

    async def start(self) -> None:
        """Listen, and begin to draw. Raises ConfigError if an address cannot be had."""
        try:
            for endpoint in self.config.egd.listen:
                if not is_loopback(endpoint):
                    self._say(
                        f"{endpoint}: EGD has neither login nor encryption; whoever is on the way"
                        " to here can read what is handed out",
                        WARNING,
                    )
                self._listeners.append(sockets.listening(endpoint))
            for listener in self._listeners:
                # A duplicate, since asyncio closes what it was given.
                server = await self._loop.create_server(
                    lambda: _Connection(self), sock=listener.dup()
                )
                self._servers.append(server)
                self.addresses.append(sockets.name_of(listener))
            if self.admin is not None:
                await self.admin.start()
        except BaseException:
            await self.stop()
            raise
        self.tasks = [
            asyncio.create_task(self.drawing.run()),
            asyncio.create_task(self._keep_looking()),
        ]

    async def stop(self) -> None:
        """Cut all connections and leave nothing behind."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        for server in self._servers:
            server.close()
        for connection in list(self._connections.values()):
            connection.abort()
        for listener in self._listeners:
            sockets.remove(listener)
        if self.admin is not None:
            await self.admin.stop()
        self.buffer.destroy()
        self.watch.close()

    def not_ready(self) -> str | None:
        """Why a reader would wait now; None if it would not."""
        if self.buffer:
            return None
        return self.drawing.last_error or "nothing was drawn yet"

    def summary(self) -> str:
        """One line for `systemctl status`. Where it says "dry", verify.yml sees trouble."""
        broker = self.drawing.broker_id or "no broker"
        line = f"{len(self.desk.readers)} readers, {self.desk.n_waiting} wait; {broker}"
        # An empty buffer alone is no trouble: the next reply may be on its way.
        why = self.drawing.last_error or ("" if self.buffer.drawn_bytes else "nothing drawn yet")
        return f"{line}; dry: {' '.join(why.split())}" if why and not self.buffer else line

    def look(self) -> None:
        """See whether this machine is still the one that drew what is held."""
        reason = self.watch.look()
        if reason is not None:
            self.resets += 1
            self.last_reason = reason
            n_bytes = self.buffer.destroy()
            self.drawing.drop()
            self._say(f"{reason}: {n_bytes} bytes destroyed, and a new session", WARNING)

    def serve(self) -> None:
        """Give what may be given, send it, and see to what comes next.

        Nothing of the buffer goes out before this has looked for a clone.
        """
        self.look()
        self.desk.serve(self._loop.time())
        self._send()

    # What the connections say

    def opened(self, connection: _Connection) -> Reader | None:
        """A reader came. None: there are too many."""
        if len(self._connections) >= self.config.egd.max_connections:
            self.over_limit += 1
            return None
        reader = self.desk.open(self._loop.time())
        self._connections[reader] = connection
        return reader

    def received(self, reader: Reader, data: bytes) -> None:
        self.look()
        self.desk.receive(reader, data, self._loop.time())
        self._send()

    def takes_more(self, reader: Reader) -> None:
        self.look()
        self.desk.go_on(reader, self._loop.time())
        self._send()

    def closed(self, reader: Reader) -> None:
        self._connections.pop(reader, None)
        self.desk.close(reader)

    def _send(self) -> None:
        desk = self.desk
        while desk.touched:
            reader = desk.touched.pop()
            connection = self._connections.get(reader)
            if connection is None:
                continue
            connection.send(reader.data_to_send())
            desk.go_on(reader, self._loop.time())
            if reader.state is State.CLOSED:
                self._say_of_a_cut()
                connection.close()
            else:
                connection.listen(not reader.full)
        if self.buffer.has_room:
            self.drawing.wake()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wait_seconds = desk.next_seconds(self._loop.time())
        if wait_seconds is not None:
            self._timer = self._loop.call_later(max(wait_seconds, _LEAST_WAIT_SECONDS), self.serve)

    def _say_of_a_cut(self) -> None:
        """Now and then: whoever may connect could fill the log else. All of them are counted."""
        now = self._loop.time()
        if now - self._cut_said_seconds >= _CUT_LOG_SECONDS:
            self._cut_said_seconds = now
            self._say("a reader sent what is no command of EGD: cut off", NOTICE)

    async def _keep_looking(self) -> None:
        """For clones and a new credential; and tell systemd that the loop turns."""
        watchdog_seconds = notify.watchdog_interval_seconds() or LOOK_SECONDS
        line = ""
        while True:
            self.serve()
            self.drawing.look_at_credential()
            notify.notify("WATCHDOG=1")
            now = f"STATUS={self.summary()}"
            if now != line:
                line = now
                notify.notify(line)
            await asyncio.sleep(min(LOOK_SECONDS, watchdog_seconds))


class _Connection(asyncio.BufferedProtocol):
    """One reader's socket."""

    def __init__(self, gateway: EgdGateway) -> None:
        self._gateway = gateway
        self._reader: Reader | None = None
        self._listens = True
        self._incoming = bytearray(_MOST_AT_ONCE_BYTES)
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_MOST_UNSENT_BYTES, low=0)
        self._reader = self._gateway.opened(self)
        if self._reader is None:
            transport.abort()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._incoming

    def buffer_updated(self, n_bytes: int) -> None:
        if self._reader is not None:
            self._gateway.received(self._reader, bytes(self._incoming[:n_bytes]))

    def pause_writing(self) -> None:
        if self._reader is not None:
            self._reader.may_send = False

    def resume_writing(self) -> None:
        if self._reader is not None:
            self._reader.may_send = True
            self._gateway.takes_more(self._reader)

    def connection_lost(self, error: Exception | None) -> None:
        if self._reader is not None:
            reader, self._reader = self._reader, None
            self._gateway.closed(reader)

    def send(self, data: bytes) -> None:
        if data:
            self._transport.write(data)

    def listen(self, listens: bool) -> None:
        """Whether to hear what it says."""
        if listens != self._listens and not self._transport.is_closing():
            self._listens = listens
            if listens:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def close(self) -> None:
        """After what is unsent."""
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()
