"""The quorum is lost for good: what is made of a survivor has all that was acknowledged of what it had been sent."""

from __future__ import annotations

from pathlib import Path

from raftkv.backup import recovering
from raftkv.core.requests import Get
from raftkv.core.results import KeyRecord
from raftkv.formats import layout
from raftkv.instruments.sim.raft import LOG_DIRECTORY
from raftkv.machine import reading
from raftkv.machine.machine import Machine
from raftkv.machine.repeats import RepeatLimits
from raftkv.storage.engines.memory import MemoryEngine
from raftkv.storage.log.recovery import recover
from raftkv.storage.state.tables import StateTables
from tests.simulation.cluster import Cluster


def read_back(cluster, node):
    """What ``raftkv recover`` reads of a node that has lost its power, and what it knows to choose by."""
    cluster.kill(node, power=True)
    log = recover(cluster.machines[node].disk, LOG_DIRECTORY)
    tail = recovering.behind(log, None)
    summary = recovering.SurvivorSummary(
        directory=node,
        cluster="",
        node=node,
        last_index=tail[-1][1],
        last_term=tail[-1][2],
        commit_index=log.commit_index,
        snapshot_index=0,
        revision=None,
        stamped_ms=None,
    )
    return summary, tail


def value_of(tail, key):
    """What a reader of the cluster that is made of it finds."""
    tables = StateTables(MemoryEngine(layout.TABLES), layout.TABLES, Path("state"))
    recovering.apply_all(Machine(tables, RepeatLimits()), tables, tail)
    found = reading.answer(tables, Get(key=key))
    return found.value if isinstance(found, KeyRecord) else None


def test_what_the_survivor_was_sent_is_there_though_it_never_heard_of_the_commit():
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.fill(leader, 5)
    survivor, other = cluster.others(leader)
    cluster.cut(leader, other)
    cluster.run(0.1)

    cluster.put_now(leader, b"acknowledged", b"by two")
    for lost in (leader, other):
        cluster.kill(lost, power=True)
    summary, tail = read_back(cluster, survivor)

    assert summary.commit_index < summary.last_index, "the scenario is not what it says"
    assert value_of(tail, b"acknowledged") == b"by two"
    assert value_of(tail, b"k4") == b"v"


def test_of_several_survivors_the_one_that_is_chosen_has_what_any_of_them_had_acknowledged():
    """One led before, was cut off with another, and has a longer log, of writes that no majority has."""
    cluster = Cluster(5)
    old = cluster.elect()
    cluster.fill(old, 3)
    mate, *rest = cluster.others(old)
    cluster.cut({old, mate}, set(rest))
    for number in range(5):
        cluster.put(old, b"in vain", b"%d" % number, timeout_s=0.2)
        cluster.run(0.06)
    new = cluster.elect(*rest)

    cluster.put_now(new, b"acknowledged", b"by three")
    near = max([node for node in rest if node != new], key=lambda node: cluster.members[node].log.last_index)
    for lost in cluster.others(old, near):
        cluster.kill(lost, power=True)
    read = [read_back(cluster, node) for node in (old, near)]
    assert read[0][0].last_index > read[1][0].last_index, "the scenario is not what it says"
    chosen = recovering.longest([summary for summary, _ in read])
    (tail,) = [entries for summary, entries in read if summary is chosen]

    assert value_of(tail, b"acknowledged") == b"by three"
