"""Source URIs, `SCHEME:REST`. What a scheme needs is imported when it is named, and not before."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib.util import find_spec

from entropy.errors import ConfigError
from entropy.sources.base import Source, StatedFigures

_EXAMPLES = {
    "alea": "alea:",
    "chaoskey": "chaoskey:",
    "serial": "serial:/dev/ttyACM0?model=truerng",
    "hwrng": "hwrng:/dev/hwrng",
    "jitter": "jitter:",
    "exec": "exec:COMMAND",
    "file": "file:PATH",
    "kernel": "kernel:",
}


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
    if colon and scheme == "kernel":
        from entropy.sources.kernel import KernelSource

        _nothing(uri, rest)
        return KernelSource(uri, stated, lab_only_credit_kernel)
    if colon and scheme in _SCHEMES:
        return _SCHEMES[scheme](uri, stated, rest)
    near = difflib.get_close_matches(scheme, _EXAMPLES, n=1)
    hint = f"did you mean {_EXAMPLES[near[0]]}?" if near else ""
    known = f"known are {', '.join(_EXAMPLES.values())}"
    raise ConfigError(f"{uri!r} is not a source; {hint or known}")


def _alea(uri: str, stated: StatedFigures, rest: str) -> Source:
    from entropy.sources.alea import AleaSource
    from entropy.sources.usb_find import wanted

    _need(uri, "usb", "python3-usb")
    return AleaSource(uri, stated, wanted(uri, rest))


def _chaoskey(uri: str, stated: StatedFigures, rest: str) -> Source:
    from entropy.sources.chaoskey import ChaosKeySource

    _need(uri, "usb", "python3-usb")
    return ChaosKeySource(uri, stated, rest)


def _serial(uri: str, stated: StatedFigures, rest: str) -> Source:
    from entropy.sources.serial import SerialSource

    _need(uri, "serial", "python3-serial")
    return SerialSource(uri, stated, rest)


def _hwrng(uri: str, stated: StatedFigures, rest: str) -> Source:
    from entropy.sources.hwrng import DEFAULT_PATH, HwrngSource
    from entropy.sources.parameters import parameters

    if rest.startswith("name="):
        name = parameters(uri, rest, ("name",))["name"]
        return HwrngSource(uri, stated, wanted_name=name)
    if rest and not rest.startswith("/"):
        raise ConfigError(
            f"{uri!r}: the device's path must be absolute, e.g. hwrng:{DEFAULT_PATH};"
            " by its name it is written hwrng:name=tpm-rng-0"
        )
    return HwrngSource(uri, stated, rest or DEFAULT_PATH)


def _jitter(uri: str, stated: StatedFigures, rest: str) -> Source:
    from entropy.sources.jitter import JitterSource

    _nothing(uri, rest)
    return JitterSource(uri, stated)


def _exec(uri: str, stated: StatedFigures, rest: str) -> Source:
    from entropy.sources.exec import ExecSource

    return ExecSource(uri, stated, rest)


def _file(uri: str, stated: StatedFigures, rest: str) -> Source:
    from entropy.sources.file import FileSource

    if not rest:
        raise ConfigError(f"{uri!r} names no file: write file:PATH")
    return FileSource(uri, stated, rest)


_SCHEMES: dict[str, Callable[[str, StatedFigures, str], Source]] = {
    "alea": _alea,
    "chaoskey": _chaoskey,
    "serial": _serial,
    "hwrng": _hwrng,
    "jitter": _jitter,
    "exec": _exec,
    "file": _file,
}


def _need(uri: str, module: str, package: str) -> None:
    """ConfigError if a library is not installed. It is not imported."""
    if find_spec(module) is None:
        raise ConfigError(
            f"{uri!r} needs the Debian package {package} (or pip install 'entropy[{module}]')"
        )


def _nothing(uri: str, rest: str) -> None:
    if rest:
        raise ConfigError(f"{uri!r}: nothing is expected after the colon")
