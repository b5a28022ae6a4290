"""What happens to credentials in a fleet that lives, in the order in which it happens here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lab.names import CHECKOUT
from tests.fleet.conftest import BROKERS, VMS, wait_until
from tests.lifecycle.conftest import CONTROLLER, CREDENTIAL, Story

pytestmark = pytest.mark.fleet

SITE, CREDENTIALS, ROTATE, REVOKE = (
    "site.yml",
    *(f"playbooks/{name}.yml" for name in ("credentials", "rotate", "revoke")),
)
# Opens a session, draws in it for ever, and says when that came to an end.
SESSION = """
import os, time
from entropy import kernel
from entropy.client_state import ClientState
from entropy.config import load_client
from entropy.dial import dial
from entropy.errors import EntropyError
from entropy.wire.codes import DrawKind

config = load_client("/etc/entropy/client.toml")
with dial(config, ClientState(config.state_dir), config.brokers[-1], 10) as connection:
    open("/run/entropy-session.open", "w").close()
    try:
        while True:
            connection.draw(DrawKind.TOPUP, 1, 5)
            time.sleep(0.2)
    except (EntropyError, OSError) as error:
        with open("/run/entropy-session.end", "w") as file:
            file.write(f"{time.time()} {type(error).__name__}")
"""


# A client that is started without a credential, and is given one; says how long it then took.
IMAGE = f"""
log() {{ journalctl -u entropy-client -n 3 --output=cat; }}
mv {CREDENTIAL} /run/entropy-later.json
systemctl restart entropy-client
until log | grep -q 'waiting for {CREDENTIAL}'; do sleep 0.05; done
systemctl is-active --quiet entropy-client || exit 1
began=$(date +%s%N)
mv /run/entropy-later.json {CREDENTIAL}
until log | grep -q 'from broker'; do sleep 0.05; done
echo $(( ($(date +%s%N) - began) / 1000000 ))
"""


def changed(recap: dict[str, dict[str, int]]) -> dict[str, int]:
    return {host: of["changed"] for host, of in recap.items() if of["changed"]}


def test_a_run_on_a_deployed_fleet_changes_nothing(story: Story) -> None:
    run = story.play(SITE)
    assert run.status == 0, run.output[-3000:]
    assert changed(run.recap) == {}
    assert all(story.draws(vm) for vm in VMS)


def test_a_rotation_under_load_fails_no_draw(story: Story) -> None:
    before = {vm: story.key_id(vm) for vm in VMS}
    old = story.with_copied_key("vm3")
    with story.load("vm1", "vm2") as drawn:
        run = story.play(ROTATE)
    assert run.status == 0, run.output[-3000:]
    assert {vm: words.count("NOT") for vm, words in drawn.items()} == {"vm1": 0, "vm2": 0}
    assert all(words.count("drawn") > 5 for words in drawn.values())
    assert not [vm for vm in VMS if story.key_id(vm) == before[vm]]
    # Nobody waits for anything, and the old keys are of no use.
    assert "the old one goes on working" not in run.output
    assert story.draws("vm3")
    assert not story.draws("vm3", old)
    assert changed(story.play(CREDENTIALS).recap) == {}


def test_a_machine_that_is_away_keeps_its_key_until_it_is_back(story: Story) -> None:
    fleet = story.fleet
    before = story.key_id("vm3")
    fleet.podman("stop", "--time", "0", fleet.container("vm3"))
    try:
        run = story.play(ROTATE, "--limit", "vm3,vm4")
    finally:
        fleet.podman("start", fleet.container("vm3"))
    assert "Not seen with the new key yet, the old one goes on working: vm3 (until" in run.output, (
        run.output[-9000:]
    )
    wait_until(lambda: fleet.runs("vm3", "entropy-client"), "vm3 is back")
    assert story.key_id("vm3") == before
    assert story.draws("vm3")
    # The next run gives it the new key, and the one after that ends the old one.
    run = story.play(CREDENTIALS, "--limit", "vm3")
    assert run.status == 0, run.output[-3000:]
    assert changed(run.recap) == {"vm3": 1}
    assert story.key_id("vm3") != before
    assert story.draws("vm3")
    run = story.play(CREDENTIALS, "--limit", "vm3")
    assert "The new key was seen and the old one has ended: vm3." in run.output, run.output[-9000:]
    assert story.draws("vm3")
    assert changed(story.play(CREDENTIALS, "--limit", "vm3").recap) == {}


def test_a_run_that_was_killed_before_it_installed_is_repaired_by_the_next(story: Story) -> None:
    before = story.key_id("vm1")
    line = "TASK [entropy_credentials : Assert that a broker knows the new list]"
    story.play_until(line, ROTATE, "--limit", "vm1")
    assert story.key_id("vm1") == before
    assert story.draws("vm1")
    run = story.play(CREDENTIALS, "--limit", "vm1")
    assert run.status == 0, run.output[-3000:]
    assert story.key_id("vm1") != before
    assert story.draws("vm1")
    assert "the old one has ended: vm1" in story.play(CREDENTIALS, "--limit", "vm1").output


def test_a_feeder_needs_no_run_to_use_its_new_key(story: Story) -> None:
    """The run is killed as soon as the key is installed; no other one follows."""
    path = "/etc/entropy/feeder.d/credential.json"
    before = story.key_id("rng1", path)
    story.play_until("TASK [Wait until the brokers have seen the new keys]", ROTATE, "--limit=rng1")
    assert story.key_id("rng1", path) != before
    wait_until(
        lambda: story.key_id("rng1", path) in story.keys_of_feeder("rng1"), "the feeder is in anew"
    )
    assert before not in story.keys_of_feeder("rng1")
    assert "the old one has ended: rng1" in story.play(CREDENTIALS, "--limit", "rng1").output


def test_a_shorter_inventory_revokes_nobody(story: Story) -> None:
    run = story.play(CREDENTIALS, inventory=story.inventory_without("vm3", "vm4"))
    assert run.status == 0, run.output[-3000:]
    gone = "Still valid, and in no inventory: vm3, vm4, vm4.gateway."
    assert gone in run.output, run.output[-9000:]
    assert changed(run.recap) == {}
    assert story.draws("vm3")
    assert story.draws("vm4")


def test_a_revocation_cuts_live_sessions_and_refuses_new_ones(story: Story) -> None:
    fleet = story.fleet
    copy = story.with_copied_key("vm4")
    fleet.ssh("vm4", f"cat >/run/entropy-session.py <<'END'\n{SESSION}\nEND")
    fleet.ssh(
        "vm4",
        "nohup /usr/bin/python3 /run/entropy-session.py </dev/null >/dev/null 2>&1 &",
    )
    wait_until(lambda: _is_there(story, "vm4", "/run/entropy-session.open"), "a session is open")
    run = story.play(REVOKE, "-e", "ids=vm4")
    assert run.status == 0, run.output[-3000:]
    assert _is_there(story, "vm4", "/run/entropy-session.end")
    ended, error = fleet.ssh("vm4", "cat /run/entropy-session.end").stdout.split()
    published = max(
        float(fleet.ssh(broker, "stat -c %.6Y /etc/entropy/broker/acl.json").stdout)
        for broker in BROKERS
    )
    assert float(ended) - published < 2, error
    began = time.monotonic()
    assert not story.draws("vm4", copy)
    assert time.monotonic() - began < 10
    assert not _is_there(story, "vm4", CREDENTIAL)
    assert not fleet.runs("vm4", "entropy-client")


def test_a_revocation_that_misses_a_broker_says_so_and_is_finished_later(story: Story) -> None:
    """A VM and a feeder, while a broker is away; what is on the feeder's host goes too."""
    fleet = story.fleet
    endpoint = f"{fleet.state['hosts']['broker2']['address']}:25226"
    copy = story.with_copied_key("vm3", endpoint)
    assert story.draws("vm3", copy)
    fleet.podman("stop", "--time", "0", fleet.container("broker2"))
    try:
        run = story.play(REVOKE, "-e", "ids=vm3,rng2")
    finally:
        fleet.podman("start", fleet.container("broker2"))
    assert run.status != 0
    assert "NOT REVOKED YET at broker2" in run.output, run.output[-9000:]
    wait_until(lambda: fleet.runs("broker2", "entropy-broker"), "broker2 is back")
    # It told the truth: the list there is still the old one.
    assert not story.is_refused("vm3", copy)
    run = story.play(CREDENTIALS)
    assert run.status == 0, run.output[-3000:]
    assert "Revoked earlier, so skipped: rng2, vm3, vm4." in run.output, run.output[-9000:]
    assert story.is_refused("vm3", copy)
    assert not _is_there(story, "rng2", "/etc/entropy/feeder.d/credential.json")
    assert "entropy-feeder@" not in fleet.ssh("rng2", "systemctl list-units --state=active").stdout
    run = story.play(SITE, "-e", "reissue=vm3,rng2")
    assert run.status == 0, run.output[-3000:]
    assert story.draws("vm3")


