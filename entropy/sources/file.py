"""`file:PATH`: samples from a file or a named pipe, for tests and for recorded noise."""

from __future__ import annotations

from entropy.errors import SourceGone
from entropy.sources.base import DeviceFile, Figures, Source, StatedFigures

_FILE = Figures(0, 7, "a file can be read twice: nothing is known of what wrote it")


class FileSource(Source):
    """Reads a file once, from its beginning. Its end is SourceGone.

    Opened again it goes on where it ended, so that no byte counts twice: what was appended is
    read, and another file of that name from its beginning.
    """

    def __init__(self, uri: str, stated: StatedFigures, path: str) -> None:
        super().__init__(uri, stated)
        self._file = DeviceFile(self.name, path)
        self._identity: tuple[int, int] | None = None
        self._n_bytes = 0

    def own_figures(self) -> Figures:
        return _FILE

    def open(self) -> None:
        self._file.open()
        identity = self._file.identity()
        if identity != self._identity:
            self._identity, self._n_bytes = identity, 0
        self._file.skip(self._n_bytes)

    def read(self, n_bytes: int) -> bytes:
        samples = self._file.read(n_bytes)
        if not samples:
            raise SourceGone(f"{self.name}: the file ended after {self._n_bytes} bytes")
        self._n_bytes += len(samples)
        return samples

    def close(self) -> None:
        self._file.close()
