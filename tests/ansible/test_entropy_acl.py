"""The module entropy_acl, in this process, against files and a control socket."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule

from entropy.credentials import acl_entry, entry_as_json, load_acl, new_credential
from library import entropy_acl
from module_utils.entropy_acl_document import Handed, dump_entries
from tests.ansible.fake_broker import FakeBroker, control_socket

RunModule = Callable[..., dict[str, Any]]
ENTRIES = [
    entry_as_json(acl_entry(new_credential(name, "lab", ["draw"]))) for name in ("vm1", "vm2")
]
MORE = [*ENTRIES, entry_as_json(acl_entry(new_credential("vm3", "lab", ["draw"])))]
Acl = Callable[..., dict[str, Any]]


@pytest.fixture
def acl_path(tmp_path: Path) -> Path:
    return tmp_path / "acl.json"


@pytest.fixture
def acl(run_module: RunModule, acl_path: Path, tmp_path: Path) -> Acl:
    """Run entropy_acl; nothing it prints may hold a pre-shared key."""

    def run(
        generation: int = 7,
        entries: list[dict[str, Any]] | str = ENTRIES,
        revoked: tuple[str, ...] = (),
        **arguments: Any,
    ) -> dict[str, Any]:
        defaults = {
            "path": str(acl_path),
            "site_id": "lab",
            "owner": pwd.getpwuid(os.getuid()).pw_name,
            "group": grp.getgrgid(os.getgid()).gr_name,
            "control_socket": str(tmp_path / "sock"),
        }
        text = entries if isinstance(entries, str) else dump_entries(Handed(entries, revoked))
        result = run_module(
            entropy_acl, generation=generation, entries=text, **{**defaults, **arguments}
        )
        assert not any(entry["psk"] in result["printed"] for entry in MORE)
        return result

    return run


def test_without_a_broker_the_file_is_written_once(acl: Acl, acl_path: Path) -> None:
    first = acl()
    assert first["changed"]
    assert (first["running"], first["confirmed_generation"]) == (False, None)
    assert acl_path.stat().st_mode & 0o7777 == 0o640
    assert load_acl(acl_path).generation == 7
    assert not acl()["changed"]
    assert not acl(entries=ENTRIES[::-1])["changed"]


def test_a_running_broker_takes_it_and_confirms(acl: Acl, acl_path: Path, tmp_path: Path) -> None:
    broker = FakeBroker(acl_path, 0)
    with control_socket(tmp_path / "sock", broker):
        first = acl()
        assert (first["changed"], first["running"], first["confirmed_generation"]) == (
            True,
            True,
            7,
        )
        assert not acl()["changed"]
    assert broker.commands == ["status", "apply-acl", "status"]


def test_a_broker_that_missed_the_file_is_told_again(
    acl: Acl, acl_path: Path, tmp_path: Path
) -> None:
    acl()
    broker = FakeBroker(acl_path, 6)
    with control_socket(tmp_path / "sock", broker):
        assert acl(check=True)["confirmed_generation"] == 6
        again = acl()
    assert (again["changed"], again["confirmed_generation"]) == (True, 7)
    assert broker.commands == ["status", "status", "apply-acl"]


def test_attributes_alone_do_not_bother_the_broker(
    acl: Acl, acl_path: Path, tmp_path: Path
) -> None:
    acl()
    acl_path.chmod(0o600)
    broker = FakeBroker(acl_path, 7)
    with control_socket(tmp_path / "sock", broker):
        assert acl()["changed"]
    assert acl_path.stat().st_mode & 0o7777 == 0o640
    assert broker.commands == ["status"]


@pytest.mark.parametrize("check", [False, True])
def test_what_is_older_is_refused(acl: Acl, acl_path: Path, check: bool) -> None:
    acl(8, MORE)
    before = acl_path.read_bytes()
    result = acl(7, check=check)
    assert result["failed"]
    assert "generation 8 and the ledger is at 7" in result["msg"]
    assert "Restore the newest copy of the state directory" in result["msg"]
    assert acl_path.read_bytes() == before


def test_what_is_older_than_the_running_broker_is_refused(
    acl: Acl, acl_path: Path, tmp_path: Path
) -> None:
    with control_socket(tmp_path / "sock", FakeBroker(acl_path, 9)):
        result = acl()
    assert "the running broker holds generation 9" in result["msg"]
    assert not acl_path.exists()


def test_two_lists_with_one_number_are_refused(acl: Acl) -> None:
    acl(7, MORE)
    assert "the same generation 7 with other entries" in acl(7, ENTRIES)["msg"]


@pytest.mark.parametrize("check", [False, True])
def test_what_is_suspiciously_smaller_is_refused(acl: Acl, acl_path: Path, check: bool) -> None:
    acl(7, MORE)
    before = acl_path.read_bytes()
    for revoked in ((), ("vm1",), ("vm9",)):
        result = acl(8, ENTRIES, revoked=revoked, check=check)
        assert "would lose 1 ids that the ledger does not call revoked (vm3)" in result["msg"]
        assert "max_shrink=1" in result["msg"]
    assert acl_path.read_bytes() == before


def test_whoever_was_revoked_may_be_missing(acl: Acl) -> None:
    acl(7, MORE)
    assert acl(8, ENTRIES, revoked=("vm3",))["changed"]
    assert acl(9, ENTRIES[:1], max_shrink=1)["changed"]


def test_one_key_of_two_is_no_loss(acl: Acl) -> None:
    other = entry_as_json(acl_entry(new_credential("vm1", "lab", ["draw"])))
    acl(7, [*ENTRIES, other])
    assert acl(8)["changed"]


def test_another_site_is_refused(acl: Acl) -> None:
    acl(1, site_id="berlin")
    assert "belongs to the site berlin and not to lab" in acl(7)["msg"]


def test_what_is_no_list_is_replaced_with_a_warning(
    acl: Acl, acl_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _, text: warnings.append(text))
    acl_path.write_text("{}")
    assert acl()["changed"]
    assert warnings == [f"{acl_path} was not a list of credentials; it is replaced"]


@pytest.mark.parametrize("installed", [True, False])
def test_when_the_broker_refuses_the_file_is_as_before(
    acl: Acl, acl_path: Path, tmp_path: Path, installed: bool
) -> None:
    if installed:
        acl(6)
    before = acl_path.read_bytes() if installed else None
    with control_socket(tmp_path / "sock", FakeBroker(acl_path, 6, error="no such curve")):
        result = acl(7, MORE)
    assert result["msg"] == "the broker refused apply-acl: no such curve"
    assert (acl_path.read_bytes() if acl_path.exists() else None) == before


def test_a_broker_that_reads_another_file_is_noticed(
    acl: Acl, acl_path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"generation": 3}')
    with control_socket(tmp_path / "sock", FakeBroker(other, 3)):
        result = acl()
    assert "confirmed generation 3 and not 7" in result["msg"]


@pytest.mark.parametrize("answer", [b'{"ok": true}\n', b'{"ok": true, "status": {}}\n', b"?\n"])
def test_a_strange_broker_stops_it_before_anything_is_written(
    acl: Acl, acl_path: Path, tmp_path: Path, answer: bytes
) -> None:
    with control_socket(tmp_path / "sock", lambda _: answer):
        assert acl()["failed"]
    assert not acl_path.exists()


def test_check_mode_on_a_host_with_nothing(acl: Acl, tmp_path: Path) -> None:
    path = tmp_path / "no" / "directory" / "acl.json"
    result = acl(check=True, path=str(path), group="no-such-group", owner="no-such-user")
    assert result["changed"]
    assert not path.parent.exists()


def test_a_host_without_the_package_is_told_so(acl: Acl, tmp_path: Path) -> None:
    assert "install the package first" in acl(path=str(tmp_path / "no" / "acl.json"))["msg"]
    assert "no-such-group does not exist" in acl(group="no-such-group")["msg"]


def test_the_diff_names_ids_and_keys(acl: Acl) -> None:
    acl(6)
    diff = acl(7, MORE, check=True)["diff"]
    added = set(diff["after"].splitlines()) - set(diff["before"].splitlines())
    assert added == {"generation: 7", f"vm3: key_id: {MORE[2]['key_id']}, [draw]"}


@pytest.mark.parametrize("text", ["", "{", "{}", "[[]]", '["psk"]', '[{"id": "vm1"}]', "3"])
def test_what_is_no_list_of_entries(acl: Acl, acl_path: Path, text: str) -> None:
    assert "not what the lookup entropy_acl_entries gives" in acl(entries=text)["msg"]
    assert not acl_path.exists()


@pytest.mark.parametrize("mode", ["0644", "rw"])
def test_a_mode_that_the_broker_would_refuse(acl: Acl, acl_path: Path, mode: str) -> None:
    assert acl(mode=mode)["msg"].startswith("mode: ")
    assert not acl_path.exists()


def test_the_same_entry_twice(acl: Acl) -> None:
    assert "is there twice" in acl(entries=[*ENTRIES, ENTRIES[0]])["msg"]
