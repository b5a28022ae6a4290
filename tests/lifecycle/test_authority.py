"""The fleet's CA is replaced while clients draw.

It comes first: the next test finds that a run of site.yml changes nothing, and all that follows
lives with the new CA.
"""

from __future__ import annotations

import re

import pytest

from tests.fleet.conftest import VMS, wait_until
from tests.lifecycle.conftest import Story

pytestmark = pytest.mark.fleet

# Which certificates a client takes: one that draws from whoever shows the pair in the folder.
SHOW = """
import re, socket, ssl, subprocess
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.set_alpn_protocols(["entropy/1"])
context.load_cert_chain("{folder}/tls.pem", "{folder}/tls.key")
with socket.create_server(("127.0.0.1", 0)) as listener:
    endpoint = "127.0.0.1:%d" % listener.getsockname()[1]
    with open("/etc/entropy/client.toml") as file:
        text = re.sub("(?m)^brokers = .*", 'brokers = ["%s"]' % endpoint, file.read())
    with open("/run/entropy-shown.toml", "w") as file:
        file.write(text)
    words = ["entropy", "draw", "--config", file.name, "--bytes", "8"]
    client = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        context.wrap_socket(listener.accept()[0], server_side=True).close()
        print("taken")
        client.kill()  # it would try again
    except OSError:
        print("refused")
print(client.communicate(timeout=60)[1])
"""
USED, KEPT = "/etc/entropy/broker", "/run/entropy-kept"


def trusted(story: Story) -> set[str]:
    """The CA certificates that every host has."""
    hosts = story.fleet.state["hosts"]
    [text] = {story.fleet.ssh(host, "cat /etc/entropy/ca.pem").stdout for host in hosts}
    return set(re.findall("-----BEGIN.*?-----END", text, re.DOTALL))


def takes(story: Story, folder: str) -> bool:
    """Whether a client of broker1 goes on where it is shown the certificate of a folder there."""
    said = story.fleet.python("broker1", SHOW.format(folder=folder))
    assert ("certificate was not accepted" in said) == said.startswith("refused"), said
    return said.startswith("taken")


def roll(story: Story) -> None:
    run = story.play("playbooks/roll_authority.yml", "-e", "entropy_overlap=0s")
    assert run.status == 0, run.output[-3000:]


def test_the_authority_is_replaced_under_load(story: Story) -> None:
    """Three runs, of which the second restarts the brokers with other certificates."""
    fleet = story.fleet
    old = trusted(story)
    assert len(old) == 1
    fleet.ssh("broker1", f"mkdir {KEPT} && cp {USED}/tls.* {KEPT}")
    with story.load("vm1", "vm2", pause_seconds=1) as drawn:
        roll(story)
        both = trusted(story)
        assert len(both) == 2
        assert old < both
        # Nobody is left behind without a word: one that is away may not have heard of the new CA.
        fleet.podman("stop", "--time", "0", fleet.container("vm3"))
        try:
            run = story.play("playbooks/roll_authority.yml", "-e", "entropy_overlap=0s")
        finally:
            fleet.podman("start", fleet.container("vm3"))
        assert run.status != 0
        said = " ".join(run.output.split())
        assert "vm3 cannot be reached and would be cut off by the next step." in said, said[-9000:]
        wait_until(lambda: fleet.runs("vm3", "entropy-client"), "vm3 is back")
        assert trusted(story) == both
        fleet.ssh("broker1", f"cmp {USED}/tls.pem {KEPT}/tls.pem")
        roll(story)
        assert takes(story, KEPT)
        assert takes(story, USED)
        roll(story)
    assert {vm: words.count("NOT") for vm, words in drawn.items()} == {"vm1": 0, "vm2": 0}
    assert all(words.count("drawn") > 10 for words in drawn.values())
    assert trusted(story) == both - old
    assert not takes(story, KEPT)
    assert takes(story, USED)
    assert all(story.draws(vm) for vm in VMS)
