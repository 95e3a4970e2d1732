"""How long things take on the virtual clock, where a duration is a property of the protocol and not of the machine."""

import pytest

from raftkv.core.requests import Consistency
from raftkv.formats import entries
from raftkv.formats.raft_messages import Append, decode
from tests.simulation.cluster import STEP_S, Cluster

HOPS_S = 6 * STEP_S
"""Enough for the messages of one write or read on links of a few milliseconds, far less than a heartbeat."""


def led():
    cluster = Cluster(3)
    cluster.elect()
    cluster.run(1.0)
    return cluster


@pytest.fixture
def cluster():
    return led()


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


def appends_with_entries(cluster, leader):
    """Those that ``leader`` sends from now on, with whom each goes to."""
    sent, link = [], cluster.members[leader].replica._link
    send = link.send

    def noted(peer, payload):
        message = decode(payload)
        if isinstance(message, Append) and message.entries:
            sent.append((peer, message))
        return send(peer, payload)

    link.send = noted
    return sent


def test_what_came_in_before_one_turn_leaves_in_one_append():
    cluster = led()
    leader = cluster.leader()
    sent, core = appends_with_entries(cluster, leader), cluster.members[leader].core
    for _ in range(3):
        core.append(entries.encode(0, 0, 0))
    cluster.run(1.0)

    assert sorted((peer, len(append.entries)) for peer, append in sent) == [
        (peer, 3) for peer in cluster.others(leader)
    ]


def test_what_comes_in_while_the_leader_flushes_leaves_right_after():
    cluster = led()
    leader = cluster.leader()
    sent, replica = appends_with_entries(cluster, leader), cluster.members[leader].replica
    replica.begin_work(cluster.now_s)
    replica.parts.core.append(entries.encode(0, 0, 0))
    replica.finish_work(cluster.now_s)

    assert sorted(peer for peer, _ in sent) == sorted(cluster.others(leader))


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
