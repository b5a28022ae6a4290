"""Source URIs: `hwrng:/dev/hwrng`, `jitter:`, `file:PATH`, `kernel:`."""

from __future__ import annotations

from entropy.errors import ConfigError
from entropy.sources.base import Source, StatedFigures
from entropy.sources.file import FileSource
from entropy.sources.hwrng import DEFAULT_PATH, HwrngSource
from entropy.sources.jitter import JitterSource
from entropy.sources.kernel import KernelSource


def source_for(
    uri: str, stated: StatedFigures | None = None, *, lab_only_credit_kernel: bool = False
) -> Source:
    """The source that `uri` names, not opened yet. Raises ConfigError.

    `lab_only_credit_kernel` is for `kernel:` alone, and an error with any other.
    """
    stated = stated or StatedFigures()
    scheme, colon, rest = uri.partition(":")
    if lab_only_credit_kernel and scheme != "kernel":
        raise ConfigError(f"{uri}: lab_only_credit_kernel goes with the source kernel: alone")

    if colon and scheme == "hwrng":
        return HwrngSource(uri, stated, _absolute(uri, rest) if rest else DEFAULT_PATH)
    if colon and scheme == "jitter":
        _nothing(uri, rest)
        return JitterSource(uri, stated)
    if colon and scheme == "file":
        if not rest:
            raise ConfigError(f"{uri!r} names no file: write file:PATH")
        return FileSource(uri, stated, rest)
    if colon and scheme == "kernel":
        _nothing(uri, rest)
        return KernelSource(uri, stated, lab_only_credit_kernel)
    raise ConfigError(
        f"{uri!r} is not a source; known are hwrng:/dev/hwrng, jitter:, file:PATH and kernel:"
    )


def _absolute(uri: str, path: str) -> str:
    if not path.startswith("/"):
        raise ConfigError(f"{uri!r}: the device's path must be absolute, e.g. hwrng:{DEFAULT_PATH}")
    return path


def _nothing(uri: str, rest: str) -> None:
    if rest:
        raise ConfigError(f"{uri!r}: nothing is expected after the colon")
