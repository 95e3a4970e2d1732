"""How long things take on the virtual clock, where a duration is a property of the protocol and not of the machine."""

import pytest

from raftkv.core.requests import Consistency
from tests.simulation.cluster import STEP_S, Cluster

HOPS_S = 6 * STEP_S
"""Enough for the messages of one write or read on links of a few milliseconds, far less than a heartbeat."""


@pytest.fixture
def cluster():
    cluster = Cluster(3)
    cluster.elect()
    cluster.run(1.0)
    return cluster


def test_followers_learn_of_a_commit_without_waiting_for_a_heartbeat(cluster):
    leader = cluster.leader()
    cluster.put_now(leader, b"k")

    cluster.run(HOPS_S)

    assert all(cluster.get(node, b"k", Consistency.LOCAL).outcome.content.value == b"v" for node in cluster.members)


def test_news_of_a_commit_travels_with_the_next_entries(cluster):
    leader = cluster.leader()
    before = cluster.network.sent_count
    cluster.fill(leader, 20)

    # An append and its answer for each peer and write; heartbeats and read-index rounds come on top.
    assert cluster.network.sent_count - before < 20 * 4 + 40


@pytest.mark.parametrize("level", [Consistency.LINEARIZABLE, Consistency.LEASE])
def test_a_follower_that_reads_after_a_write_is_told_of_the_commit_at_once(cluster, level):
    leader = cluster.leader()
    follower = cluster.others(leader)[0]
    for number in range(10):
        cluster.put_now(leader, b"k%d" % number)
        began_s = cluster.now_s
        assert cluster.get_now(follower, b"k%d" % number, level) == b"v"

        assert cluster.now_s - began_s <= HOPS_S + STEP_S


def test_a_write_through_a_follower_waits_for_no_timer(cluster):
    follower = cluster.others(cluster.leader())[0]
    for number in range(10):
        began_s = cluster.now_s
        cluster.put_now(follower, b"k%d" % number)

        assert cluster.now_s - began_s <= HOPS_S + STEP_S
