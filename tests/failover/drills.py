"""The drills: what is done to the fleet, and what must then be so.

Each takes the scene and returns what came of it. Whatever a drill broke it puts back, also when it
fails; `Scene.make_whole` would tell the next one. Rules that cut a network are made inside the
lab's containers and go with them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from lab.names import CHECKOUT
from tests.failover.holders import last_moment_of_two
from tests.failover.packages import SUFFIX, version
from tests.failover.scene import ENOUGH_BLOCKS, FEEDER_UNIT, FEEDERS, Drilled, Scene
from tests.fleet.conftest import BROKERS, wait_until

CONFIG = "/etc/keepalived/keepalived.conf"
ZEROS = "/run/entropy-drill-zeros"
GENERATION = "/run/entropy-drill-generation"
LAYER = CHECKOUT / "molecule/failover/inventory"


def other_than(broker: str) -> str:
    return next(name for name in BROKERS if name != broker)


def everywhere(scene: Scene, hosts: tuple[str, ...], command: str) -> None:
    """A command on several hosts at once."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda host: scene.fleet.ssh(host, command), hosts))


# Brokers and balancers


def kill_broker(scene: Scene) -> Drilled:
    """kill -9 a broker process: the one beside the holder of the address."""
    with scene.drill("kill -9 a broker process") as drill:
        victim = other_than(scene.holder())
        drill.do(lambda: scene.fleet.ssh(victim, "systemctl kill -s KILL entropy-broker"))
        wait_until(lambda: scene.is_ready(victim), f"systemd starts {victim} again", 30)
        drill.observe()
    return drill.result


def kill_holder(scene: Scene) -> Drilled:
    """Kill the container of the address's holder; keepalived says it is alive every 0.1 s."""
    return _kill_holder(scene, "kill the VIP holder, advert 0.1 s")


def kill_holder_slow(scene: Scene) -> Drilled:
    """The same with keepalived's default of a word each second."""
    with advert_seconds(scene, "1"):
        return _kill_holder(scene, "kill the VIP holder, advert 1 s")


def _kill_holder(scene: Scene, name: str) -> Drilled:
    with scene.drill(name) as drill:
        victim = scene.holder()
        container = scene.fleet.container(victim)
        try:
            drill.do(lambda: scene.fleet.podman("kill", container))
            drill.must(scene.holder() != victim, "the other one has not taken the address")
        finally:
            scene.start_container(victim)
        drill.observe()
        drill.must(scene.holder() != victim, f"{victim} took the address when it came back")
    return drill.result


@contextmanager
def advert_seconds(scene: Scene, seconds: str) -> Iterator[None]:
    def change(to: str) -> None:
        edit = f"s/advert_int .*/advert_int {to}/"
        everywhere(scene, BROKERS, f"sed -i '{edit}' {CONFIG} && systemctl restart keepalived")
        scene.holder()

    before = re.findall(r"advert_int (\S+)", scene.fleet.ssh("broker1", f"cat {CONFIG}").stdout)
    change(seconds)
    try:
        yield
    finally:
        change(before[0])


def pause_holder(scene: Scene) -> Drilled:
    """The holder of the address hangs, and later goes on as if nothing had been."""
    with scene.drill("pause the VIP holder, then resume") as drill:
        victim = scene.holder()
        container = scene.fleet.container(victim)
        scene.watch.start()
        try:
            drill.do(lambda: scene.fleet.podman("pause", container))
        finally:
            resumed = time.monotonic()
            scene.fleet.podman("unpause", container)
        drill.observe()
        scene.holder()
        seen = scene.watch.stop()
        # While it hung it held the address as well, and could do nothing with it.
        last = last_moment_of_two([*seen.values()])
        drill.figures["two holders after the resume"] = max(0.0, (last or resumed) - resumed)
        drill.must(last is None or last < resumed + 1, "a split brain went on after the resume")
    return drill.result


def cut_link(scene: Scene) -> Drilled:
    """Neither broker hears the other; each hears the clients and its feeder. Then it heals."""
    with scene.drill("cut the link between the brokers, heal it") as drill:
        scene.watch.start()
        try:
            # To a machine that is not there: packets are lost, and nobody says so.
            drill.do(lambda: _link(scene, "replace {} lladdr 02:00:00:00:00:01 nud permanent"))
        finally:
            healed = time.monotonic()
            _link(scene, "del {}")
        drill.observe()
        scene.holder()
        last = last_moment_of_two([*scene.watch.stop().values()])
        drill.figures["two holders after the healing"] = max(0.0, (last or healed) - healed)
        drill.must(last is not None, "the cut did nothing: there were never two holders")
        drill.must(last is None or last < healed + 1, "two holders 1 s after the healing")
    return drill.result


