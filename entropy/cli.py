"""The command line. Each command imports only what it runs.

Exit status: 0 done, 1 failed, 2 wrong input or configuration, 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from entropy import __version__, cli_seed
from entropy.cli_streams import have_streams
from entropy.cli_values import bits_per_byte, n_bytes, seconds
from entropy.errors import EntropyError

CONTROL_SOCKET = "/run/entropy-broker/control.sock"
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_OUTPUT_FAILED = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_ASSESS_SAMPLES = 1_000_000  # what SP 800-90B section 3.1.1 asks for
_ASSESS_NEEDS = ("numpy", "matplotlib")
# Debian's packages are split: a virtual machine has the client's and no other.
_PACKAGES = {
    "broker": "entropy-broker",
    "feeder": "entropy-feeder",
    "sample": "entropy-feeder",
    "assess": "entropy-feeder",
    "sources": "entropy-feeder",
    "client": "entropy-client",
    "draw": "entropy-client",
    "status": "entropy-client",  # for --client; the broker's is everywhere
    "early-seed": "entropy-client",
    "first-seed": "entropy-client",
    "gateway": "entropy-gateway",
    "demo": "entropy-broker, entropy-feeder and entropy-client",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; `arguments` are those of the process unless given. Returns its status."""
    have_streams()
    try:
        options = _parser().parse_args(sys.argv[1:] if arguments is None else arguments)
        status = _run(options)
        sys.stdout.flush()
        return status
    except EntropyError as error:
        print(f"entropy: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OSError as error:
        if error.errno not in _OUTPUT_FAILED:
            raise
        # Python would say so again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if error.errno != errno.EPIPE:  # who read our output has left, and knows
            print(f"entropy: cannot write the output: {error.strerror}", file=sys.stderr)
        return 1


class UsageError(EntropyError):
    """The command line is not one that we know."""

    exit_status = 2


def _run(options: argparse.Namespace) -> int:
    try:
        return int(options.run(options))
    except ImportError as error:
        missing = str(error.name)
        is_a_module = isinstance(error, ModuleNotFoundError) and missing.startswith("entropy.")
        if missing.partition(".")[0] in _ASSESS_NEEDS:
            raise EntropyError(
                f"{options.command} needs {error.name}, which is not installed: install Debian's"
                " python3-numpy and python3-matplotlib, or pip install 'entropy[assess]'"
            ) from None
        if not is_a_module and missing != "entropy":  # as in `from entropy import feeder`
            raise
        name = options.command
        raise EntropyError(f"{name} is not installed here: it needs {_PACKAGES[name]}") from None


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error is said."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="entropy", description="Hardware randomness for fleets of VMs.")
    parser.add_argument("--version", action="version", version=f"entropy {__version__}")
    commands = parser.add_subparsers(
        metavar="COMMAND", dest="command", required=True, parser_class=_Parser
    )

    def command(name: str, text: str, run: object) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        return made

    for name, text, run in (
        ("broker", "Hold credited blocks and serve them to clients.", _broker),
        ("feeder", "Read a noise source, test and condition it, feed a broker.", _feeder),
        ("client", "Keep this machine's kernel fresh from a broker.", _client),
    ):
        daemon = command(name, text, run)
        _add_config(daemon)
        daemon.add_argument(
            "--check-config", action="store_true", help="read everything, run nothing"
        )
        if name == "client":
            daemon.add_argument("--once", action="store_true", help="draw once and end")

    early = command("early-seed", "Take an injected seed, before there is a network.", _early_seed)
    early.add_argument("--config", required=True, metavar="FILE", help="client.toml, if there")
    early.add_argument("--file", action="append", default=[], help="look here too")

    first = command("first-seed", "Draw one seed while a machine boots.", _first_seed)
    _add_config(first)

    gateway = command("gateway", "Serve the fleet's entropy by another protocol.", None)
    protocols = gateway.add_subparsers(
        metavar="PROTOCOL", dest="protocol", required=True, parser_class=_Parser
    )
    text = "EGD: for QEMU's virtio-rng, GnuPG and OpenSSL."
    egd = protocols.add_parser("egd", help=text, description=text)
    egd.set_defaults(run=_egd)
    _add_config(egd)
    egd.add_argument("--check-config", action="store_true", help="read everything, run nothing")

    draw = command("draw", "Draw bytes from a broker to standard output.", _draw)
    _add_config(draw)
    _add_bytes(draw)

    sample = command("sample", "Read a noise source on its own, without a broker.", _sample)
    sample.add_argument(
        "--source", required=True, metavar="URI", help="as `entropy sources` shows it, or file:PATH"
    )
    sample.add_argument("--raw", action="store_true", help="as it comes, before conditioning")
    _add_bytes(sample)
    _add_figures(sample)

    assess = command("assess", "Assess raw samples of a noise source; write a report.", _assess)
    assess.add_argument("--source", required=True, metavar="URI", help="as for sample")
    assess.add_argument(
        "--bytes",
        type=n_bytes,
        default=_ASSESS_SAMPLES,
        metavar="N",
        dest="n_bytes",
        help=f"so many samples, one in each byte ({_ASSESS_SAMPLES})",
    )
    assess.add_argument(
        "--bits", type=int, choices=range(1, 9), default=8, help="the width of a sample (8)"
    )
    _add_figures(assess)
    assess.add_argument("--output", metavar="FILE", help="the report (assessment-....html)")
    assess.add_argument("--keep", metavar="FILE", help="write the samples there")

    sources = command("sources", "List the generators that this machine has.", _sources)
    sources.add_argument("--json", action="store_true", help="as JSON")

    status = command("status", "Ask the broker on this machine how it is.", _status)
    status.add_argument("--json", action="store_true", help="as JSON")
    status.add_argument("--client", action="store_true", help="this machine's client instead")
    status.add_argument("--state-dir", metavar="DIR", help="the client's (/var/lib/entropy-client)")
    _add_control(status)

    drain = command("drain", "Take this machine's broker out of service, and back.", _drain)
    drain.add_argument("--off", action="store_true", help="serve again")
    drain.add_argument(
        "--wait", type=seconds, default=30.0, metavar="SECONDS", help="for sessions to end (30)"
    )
    _add_control(drain)

    credential = command("credential", "What the controller keeps of credentials.", None)
    actions = credential.add_subparsers(
        metavar="ACTION", dest="action", required=True, parser_class=_Parser
    )
    text = "Hand a credential to a provisioning system."
    export = actions.add_parser("export", help=text, description=text)
    export.set_defaults(run=_export)
    export.add_argument("--id", required=True, help="whose")
    form = export.add_mutually_exclusive_group(required=True)
    form.add_argument("--json", action="store_true", help="credential.json, as the client reads it")
    form.add_argument("--cloud-init", action="store_true", help="user data that installs it")
    export.add_argument(
        "--state-dir", required=True, metavar="DIR", help="entropy_state_dir of the fleet"
    )
    export.add_argument(
        "--vault-password-file",
        metavar="FILE",
        help="the password, or a program that prints it (ANSIBLE_VAULT_PASSWORD_FILE)",
    )
    export.add_argument("--output", metavar="FILE", help="mode 0600 (standard output)")

    seed = command("seed", "Seeds for machines that have no network yet.", None)
    actions = seed.add_subparsers(
        metavar="ACTION", dest="action", required=True, parser_class=_Parser
    )
    text = "Draw a seed on a VM's behalf and seal it for that VM."
    issue = actions.add_parser("issue", help=text, description=text)
    issue.set_defaults(run=_issue)
    cli_seed.add_options(issue)

    command("demo", "The whole way of the bytes in one process, in a few seconds.", _demo)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="FILE", help="its TOML file")


