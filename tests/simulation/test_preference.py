"""A leader makes way for the member that is configured to lead, when that has been well for a while, and not before."""

from __future__ import annotations

import pytest

from raftkv.core.results import Written
from raftkv.formats import commands, entries
from raftkv.formats import raft_messages as messages
from raftkv.raft.leadership.preference import WELL_TIMES
from tests.simulation.cluster import Cluster
from tests.simulation.test_handover import RESERVE_BYTES, emptied, full

WHILE_S = 1.5 * WELL_TIMES
"""Longer than a member must have been well; an election timeout is a second here."""


def led(reads=entries.NEWEST):
    """A cluster, who leads it, and a follower."""
    cluster = Cluster(3, begins=False, disk_reserve_bytes=RESERVE_BYTES)
    for name, machine in cluster.machines.items():
        machine.reads = reads
        cluster.restart(name)
    leader = cluster.elect()
    cluster.run(0.5)
    return cluster, leader, cluster.others(leader)[0]


def prefer(cluster, node):
    """The file of ``node`` says that it is to lead, and no other's does."""
    cluster.members[node].replica.parts.preference.is_preferred = True


def attempts(cluster, leader):
    """When this leader begins to hand over, from now on."""
    handover = cluster.members[leader].replica.parts.handover
    begin, begun_at_s = handover.begin, []

    def counted(target, *, term, now_s):
        begun = begin(target, term=term, now_s=now_s)
        begun_at_s.extend([now_s] if begun else [])
        return begun

    handover.begin = counted
    return begun_at_s


def write_on(cluster, seconds):
    """Write through every node for a while; all that came of it."""
    pendings, end_s = [], cluster.now_s + seconds
    while cluster.now_s < end_s:
        pendings += [cluster.put(node, b"k") for node in cluster.members if cluster.machines[node].is_working]
        cluster.run(0.1)
    cluster.run(6.0)
    return [pending.outcome for pending in pendings]


@pytest.mark.parametrize("preferred", ["n1", "n2", "n3"])
def test_whoever_is_configured_to_lead_does_soon(preferred):
    cluster = Cluster(3, preferred_leader=preferred)
    cluster.elect()
    cluster.run(WHILE_S)

    assert cluster.leader() == preferred


def test_no_write_is_refused_or_in_doubt_while_leadership_goes_to_the_preferred_one():
    cluster, leader, follower = led()
    prefer(cluster, follower)
    term = cluster.members[leader].core.term
    outcomes = write_on(cluster, WHILE_S)

    assert cluster.leader() == follower
    assert cluster.members[follower].core.term == term + 1
    assert all(isinstance(outcome, Written) for outcome in outcomes)


def test_who_comes_and_goes_does_not_lead():
    cluster, leader, follower = led()
    prefer(cluster, follower)
    for _ in range(10):
        cluster.run(0.8 * WELL_TIMES)
        cluster.disconnect(leader, follower)

    assert cluster.leader() == leader


def test_who_does_not_keep_up_does_not_lead():
    """It is there, and says that it wants to lead, but what it is sent comes late."""
    cluster, leader, follower = led()
    prefer(cluster, follower)
    cluster.network.latency_s = (0.001, 0.001)
    cluster.network.slow(leader, follower, 1500.0)
    begun_at_s = attempts(cluster, leader)
    outcomes = write_on(cluster, WHILE_S)

    assert not begun_at_s
    assert cluster.leader() == leader
    assert all(isinstance(outcome, Written) for outcome in outcomes)


def test_who_has_no_room_does_not_lead_before_it_has_some():
    cluster, leader, follower = led()
    prefer(cluster, follower)
    full(cluster, follower)
    cluster.run(2 * WHILE_S)
    assert cluster.leader() == leader

    emptied(cluster, follower)
    cluster.run(WHILE_S)
    assert cluster.leader() == follower


def test_leadership_does_not_go_to_and_fro_where_files_differ():
    cluster, leader, follower = led()
    prefer(cluster, leader)
    prefer(cluster, follower)
    term = cluster.members[leader].core.term
    cluster.run(5 * WHILE_S)

    assert cluster.leader() == leader
    assert cluster.members[leader].core.term == term


def test_each_attempt_that_comes_to_nothing_is_farther_from_the_one_before():
    cluster, leader, follower = led()
    prefer(cluster, follower)
    conversation = cluster.members[follower].replica.conversation
    conversation._handlers = {**conversation._handlers, messages.HandOver: lambda _peer, _word, _now_s: None}
    begun_at_s = attempts(cluster, leader)
    cluster.run(8 * WELL_TIMES)

    assert cluster.leader() == leader
    assert len(begun_at_s) == 3
    assert begun_at_s[2] - begun_at_s[1] > 1.8 * (begun_at_s[1] - begun_at_s[0])


def test_a_leader_of_a_version_that_does_not_know_of_it_is_not_told():
    cluster, leader, follower = led(reads=commands.CALLERS_FORMAT - 1)
    prefer(cluster, follower)
    received, heard = cluster.members[leader].replica.conversation.received, []

    def hear(peer, payload):
        heard.append(type(messages.decode(payload)))
        received(peer, payload)

    cluster.members[leader].replica.conversation.received = hear
    cluster.run(WHILE_S)

    assert heard
    assert messages.WantToLead not in heard
    assert cluster.leader() == leader
