"""What was asked in one life of a node is never answered in the next: an answer may be long on its way."""

from __future__ import annotations

import pytest

from raftkv.formats import raft_messages as messages
from tests.simulation.cluster import Cluster


@pytest.mark.parametrize(("kind", "name"), [(messages.Propose, "sequence"), (messages.AskReadIndex, "request")])
def test_numbers_are_not_used_again_after_a_restart(kind, name):
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = cluster.others(leader)[0]
    lives = [numbers_used(cluster, follower, kind, name)]
    cluster.start_again(follower)
    cluster.run(1.0)
    lives.append(numbers_used(cluster, follower, kind, name))

    assert lives[0]
    assert lives[1]
    assert not lives[0] & lives[1]


def numbers_used(cluster, node, kind, name):
    """The numbers in messages of one kind, for a few writes and reads."""
    link, used = cluster.members[node].replica._link, set()
    send = link.send

    def noting(peer, payload):
        message = messages.decode(payload)
        if isinstance(message, kind):
            used.add(getattr(message, name))
        return send(peer, payload)

    link.send = noting
    for number in range(3):
        cluster.put_now(node, b"k%d" % number)
        cluster.get_now(node, b"k%d" % number)
    return used
