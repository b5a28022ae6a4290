"""What a feeder says of itself over HTTP: /healthz, /readyz, /metrics and /status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from entropy import __version__
from entropy.admin import Admin, Metric

if TYPE_CHECKING:
    from entropy.feeder import Feeder


def admin_for(endpoint: str, feeder: Feeder) -> Admin:
    """The server of this feeder's pages, not started yet."""
    return Admin(
        endpoint,
        healthy=lambda: feeder.status_line if feeder.retired else None,
        ready=lambda: None if _is_feeding(feeder) else feeder.status_line,
        metrics=lambda: metrics(feeder),
        status=lambda: status(feeder),
    )


def status(feeder: Feeder) -> dict[str, Any]:
    """The feeder as JSON values."""
    session, figures = feeder.session, feeder.figures
    return {
        "version": __version__,
        "source": {
            "uri": feeder.source_uri,
            "state": feeder.state,
            "retired": feeder.retired,
            "failures": feeder.n_failures,
            "credit_bits_per_byte": figures.credit_bits_per_byte,
            "test_bits_per_byte": figures.test_bits_per_byte,
            "reason": figures.reason,
        },
        "fips140": _fips140(feeder),
        "broker": {
            "id": session.broker_id,
            "fill_blocks": session.fill_blocks,
            "capacity_blocks": session.capacity_blocks,
        },
        "accounting": feeder.outbox.accounting._asdict(),
        "clone": feeder.clones.status(),
        "alarms": [{"unix": unix, "text": text} for unix, text in feeder.alarms],
    }


def _fips140(feeder: Feeder) -> dict[str, Any] | None:
    tests = feeder.block_tests
    if tests is None:
        return None
    return {
        "passed_blocks": tests.n_passed,
        "dropped_blocks": tests.n_dropped,
        "last_failure": tests.last_failure,
    }


def metrics(feeder: Feeder) -> list[Metric]:
    """The figures for Prometheus."""
    account = feeder.outbox.accounting
    counted = {
        "born": (account.born_bits, "Bits of blocks that the conditioner finished."),
        "sent": (account.sent_bits, "Bits of blocks that went to a broker."),
        "accepted": (account.accepted_bits, "Bits that brokers said they credited."),
        "destroyed": (account.destroyed_bits, "Bits of blocks destroyed before they were sent."),
        "recalled": (account.recalled_bits, "Bits of sent blocks that a broker was told to drop."),
    }
    found = [
        Metric(f"entropy_feeder_{name}_bits_total", "counter", text, [({}, bits)])
        for name, (bits, text) in counted.items()
    ]
    gauges = {
        "held_bits": (account.held_bits, "Bits of blocks that were not sent yet."),
        "connected": (feeder.session.broker_id is not None, "Whether there is a session."),
        "delivering": (_is_feeding(feeder), "Whether the source is tested, and a broker there."),
        "clone_blind": (
            feeder.clones.blind,
            "Whether this platform does not say when its machine is copied.",
        ),
        "retired": (feeder.retired, "Whether the source failed so often that a person must look."),
    }
    found += [
        Metric(f"entropy_feeder_{name}", "gauge", text, [({}, int(value))])
        for name, (value, text) in gauges.items()
    ]
    if feeder.block_tests is not None:
        for name, n_blocks in (
            ("passed", feeder.block_tests.n_passed),
            ("dropped", feeder.block_tests.n_dropped),
        ):
            text = f"Blocks of 20,000 raw bits that the FIPS 140-2 tests {name}."
            name = f"entropy_feeder_fips140_{name}_blocks_total"
            found.append(Metric(name, "counter", text, [({}, n_blocks)]))
    events = {
        "health_failures": (
            feeder.n_failures,
            "Health tests that failed while the source was delivering.",
        ),
        "clone_resets": (
            feeder.clones.resets,
            "Times that all was destroyed because this machine was copied or suspended.",
        ),
    }
    return found + [
        Metric(f"entropy_feeder_{name}_total", "counter", text, [({}, n)])
        for name, (n, text) in events.items()
    ]


def _is_feeding(feeder: Feeder) -> bool:
    return feeder.session.broker_id is not None and feeder.state in ("delivering", "paused")
