"""What the broker tells about itself: as JSON and as metrics. No secret is in either."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import entropy
from entropy.admin import Metric
from entropy.wire.codes import RefusedCode, RetryReason

if TYPE_CHECKING:
    from entropy.broker.ids import IdRecord
    from entropy.broker.server import Broker


def status(broker: Broker) -> dict[str, Any]:
    """The status that the control socket, /status and `entropy status --json` show."""
    service, reservoir = broker.service, broker.service.reservoir
    marks = broker.config.reservoir
    return {
        "version": entropy.__version__,
        "broker_id": broker.broker_id,
        "site_id": broker.config.site_id,
        "epoch": broker.epoch.hex(),
        "uptime_seconds": int(broker.uptime_seconds()),
        "ready": broker.not_ready() is None,
        "draining": service.draining,
        "clone": broker.clones.status(),
        "acl_generation": service.logins.access.acl.generation,
        # As openssl x509 -fingerprint shows it: which one is in use tells whether a restart is due.
        "certificate_fingerprint": broker.certificate_sha256.hex(":").upper(),
        "reservoir": {
            "held_blocks": reservoir.held_blocks,
            "imported_blocks": reservoir.imported_blocks,
            "capacity_blocks": reservoir.capacity_blocks,
            "held_bits": reservoir.accounting().held_bits,
            "low_mark_blocks": marks.low_mark_blocks,
            "high_mark_blocks": marks.high_mark_blocks,
        },
        "accounting": reservoir.accounting()._asdict(),
        "feeders": [_feeder(broker, name) for name in _ids_with(broker, "feed")],
        "peers": [
            {
                "id": peer.id,
                "endpoint": peer.endpoint,
                "state": peer.state,
                "imported_bits": peer.imported_bits,
                "last_import_unix": _whole(peer.last_import_unix),
                "last_error": peer.last_error or peer.stir_error,
                "stirred_bytes": peer.stirred_bytes,
            }
            for peer in broker.peers
        ],
        "clients": [
            {
                "id": record.id,
                "connected": record.sessions > 0,
                "draws": record.draws,
                "delivered_bytes": record.delivered_bytes,
                "delivered_bits": record.delivered_bits,
                "last_draw_unix": _whole(record.last_draw_unix),
                "last_credit_bits": record.last_credit_bits,
                "last_kind": record.last_kind,
                **_login(record),
            }
            for name in _ids_with(broker, "draw")
            if (record := service.logins.ids.find(name)) is not None
        ],
        "sessions": len(broker.sessions),
        "waiting_draws": len(service.queue),
        "refusals": {code.name.lower(): service.refusals[code] for code in RefusedCode},
        "alarms": [{"unix": int(alarm.unix), "text": alarm.text} for alarm in service.alarms],
    }


def keys(broker: Broker) -> dict[str, Any]:
    """What the controller must know to end keys: of ids with two of them, and of bootstrap keys.

    For each such key its first use here, and how many sessions are open with it.
    """
    acl, uses = broker.access.acl, broker.service.logins.uses
    n_keys = Counter(name for name, _ in acl.entries)
    n_sessions = Counter(session.key for session in broker.sessions)
    found: dict[str, dict[str, Any]] = {}
    for key, entry in acl.entries.items():
        name, key_id = key
        if n_keys[name] > 1 or entry.expires_after_use_seconds is not None:
            use = {"first_use_unix": uses.unix(key), "sessions": n_sessions[key]}
            found.setdefault(name, {})[key_id.hex()] = use
    return {
        "broker_id": broker.broker_id,
        "site_id": acl.site_id,
        "generation": acl.generation,
        "keys": found,
    }


def metrics(broker: Broker) -> list[Metric]:
    """The figures that /metrics shows. None for each client: there may be tens of thousands."""
    service, reservoir = broker.service, broker.service.reservoir
    marks = broker.config.reservoir
    figures = [
        _one("uptime_seconds", "gauge", "Since this run began.", broker.uptime_seconds()),
        _one("ready", "gauge", "1 if it can serve, else 0.", int(broker.not_ready() is None)),
        _one("draining", "gauge", "1 while it is taken away, else 0.", int(service.draining)),
        _one("held_blocks", "gauge", "Blocks of 64 bytes in the reservoir.", reservoir.held_blocks),
        _one("imported_blocks", "gauge", "Those of a peer among them.", reservoir.imported_blocks),
        _one("capacity_blocks", "gauge", "The most that it holds.", reservoir.capacity_blocks),
        _one("low_mark_blocks", "gauge", "Below it peers are drawn from.", marks.low_mark_blocks),
        _one("high_mark_blocks", "gauge", "Peers are given what is above.", marks.high_mark_blocks),
        _one("acl_generation", "gauge", "Of the access list in force.", _generation(broker)),
        _one("sessions", "gauge", "Open connections.", len(broker.sessions)),
        _one("waiting_draws", "gauge", "Draws that wait for blocks.", len(service.queue)),
        _one("alarms_total", "counter", "Signs of clones and of copied keys.", service.alarms.n),
        _one(
            "uncredited_replies_total",
            "counter",
            "Seeds that waited in vain and got bytes worth 0 bits.",
            service.uncredited_replies,
        ),
        _one("over_limit_total", "counter", "Connections over a limit.", broker.over_limit()),
        _one(
            "handshake_seconds_total", "counter", "CPU time, proofs too.", broker.pace.spent_seconds
        ),
        _one("failed_handshakes_total", "counter", "Before any frame.", broker.failed_handshakes()),
    ]
    figures += [
        _one(
            "stirred_bytes_total",
            "counter",
            "Bytes that peers pushed, mixed in without credit.",
            service.stirred_bytes,
        ),
        _one(
            "clone_resets_total",
            "counter",
            "Times that all was destroyed because this machine was copied or suspended.",
            broker.clones.resets,
        ),
        _one(
            "clone_blind",
            "gauge",
            "1 if this platform does not say when its machine is copied, else 0.",
            int(broker.clones.blind),
        ),
    ]
    sums = reservoir.accounting()._asdict()
    held_bits = sums.pop("held_bits")
    figures.append(_one("held_bits", "gauge", "Credit in the reservoir.", held_bits))
    figures += [
        _one(f"{name}_total", "counter", _ACCOUNTING[name], bits) for name, bits in sums.items()
    ]
    figures += [
        Metric(
            "entropy_broker_refusals_total",
            "counter",
            "Sessions ended by a refusal, by its code.",
            [({"code": code.name.lower()}, service.refusals[code]) for code in RefusedCode],
        ),
        Metric(
            "entropy_broker_retries_total",
            "counter",
            "Draws answered by RETRY, by its reason.",
            [({"why": why.name.lower()}, service.retries[why]) for why in RetryReason]
            + [({"why": "draining"}, service.draining_retries)],
        ),
    ]
    feeders = [_feeder(broker, name) for name in _ids_with(broker, "feed")]
    for name, kind, text in _FEEDER_FIGURES:
        samples = [({"feeder": feeder["id"]}, int(feeder[name])) for feeder in feeders]
        total = "_total" if kind == "counter" else ""
        figures.append(Metric(f"entropy_broker_feeder_{name}{total}", kind, text, samples))
    figures += [
        Metric(
            "entropy_broker_peer_imported_bits_total",
            "counter",
            "Credit that a peer claimed for what it gave us.",
            [({"peer": peer.id}, peer.imported_bits) for peer in broker.peers],
        ),
        Metric(
            "entropy_broker_peer_reachable",
            "gauge",
            "0 if the last try to draw from it failed, else 1.",
            [({"peer": peer.id}, int(peer.state in ("idle", "drawing"))) for peer in broker.peers],
        ),
    ]
    return figures


_ACCOUNTING = {
    "fed_bits": "Credit that feeders claimed.",
    "imported_bits": "Credit that peers claimed.",
    "delivered_bits": "Credit handed out to clients.",
    "exported_bits": "Credit handed out to peers.",
    "spent_bits": "Credit that conditioning cost.",
    "lost_bits": "Credit lost: over a cap, recalled, or no room for it.",
}
_FEEDER_FIGURES = (
    ("connected", "gauge", "1 while a session of it is open."),
    ("fed_bits", "counter", "Credit that it claimed."),
    ("lost_bits", "counter", "What of that was over its cap or found no room."),
    ("recalled_bits", "counter", "What it recalled while it was still held."),
)


def _feeder(broker: Broker, name: str) -> dict[str, Any]:
    record = broker.service.logins.ids.find(name)
    return {
        "id": name,
        "connected": record is not None and record.sessions > 0,
        "fed_bits": record.fed_bits if record else 0,
        "lost_bits": record.lost_bits if record else 0,
        "recalled_bits": record.recalled_bits if record else 0,
        "last_feed_unix": _whole(record.last_feed_unix) if record else None,
        **_login(record),
    }


def _login(record: IdRecord | None) -> dict[str, Any]:
    """The key that it used last, and how often it came from where it was not expected."""
    return {
        "key_id": record.last_key_id.hex() if record else None,
        "outside_logins": record.outside_logins if record else 0,
    }


def _ids_with(broker: Broker, permission: str) -> list[str]:
    ids = broker.service.logins.access.ids()
    return sorted(name for name, permissions in ids.items() if permission in permissions)


def _generation(broker: Broker) -> int:
    return broker.service.logins.access.acl.generation


def _one(name: str, kind: str, text: str, value: float) -> Metric:
    return Metric(f"entropy_broker_{name}", kind, text, [({}, value)])


def _whole(unix: float | None) -> int | None:
    return None if unix is None else int(unix)
