"""A story in half a minute: an old leader that answers from the past, and a cart that something is missing from.

Few requests, one after the other, to real clusters; each is announced before it is made, and what came of it is told as
it was, whatever it was. The histories go the same way as those of scenarios, through the same checker to the same page.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from pathlib import Path
from random import Random
from typing import Final

from raftkv.instruments.lab.additions import Additions, Update
from raftkv.instruments.lab.dialect import ClientStep, Meaning
from raftkv.instruments.lab.exchange import channel, observe
from raftkv.instruments.lab.faults import Partition
from raftkv.instruments.lab.history import GetAction, History, ObservedOperation, Outcome, PutAction
from raftkv.instruments.lab.nemesis import FaultEvent, Nemesis
from raftkv.instruments.lab.record import Evidence, LabRun, Performed, write_evidence, write_run
from raftkv.instruments.lab.run import Tell, agree, describe, last_look, started
from raftkv.instruments.lab.scenario import Scenario, ScenarioTraffic, Variant
from raftkv.instruments.lab.wording import described, quoted
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import loopback_sites, wait_until

TIMEOUT_S: Final = 2.0

LOCAL: Final = Variant(
    name="raft, local reads",
    about="One leader; every node answers reads from what it has applied itself.",
    read="consistency=local",
)
LINEARIZABLE: Final = Variant(
    name="raft, linearizable reads",
    about="The same cluster at the same time; reads are confirmed with a majority.",
    promises_linearizable=True,
)
LAST_WRITER: Final = Variant(
    name="no leader, last writer wins",
    about="Three replicas, two answer a read, two hold a write; of two carts the one with the higher stamp stays.",
    mode="quorum",
)
SIBLINGS: Final = Variant(
    name="no leader, siblings",
    about="The same, but carts whose writers did not know of each other are both kept.",
    mode="quorum",
    update="context",
    config={"quorum": {"conflicts": "siblings"}},
)

SCENARIO: Final = Scenario(
    title="An old leader, and a shopping cart",
    expect="A leader is cut off and goes on answering: local reads from the past, linearizable reads not at all. "
    "Without a leader, two people fill one shopping cart, and one of them loses what was acknowledged; "
    "with siblings nothing is lost, and the next reader has to choose.",
    seed=0,
    duration_s=60,
    workload=ScenarioTraffic(clients=4),
    variant=(LOCAL, LINEARIZABLE, LAST_WRITER, SIBLINGS),
)

STORY: Final = "Four clients, one request at a time, three nodes: real processes on one machine, over HTTP."


class Stage:
    """A cluster, and what clients asked of it so far."""

    def __init__(self, cluster: LocalCluster, tell: Tell) -> None:
        self.cluster = cluster
        self.operations: list[ObservedOperation] = []
        self.began_ns = time.monotonic_ns()
        self._tell = tell

    def ask(self, client: int, node: str, step: ClientStep, query: str = "") -> Meaning:
        """Let ``client`` take ``step`` at ``node``, and tell what came of it."""
        found, operation = asyncio.run(self._ask(client, node, step, query))
        self.operations.append(operation)
        level = f" ({query.removeprefix('consistency=')})" if query else ""
        self._tell(f"     client {client} at {node}: {_told(operation)}{level}")
        return found

    async def _ask(self, client: int, node: str, step: ClientStep, query: str) -> tuple[Meaning, ObservedOperation]:
        with contextlib.closing(channel(self.cluster.sites[node].http)) as asked:
            return await observe(asked, step, client=client, node=node, timeout_s=TIMEOUT_S, query=query, note=query)

    def evidence(self, variant: Variant, operations: list[ObservedOperation], events: list[FaultEvent]) -> Evidence:
        """What a report is made of; every key is looked at once more."""
        ended_ns = time.monotonic_ns()
        agree(self.cluster)
        history = last_look(self.cluster, History(operations))
        performed = Performed(variant=variant, began_ns=self.began_ns, ended_ns=ended_ns)
        return Evidence(performed=performed, history=history, events=tuple(events), delays=())


def perform(folder: Path, *, command: str, tell: Tell) -> LabRun:
    """Tell the story, and write what happened into ``folder``; raises ``ClusterError``."""
    began = dt.datetime.now(dt.UTC)
    folder.mkdir(parents=True, exist_ok=True)
    evidence = [*_old_leader(folder, tell), _cart(LAST_WRITER, folder, tell), _cart(SIBLINGS, folder, tell)]
    for each in evidence:
        write_evidence(folder, each)
    performed = tuple(each.performed for each in evidence)
    run = describe("demo", SCENARIO, began, command=command, performed=performed, story=STORY)
    write_run(folder, run)
    return run


def _old_leader(folder: Path, tell: Tell) -> list[Evidence]:
    tell("1. One leader. Three nodes start on this machine, in raft mode.")
    with started(LOCAL, loopback_sites(3), folder) as cluster:
        stage, key = Stage(cluster, tell), b"colour"
        leader = cluster.leader()
        tell(f"   {leader} leads. Somebody stores a value, and reads it at every node:")
        stage.ask(1, leader, ClientStep(key=key, action=PutAction(b"blue")))
        for node in cluster.nodes:
            _wait_shown(cluster, node, key, b"blue")
            stage.ask(2, node, ClientStep(key=key, action=GetAction()), "consistency=local")
        tell(f"\n2. The leader is cut off. {leader} will no longer hear {_others(cluster, leader)}, nor they it.")
        tell("   Clients still reach all three.")
        with Nemesis(cluster, random=Random(SCENARIO.seed)) as nemesis:  # noqa: S311  nothing is drawn from it
            cut = nemesis.begin(Partition(groups=((leader,), ("rest",))))
            new = wait_until(lambda: _leader_but(cluster, leader), "the others to elect a leader")
            tell(f"   The others have elected {new}. A new value goes there:")
            stage.ask(1, new, ClientStep(key=key, action=PutAction(b"green")))
            tell(f"   And now the old leader, {leader}, is asked, in two ways:")
            local = stage.ask(2, leader, ClientStep(key=key, action=GetAction()), "consistency=local")
            linearizable = stage.ask(3, leader, ClientStep(key=key, action=GetAction()), "consistency=linearizable")
            stage.ask(3, new, ClientStep(key=key, action=GetAction()), "consistency=linearizable")
            tell(_verdict_on_reads(local, linearizable))
            tell("   The network is mended.")
            nemesis.end(cut)
        _wait_shown(cluster, leader, key, b"green")
        stage.ask(2, leader, ClientStep(key=key, action=GetAction()), "consistency=local")
        found = []
        for variant, other in ((LOCAL, "linearizable"), (LINEARIZABLE, "local")):
            operations = [each for each in stage.operations if f"consistency={other}" not in each.note]
            found.append(stage.evidence(variant, operations, nemesis.events))
    return found


def _verdict_on_reads(local: Meaning, linearizable: Meaning) -> str:
    """What the two reads of the old leader amount to."""
    words = "   The local read was answered from the past: 'green' had been acknowledged before it began."
    if local.result == b"green":
        words = "   The local read was fresh, this time."
    if linearizable.outcome is Outcome.OK:
        return f"{words}\n   The linearizable read was answered."
    return f"{words}\n   The linearizable read was refused: the old leader cannot ask a majority, and does not guess."


def _cart(variant: Variant, folder: Path, tell: Tell) -> Evidence:
    is_last_writer = variant is LAST_WRITER
    tell(f"\n{3 if is_last_writer else 4}. {variant.name.capitalize()}. Three nodes start, in quorum mode.")
    with started(variant, loopback_sites(3), folder) as cluster:
        stage, key = Stage(cluster, tell), b"list/cart"
        tell("   Two people open the same shopping cart, and both put something in:")
        first, second = Additions(variant.update), Additions(variant.update)
        first.begin(key, b"milk")
        second.begin(key, b"bread")
        for client, node, additions in ((1, "n1", first), (2, "n2", second)):
            additions.learn(stage.ask(client, node, additions.next_step()))
        for client, node, additions in ((1, "n1", first), (2, "n2", second)):
            additions.learn(stage.ask(client, node, additions.next_step()))
        tell("   Both were told that it is done. What is in the cart?")
        read = stage.ask(3, "n3", ClientStep(key=key, action=GetAction()))
        if read.siblings:
            tell("   Both carts are there. The next one who adds something merges them, and says what it replaces:")
            _add(stage, variant.update, key)
        elif isinstance(read.result, bytes) and len(read.result.split(b",")) == 1:
            tell("   One thing is missing, and nobody was told: who wrote the cart last had not seen the other's.")
        return stage.evidence(variant, stage.operations, [])


def _add(stage: Stage, update: Update, key: bytes) -> None:
    additions = Additions(update)
    additions.begin(key, b"eggs")
    while additions.is_under_way:
        additions.learn(stage.ask(3, "n3", additions.next_step()))
    stage.ask(1, "n1", ClientStep(key=key, action=GetAction()))


def _told(operation: ObservedOperation) -> str:
    """An operation and its outcome for a person who watches."""
    if operation.outcome is Outcome.FAILED:
        return f"{described(operation)} → refused: {operation.note.rpartition(', ')[2]}"
    if operation.outcome is Outcome.UNKNOWN:
        return f"{described(operation)} → nobody knows: {operation.note}"
    if operation.siblings:
        return described(operation).replace(" | ", " and, beside it, ")
    return described(operation) + ("" if isinstance(operation.action, GetAction) else " → done")


def _wait_shown(cluster: LocalCluster, node: str, key: bytes, value: bytes) -> None:
    wait_until(lambda: cluster.copy(node).get(key) == value, f"{node} to show {quoted(value)}")


def _leader_but(cluster: LocalCluster, old: str) -> str | None:
    for node in cluster.nodes:
        status = cluster.status(node) if node != old else None
        if status is not None and status.role == "leader":
            return node
    return None


def _others(cluster: LocalCluster, node: str) -> str:
    return " and ".join(other for other in cluster.nodes if other != node)
