"""``python -m bench.gossip``: how soon gossip reaches everybody, and what it costs, in simulated time.

The real ``Membership`` of every node, its own clock, one message after another. Between two nodes that know each other
there is a connection, which drops when one of them crashes; a message takes a millisecond; each node gossips once in a
period, and to a new neighbour at once, as the replica does. Nothing is measured on the machine, so the figures are the
same everywhere.

A crash is noticed at once by whoever has a connection; what is measured is gossip's own judgement. The last column
shows how often that errs with no connections to go by: the part of all (observer, live member) pairs under suspicion.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from pathlib import Path
from random import Random

import click
import msgspec

from raftkv.core.config import QuorumSection
from raftkv.formats.gossip import AgreedSizes, GossipMessage, MemberEntry, Phase
from raftkv.formats.quorum_messages import Gossip, encode, frame
from raftkv.instruments.sim.schedule import Schedule
from raftkv.quorum.membership.gossip import Membership

LATENCY_S = 0.001
LOOK_S = 0.25
SETTLED_S = 60.0
MEASURED_S = 120.0
GIVE_UP_S = 600.0
GENERATION_MS = 1_800_000_000_000
VIEW = "0f1e2d3c"
RUNS = {3: 40, 10: 40, 100: 10}


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """Of one node, frames sent; and of all of them, how many live members were suspected."""

    messages_per_s: float
    bytes_per_s: float
    largest_bytes: int
    suspected: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One size of cluster; times in seconds, over all runs."""

    nodes: int
    joined_s: list[float]
    suspected_s: list[float]
    costs: Costs


class Simulation:
    """Nodes that gossip, on one virtual clock."""

    def __init__(self, count: int, seed: int, *, settings: QuorumSection | None = None) -> None:
        self._settings = settings or QuorumSection()
        self._random = Random(seed)
        self._schedule = Schedule()
        self._linked: set[frozenset[str]] = set()
        self.nodes: dict[str, Membership] = {}
        self.messages_count = 0
        self.bytes_count = 0
        self.largest_bytes = 0
        members = [_entry(number) for number in range(1, count + 1)]
        for entry in members:
            self._start(entry, members)
        self._linked = {frozenset(pair) for pair in itertools.combinations(self.nodes, 2)}

    @property
    def now_s(self) -> float:
        """The virtual time."""
        return self._schedule.now_s

    def run(self, until_s: float) -> None:
        """Let everything happen that is due by ``until_s``."""
        self._schedule.run_to(until_s)

    def run_until(self, is_so: Callable[[], bool]) -> float:
        """Let time pass until ``is_so``; how long it took. Raises ``TimeoutError`` if it never seems to be."""
        began_s = self.now_s
        while not is_so():
            if self.now_s - began_s > GIVE_UP_S:
                raise TimeoutError(f"not within {GIVE_UP_S:g} simulated seconds")
            self.run(self.now_s + LOOK_S)
        return self.now_s - began_s

    def join(self) -> str:
        """A node that knows one other asks it to be let in; returns its id."""
        seed = self._random.choice(sorted(self.nodes))
        entry = _entry(len(self.nodes) + 1)
        asked = self.nodes[seed]
        asked.add(entry, self.now_s)
        self._start(entry, [asked.own])
        self._send(seed, asked.tick(self._live(seed)))
        self._connect(seed)
        return entry.id

    def crash(self) -> str:
        """A node ends without a word; returns its id. Its connections stood until now."""
        victim = self._random.choice(sorted(self.nodes))
        for name in self._live(victim):
            self.nodes[name].hear(victim, self.now_s)
        del self.nodes[victim]
        return victim

    def suspected(self) -> float:
        """The part of all (observer, live member) pairs under suspicion."""
        pairs = [
            node.is_silent(member, self.now_s)
            for name, node in self.nodes.items()
            for member in self.nodes
            if member != name
        ]
        return sum(pairs) / len(pairs)

    def _start(self, entry: MemberEntry, known: list[MemberEntry]) -> None:
        settings = self._settings
        node = Membership(
            msgspec.structs.replace(entry, generation=GENERATION_MS),
            known,
            AgreedSizes(0, "", settings.n, settings.r, settings.w),
            suspect_after_s=settings.suspect_after_s,
            down_after_s=settings.down_after_s,
            now_s=self.now_s,
            random=self._random,
        )
        node.say(view=VIEW, synced=VIEW)
        self.nodes[entry.id] = node
        self._schedule.after(self._random.random() * settings.gossip_s, lambda: self._tick(entry.id))

    def _tick(self, name: str) -> None:
        if name in self.nodes:
            self._send(name, self.nodes[name].tick(self._live(name)))
            self._schedule.after(self._settings.gossip_s, lambda: self._tick(name))

    def _live(self, name: str) -> list[str]:
        return [other for other in self.nodes if frozenset((name, other)) in self._linked]

    def _send(self, sender: str, messages: list[tuple[str, GossipMessage]]) -> None:
        for receiver, message in messages:
            size = len(frame([encode(Gossip(message))]))
            self.messages_count += 1
            self.bytes_count += size
            self.largest_bytes = max(self.largest_bytes, size)
            self._schedule.after(LATENCY_S, lambda to=receiver, what=message: self._arrive(sender, to, what))

    def _arrive(self, sender: str, receiver: str, message: GossipMessage) -> None:
        node = self.nodes.get(receiver)
        if node is None:
            return
        version = node.version
        self._send(receiver, node.heard(sender, message, self.now_s))
        if node.version != version:
            self._connect(receiver)

    def _connect(self, name: str) -> None:
        """Connect ``name`` with those that know each other by now, and let both gossip at once."""
        for other in sorted(self.nodes[name].entries):
            pair = frozenset((name, other))
            if (
                other == name
                or other not in self.nodes
                or pair in self._linked
                or name not in self.nodes[other].entries
            ):
                continue
            self._linked.add(pair)
            self._send(name, self.nodes[name].tick([other]))
            self._send(other, self.nodes[other].tick([name]))


