"""Where a gateway listens: sockets of the file system, and addresses."""

from __future__ import annotations

import contextlib
import os
import socket
import stat

from entropy.errors import ConfigError, TransportError
from entropy.gateways.config import UNIX
from entropy.transport.endpoint import format_endpoint, parse_endpoint

# Who may connect is the group of the file: that of this process, unless its folder says otherwise.
MODE = 0o660
_BACKLOG = 128


def listening(endpoint: str) -> socket.socket:
    """A listening socket at `endpoint`.

    Raises ConfigError if something is in its place, and TransportError if the address is not to be
    had (yet: a bridge for guests may come up later than we do), after which we are started again.
    """
    try:
        if endpoint.startswith(UNIX):
            return _at_path(endpoint.removeprefix(UNIX))
        return _at_address(*parse_endpoint(endpoint))
    except OSError as error:
        reason = error.strerror or str(error)
        raise TransportError(f"egd.listen: {endpoint}: {reason}") from None


def name_of(listener: socket.socket) -> str:
    """The endpoint of a listening socket, with its real port."""
    name = listener.getsockname()
    return f"{UNIX}{name}" if listener.family == socket.AF_UNIX else format_endpoint(*name[:2])


def remove(listener: socket.socket) -> None:
    """Close it, and remove its file."""
    if listener.family == socket.AF_UNIX:
        with contextlib.suppress(OSError):  # somebody else has
            os.unlink(listener.getsockname())
    listener.close()


def _at_address(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _at_path(path: str) -> socket.socket:
    _clear_the_way(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~MODE)
    try:
        listener.bind(path)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def _clear_the_way(path: str) -> None:
    """Remove the socket that a gateway which died here has left."""
    try:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise ConfigError(f"egd.listen: {path} is there, and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise ConfigError(f"egd.listen: {path}: somebody listens there")
