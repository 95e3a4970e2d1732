"""Wrong wall clocks: what expires does so by the time that a majority of clocks agrees about (docs/decisions/0002)."""

from __future__ import annotations

import pytest

from raftkv.core.requests import Put, Write
from raftkv.core.results import PutDone
from raftkv.raft.leadership.agreed_time import SLOWEST_RATE
from tests.simulation.cluster import Cluster

HOURS_S = 3600.0
WINDOW_S = 600.0


def a_cluster(size=3):
    cluster = Cluster(size, start_s=100_000.0, idempotency_window_s=WINDOW_S)
    cluster.elect()
    cluster.run(1.0)
    return cluster


def shift(cluster, seconds, *nodes):
    for node in nodes:
        cluster.members[node].wall_offset_s += seconds


def put_once(cluster, node, name, value):
    """A write under an idempotency key; returns the version it got."""
    write = Write(operations=(Put(key=b"k", value=value),), idempotency_key=name)
    outcome = cluster.ask(node, write)
    (result,) = outcome.results
    assert isinstance(result, PutDone)
    return result.version


def put_for(cluster, node, key, seconds):
    pending = cluster.submit(node, Write(operations=(Put(key=key, value=b"v", ttl_ms=int(seconds * 1000)),)))
    cluster.await_outcome(pending)


def lifetime_s(cluster, seconds, limit_s=None):
    """How long a key lives that is asked to live for ``seconds``."""
    leader = cluster.leader()
    put_for(cluster, leader, b"passing", seconds)
    began_s = cluster.now_s
    cluster.run_until(lambda: cluster.get_now(leader, b"passing") is None, limit_s=limit_s or 3 * seconds + 2)
    return cluster.now_s - began_s


def a_key_lives_on_although_the_leaders_clock_ran_ahead():
    cluster = a_cluster()
    leader = cluster.leader()
    put_for(cluster, leader, b"lasting", 60.0)
    shift(cluster, 2 * HOURS_S, leader)
    cluster.put_now(leader, b"other")
    cluster.run(1.0)
    assert cluster.get_now(leader, b"lasting") == b"v", "the key expired early"


def a_key_expires_in_time_after_the_leaders_clock_went_back():
    cluster = a_cluster()
    cluster.put_now(cluster.leader(), b"k")
    shift(cluster, -2 * HOURS_S, cluster.leader())
    assert 1.0 <= lifetime_s(cluster, 1.0) < 1.5


def a_key_expires_in_time_under_a_leader_after_one_that_was_ahead():
    cluster = a_cluster()
    old = cluster.leader()
    shift(cluster, 2 * HOURS_S, old)
    cluster.put_now(old, b"k")
    cluster.kill(old)
    cluster.run_until(lambda: cluster.leader() in cluster.others(old))
    assert 1.0 <= lifetime_s(cluster, 1.0) < 1.5


SCENARIOS = [
    a_key_lives_on_although_the_leaders_clock_ran_ahead,
    a_key_expires_in_time_after_the_leaders_clock_went_back,
    a_key_expires_in_time_under_a_leader_after_one_that_was_ahead,
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_one_wrong_clock_changes_nothing(scenario):
    scenario()


def test_a_retry_is_applied_once_although_the_leaders_clock_ran_ahead():
    cluster = a_cluster()
    leader = cluster.leader()
    first = put_once(cluster, leader, "order-1", b"v")
    shift(cluster, 2 * HOURS_S, leader)
    cluster.put_now(leader, b"other")
    shift(cluster, -2 * HOURS_S, leader)
    assert first == put_once(cluster, leader, "order-1", b"v") == 1, "the retry was applied twice"


@pytest.mark.parametrize("offset_s", [2 * HOURS_S, -2 * HOURS_S])
def test_one_wrong_clock_of_the_two_nodes_left_neither_ends_keys_early_nor_keeps_them(offset_s):
    cluster = a_cluster()
    leader = cluster.leader()
    cluster.kill(cluster.others(leader)[0])
    shift(cluster, offset_s, cluster.others(leader)[1])

    assert 1.0 <= lifetime_s(cluster, 1.0) < 1.0 / SLOWEST_RATE + 0.5


def test_time_goes_on_under_a_new_leader_whose_clock_is_behind():
    cluster = a_cluster()
    old = cluster.leader()
    for node in cluster.others(old):
        shift(cluster, -2 * HOURS_S, node)
    cluster.put_now(old, b"k")
    before_ms = cluster.members[old].replica.parts.applied.machine.clock_ms
    cluster.kill(old)
    cluster.run_until(lambda: cluster.leader() in cluster.others(old))

    assert 1.0 <= lifetime_s(cluster, 1.0) < 1.0 / SLOWEST_RATE + 0.5
    assert cluster.members[cluster.leader()].replica.parts.applied.machine.clock_ms > before_ms


def test_what_was_to_expire_while_all_nodes_were_down_is_gone_and_new_keys_live_their_time():
    cluster = a_cluster()
    put_for(cluster, cluster.leader(), b"old", 60.0)
    put_once(cluster, cluster.leader(), "order-1", b"v")
    for node in cluster.members:
        cluster.kill(node)
    shift(cluster, 24 * HOURS_S, *cluster.members)  # the monotonic clocks of the machines began anew meanwhile
    for node in cluster.members:
        cluster.restart(node)
    leader = cluster.elect()

    assert 30.0 <= lifetime_s(cluster, 30.0) < 31.0
    assert cluster.get_now(leader, b"old") is None
    assert put_once(cluster, leader, "order-1", b"v") == 1, "while no node ran, nobody counted towards forgetting it"


def test_the_first_command_of_a_new_leader_is_stamped_with_the_time_of_the_day():
    cluster = a_cluster()
    cluster.put_now(cluster.leader(), b"k")
    for node in cluster.members:
        cluster.kill(node)
    shift(cluster, 24 * HOURS_S, *cluster.members)
    for node in cluster.members:
        cluster.restart(node)
    pending = cluster.submit("n1", Write(operations=(Put(key=b"new", value=b"v", ttl_ms=2000),)))
    cluster.await_outcome(pending)
    cluster.run(1.0)

    assert cluster.get_now("n1", b"new") == b"v"


def test_when_a_majority_of_clocks_ran_ahead_time_falls_back_to_them_slowly():
    cluster = a_cluster()
    leader = cluster.leader()
    shift(cluster, 10.0, *cluster.members)
    cluster.put_now(leader, b"k")
    cluster.run(0.5)
    cluster.put_now(leader, b"k")
    shift(cluster, -10.0, *cluster.members)

    assert 2.0 <= lifetime_s(cluster, 2.0) < 2.0 / SLOWEST_RATE + 0.5
    cluster.run(100.0)
    assert 2.0 <= lifetime_s(cluster, 2.0) < 2.2


def test_a_single_node_goes_by_its_own_clock_and_never_back():
    cluster = a_cluster(1)
    shift(cluster, 2 * HOURS_S, "n1")
    assert 1.0 <= lifetime_s(cluster, 1.0) < 1.5
    shift(cluster, -2 * HOURS_S, "n1")

    assert 1.0 <= lifetime_s(cluster, 1.0) < 1.0 / SLOWEST_RATE + 0.5