def joined_s(count: int, seed: int) -> float:
    """How long until everybody knows of a node that joined, and it of everybody."""
    simulation = Simulation(count, seed)
    simulation.run(SETTLED_S)
    joiner = simulation.join()

    def is_known() -> bool:
        nodes = simulation.nodes
        here = all(joiner in node.entries and node.entries[joiner].phase is Phase.JOINING for node in nodes.values())
        return here and set(nodes[joiner].entries) == set(nodes)

    return simulation.run_until(is_known)


def suspected_s(count: int, seed: int) -> float:
    """How long until everybody suspects a node that crashed."""
    simulation = Simulation(count, seed)
    simulation.run(SETTLED_S)
    victim = simulation.crash()
    return simulation.run_until(
        lambda: all(node.is_silent(victim, simulation.now_s) for node in simulation.nodes.values())
    )


def costs(count: int, seed: int) -> Costs:
    """What gossip costs while nothing happens."""
    simulation = Simulation(count, seed)
    simulation.run(SETTLED_S)
    simulation.messages_count = simulation.bytes_count = simulation.largest_bytes = 0
    suspected = []
    for _ in range(int(MEASURED_S)):
        simulation.run(simulation.now_s + 1.0)
        suspected.append(simulation.suspected())
    return Costs(
        messages_per_s=simulation.messages_count / MEASURED_S / count,
        bytes_per_s=simulation.bytes_count / MEASURED_S / count,
        largest_bytes=simulation.largest_bytes,
        suspected=statistics.mean(suspected),
    )


def measure(count: int, runs: int) -> Row:
    """All figures of one size of cluster."""
    return Row(
        nodes=count,
        joined_s=[joined_s(count, seed) for seed in range(runs)],
        suspected_s=[suspected_s(count, seed) for seed in range(runs)],
        costs=costs(count, 0),
    )


def table(rows: list[Row]) -> str:
    """The figures as a reStructuredText table."""
    head = (
        "nodes",
        "join known to all",
        "crash suspected by all",
        "messages",
        "bytes",
        "largest",
        "suspected in error",
    )
    units = (
        "",
        "s, median (worst)",
        "s, median (worst)",
        "per s and node",
        "per s and node",
        "bytes",
        "by gossip alone",
    )
    lines = [head, units]
    lines += [
        (
            str(row.nodes),
            f"{statistics.median(row.joined_s):.1f} ({max(row.joined_s):.1f})",
            f"{statistics.median(row.suspected_s):.1f} ({max(row.suspected_s):.1f})",
            f"{row.costs.messages_per_s:.1f}",
            f"{row.costs.bytes_per_s:,.0f}",
            f"{row.costs.largest_bytes:,}",
            f"{row.costs.suspected:.2%}",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rule = " ".join("=" * width for width in widths)
    texts = [" ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([rule, *texts[:2], rule, *texts[2:], rule]) + "\n"


@click.command(help=__doc__)
@click.option("--rst", type=click.Path(path_type=Path), help="Write the table here as well.")
def main(rst: Path | None) -> None:
    """Measure the three sizes of cluster and print the table."""
    made = table([measure(count, runs) for count, runs in RUNS.items()])
    print(made, end="")
    if rst is not None:
        rst.write_text(made)


def _entry(number: int) -> MemberEntry:
    address = f"10.0.{number // 250}.{number % 250}"
    return MemberEntry(f"n{number}", f"{address}:8001", f"{address}:9001")


if __name__ == "__main__":
    main()
