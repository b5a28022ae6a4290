"""Which .deb a host gets, and when it counts as installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible.module_utils.testing import patch_module_args

from library import entropy_deb
from plugins.filter.entropy_debs import debs


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    names = ("python3-entropy_0.1.0_all.deb", "entropy-client_0.1.0_all.deb")
    for name in names:
        (tmp_path / name).write_text(name)
    return [str(tmp_path / name) for name in names]


def test_each_package_is_found_with_its_digest(files: list[str]) -> None:
    found = debs(files, ["entropy-client", "python3-entropy"])
    assert [(deb["name"], deb["version"], deb["file"]) for deb in found] == [
        ("entropy-client", "0.1.0", files[1]),
        ("python3-entropy", "0.1.0", files[0]),
    ]
    assert len(found[0]["sha256"]) == 64


def test_a_missing_package_says_how_to_make_it(files: list[str]) -> None:
    with pytest.raises(
        AnsibleFilterError, match=r"no \.deb of entropy-broker in .*: run `make deb`"
    ):
        debs(files, ["entropy-broker"])
    with pytest.raises(AnsibleFilterError, match="run `make deb`"):
        debs([], ["entropy-broker"])


def test_several_versions_are_never_guessed_between(files: list[str], tmp_path: Path) -> None:
    newer = tmp_path / "entropy-client_0.2.0_all.deb"
    newer.write_text("newer")
    with pytest.raises(AnsibleFilterError, match=r"\(0\.1\.0, 0\.2\.0\).*entropy_version"):
        debs([*files, str(newer)], ["entropy-client"])
    assert debs([*files, str(newer)], ["entropy-client"], "0.2.0")[0]["file"] == str(newer)


def test_a_file_with_another_name_is_refused(files: list[str]) -> None:
    with pytest.raises(AnsibleFilterError, match="is not named NAME_VERSION_ARCHITECTURE"):
        debs([*files, "/x/entropy.deb"], ["entropy-client"])


class Host:
    """A host's dpkg and apt-get, in so far as the module asks them."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.installed: dict[str, str] = {}
        self.commands: list[list[str]] = []
        self.lists_are_missing = False
        self.broken = False
        self.overwrites = False
        self.half_installed: set[str] = set()
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(entropy_deb, "STAMPS", str(tmp_path / "stamps"))
        monkeypatch.setattr(entropy_deb.AnsibleModule, "run_command", self._run)

    def _run(self, command: list[str], **_: Any) -> tuple[int, str, str]:
        if command[0] == "dpkg-query":
            states = {n: "iU" if n in self.half_installed else "ii" for n in self.installed}
            lines = [f"{n} {v} {states[n]} \n" for n, v in self.installed.items()]
            return 1, "".join(lines), "unknown"
        self.commands.append(command)
        if "update" in command:
            self.lists_are_missing = False
            return 0, "", ""
        if command[0] == "dpkg":
            self.half_installed.clear()
        elif self.overwrites:
            said = "reading\ndpkg: error processing archive\n trying to overwrite\na\nb\nc\n"
            return 100, said, "E: Sub-process returned an error code"
        if self.lists_are_missing or self.broken or self.half_installed:
            return 100, "reading\n", "E: broken"
        word = "--install" if command[0] == "dpkg" else "install"
        for path in command[command.index(word) + 1 :]:
            name, version, _arch = Path(path).name.split("_")
            self.installed[name] = version
        return 0, "", ""

    def play(self, digest: str, *, version: str = "0.1.0", check: bool = False) -> dict[str, Any]:
        names = ("python3-entropy", "entropy-client")
        packages = [
            {"name": n, "version": version, "sha256": digest, "file": f"/c/{n}_{version}_all.deb"}
            for n in names
        ]
        result: dict[str, Any] = {}

        def end(_: Any, **values: Any) -> None:
            result.update(values)
            raise SystemExit

        self._monkeypatch.setattr(entropy_deb.AnsibleModule, "exit_json", end)
        self._monkeypatch.setattr(
            entropy_deb.AnsibleModule, "fail_json", lambda m, **v: end(m, failed=True, **v)
        )
        arguments = {"packages": packages, "directory": "/cache", "_ansible_check_mode": check}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            entropy_deb.main()
        json.dumps(result)
        return result


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_all_packages_go_into_one_transaction_and_only_once(host: Host) -> None:
    assert host.play("a")["changed"]
    assert len(host.commands) == 1  # no lists were fetched, since none were needed
    assert host.commands[0][-2:] == [
        "/cache/python3-entropy_0.1.0_all.deb",
        "/cache/entropy-client_0.1.0_all.deb",
    ]
    assert not host.play("a")["changed"]


def test_check_mode_says_what_would_be_installed_and_does_nothing(host: Host) -> None:
    result = host.play("a", check=True)
    assert result["changed"]
    assert result["installed"] == ["python3-entropy", "entropy-client"]
    assert "entropy-client absent" in result["diff"]["before"]
    assert host.commands == []


def test_another_file_of_the_same_version_is_installed(host: Host) -> None:
    host.play("a")
    assert host.play("b")["changed"]
    assert not host.play("b")["changed"]


def test_an_older_version_can_be_put_back(host: Host) -> None:
    host.play("a", version="0.2.0")
    assert host.play("b", version="0.1.0")["changed"]
    assert host.installed["entropy-client"] == "0.1.0"


def test_what_an_image_brought_along_counts_by_its_version(host: Host) -> None:
    host.installed = {"python3-entropy": "0.1.0", "entropy-client": "0.1.0"}
    assert not host.play("a")["changed"]


def test_a_failure_says_what_apt_get_said_and_is_tried_again(host: Host) -> None:
    host.broken = True
    assert "E: broken" in host.play("a")["msg"]
    host.broken = False
    assert host.play("a")["changed"]


def test_missing_package_lists_are_fetched(host: Host) -> None:
    host.lists_are_missing = True
    assert host.play("a")["changed"]
    assert [command for command in host.commands if "update" in command]


def test_what_was_cut_off_is_finished_by_dpkg_alone(host: Host) -> None:
    host.play("a", version="0.2.0")
    host.installed["python3-entropy"] = "0.1.0"
    host.half_installed = {"python3-entropy"}
    result = host.play("b", version="0.1.0")
    assert result["changed"]
    assert not result.get("failed")
    assert host.commands[-1][0] == "dpkg"
    assert host.commands[-1][-3] == "--install"


def test_an_error_of_dpkg_is_told_and_not_hidden_by_a_second_try(host: Host) -> None:
    host.overwrites = True
    result = host.play("a")
    assert result["failed"]
    assert "trying to overwrite" in result["msg"]
    assert len(host.commands) == 1