def _add_control(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--control", default=CONTROL_SOCKET, metavar="PATH", help=f"its socket ({CONTROL_SOCKET})"
    )


def _add_bytes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bytes", required=True, type=n_bytes, metavar="N", dest="n_bytes", help="how many"
    )


def _add_figures(parser: argparse.ArgumentParser) -> None:
    for option, text in (("--credit", "what to count"), ("--test", "what the tests expect")):
        parser.add_argument(
            option, type=bits_per_byte, metavar="BITS", help=f"{text}, in bits for each byte"
        )


def _broker(options: argparse.Namespace) -> int:
    from entropy.config import load_broker

    config = load_broker(options.config)
    from entropy.broker import server

    if options.check_config:
        server.check(config)
        return _is_fine(options.config)
    return server.run(config)


def _feeder(options: argparse.Namespace) -> int:
    from entropy.config import load_feeder

    config = load_feeder(options.config)
    from entropy import feeder

    if options.check_config:
        feeder.check(config)
        return _is_fine(options.config)
    return feeder.run(config)


def _client(options: argparse.Namespace) -> int:
    from entropy import client
    from entropy.config import load_client

    config = load_client(options.config)
    if options.check_config:
        from entropy.dial import check  # the daemon has it in its children only

        check(config)
        return _is_fine(options.config)
    return client.run(config, once=options.once)