def test_who_was_revoked_is_skipped_until_admitted_again(story: Story) -> None:
    run = story.play(SITE, "--limit", "vm4")
    assert run.status == 0, run.output[-3000:]
    assert "Revoked earlier, so skipped: vm4." in run.output, run.output[-9000:]
    assert changed(run.recap) == {}
    run = story.play(SITE, "--limit", "vm4", "-e", "reissue=vm4")
    assert run.status == 0, run.output[-3000:]
    assert story.draws("vm4")


def test_a_machine_built_anew_gets_a_new_key_and_the_old_one_ends(story: Story) -> None:
    fleet = story.fleet
    before = story.key_id("vm2")
    copy = story.with_copied_key("vm2")
    fleet.ssh("vm2", f"rm {CREDENTIAL}")
    run = story.play(CREDENTIALS, "--limit", "vm2")
    assert run.status == 0, run.output[-3000:]
    assert story.key_id("vm2") != before
    assert story.draws("vm2")
    assert not story.draws("vm2", copy)


def test_a_client_without_a_credential_waits_and_works_when_it_comes(story: Story) -> None:
    """As on a machine made from an image."""
    fleet = story.fleet
    milliseconds = fleet.ssh("vm1", IMAGE).stdout
    # Half a second to find it, and one draw; a machine with much else to do may take longer.
    assert int(milliseconds) < 5000


