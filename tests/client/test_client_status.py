"""What a person is told of this machine's client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from entropy import client, client_status
from entropy.cli import main
from entropy.client_state import ClientState
from entropy.errors import ControlError

if TYPE_CHECKING:
    from tests.client.conftest import FakeKernel, Fleet

KERNEL = {
    "sign_of_clones": "kernel message",
    "shared": False,
    "ready": True,
    "blocks": False,
    "credits": True,
    "reseeds": True,
}


def test_a_machine_that_was_fed(fleet: Fleet, fake_kernel: FakeKernel) -> None:
    fleet.broker()
    assert client.run(fleet.config(), once=True) == 0
    status = {**client_status.look(str(fleet.folder / "state")), "kernel": KERNEL}
    lines = client_status.as_text(status, now=status["last_fed_unix"] + 75)
    assert lines == [
        "last fed    1 min 15 s ago by broker1: seed worth 448 bits, 448 of them credited",
        "generator   ready, readers never wait",
        "clones      kernel message",
    ]


def test_a_clone_on_a_kernel_that_blocks_and_tells_nothing(tmp_path: Path) -> None:
    state = ClientState(str(tmp_path))
    state.begin_generation(bytes(16), bytes(range(16)))
    state.next_counter(bytes(range(16)))
    found = {**KERNEL, "sign_of_clones": "none", "blocks": True, "credits": False, "ready": False}
    assert client_status.as_text({**state.read(), "kernel": found}, now=0) == [
        "last fed    never",
        "generator   not ready, readers wait when it runs short, this user may not credit it",
        "clones      none: it would not be told",
        "identity    logs in under a boot id of its own, since it was cloned or restored",
    ]


def test_as_json_and_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["status", "--client", "--state-dir", str(tmp_path)]
    assert main([*arguments, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["kernel"]) == set(KERNEL)
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("last fed    never\n")


def test_where_no_client_ever_ran_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--client", "--state-dir", str(tmp_path / "none")]) == 1
    assert "none: there is no such folder: has a client run here?" in capsys.readouterr().err


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "state.json").symlink_to("/etc/passwd")
    with pytest.raises(ControlError, match="cannot be read"):
        client_status.look(str(tmp_path))


@pytest.mark.parametrize("state", [{"last_fed_unix": 5}, {"last_fed_unix": "now"}, {"boot_id": []}])
def test_a_state_that_was_tampered_with_is_shown_as_far_as_it_goes(state: dict[str, Any]) -> None:
    lines = client_status.as_text({**state, "kernel": KERNEL}, now=80)
    said = "1 min 15 s ago by ?: ? worth ? bits, ? of them credited"
    assert lines[0] == f"last fed    {said if state == {'last_fed_unix': 5} else 'never'}"
