"""Every error that this package raises on purpose, in one tree.

EntropyError
  ConfigError             a setting is wrong (exit status 2)
  CredentialError         a credential, key or access list is wrong (exit status 2)
  SourceError             a noise source cannot be read
    SourceGone              it is no longer there
    HealthFailure           its samples failed a health test
  WireError               a session went wrong
    LocalProtocolError      this side asked for something that the protocol does not allow
    RemoteProtocolError     the other side did
    AuthenticationError     the other side did not prove who it is
      CertificateDateError    by our clock its certificate is not valid yet, or no more
  TransportError          no connection, or it broke or timed out
  RetryLater              the broker has nothing for us now
  Refused                 the broker ended the session
  KernelError             the kernel did not take what we gave it
  ControlError            a daemon's control socket said no

Messages are for people: what happened, where, and what to do. They never hold a secret.
"""

from __future__ import annotations

from entropy.wire.codes import RefusedCode, RetryReason


class EntropyError(Exception):
    """Base of all. `exit_status` is what a command line tool ends with."""

    exit_status = 1


class ConfigError(EntropyError):
    """A setting is missing, unknown or out of its bounds."""

    exit_status = 2


class CredentialError(EntropyError):
    """A credential, a key or an access list is missing, malformed or open to others."""

    exit_status = 2


class SourceError(EntropyError):
    """A noise source cannot be opened or read."""


class SourceGone(SourceError):
    """The source's device was there and is not any more."""


class HealthFailure(SourceError):
    """The source's samples failed a health test: nothing of it may be used."""


class WireError(EntropyError):
    """A session went wrong. It is over."""


class LocalProtocolError(WireError):
    """This program asked for something that the protocol does not allow: a bug on this side."""


class RemoteProtocolError(WireError):
    """The other side sent something that the protocol does not allow."""


class AuthenticationError(WireError):
    """The other side did not prove who it is, or a frame was altered on its way."""


class CertificateDateError(AuthenticationError):
    """The other side's certificate, or its authority's, is not valid at this time of our clock."""


class TransportError(EntropyError):
    """No connection could be made, or it broke, or it took too long."""


_RETRY_TEXTS = {
    RetryReason.EMPTY: "the broker's reservoir is empty",
    RetryReason.RATE: "this credential has drawn or fed as much as its rate allows",
    RetryReason.BUSY: "another draw of this credential is still waiting",
    RetryReason.FULL: "the broker's reservoir is full",
    RetryReason.LOW: "the broker keeps what it has left for its own clients",
}

_REFUSED_TEXTS = {
    RefusedCode.AUTHENTICATION: (
        "the broker did not accept this credential: it is unknown there, revoked or replaced"
    ),
    RefusedCode.PERMISSION: "this credential has no permission for what was asked",
    RefusedCode.PROTOCOL: "the broker could not understand what was sent",
    RefusedCode.SHUTDOWN: "the broker is shutting down",
    RefusedCode.LIMIT: (
        "this credential has too many sessions open, or asked again and again when told to wait"
    ),
}


class RetryLater(EntropyError):
    """The broker said "not now": `why`, and ask again after `after_seconds`."""

    def __init__(self, after_seconds: float, why: RetryReason) -> None:
        super().__init__(f"{_RETRY_TEXTS[why]}; ask again in {after_seconds:g} s")
        self.after_seconds = after_seconds
        self.why = why


class Refused(EntropyError):
    """The broker ended the session: `code` says why."""

    def __init__(self, code: RefusedCode) -> None:
        super().__init__(_REFUSED_TEXTS[code])
        self.code = code


class KernelError(EntropyError):
    """The kernel did not take what we gave it, or cannot say what we asked."""


class ControlError(EntropyError):
    """A daemon's control socket could not be reached, or it refused the command."""
