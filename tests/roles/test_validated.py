"""The rendered files in the hands of the real haproxy and keepalived."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from lab import image, lifecycle, oneshot, podman
from tests.roles import balancing_story, moving_story
from tests.roles.rendering import Inventory

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("name", ["ipv6", "three", "dual"])
def test_haproxy_takes_its_configuration(name: str, tmp_path: Path) -> None:
    text = Inventory(name).render("entropy_haproxy", "haproxy.cfg.j2", "broker1")
    (tmp_path / "haproxy.cfg").write_text(text)
    done = oneshot.run(["haproxy", "-c", "-f", "haproxy.cfg"], folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr


def test_what_haproxy_does_with_what_brokers_say_and_do(tmp_path: Path) -> None:
    text = Inventory("dual").render("entropy_haproxy", "haproxy.cfg.j2", "broker1")
    text = text.replace("10.0.0.", "127.0.0.").replace("    bind [fd00::10]:25226\n", "")
    assert "hard-stop-after 60s\n" in text
    text = text.replace("hard-stop-after 60s\n", "hard-stop-after 5s\n")
    (tmp_path / "haproxy.cfg").write_text(text)
    shutil.copy(balancing_story.__file__, tmp_path / "story.py")
    argv = ["/usr/bin/python3", "story.py", "haproxy.cfg"]
    done = oneshot.run(argv, folder=tmp_path, timeout_seconds=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("the end\n")


def validated(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """What the command of the role says of a keepalived.conf, where its account exists."""
    inventory = Inventory("ipv6")
    (folder / "keepalived.conf").write_text(text)
    (folder / "entropy-check-haproxy").write_text(
        inventory.render("entropy_keepalived", "check-haproxy.j2", "broker1")
    )
    command = inventory.value("entropy_keepalived", "__entropy_keepalived_validate", "broker1")
    script = (
        "ip link add eth0 type veth\n"
        "useradd --system --no-create-home keepalived_script\n"
        "install -m 755 entropy-check-haproxy /etc/keepalived/\n"
        "cp keepalived.conf /tmp/new.conf\n"
        f"exec {command.strip() % '/tmp/new.conf'}"
    )
    lifecycle.prepare()
    words = oneshot.arguments(image.ensure(image.FLEET), ["sh", "-euc", script], folder)
    # An interface of its own, because keepalived does not take the loopback one.
    words[1:1] = ["--cap-add", "NET_ADMIN"]
    return podman.podman(*words, check=False)


@pytest.mark.parametrize(
    "vips", [["fd00::10"], ["10.0.0.10"], ["10.0.0.10", "fd00::10"]], ids=" ".join
)
def test_keepalived_takes_its_configuration(vips: list[str], tmp_path: Path) -> None:
    addresses = {
        "entropy_keepalived_vips": vips,
        "entropy_keepalived_address": vips[0][:-2] + "11",
        "entropy_keepalived_peers": [vips[0][:-2] + "12"],
        "entropy_keepalived_advert_seconds": 0.1,
    }
    text = Inventory("ipv6").render(
        "entropy_keepalived", "keepalived.conf.j2", "broker1", **addresses
    )
    done = validated(tmp_path, text)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "vips", "net"),
    [("dual", "10.0.0.10,fd00::10", "10.0.0."), ("ipv6", "fd00::10", "fd00::")],
)
def test_where_keepalived_has_the_address(name: str, vips: str, net: str, tmp_path: Path) -> None:
    inventory = Inventory(name)
    advert = {"entropy_keepalived_advert_seconds": 0.1}
    for host in ("broker1", "broker2"):
        text = inventory.render("entropy_keepalived", "keepalived.conf.j2", host, **advert)
        (tmp_path / f"{host}.conf").write_text(text)
    check = inventory.render("entropy_keepalived", "check-haproxy.j2", "broker1")
    (tmp_path / "entropy-check-haproxy").write_text(check)
    shutil.copy(moving_story.__file__, tmp_path / "story.py")
    argv = ["/usr/bin/python3", "story.py", vips, f"{net}11", f"{net}12"]
    argv += ["broker1.conf", "broker2.conf"]
    lifecycle.prepare()
    words = oneshot.arguments(image.ensure(image.FLEET), argv, tmp_path)
    words[1:1] = ["--cap-add", "NET_ADMIN,NET_RAW,SYS_ADMIN", "--security-opt", "unmask=/proc/sys"]
    done = podman.podman(*words, check=False, timeout_seconds=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("the end\n")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("nopreempt", "nopreemt"),
        ("interface eth0", "interface eth7"),
        ("advert_int 1", "advert_int"),
    ],
)
def test_the_command_that_validates_finds_what_is_wrong(
    right: str, wrong: str, tmp_path: Path
) -> None:
    text = Inventory("ipv6").render("entropy_keepalived", "keepalived.conf.j2", "broker1")
    assert right in text
    assert validated(tmp_path, text.replace(right, wrong)).returncode != 0


def test_the_check_fails_where_haproxy_does_not_answer(tmp_path: Path) -> None:
    inventory = Inventory("ipv6")
    (tmp_path / "check").write_text(
        inventory.render("entropy_keepalived", "check-haproxy.j2", "broker1")
    )
    text = Inventory("three").render("entropy_haproxy", "haproxy.cfg.j2", "broker1")
    (tmp_path / "haproxy.cfg").write_text(text.replace("bind 10.0.0.10", "bind 127.0.0.1"))
    script = shlex.join(["/usr/bin/python3", "-IS", "check"])
    done = oneshot.run(
        [
            "sh",
            "-euc",
            f"mkdir -p /run/haproxy; if {script}; then exit 9; fi\n"
            "haproxy -D -p /run/haproxy.pid -f haproxy.cfg\n"
            f"{script}\n"
            "kill -STOP $(cat /run/haproxy.pid)\n"
            f"if {script}; then exit 8; fi",
        ],
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