def _early_seed(options: argparse.Namespace) -> int:
    from entropy import early

    return early.run(options.config, more_files=tuple(options.file))


def _first_seed(options: argparse.Namespace) -> int:
    from entropy import first_seed
    from entropy.config import load_client

    return first_seed.run(load_client(options.config))


def _egd(options: argparse.Namespace) -> int:
    from entropy.gateways import egd
    from entropy.gateways.config import load_gateway

    config = load_gateway(options.config)
    if options.check_config:
        egd.check(config)
        return _is_fine(options.config)
    return egd.run(config)


def _draw(options: argparse.Namespace) -> int:
    from entropy import draw
    from entropy.config import load_client

    return draw.run(load_client(options.config), options.n_bytes, sys.stdout.buffer)


def _sample(options: argparse.Namespace) -> int:
    from entropy import sample

    return sample.run(
        options.source,
        raw=options.raw,
        n_bytes=options.n_bytes,
        credit_bits_per_byte=options.credit,
        test_bits_per_byte=options.test,
        output=sys.stdout.buffer,
    )


def _assess(options: argparse.Namespace) -> int:
    from entropy.assess import command

    return command.run(
        options.source,
        n_samples=options.n_bytes,
        sample_bits=options.bits,
        credit_bits_per_byte=options.credit,
        test_bits_per_byte=options.test,
        report_path=options.output,
        keep_path=options.keep,
        output=sys.stdout,
    )


def _sources(options: argparse.Namespace) -> int:
    from entropy.sources import listing

    return listing.run(sys.stdout, as_json=options.json)


def _status(options: argparse.Namespace) -> int:
    if options.client:
        from entropy import client_status

        state_dir = options.state_dir or client_status.STATE_DIR
        return client_status.run(state_dir, as_json=options.json)
    if options.state_dir:
        raise UsageError("--state-dir is the client's: it goes with --client")
    from entropy import status

    return status.run(options.control, as_json=options.json)


def _password_file(options: argparse.Namespace) -> str:
    from entropy.ansible_vault import PASSWORD_FILE_VARIABLE

    password_file = options.vault_password_file or os.environ.get(PASSWORD_FILE_VARIABLE)
    if not password_file:
        raise UsageError(
            f"where is the vault password? Name its file with --vault-password-file or in"
            f" {PASSWORD_FILE_VARIABLE}"
        )
    return str(password_file)


def _issue(options: argparse.Namespace) -> int:
    return cli_seed.issue(options, lambda: _password_file(options))


def _drain(options: argparse.Namespace) -> int:
    from entropy import drain

    return drain.run(options.control, off=options.off, wait_seconds=options.wait)


def _export(options: argparse.Namespace) -> int:
    from entropy import export

    return export.run(
        options.id,
        state_dir=options.state_dir,
        password_file=_password_file(options),
        form=export.JSON if options.json else export.CLOUD_INIT,
        output=options.output,
    )


def _demo(options: argparse.Namespace) -> int:
    from entropy import demo

    return demo.run()


def _is_fine(path: str) -> int:
    print(f"{path}: is fine", file=sys.stderr)
    return 0
