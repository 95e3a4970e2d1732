"""What one member that went wrong says cannot stop the others, nor keep them from working."""

from __future__ import annotations

import pytest

from raftkv.formats import raft_messages as messages
from raftkv.raft.conversation import TERM_JUMP_MAX
from tests.simulation.cluster import Cluster


@pytest.fixture
def cluster():
    made = Cluster(3)
    made.elect()
    return made


def say(cluster, sender, receiver, message):
    cluster.members[receiver].replica.conversation.received(sender, messages.encode(message))


def test_only_the_leader_can_say_that_it_leads_no_more(cluster):
    leader = cluster.elect()
    follower, traitor = cluster.others(leader)
    say(cluster, traitor, follower, messages.ProposalDeclined(sequence=1, refusal=None))

    pending = cluster.put(follower, b"k")
    cluster.run(1.0)

    assert pending.outcome is not None
    assert pending.outcome.committed


def test_a_term_beyond_what_elections_can_reach_is_refused_and_one_ahead_is_believed(cluster):
    leader = cluster.elect()
    traitor = cluster.others(leader)[0]
    core = cluster.members[leader].core
    before = core.term

    with pytest.raises(AssertionError, match="malformed"):  # the virtual port's way of closing the connection
        say(cluster, traitor, leader, messages.NewerTerm(term=before + TERM_JUMP_MAX + 1))

    assert core.term == before
    say(cluster, traitor, leader, messages.NewerTerm(term=before + 1))
    assert core.term == before + 1
