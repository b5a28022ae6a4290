"""`serial:/dev/ttyACM0?model=truerng|truerngpro|onerng|raw`: generators on a serial line.

All of them are USB devices that Linux's cdc_acm drives; pyserial opens the line.

- `truerng` (TrueRNG v1 to v3): raising DTR starts the flow, the speed means nothing;
- `truerngpro` (pro, pro V2): the same; opening it at 110, 300 and 110 baud and then at one more
  speed sets its mode: 300 is normal, and `&mode=raw` (19200) its converter's samples;
- `onerng`: text commands stop it, flush it, set its mode and let it run;
- `raw`: anything else that sends bytes by itself. Nothing is known of it, so nothing is counted.

A path under /dev/serial/by-id names one device wherever it is plugged in; /dev/ttyACM0 is
whichever came first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import termios
import time
from typing import Any, NamedTuple

from entropy.errors import ConfigError, SourceError, SourceGone
from entropy.sources.base import Figures, Source, StatedFigures, source_failure
from entropy.sources.holder import process_with
from entropy.sources.parameters import one_of, parameters

TIMEOUT_SECONDS = 1.0
SILENCE_SECONDS = 15.0
PAUSE_SECONDS = 0.5  # between two settings, for the device to take the first one in


class Model(NamedTuple):
    """How a kind of device is started, and what it is counted for."""

    figures: Figures
    baud: int = 9600
    knock_bauds: tuple[int, ...] = ()  # opened at these before
    start: tuple[bytes, ...] = ()
    stop: bytes = b""


_WHITENED = "whitened in the device, so that no test sees its noise; unverified, counted low"
_KNOCK = (110, 300, 110)
MODELS = {
    "truerng": Model(Figures(1, 7, f"TrueRNG: {_WHITENED}")),
    "truerngpro": Model(Figures(1, 7, f"TrueRNGpro: {_WHITENED}"), 300, _KNOCK),
    "onerng": Model(
        # Mode 0: the avalanche diode, whitened. O runs it, w flushes its pool, o stops it.
        Figures(1, 7, f"OneRNG: {_WHITENED} (its maker says 7.8 bits per byte)"),
        start=(b"cmdo\n", b"cmdw\n", b"cmd0\n", b"cmdO\n"),
        stop=b"cmdo\n",
    ),
    "raw": Model(Figures(0, 4, "a serial line: nothing is known of what sends there")),
}
_PRO_RAW = Model(
    Figures(0, 1, "TrueRNGpro, raw mode: how its samples lie in the bytes is unverified"),
    19200,
    _KNOCK,
)


class SerialSource(Source):
    """Reads a serial line. text: what stands behind the colon. ConfigError if it means nothing."""

    def __init__(self, uri: str, stated: StatedFigures, text: str) -> None:
        super().__init__(uri, stated)
        self._path, _, settings = text.partition("?")
        if not self._path.startswith("/"):
            raise ConfigError(
                f"{uri!r}: the line's path must be absolute: serial:/dev/ttyACM0?model="
            )
        found = parameters(uri, settings, ("model", "mode"), "&")
        if "model" not in found:
            raise ConfigError(f"{uri!r}: say which device it is: ?model= {', '.join(MODELS)}")
        name = one_of(uri, "model", found["model"], MODELS)
        mode = one_of(uri, "mode", found.get("mode", "normal"), ("normal", "raw"))
        if "mode" in found and name != "truerngpro":
            raise ConfigError(f"{uri!r}: mode= is for the model truerngpro alone")
        self._model = _PRO_RAW if mode == "raw" else MODELS[name]
        self._line: Any = None

    def own_figures(self) -> Figures:
        return self._model.figures

    def open(self) -> None:
        self.close()
        try:
            for baud in self._model.knock_bauds:
                self._opened(baud).close()
                time.sleep(PAUSE_SECONDS)
            self._line = self._opened(self._model.baud)
            for command in self._model.start:
                self._line.write(command)
                self._line.flush()
                time.sleep(PAUSE_SECONDS / 5)
                if command == self._model.stop:
                    self._line.reset_input_buffer()  # what it sent before it was told to
        except (OSError, termios.error) as error:
            self.close()
            raise self._refusal(error) from None

    def _opened(self, baud: int) -> Any:
        import serial

        line = serial.Serial()
        line.port = self._path
        line.baudrate = baud
        line.timeout = line.write_timeout = TIMEOUT_SECONDS
        line.exclusive = True
        line.dtr = True
        line.open()
        line.reset_input_buffer()
        return line

    def read(self, n_bytes: int) -> bytes:
        if self._line is None:
            raise SourceError(f"{self.name}: is not open")
        silent_seconds = 0.0
        while silent_seconds < SILENCE_SECONDS:
            try:
                samples: bytes = self._line.read(n_bytes)
            except (OSError, TypeError, termios.error):  # TypeError: closed meanwhile
                raise SourceGone(f"{self.name}: was unplugged") from None
            if samples:
                return samples
            silent_seconds += TIMEOUT_SECONDS
        raise SourceGone(
            f"{self.name}: gave nothing for {SILENCE_SECONDS:g} s: is it the model that the uri"
            " says? If it is, unplug it and plug it in again"
        )

    def close(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            with contextlib.suppress(OSError, termios.error):  # it may have gone
                if self._model.stop:
                    line.write(self._model.stop)
                line.close()

    def _refusal(self, error: OSError | termios.error) -> SourceError:
        number = error.args[0] if error.args and isinstance(error.args[0], int) else None
        if number in (errno.EBUSY, errno.EAGAIN):
            by = process_with(self._path, but=os.getpid())
            return SourceError(
                f"{self.name}: is in use by {by or 'another process'}: end that, or name another"
                " device" + ("" if by else f" (as root, `fuser -v {self._path}` says which it is)")
            )
        if number in (errno.EACCES, errno.EPERM):
            return SourceError(
                f"{self.name}: no permission to open it: install the udev rule of the package"
                " entropy-feeder (60-entropy-feeder.rules; a device that it does not know needs a"
                " rule like those), run this as its user entropy-feeder, and plug it in again"
            )
        return source_failure(self.name, "opening", OSError(number, str(error)))
