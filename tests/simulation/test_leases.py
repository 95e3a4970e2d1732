"""Leases end by lease time: never before their holder's own monotonic clock says so, whatever wall clocks do."""

from __future__ import annotations

import pytest

from raftkv.core.requests import FindLease, Get, Grant, KeepAlive, Put, Read, Write
from raftkv.core.results import Granted, KeptAlive, Missing, NoLease
from raftkv.machine import reading
from raftkv.raft.leadership.agreed_time import SLOWEST_RATE
from raftkv.raft.leadership.lease_time import LEAP_MS
from tests.simulation.cluster import Cluster

HOUR_S = 3600.0
TTL_S = 10.0
LATE_S = 2.0
"""How late a lease may end, beyond the time in which no majority was up."""


def a_cluster(size=3):
    cluster = Cluster(size, start_s=100_000.0)
    cluster.elect()
    cluster.run(1.0)
    return cluster


def shift(cluster, seconds, *nodes):
    for node in nodes:
        cluster.members[node].wall_offset_s += seconds


def granted(cluster):
    """A lease with a key, and since when its holder counts."""
    since_s = cluster.now_s
    leader = cluster.leader()
    (lease,) = cluster.ask(leader, Write(operations=(Grant(ttl_ms=int(TTL_S * 1000)),))).results
    assert isinstance(lease, Granted)
    cluster.ask(leader, Write(operations=(Put(key=b"k", value=b"v", lease=lease.lease),)))
    return lease.lease, since_s


def kept_alive(cluster, lease):
    """Keep it alive; since when its holder counts."""
    since_s = cluster.now_s
    outcome = cluster.ask(cluster.leader(), KeepAlive(leases=(lease,)))
    assert isinstance(outcome, KeptAlive)
    assert not isinstance(outcome.leases[0], NoLease)
    return since_s


def lived_s(cluster, since_s, limit_s=60.0):
    """How long after ``since_s`` its key was gone."""

    def is_gone():
        leader = cluster.leader()
        if leader is None or not cluster.members[leader].core.leads_committed_term:
            return False
        tables = cluster.members[leader].replica.parts.applied.state.tables
        return isinstance(reading.answer(tables, Get(key=b"k")), Missing)

    cluster.run_until(is_gone, limit_s)
    return cluster.now_s - since_s


def start_all(cluster, down_s):
    """All nodes are down for a while, and begin anew."""
    for node in cluster.members:
        cluster.kill(node)
    cluster.run(down_s)
    for node in cluster.members:
        cluster.restart(node)


def left_with_a_clock_that_is_behind():
    """Two nodes are left, and know no clock but their own two, of which one is wrong."""
    cluster = a_cluster()
    away, behind, right = cluster.members
    cluster.kill(away)
    shift(cluster, -HOUR_S, behind)
    cluster.start_again(behind, right)
    cluster.elect()
    return cluster, behind


def ends_in_time(cluster, since_s):
    lived = lived_s(cluster, since_s)
    assert lived >= TTL_S - LEAP_MS / 1000, "the lease ended before its holder could know"
    assert lived < TTL_S + LATE_S


def a_clock_that_was_behind_is_set_right():
    """Of two nodes left, one clock is behind: time goes on slowly, and then leaps by what it lost."""
    cluster, behind = left_with_a_clock_that_is_behind()
    lease, _ = granted(cluster)
    for _ in range(30):
        cluster.run(3.0)
        since_s = kept_alive(cluster, lease)
    shift(cluster, HOUR_S, behind)
    ends_in_time(cluster, since_s)


def leapt():
    """All clocks leap ahead while there is a lease."""
    cluster = a_cluster()
    _, since_s = granted(cluster)
    cluster.run(1.0)
    shift(cluster, HOUR_S, *cluster.members)
    return cluster, since_s


def all_clocks_leap():
    ends_in_time(*leapt())


