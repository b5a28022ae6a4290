"""Who gets which bytes: the readers of an EGD gateway, and their turns. No input, output, clock.

A reader's commands are answered in their order, one after the other:

    READY    the next command is taken
    WAITING  a READ_ALL has not been given all of its bytes
    CLOSED   it went, or said what is no command

Those who wait are given bytes in turns of at most a block's worth, as far as the buffer, their
own allowance and that of all of them reach. A READ_SOME is answered at once with what is there
and allowed, be it nothing. What a WRITE brings is dropped: only feeders bring entropy in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum, auto

from entropy.errors import LocalProtocolError, RemoteProtocolError
from entropy.gateways import egd_commands
from entropy.gateways.allowance import Allowance
from entropy.gateways.buffer import Buffer
from entropy.gateways.config import EgdConfig
from entropy.gateways.egd_commands import Verb, take_command

TURN_BYTES = 56  # what one block of a broker's is worth
# More unread commands than this, and the reader is not listened to until some are answered.
MOST_INPUT_BYTES = 1024
# More answers than this, and the next command waits until they are sent.
MOST_OUTPUT_BYTES = 1024


class State(Enum):
    READY = auto()
    WAITING = auto()
    CLOSED = auto()


class Event(Enum):
    ANSWERED = auto()  # a command that needs no waiting
    ASKED = auto()  # for bytes, and must wait for them
    GIVEN = auto()  # some of them
    SERVED = auto()  # the last of them
    GONE = auto()


_NEXT = {
    (State.READY, Event.ANSWERED): State.READY,
    (State.READY, Event.ASKED): State.WAITING,
    (State.READY, Event.GONE): State.CLOSED,
    (State.WAITING, Event.GIVEN): State.WAITING,
    (State.WAITING, Event.SERVED): State.READY,
    (State.WAITING, Event.GONE): State.CLOSED,
    (State.CLOSED, Event.GONE): State.CLOSED,
}


class Reader:
    """One connection, as the desk knows it."""

    def __init__(self, allowance: Allowance) -> None:
        self.state = State.READY
        self.may_send = True  # False while the connection takes no more
        self.allowance = allowance
        self.missing_bytes = 0  # of the READ_ALL that it waits for
        self.input = bytearray()
        self._output = bytearray()

    @property
    def full(self) -> bool:
        """Whether to stop listening to it for now."""
        return len(self.input) > MOST_INPUT_BYTES

    @property
    def listens(self) -> bool:
        """Whether it may be given anything more."""
        return self.may_send and len(self._output) < MOST_OUTPUT_BYTES

    def send(self, data: bytes) -> None:
        self._output += data

    def data_to_send(self) -> bytes:
        """What is to go to it now. Erased here."""
        data = bytes(self._output)
        self._output[:] = bytes(len(data))
        self._output.clear()
        return data

    def step(self, event: Event) -> None:
        """LocalProtocolError if that cannot happen in this state."""
        try:
            self.state = _NEXT[self.state, event]
        except KeyError:
            raise LocalProtocolError(f"{event.name} while {self.state.name}") from None


class Desk:
    """All readers of one gateway. Times are seconds of any one clock."""

    def __init__(self, config: EgdConfig, buffer: Buffer, pid: int, now_seconds: float) -> None:
        self._config = config
        self._buffer = buffer
        self._pid = pid
        self._in_all = Allowance(
            config.total_rate_bytes_per_second, config.total_burst_bytes, now_seconds
        )
        self.readers: set[Reader] = set()
        self.touched: set[Reader] = set()  # something of them may have to be sent, or they closed
        self._waiting: deque[Reader] = deque()
        self.commands = dict.fromkeys(Verb, 0)
        self.short_answers = 0  # READ_SOME that got less than asked for
        self.dropped_bytes = 0  # of WRITE
        self.not_understood = 0

    @property
    def n_waiting(self) -> int:
        return len(self._waiting)

    @property
    def asked_bytes(self) -> int:
        """What those who wait are still to be given."""
        return sum(reader.missing_bytes for reader in self._waiting)

    def open(self, now_seconds: float) -> Reader:
        """A new reader."""
        config = self._config
        allowance = Allowance(config.rate_bytes_per_second, config.burst_bytes, now_seconds)
        reader = Reader(allowance)
        self.readers.add(reader)
        return reader

    def close(self, reader: Reader) -> None:
        """It went. What was not sent to it yet is erased, and goes to nobody."""
        reader.step(Event.GONE)
        reader.data_to_send()
        reader.missing_bytes = 0
        self.readers.discard(reader)
        if reader in self._waiting:
            self._waiting.remove(reader)

    def receive(self, reader: Reader, data: bytes, now_seconds: float) -> None:
        """It said something. What is no command closes it."""
        if reader.state is not State.CLOSED:
            reader.input += data
            self.touched.add(reader)  # it may be full now
            self._answer(reader, now_seconds)
            self.serve(now_seconds)

    def go_on(self, reader: Reader, now_seconds: float) -> None:
        """It was sent what there was for it, and takes more."""
        if reader.state is not State.CLOSED and (reader.input or reader.missing_bytes):
            self._answer(reader, now_seconds)
            self.serve(now_seconds)

    def serve(self, now_seconds: float) -> None:
        """Give what is there to those who wait, in turns, as far as they may have it."""
        n_in_vain = 0
        while self._buffer and n_in_vain < len(self._waiting):
            reader = self._waiting.popleft()
            n_bytes = min(reader.missing_bytes, TURN_BYTES, self._allowed(reader, now_seconds))
            if not reader.listens or not n_bytes:
                self._waiting.append(reader)
                n_in_vain += 1
                continue
            n_in_vain = 0
            data = self._give(reader, n_bytes)
            reader.send(data)
            self.touched.add(reader)
            reader.missing_bytes -= len(data)
            if reader.missing_bytes:
                reader.step(Event.GIVEN)
                self._waiting.append(reader)
            else:
                reader.step(Event.SERVED)
                self._answer(reader, now_seconds)

    def next_seconds(self, now_seconds: float) -> float | None:
        """When `serve` may do more for those who wait, in seconds from now; None: no telling."""
        if not self._buffer:
            return None
        waits = [max(seconds, 0.0) for seconds in self._waits(now_seconds)]
        return min(waits, default=None)

    def _waits(self, now_seconds: float) -> Iterator[float]:
        self._in_all.available_bytes(now_seconds)
        for reader in self._waiting:
            if reader.listens:
                reader.allowance.available_bytes(now_seconds)
                # Not for every single byte.
                n_bytes = min(reader.missing_bytes, TURN_BYTES)
                own_seconds = reader.allowance.wait_seconds(n_bytes)
                yield max(own_seconds, self._in_all.wait_seconds(n_bytes))

    def _allowed(self, reader: Reader, now_seconds: float) -> int:
        own = reader.allowance.available_bytes(now_seconds)
        return min(own, self._in_all.available_bytes(now_seconds))

    def _give(self, reader: Reader, n_bytes: int) -> bytes:
        data = self._buffer.take(n_bytes)
        reader.allowance.take(len(data))
        self._in_all.take(len(data))
        return data

    def _answer(self, reader: Reader, now_seconds: float) -> None:
        """Answer its commands, up to one that must wait."""
        while reader.state is State.READY and reader.listens:
            try:
                command = take_command(reader.input)
            except RemoteProtocolError:
                self.not_understood += 1
                reader.input.clear()
                reader.step(Event.GONE)
                self.touched.add(reader)
                return
            if command is None:
                return
            self.touched.add(reader)
            self.commands[command.verb] += 1
            if command.verb is Verb.READ_ALL and command.n_bytes:
                reader.missing_bytes = command.n_bytes
                reader.step(Event.ASKED)
                self._waiting.append(reader)
            else:
                self._answer_at_once(reader, command, now_seconds)
                reader.step(Event.ANSWERED)

    def _answer_at_once(
        self, reader: Reader, command: egd_commands.Command, now_seconds: float
    ) -> None:
        if command.verb is Verb.LEVEL:
            reader.send(egd_commands.level(8 * len(self._buffer)))
        elif command.verb is Verb.READ_SOME:
            data = self._give(reader, min(command.n_bytes, self._allowed(reader, now_seconds)))
            self.short_answers += len(data) < command.n_bytes
            reader.send(egd_commands.some(data))
        elif command.verb is Verb.PID:
            reader.send(egd_commands.process_id(self._pid))
        elif command.verb is Verb.WRITE:
            self.dropped_bytes += command.n_bytes
