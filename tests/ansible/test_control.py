"""Asking a broker, and everything that can be wrong with the answer."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from module_utils.entropy_control import ControlProblem, ControlRefused, NotRunning, ask
from tests.ansible.fake_broker import control_socket


def test_an_answer_in_many_pieces_is_one_answer(tmp_path: Path) -> None:
    text = b'{"ok": true, "status": {"filler": "' + b"x" * 300_000 + b'"}}\n'
    with control_socket(tmp_path / "sock", lambda _: text) as path:
        assert len(ask(str(path), "status", 10)["status"]["filler"]) == 300_000


@pytest.mark.parametrize("text", [b"", b"\n", b"hello\n", b"[1]\n", b'{"ok": 1}\n', b'{"ok": tru'])
def test_an_answer_that_is_none(tmp_path: Path, text: bytes) -> None:
    with (
        control_socket(tmp_path / "sock", lambda _: text) as path,
        pytest.raises(ControlProblem, match="does not answer like a broker"),
    ):
        ask(str(path), "status", 10)


def test_a_refusal_carries_the_brokers_words(tmp_path: Path) -> None:
    text = b'{"ok": false, "error": "entry 3: not base64"}\n'
    with (
        control_socket(tmp_path / "sock", lambda _: text) as path,
        pytest.raises(ControlRefused, match="refused apply-acl: entry 3: not base64"),
    ):
        ask(str(path), "apply-acl", 10)


def test_a_broker_that_says_nothing(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        with pytest.raises(ControlProblem, match=r"did not answer within 0\.05 s"):
            ask(str(tmp_path / "sock"), "status", 0.05)


def test_no_broker(tmp_path: Path) -> None:
    with pytest.raises(NotRunning):
        ask(str(tmp_path / "no-directory" / "sock"), "status", 10)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left_over:
        left_over.bind(str(tmp_path / "sock"))
    with pytest.raises(NotRunning, match="no broker listens on"):
        ask(str(tmp_path / "sock"), "status", 10)
