"""The options of `entropy seed issue`, and what they come to."""

from __future__ import annotations

import argparse
from typing import Callable

from entropy.errors import ConfigError

_UNITS_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_DAYS = 400


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--uuid", required=True, type=_uuid, help="of the instance, as its firmware says"
    )
    parser.add_argument(
        "--expires", default="24h", type=_seconds, metavar="TIME", help="30m, 24h (default), 7d"
    )
    parser.add_argument(
        "--broker", required=True, action="append", metavar="ADDRESS:PORT", help="several: in order"
    )
    whose = parser.add_mutually_exclusive_group(required=True)
    whose.add_argument("--id", help="whose, with --state-dir")
    whose.add_argument("--credential", metavar="FILE", help="whose, with --ca")
    parser.add_argument("--state-dir", metavar="DIR", help="entropy_state_dir of the fleet")
    parser.add_argument("--vault-password-file", metavar="FILE", help="as for credential export")
    parser.add_argument("--ca", metavar="FILE", help="ca.pem of the fleet")
    parser.add_argument("--output", metavar="FILE", help="mode 0600 (standard output)")


def issue(options: argparse.Namespace, password_file: Callable[[], str]) -> int:
    """Issue what the options say. Raises EntropyError."""
    from entropy import seed_issue

    if options.id and options.state_dir:
        holder = seed_issue.by_store(options.id, options.state_dir, password_file())
    elif options.credential and options.ca:
        holder = seed_issue.by_files(options.credential, options.ca)
    else:
        raise ConfigError("--id goes with --state-dir, and --credential with --ca")
    return seed_issue.run(
        holder,
        instance=options.uuid,
        valid_seconds=options.expires,
        brokers=options.broker,
        output=options.output,
    )


def _uuid(text: str) -> bytes:
    import uuid

    from entropy.seed_places import is_an_identity

    try:
        value = uuid.UUID(text).bytes
    except ValueError:
        value = b""
    if not is_an_identity(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not the UUID of a machine")
    return value


def _seconds(text: str) -> int:
    number, unit = text[:-1], text[-1:]
    seconds = int(number) * _UNITS_SECONDS.get(unit, 0) if number.isdecimal() else 0
    if not 0 < seconds <= _LONGEST_DAYS * _UNITS_SECONDS["d"]:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time such as 30m, 24h or 7d, of {_LONGEST_DAYS}d at most"
        )
    return seconds