def test_a_customers_machine_is_never_contacted(story: Story) -> None:
    """Issued, exported, used, and revoked by the customer's name."""
    fleet, listed, exported = story.fleet, story.folder / "customers.yml", story.folder / "one.json"
    listed.write_text("[{id: customer-1, tenant: acme}]")
    source = json.dumps({"entropy_external_clients": {"file": str(listed)}})
    external = ("--limit", "vm1", "-e", source)
    run = story.play(CREDENTIALS, *external)
    assert run.status == 0, run.output[-3000:]
    assert list(run.recap) == ["vm1"]
    words = ["credential", "export", "--id", "customer-1", "--json", "--output", str(exported)]
    words += ["--state-dir", str(CONTROLLER)]
    words += ["--vault-password-file", str(CHECKOUT / "lab/vault-password")]
    subprocess.run([sys.executable, "-m", "entropy", *words], cwd=CHECKOUT, check=True)
    config = story.with_copied_key("vm1")
    fleet.ssh("vm1", "cat >/run/entropy-copy.json", stdin=exported.read_text())
    assert story.draws("vm1", config)
    # It was used, so a lasting key is ready; the handed out one goes on working for a day.
    assert "Two keys from now on: customer-1." in story.play(CREDENTIALS, *external).output
    assert story.draws("vm1", config)
    # A list that lost it revokes nobody.
    run = story.play(CREDENTIALS, "--limit", "vm1")
    assert "the list of external clients no longer has them: customer-1." in run.output, run.output[
        -9000:
    ]
    run = story.play(REVOKE, "--limit", "vm1", "-e", "tenant=acme")
    assert run.status == 0, run.output[-3000:]
    assert not story.draws("vm1", config)
    assert story.draws("vm1")


