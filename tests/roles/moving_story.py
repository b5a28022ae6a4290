"""Runs where keepalived is: the rendered configurations of two hosts, each in a network of its own.

Usage: moving_story.py VIP[,VIP] ADDRESS1 ADDRESS2 HOST1.conf HOST2.conf. Ends with an
AssertionError where the addresses are not where the story says. Two of them move together.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

PATIENCE_SECONDS = 30
ALIVE = "/run/haproxy/entropy-alive.sock"


def sh(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


class Host:
    """A network namespace with keepalived in it."""

    def __init__(self, name: str, address: str, config: str) -> None:
        self.name, self.address, self.config = name, address, config
        sh(f"ip netns add {name}; ip link add {name} type veth peer eth0 netns {name}")
        sh(f"ip link set {name} master bridge up")
        length, flags = ("64", "nodad") if ":" in address else ("24", "")
        sh(f"ip netns exec {name} sysctl --quiet net.ipv6.conf.eth0.disable_ipv6=0")
        sh(f"ip -n {name} address add {address}/{length} dev eth0 {flags}")
        sh(f"ip -n {name} link set eth0 up; ip -n {name} link set lo up")

    def start(self) -> None:
        files = f"--pid /run/{self.name}.pid --vrrp_pid /run/{self.name}.vrrp.pid"
        command = f"ip netns exec {self.name} keepalived -n -l {files} -f {self.config}"
        self.process = subprocess.Popen(command.split(), start_new_session=True)

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def holds(self, vips: list[str]) -> bool:
        """All of them, ready for use: an IPv6 address that waits for its check answers nobody."""
        found = [sh(f"ip -n {self.name} -o address show to {vip}") for vip in vips]
        return all(found) and "tentative" not in "".join(found)


@contextlib.contextmanager
def haproxy() -> Iterator[None]:
    """Says that it is alive, as haproxy would, on both hosts."""
    os.makedirs(os.path.dirname(ALIVE), exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(ALIVE)
        os.chmod(ALIVE, 0o666)
        listener.listen()

        def answer() -> None:
            while True:
                with listener.accept()[0] as connection, contextlib.suppress(OSError):
                    connection.recv(100)
                    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        yield


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"after {PATIENCE_SECONDS} s it was not so: {what}"
        time.sleep(0.05)


def story(vips: list[str], hosts: tuple[Host, Host]) -> None:
    def holders() -> list[str]:
        return [host.name for host in hosts if host.holds(vips)]

    for host in hosts:
        host.start()

    def one_and_other() -> tuple[Host, Host]:
        one, two = hosts
        return (one, two) if one.holds(vips) else (two, one)

    until(lambda: len(holders()) == 1, "one takes the address")
    # It hangs: the other takes over. It goes on, still in the belief that it is the holder.
    holder, other = one_and_other()
    holder.signal(signal.SIGSTOP)
    until(lambda: other.holds(vips), "the other takes the address of one that hangs")
    holder.signal(signal.SIGCONT)
    until(lambda: len(holders()) == 1, "one gives it up after a hang")
    # Cut off from each other both hold it; then one of them does.
    sh("ip link set two nomaster")
    until(lambda: len(holders()) == 2, "both take the address when they do not hear each other")
    sh("ip link set two master bridge")
    until(lambda: len(holders()) == 1, "one gives it up when they hear each other again")
    # It stops in good order, and comes back: the address stays where it went.
    holder, other = one_and_other()
    holder.signal(signal.SIGTERM)
    until(lambda: holders() == [other.name], "it moves when keepalived stops")
    holder.process.wait()
    holder.start()
    time.sleep(3)  # time enough to take it, if it wanted to
    assert holders() == [other.name], holders()
    assert not any(holder.holds([vip]) for vip in vips), "it kept one of the addresses"


def main() -> None:
    vips, address1, address2, first, second = sys.argv[1:]
    sh("useradd --system --no-create-home keepalived_script")
    sh("install -m 755 entropy-check-haproxy /etc/keepalived/")
    sh("ip link add bridge type bridge; ip link set bridge up")
    hosts = (Host("one", address1, first), Host("two", address2, second))
    try:
        with haproxy():
            story(vips.split(","), hosts)
    finally:
        for host in hosts:
            with contextlib.suppress(ProcessLookupError, AttributeError):
                host.signal(signal.SIGKILL)
    print("the end")


if __name__ == "__main__":
    main()
