"""What an EGD gateway says of itself over HTTP: /healthz, /readyz, /metrics and /status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from entropy import __version__
from entropy.admin import Admin, Metric

if TYPE_CHECKING:
    from entropy.gateways.egd import EgdGateway


def admin_for(endpoint: str, gateway: EgdGateway) -> Admin | None:
    """The server of this gateway's pages, not started yet; None for an empty endpoint."""
    if not endpoint:
        return None
    return Admin(
        endpoint,
        healthy=lambda: None,
        ready=gateway.not_ready,
        metrics=lambda: metrics(gateway),
        status=lambda: status(gateway),
    )


def status(gateway: EgdGateway) -> dict[str, Any]:
    """The gateway as JSON values."""
    buffer, desk, drawing = gateway.buffer, gateway.desk, gateway.drawing
    return {
        "version": __version__,
        "gateway": "egd",
        "broker": {
            "id": drawing.broker_id,
            "last_delivery_unix": drawing.last_delivery_unix,
            "last_error": drawing.last_error,
        },
        # drawn = held + handed out + surplus + destroyed
        "accounting": {
            "drawn_bytes": buffer.drawn_bytes,
            "drawn_bits": buffer.drawn_bits,
            "held_bytes": len(buffer),
            "handed_out_bytes": buffer.handed_out_bytes,
            "surplus_bytes": buffer.surplus_bytes,
            "destroyed_bytes": buffer.destroyed_bytes,
        },
        "capacity_bytes": buffer.capacity_bytes,
        "readers": {
            "connected": len(desk.readers),
            "waiting": desk.n_waiting,
            "asked_bytes": desk.asked_bytes,
            "over_limit": gateway.over_limit,
            "not_understood": desk.not_understood,
        },
        "commands": {verb.name.lower(): n for verb, n in desk.commands.items()},
        "short_answers": desk.short_answers,
        "dropped_bytes": desk.dropped_bytes,
        "clone": {
            "sign": gateway.watch.sign(),
            "last_reason": gateway.last_reason,
            "resets": gateway.resets,
        },
    }


def metrics(gateway: EgdGateway) -> list[Metric]:
    """The figures for Prometheus."""
    buffer, desk = gateway.buffer, gateway.desk
    counters: dict[str, tuple[float, str]] = {
        "drawn_bytes": (buffer.drawn_bytes, "Bytes that brokers gave."),
        "drawn_bits": (buffer.drawn_bits, "What the brokers said that they are worth."),
        "handed_out_bytes": (buffer.handed_out_bytes, "Bytes that readers were given."),
        "surplus_bytes": (buffer.surplus_bytes, "Bytes of replies beyond their worth."),
        "destroyed_bytes": (buffer.destroyed_bytes, "Bytes that were erased and given to nobody."),
        "dropped_bytes": (desk.dropped_bytes, "Bytes that readers wrote, and that were ignored."),
        "short_answers": (desk.short_answers, "Reads without waiting that got less than asked."),
        "over_limit": (gateway.over_limit, "Connections that were turned away."),
        "not_understood": (desk.not_understood, "Connections cut for what is no command."),
        "clones": (gateway.resets, "How often this machine was cloned, restored or suspended."),
    }
    gauges: dict[str, tuple[float, str]] = {
        "held_bytes": (len(buffer), "Bytes that wait for a reader."),
        "readers": (len(desk.readers), "Connections."),
        "waiting": (desk.n_waiting, "Connections that wait for bytes."),
        "asked_bytes": (desk.asked_bytes, "Bytes that they wait for."),
    }
    found = [
        Metric(f"entropy_gateway_{name}_total", "counter", text, [({}, value)])
        for name, (value, text) in counters.items()
    ]
    found += [
        Metric(f"entropy_gateway_{name}", "gauge", text, [({}, value)])
        for name, (value, text) in gauges.items()
    ]
    by_verb = [({"command": verb.name.lower()}, n) for verb, n in desk.commands.items()]
    text = "Commands of EGD that were understood."
    return [*found, Metric("entropy_gateway_commands_total", "counter", text, by_verb)]