def test_an_old_ledger_is_refused(story: Story) -> None:
    old = story.folder / "old"
    shutil.copytree(CONTROLLER, old)
    assert story.play(ROTATE, "--limit", "vm1").status == 0
    new = CONTROLLER.rename(story.folder / "new")
    shutil.copytree(old, CONTROLLER)
    try:
        run = story.play(CREDENTIALS)
    finally:
        shutil.rmtree(CONTROLLER)
        new.rename(CONTROLLER)
    assert run.status != 0
    assert "it is an old copy" in run.output, run.output[-9000:]
    assert changed(run.recap) == {}
    assert story.draws("vm1")


def test_a_lost_state_directory_is_restored_from_its_backup(story: Story) -> None:
    backup = ("-e", f"entropy_backup_file={story.folder / 'backup.vault'}")
    assert story.play("playbooks/backup.yml", *backup).status == 0
    assert changed(story.play("playbooks/backup.yml", *backup).recap) == {}
    shutil.rmtree(CONTROLLER)
    run = story.play(CREDENTIALS)
    assert run.status != 0
    assert "its state directory is lost or the path is wrong" in run.output, run.output[-9000:]
    run = story.play("playbooks/restore.yml", *backup)
    assert run.status == 0, run.output[-3000:]
    run = story.play(SITE)
    assert run.status == 0, run.output[-3000:]
    assert changed(run.recap) == {}


def test_no_fact_is_a_secret(story: Story) -> None:
    """What a run has gathered, registered and set of each host is shown, and searched below."""
    run = story.play("tests/lifecycle/facts.yml")
    assert run.status == 0, run.output[-3000:]
    known = run.output.partition("KNOWN: ")[2]
    for name in ("ansible_facts", "entropy_credentials_secret", "entropy_credentials_outcome"):
        assert name in known


def test_nowhere_is_a_secret(story: Story) -> None:
    """In nothing that came before: not said, not logged, not in a process list, not left behind."""
    fleet = story.fleet
    assert story.said
    assert len(story.secrets) > 100
    # The search finds what it should find.
    found = fleet.ssh("vm1", f"cat {CREDENTIAL}").stdout
    assert story.owners_of_secrets_in(found) == {"vm1.json"}
    assert story.owners_of_secrets_in("".join(story.said)) == set()
    assert story.owners_of_secrets_in("\n".join(story.shown_by_processes)) == set()
    patterns = "\n".join(story.secrets)
    for host in fleet.state["hosts"]:
        log = fleet.ssh(host, "journalctl --output=cat").stdout
        assert story.owners_of_secrets_in(log) == set(), f"the log of {host}"
        search = "grep -rlF -f - /tmp /var/tmp /root /home /etc/ansible"
        assert fleet.ssh(host, search, stdin=patterns, check=False).stdout == ""
    temporary = Path(tempfile.gettempdir())
    left = [*Path.home().glob(".ansible/tmp/**/*"), *temporary.glob("ansible*/**/*")]
    left = [path for path in left if path.is_file()]
    assert [path for path in left if story.owners_of_secrets_in(_text(path))] == []


def _text(path: Path) -> str:
    return path.read_text(errors="replace")


def _is_there(story: Story, host: str, path: str) -> bool:
    return story.fleet.ssh(host, f"test -e {path}", check=False).returncode == 0
