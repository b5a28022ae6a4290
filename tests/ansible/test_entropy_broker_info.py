"""The module entropy_broker_info, in this process."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from library import entropy_broker_info
from tests.ansible.fake_broker import FakeBroker, control_socket

RunModule = Callable[..., dict[str, Any]]
ADDRESSES = json.dumps(
    [
        {"ifname": "lo", "addr_info": [{"family": "inet", "local": "127.0.0.1", "prefixlen": 8}]},
        {"ifname": "eth0", "addr_info": [{"local": "10.0.0.5"}, {"local": "fd00::5"}, {}]},
        {"ifname": "down0"},
        {},
    ]
)


def test_a_running_broker(run_module: RunModule, tmp_path: Path) -> None:
    with control_socket(tmp_path / "sock", FakeBroker(tmp_path / "acl.json", 7)) as path:
        result = run_module(entropy_broker_info, control_socket=str(path), check=True)
    assert (result["changed"], result["running"], result["problem"]) == (False, True, "")
    assert result["status"]["acl_generation"] == 7
    assert (result["held_vips"], result["balancer"]) == ([], None)


@pytest.mark.parametrize("answer", [b'{"ok": true}\n', b'{"ok": false, "error": "no"}\n', b""])
def test_a_broker_without_a_status_is_not_a_failure(
    run_module: RunModule, tmp_path: Path, answer: bytes
) -> None:
    with control_socket(tmp_path / "sock", lambda _: answer) as path:
        result = run_module(entropy_broker_info, control_socket=str(path))
    assert not result.get("failed")
    assert (result["running"], result["status"]) == (False, {})
    assert result["problem"]


def test_no_broker_is_not_a_failure(run_module: RunModule, tmp_path: Path) -> None:
    result = run_module(entropy_broker_info, control_socket=str(tmp_path / "sock"))
    assert not result.get("failed")
    assert (result["running"], result["status"]) == (False, {})
    assert result["problem"] == f"no broker listens on {tmp_path / 'sock'}"


REPORT = {
    "broker_id": "b1",
    "site_id": "lab",
    "generation": 7,
    "keys": {"vm1": {"00" * 8: {"first_use_unix": None, "sessions": 0}}},
}
STATUS = {"broker_id": "b1", "site_id": "lab", "acl_generation": 6}
LIST = '{"version": 1, "site_id": "lab", "generation": 5, "entries": []}'


def reported(run_module: RunModule, tmp_path: Path, **answers: dict[str, Any]) -> dict[str, Any]:
    """What a broker with these answers is said to report, or one that does not run."""
    arguments = {"control_socket": str(tmp_path / "sock"), "acl_path": str(tmp_path / "acl.json")}
    refusal = {"ok": False, "error": "unknown command"}
    if not answers:
        return run_module(entropy_broker_info, report=True, **arguments)
    answer = {name: {"ok": True, **fields} for name, fields in answers.items()}
    with control_socket(
        tmp_path / "sock", lambda name: json.dumps(answer.get(name, refusal)).encode() + b"\n"
    ):
        return run_module(entropy_broker_info, report=True, **arguments)


def test_the_report_of_a_broker(run_module: RunModule, tmp_path: Path) -> None:
    (tmp_path / "acl.json").write_text(LIST)
    assert reported(run_module, tmp_path, keys=REPORT, status={})["report"] == REPORT


def test_the_report_of_an_earlier_release(run_module: RunModule, tmp_path: Path) -> None:
    found = reported(run_module, tmp_path, status={"status": STATUS})["report"]
    assert found == {"broker_id": "b1", "site_id": "lab", "generation": 6, "keys": {}}


def test_the_report_of_a_broker_that_does_not_run(run_module: RunModule, tmp_path: Path) -> None:
    assert reported(run_module, tmp_path)["report"] == {}
    (tmp_path / "acl.json").write_text("no list")
    assert reported(run_module, tmp_path)["report"] == {}
    (tmp_path / "acl.json").write_text(LIST)
    found = reported(run_module, tmp_path)
    assert found["report"] == {"broker_id": "", "site_id": "lab", "generation": 5, "keys": {}}
    assert not found["running"]


def test_what_a_broker_holds_is_not_guessed(run_module: RunModule, tmp_path: Path) -> None:
    (tmp_path / "acl.json").write_text(LIST)
    assert "left something out" in reported(run_module, tmp_path, keys={"generation": 7})["msg"]


@pytest.mark.parametrize("vip", ["10.0.0.5", "10.0.0.5/24", "fd00::5", "fd00:0:0::5/64"])
def test_an_address_that_is_held(vip: str) -> None:
    assert entropy_broker_info.held(ADDRESSES, [vip, "10.9.9.9"]) == [vip]


@pytest.mark.parametrize("vip", ["10.0.0.50", "0.0.0.0", "fd00::50"])
def test_an_address_that_is_not_held(vip: str) -> None:
    assert entropy_broker_info.held(ADDRESSES, [vip]) == []


def test_what_is_no_address(run_module: RunModule, tmp_path: Path) -> None:
    result = run_module(entropy_broker_info, control_socket=str(tmp_path / "s"), vips=["10.0.0"])
    assert result["msg"] == "vips: ['10.0.0'] are not all addresses; write them like 10.0.0.5"


def test_ip_is_asked(
    run_module: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ip = tmp_path / "ip"
    ip.write_text(f"#!/bin/sh\n[ \"$*\" = '-json address show' ] || exit 2\necho '{ADDRESSES}'\n")
    ip.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    def held(*vips: str) -> object:
        path = str(tmp_path / "sock")
        return run_module(entropy_broker_info, control_socket=path, vips=list(vips))["held_vips"]

    assert held("10.0.0.5", "fd00::5", "10.0.0.6") == ["10.0.0.5", "fd00::5"]
    assert held("10.0.0.6") == []
    ip.write_text("#!/bin/sh\nexit 1\n")
    assert held("10.0.0.5") is None


SHOW_STAT = """\
# pxname,svname,status,weight,agent_status,
entropy,FRONTEND,OPEN,,,
brokers,broker1,UP,75,L7OK,
brokers,broker2,DRAIN (agent),100,L7OK,
brokers,broker3,UP 1/2,1,L7OK,
brokers,BACKEND,UP,176,,
last_resort,broker1,UP,1,,
"""


def test_haproxy_is_asked_how_it_sees_the_brokers(run_module: RunModule, tmp_path: Path) -> None:
    path = tmp_path / "haproxy"

    def haproxy() -> None:
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(100) == b"show stat\n"
            connection.sendall(SHOW_STAT.encode())

    def asked() -> object:
        socket_path = str(tmp_path / "sock")
        arguments = {"control_socket": socket_path, "haproxy_socket": str(path)}
        return run_module(entropy_broker_info, **arguments)["balancer"]

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=haproxy)
        thread.start()
        found = asked()
        thread.join()
    assert found == {
        "broker1": {"state": "UP", "weight": 75},
        "broker2": {"state": "DRAIN", "weight": 100},
        "broker3": {"state": "UP", "weight": 1},
    }
    assert asked() is None  # nobody listens there any more
