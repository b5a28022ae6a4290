"""The HTTP server for monitoring, and what Prometheus reads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from typing import Any

import pytest

from entropy.admin import Admin, Metric, prometheus
from entropy.errors import TransportError

METRICS = [
    Metric("x_blocks", "gauge", "How many.", [({}, 3)]),
    Metric("x_bits_total", "counter", "By id.", [({"id": "a"}, 1.5), ({"id": "b"}, 2)]),
]


def admin(**changes: Any) -> Admin:
    settings: dict[str, Any] = {
        "healthy": lambda: None,
        "ready": lambda: "it is empty",
        "metrics": lambda: METRICS,
        "status": lambda: {"held": 7},
    }
    return Admin(changes.pop("endpoint", "127.0.0.1:0"), **(settings | changes))


async def say(server: Admin, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(request)
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def pages(*requests: bytes) -> list[bytes]:
    async def story() -> list[bytes]:
        server = admin()
        await server.start()
        try:
            return [await say(server, request) for request in requests]
        finally:
            await server.stop()

    return asyncio.run(story())


@pytest.mark.parametrize(
    ("request_line", "code", "body"),
    [
        ("GET /healthz HTTP/1.1", 200, "ok\n"),
        ("GET /readyz HTTP/1.0", 503, "it is empty\n"),
        ("GET /status?pretty HTTP/1.1", 200, '{"held": 7}\n'),
        ("GET / HTTP/1.1", 404, "there are: /healthz /readyz /metrics /status\n"),
        ("POST /status HTTP/1.1", 405, "GET and HEAD only\n"),
        ("hello", 400, "this is not an HTTP request\n"),
        ("GET /healthz SPDY/3", 400, "this is not an HTTP request\n"),
        ("GET /" + "x" * 20_000 + " HTTP/1.1", 400, "this is not an HTTP request\n"),
    ],
)
def test_pages(request_line: str, code: int, body: str) -> None:
    [answer] = pages(f"{request_line}\r\nHost: x\r\n\r\n".encode())
    head, _, found = answer.decode().partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {code} ")
    assert f"Content-Length: {len(body)}" in head
    assert found == body


def test_head_has_no_body() -> None:
    [answer] = pages(b"HEAD /status HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"\r\n\r\n")


def test_metrics_page_is_prometheus_text() -> None:
    [answer] = pages(b"GET /metrics HTTP/1.1\r\n\r\n")
    head, _, body = answer.decode().partition("\r\n\r\n")
    assert "text/plain; version=0.0.4" in head
    assert body == (
        "# HELP x_blocks How many.\n# TYPE x_blocks gauge\nx_blocks 3\n"
        "# HELP x_bits_total By id.\n# TYPE x_bits_total counter\n"
        'x_bits_total{id="a"} 1.5\nx_bits_total{id="b"} 2\n'
    )


def test_labels_and_help_are_escaped() -> None:
    text = prometheus([Metric("x", "gauge", "a\nb\\", [({"id": 'q"\\\n'}, 1)])])
    assert text == '# HELP x a\\nb\\\\\n# TYPE x gauge\nx{id="q\\"\\\\\\n"} 1\n'
    assert all(re.match(r"# |\S+ \S+$", line) for line in text.splitlines())


def test_the_silent_and_the_many_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        server = admin()
        await server.start()
        silent = [await asyncio.open_connection(*server.address) for _ in range(40)]
        for reader, _ in silent:  # the ones too many at once, the others when their time is up
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        assert json.loads((await say(server, b"GET /status HTTP/1.1\r\n\r\n")).split(b"\r\n")[-1])
        for _, writer in silent:
            writer.transport.abort()
        await server.stop()

    monkeypatch.setattr("entropy.admin._CONNECTION_SECONDS", 0.2)
    asyncio.run(story())


def test_an_address_that_is_taken() -> None:
    async def story() -> None:
        first = admin()
        await first.start()
        host, port = first.address
        second = admin(endpoint=f"{host}:{port}")
        with pytest.raises(TransportError, match=r"admin.listen 127.0.0.1:\d+: ") as error:
            await second.start()
        assert error.value.exit_status != 2  # after that no unit is started again
        await second.stop()
        await first.stop()

    asyncio.run(story())