def _link(scene: Scene, change: str) -> None:
    def one(broker: str) -> None:
        address = scene.fleet.state["hosts"][other_than(broker)]["address"]
        device = f"dev $(ip -o route get {address} | sed 's/.* dev //; s/ .*//')"
        scene.fleet.ssh(broker, f"ip neigh {change.format(address)} {device}")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, BROKERS))


# Sources


def lose_feeders(scene: Scene) -> Drilled:
    """One feeder goes, then the other, then both come back."""
    with scene.drill("one feeder gone, then both") as drill:
        holder = scene.holder()
        _fill(scene)
        epochs = _epochs(scene)
        gone, left = BROKERS
        drill.begin = time.monotonic()
        scene.fleet.ssh(_feeder_of(gone), f"systemctl stop {FEEDER_UNIT}")
        try:
            start_blocks = scene.held_blocks(gone)
            wait_until(lambda: scene.held_blocks(gone) < start_blocks // 2, f"{gone} runs low", 60)
            wait_until(
                lambda: scene.servers(holder)[gone].weight < scene.servers(holder)[left].weight / 2,
                f"the weight of {gone} follows",
                5,
            )
            drill.observe()  # up to here nobody went without
            scene.fleet.ssh(_feeder_of(left), f"systemctl stop {FEEDER_UNIT}")
            wait_until(lambda: _dry(scene), "both brokers are dry", 90)
            dry = time.monotonic()
            # A draw waits at the broker for five seconds before it is told to come again.
            wait_until(lambda: time.monotonic() > dry + 6, "clients were told to wait")
            fed_again = time.monotonic()
        finally:
            everywhere(scene, tuple(FEEDERS), f"systemctl start {FEEDER_UNIT}")
        wait_until(lambda: scene.load.all_answered_since(fed_again), "all draw again", 60)
        first: dict[str, float] = {}
        for record in sorted(scene.load.since(fed_again), key=lambda r: r.end):
            first.setdefault(record.client, record.end)
        drill.figures["all draw again after the feeders came"] = max(first.values()) - fed_again
        starved = [r for r in scene.load.records if r.start < fed_again and r.end > dry]
        drill.must(any("ask again" in line for r in starved for line in r.said), "no RETRY came")
        answers = [a for r in scene.load.since(drill.begin) for a in r.answers]
        drill.must(all(a.credit_bits > 0 for a in answers), "a reply was worth nothing")
        drill.must(_epochs(scene) == epochs, "a broker was restarted")
    return drill.result


def zeros(scene: Scene) -> Drilled:
    """A source starts to give zeros. Only a person can bring it back, so the drill restarts it."""
    with scene.drill("a source starts to give zeros") as drill:
        holder, (broker, left) = scene.holder(), BROKERS
        feeder = _feeder_of(broker)
        _fill(scene)
        try:
            drill.do(lambda: scene.fleet.ssh(feeder, f"touch {ZEROS}"))
            wait_until(
                lambda: scene.feeder_status(feeder)["source"]["retired"], f"{feeder} gives up", 60
            )
            retired = time.monotonic()
            drill.figures["from zeros to the end of the feed"] = retired - drill.begin
            of = _fed_by(scene, broker, feeder)
            wait_until(
                lambda: (
                    scene.servers(holder)[broker].weight < scene.servers(holder)[left].weight / 2
                ),
                f"the weight of {broker} follows",
                60,
            )
            # What it gave while it was good is used up, and then nobody names it any more.
            wait_until(
                lambda: _unnamed_since(scene, feeder, 2.0), f"nothing of {feeder} is served", 60
            )
            fed_later = _fed_by(scene, broker, feeder)
            drill.must(fed_later == of, f"{broker} took more from {feeder}: {of}, then {fed_later}")
            books = scene.feeder_status(feeder)["accounting"]
            drill.must(books["held_bits"] == 0, f"{feeder} still holds blocks: {books}")
            drill.must(
                books["destroyed_bits"] + books["recalled_bits"] > 0,
                f"{feeder} destroyed and recalled nothing: {books}",
            )
        finally:
            scene.fleet.ssh(feeder, f"rm -f {ZEROS}; systemctl restart {FEEDER_UNIT}")
        drill.observe()
    return drill.result


def _feeder_of(broker: str) -> str:
    return next(feeder for feeder, own in FEEDERS.items() if own == broker)


def _fill(scene: Scene) -> None:
    for broker in BROKERS:
        wait_until(
            lambda b=broker: scene.held_blocks(b) >= ENOUGH_BLOCKS * 3 // 2,  # type: ignore[misc]
            f"{broker} is full",
            30,
        )


def _epochs(scene: Scene) -> list[str]:
    return [str(scene.fleet.status(broker)["epoch"]) for broker in BROKERS]


def _dry(scene: Scene) -> bool:
    return all(scene.held_blocks(broker) == 0 for broker in BROKERS)


def _fed_by(scene: Scene, broker: str, feeder: str) -> tuple[int, int]:
    """What a broker took from a feeder, and what of it was recalled, in bits."""
    of = next(of for of in scene.fleet.status(broker)["feeders"] if of["id"] == feeder)
    return of["fed_bits"], of["recalled_bits"]


def _unnamed_since(scene: Scene, feeder: str, seconds: float) -> bool:
    """Whether no reply of the last seconds was made of a block of this feeder."""
    late = scene.load.since(time.monotonic() - seconds)
    return bool(late) and not any(feeder in a.origins for r in late for a in r.answers)


# All brokers


def restart_both(scene: Scene) -> Drilled:
    """Both brokers are restarted at once: what they held is gone."""
    with scene.drill("both brokers restarted at once") as drill:
        before = _epochs(scene)
        drill.do(lambda: everywhere(scene, BROKERS, "systemctl restart entropy-broker"))
        # With its process a reservoir is gone, and the books of the new one begin at nothing.
        drill.must(not set(before) & set(_epochs(scene)), "a broker was not restarted")
    return drill.result


def upgrade_both(scene: Scene) -> Drilled:
    """playbooks/upgrade.yml to a release with a later number; if it is there already, back."""
    scene.keep_two_releases()
    with scene.drill("rolling upgrade of both brokers", all_restart=True) as drill:
        versions = {str(scene.fleet.status(broker)["version"]) for broker in BROKERS}
        drill.must(len(versions) == 1, f"the brokers differ before the upgrade: {versions}")
        to = version() if versions.pop().endswith(SUFFIX) else version() + SUFFIX
        drill.begin = time.monotonic()
        run = scene.fleet.play(
            *("-i", str(LAYER), "-e", f"entropy_version={to}"), playbook="playbooks/upgrade.yml"
        )
        drill.figures["the playbook"] = time.monotonic() - drill.begin
        drill.must(run.status == 0, f"the playbook failed:\n{run.output[-4000:]}")
        drill.observe()
        for broker in BROKERS:
            of = scene.fleet.status(broker)
            drill.must(of["version"] == to, f"{broker} runs {of['version']}, not {to}")
    return drill.result


def restore_broker(scene: Scene) -> Drilled:
    """A broker's machine is restored from a snapshot, as far as its generation tells."""
    with scene.drill("a broker restored from a snapshot") as drill:
        victim = scene.holder()
        _fill(scene)
        before = scene.fleet.status(victim)
        sign = f"date +%s.%N >{GENERATION}.new && mv {GENERATION}.new {GENERATION}"
        drill.do(lambda: scene.fleet.ssh(victim, sign))
        after = scene.fleet.status(victim)
        drill.must(
            after["clone"]["resets"] == before["clone"]["resets"] + 1,
            f"{victim} did not begin anew: {after['clone']}",
        )
        drill.must(after["epoch"] != before["epoch"], f"{victim} kept its epoch, and so its keys")
        lost = after["accounting"]["lost_bits"] - before["accounting"]["lost_bits"]
        held = before["accounting"]["held_bits"]
        drill.must(
            lost > 0.5 * held, f"{victim} held {held} bits before, and {lost} bits were lost"
        )
    return drill.result


ALL: dict[str, tuple[Callable[[Scene], Drilled], float | None]] = {
    # Name of the drill for the tests: what it does, and the goal for its gap in seconds.
    "kill_broker": (kill_broker, 0.5),
    "kill_holder": (kill_holder, 1.0),
    "kill_holder_slow": (kill_holder_slow, 4.0),
    "pause_holder": (pause_holder, 1.5),
    "cut_link": (cut_link, None),
    "lose_feeders": (lose_feeders, None),
    "zeros": (zeros, None),
    "upgrade_both": (upgrade_both, None),
    "restart_both": (restart_both, None),
    "restore_broker": (restore_broker, None),
}
