"""The conservation of credit over a fleet some of whose brokers die: no I/O.

    born = held + in flight + delivered + lost + spent on conditioning

What is known, and when. A feeder counts what it bore, sent and destroyed; a broker counts since its
start (its epoch), and its counters die with it; each client of the load notes every reply with its
epoch. "Snapshot" is all of the brokers' and feeders' books, read while the load rests and one after
the other, so feeders go on meanwhile. What is asserted:

1. In every snapshot, for each broker, to the bit:
       fed + imported = held + delivered + exported + spent + lost.
2. In every snapshot, for each feeder, to the bit: born = held + sent + destroyed.
3. For each broker that lived from one snapshot to the next, and each client of the load: what the
   client received is what the broker says it delivered to that id, but for a few replies, as many
   as the drill may cut off on their way. It is never more.
4. For each broker that died between two snapshots: what clients got from its epoch, and 64 bits
   for each reply, is no more than what it held at the first and what feeders sent and peers gave
   until the second. What it held when it died is lost; its counters died with it.
5. Over the fleet, from one snapshot to the next: what the clients of the load received, 64 bits for
   each reply, and what is held at the end are no more than what was held at the beginning and what
   came in: what brokers were fed if all of them lived, else what feeders bore. The rest is lost
   (reservoirs that died, recalls, caps), in flight, or top-ups of the hosts' own clients.

Where brokers and feeders were restarted, nobody knows what came in, and 1 to 3 alone are asserted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.failover.records import Record

HASH_COST_BITS = 64
MOST_BITS_PER_REPLY = 448  # for 64 bytes


class Snapshot(NamedTuple):
    """Status of the brokers and of the feeders, by name, as they say it themselves."""

    brokers: dict[str, dict[str, Any]]
    feeders: dict[str, dict[str, Any]]


class Received(NamedTuple):
    credit_bits: int
    n_replies: int


def received(records: Sequence[Record], **of: str) -> Received:
    """What came of answers with these fields, and to the `client`, where one is named."""
    client = of.pop("client", None)
    found = [
        answer
        for record in records
        if client in (None, record.client)
        for answer in record.answers
        if all(getattr(answer, name) == value for name, value in of.items())
    ]
    return Received(sum(answer.credit_bits for answer in found), len(found))


def own_problems(snapshot: Snapshot) -> list[str]:
    """Points 1 and 2."""
    found = []
    for name, status in snapshot.brokers.items():
        of = status["accounting"]
        born = of["fed_bits"] + of["imported_bits"]
        gone = of["delivered_bits"] + of["exported_bits"] + of["spent_bits"] + of["lost_bits"]
        if born != of["held_bits"] + gone:
            found.append(f"{name}: {born} bits came in, {of['held_bits']} + {gone} are there: {of}")
    for name, status in snapshot.feeders.items():
        of = status["accounting"]
        if of["born_bits"] != of["held_bits"] + of["sent_bits"] + of["destroyed_bits"]:
            found.append(f"{name}: the books do not add up: {of}")
    return found


def delivery_problems(
    before: Snapshot, after: Snapshot, records: Sequence[Record], lost_draws_per_client: int
) -> list[str]:
    """Point 3. At most so many replies to each client may have been lost on the way."""
    found = []
    clients = {record.client for record in records}
    for name, status in after.brokers.items():
        said, said_before = _delivered(status), _delivered(before.brokers[name])
        of = {"broker": name}
        if not _lived(before, after, name):  # its counters began after the first snapshot
            said_before, of = {}, {"epoch": status["epoch"]}
        for client in sorted(clients):
            of_client = received(records, client=client, **of)
            sent_bits = said.get(client, 0) - said_before.get(client, 0)
            most_bits = MOST_BITS_PER_REPLY * lost_draws_per_client
            if not 0 <= sent_bits - of_client.credit_bits <= most_bits + _own_client_bits(client):
                found.append(
                    f"{client} got {of_client.credit_bits} bits from {name}, which says that it"
                    f" delivered {sent_bits} (at most {most_bits} may be lost on the way)"
                )
    return found


def dead_epoch_problems(before: Snapshot, after: Snapshot, records: Sequence[Record]) -> list[str]:
    """Point 4, for every epoch of `before` that is not in `after`."""
    found = []
    for name, status in before.brokers.items():
        if _lived(before, after, name):
            continue
        bits, n_replies = received(records, epoch=status["epoch"])
        exported_bits = sum(
            after.brokers[other]["accounting"]["exported_bits"]
            for other in after.brokers
            if other != name
        )
        most_bits = status["accounting"]["held_bits"] + born_bits(before, after) + exported_bits
        if bits + HASH_COST_BITS * n_replies > most_bits:
            found.append(
                f"{name} died with {most_bits} bits at most and gave {bits} in {n_replies} replies"
            )
    return found


def fleet_problems(before: Snapshot, after: Snapshot, records: Sequence[Record]) -> list[str]:
    """Point 5."""
    bits, n_replies = received(records)
    held_before, held = held_bits(before), held_bits(after)
    came_in = (
        fed_bits(before, after)
        if all(_lived(before, after, name) for name in after.brokers)
        else born_bits(before, after)
    )
    if bits + HASH_COST_BITS * n_replies + held > came_in + held_before:
        return [
            f"{bits} bits were received in {n_replies} replies and {held} are held,"
            f" but only {came_in} came in and {held_before} were there"
        ]
    return []


def held_bits(snapshot: Snapshot) -> int:
    return sum(int(of["accounting"]["held_bits"]) for of in snapshot.brokers.values())


def fed_bits(before: Snapshot, after: Snapshot) -> int:
    """What the brokers were fed between two snapshots of the same epochs."""
    return sum(
        int(of["accounting"]["fed_bits"]) - int(before.brokers[name]["accounting"]["fed_bits"])
        for name, of in after.brokers.items()
    )


def born_bits(before: Snapshot, after: Snapshot) -> int:
    """What feeders bore between two snapshots, and what they had not sent at the first."""
    total = 0
    for name, of in after.feeders.items():
        was, now = before.feeders[name]["accounting"], of["accounting"]
        total += int(was["held_bits"]) + int(now["born_bits"]) - int(was["born_bits"])
    return total


def _lived(before: Snapshot, after: Snapshot, name: str) -> bool:
    """Whether a broker's process, and its counters with it, lived from one to the other.

    One that began anew because its machine was restored has another epoch, and goes on counting.
    """
    was, now = before.brokers[name], after.brokers[name]
    return bool(was["epoch"] == now["epoch"] or now["clone"]["resets"] > was["clone"]["resets"])


def _delivered(status: dict[str, Any]) -> dict[str, int]:
    return {of["id"]: int(of["delivered_bits"]) for of in status["clients"]}


def _own_client_bits(client: str) -> int:
    """A VM's own client has the same id as one of the load, and may have topped up meanwhile."""
    return 2 * MOST_BITS_PER_REPLY if client.startswith("vm") else 0