def all_clocks_leap_and_the_leader_dies():
    cluster, since_s = leapt()
    cluster.run(0.3)
    cluster.kill(cluster.leader())
    ends_in_time(cluster, since_s)


def a_repeat_after_a_leap_is_told_the_same():
    """Outcomes are kept for an hour: not for one that has not passed."""
    cluster = a_cluster()
    write = Write(operations=(Put(key=b"k", value=b"v"),), idempotency_key="once")
    first = cluster.ask(cluster.leader(), write)
    shift(cluster, 2 * HOUR_S, *cluster.members)
    cluster.run(0.3)
    cluster.ask(cluster.leader(), Write(operations=(Put(key=b"other", value=b"v"),)))

    assert cluster.ask(cluster.leader(), write).results == first.results


SCENARIOS = [a_clock_that_was_behind_is_set_right, all_clocks_leap, all_clocks_leap_and_the_leader_dies]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_leap_of_clocks_ends_no_lease(scenario):
    scenario()


def test_a_leap_of_clocks_forgets_no_outcome():
    a_repeat_after_a_leap_is_told_the_same()


@pytest.mark.parametrize("kills", [1, 3])
def test_another_leader_neither_ends_a_lease_nor_prolongs_it(kills):
    cluster = a_cluster(5 if kills == 1 else 3)
    _, since_s = granted(cluster)
    for _ in range(kills):
        cluster.run(1.0)
        old = cluster.leader()
        cluster.kill(old)
        cluster.elect(*cluster.others(old))
        cluster.restart(old)

    assert TTL_S <= lived_s(cluster, since_s) < TTL_S + LATE_S


def while_no_node_runs_no_lease_ends(down_s=0.0):
    cluster = a_cluster()
    _, since_s = granted(cluster)
    cluster.run(6.5)
    start_all(cluster, down_s)

    assert TTL_S <= lived_s(cluster, since_s, 200.0) < TTL_S + down_s + LATE_S


@pytest.mark.parametrize("down_s", [0.0, 7.0, 100.0])
def test_while_no_node_runs_no_lease_ends(down_s):
    while_no_node_runs_no_lease_ends(down_s)


def after_a_power_cut_lease_time_goes_on_from_the_log(size=1):
    """The disks have a state from before a long rest, and whoever leads applies what came after it as the leader."""
    cluster = a_cluster(size)
    cluster.run(120.0)
    since_s = cluster.now_s
    (lease,) = cluster.ask(cluster.leader(), Write(operations=(Grant(ttl_ms=int(TTL_S * 1000)),))).results
    cluster.start_again(*cluster.members, power=True)
    cluster.elect()

    def is_gone():
        tables = cluster.members[cluster.leader()].replica.parts.applied.state.tables
        return isinstance(reading.answer(tables, FindLease(lease=lease.lease)), NoLease)

    cluster.run_until(is_gone, 60.0)
    assert TTL_S - LEAP_MS / 1000 <= cluster.now_s - since_s < TTL_S + LATE_S


@pytest.mark.parametrize("size", [1, 3])
def test_after_a_power_cut_lease_time_goes_on_from_the_log(size):
    after_a_power_cut_lease_time_goes_on_from_the_log(size)


def test_a_lease_that_is_not_kept_alive_ends_though_the_clocks_stand():
    """Of two nodes left, one clock is behind: the leader cannot tell the time, and goes by its own rate."""
    cluster, _ = left_with_a_clock_that_is_behind()
    _, since_s = granted(cluster)

    assert TTL_S <= lived_s(cluster, since_s) < TTL_S / SLOWEST_RATE + LATE_S


def test_what_is_left_of_a_lease_is_told_by_the_clock_that_leapt():
    cluster, _ = leapt()
    cluster.run(1.0)
    leader = cluster.leader()

    record = cluster.ask(leader, Read(query=FindLease(lease=1))).content
    left_ms = record.expires_at_ms - cluster.machines[leader].wall_ms()
    assert TTL_S - 4.0 < left_ms / 1000 < TTL_S
