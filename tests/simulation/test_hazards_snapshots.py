"""Hazards of PySyncObj where snapshots are offered, taken and replaced; see ``test_hazards``."""

from __future__ import annotations

from raftkv.core.errors import Unknown
from raftkv.core.requests import Consistency
from raftkv.core.results import Written
from raftkv.formats import raft_messages as messages
from raftkv.storage.disk import DiskError
from tests.simulation.cluster import Cluster


def test_a_snapshot_does_not_commit_an_old_leaders_tail_9():
    cluster = Cluster(3, snapshot_entries=30)
    old = cluster.elect()
    cluster.put_now(old, b"before")
    cluster.isolate(old)
    tail = [cluster.put(old, b"tail%d" % n, timeout_s=60.0) for n in range(5)]
    rest = cluster.others(old)
    new = cluster.elect(*rest)
    for number in range(80):
        cluster.put_now(new, b"new%d" % number)
    cluster.run(4.0)  # the connections break, and what was on them is gone
    assert cluster.members[new].core.first_index > cluster.members[old].core.last_index

    cluster.heal()
    cluster.run_until(lambda: cluster.members[old].core.applied_index == cluster.members[new].core.applied_index)
    cluster.settle()
    cluster.run_until(lambda: all(pending.outcome is not None for pending in tail))

    assert not any(isinstance(pending.outcome, Written) and pending.outcome.revision == 0 for pending in tail)
    for number, pending in enumerate(tail):
        applied = cluster.get_now(new, b"tail%d" % number) is not None
        assert applied == isinstance(pending.outcome, Written) or isinstance(pending.outcome, Unknown)


def test_a_snapshot_newer_than_the_logs_beginning_keeps_the_tail_11():
    cluster = Cluster(3, snapshot_entries=20)
    leader = cluster.elect()
    cluster.fill(leader, 60)
    assert cluster.members[leader].snapshots.newest is not None
    newest = cluster.members[leader].snapshots.newest.index
    assert cluster.members[leader].core.last_index > newest

    for node in cluster.members:
        cluster.start_again(node)
    leader = cluster.elect()

    assert all(cluster.get_now(leader, b"k%d" % number) == b"v" for number in range(60))


def no_room(_manifest):
    raise DiskError("there is no room for a snapshot", full=True)


def test_a_follower_that_waits_for_a_snapshot_is_not_flooded_23():
    cluster = Cluster(3, snapshot_entries=20)
    leader = cluster.elect()
    away = cluster.others(leader)[0]
    cluster.kill(away)
    cluster.fill(leader, 100)
    cluster.members[away].snapshots.begin_receive = no_room  # the body never moves
    cluster.restart(away)
    before = cluster.network.sent_count

    cluster.run(2.0)

    assert cluster.network.sent_count - before < 500


def test_a_node_far_behind_catches_up_from_a_snapshot_and_an_empty_one_too():
    cluster = Cluster(3, snapshot_entries=50)
    leader = cluster.elect()
    away = cluster.others(leader)[0]
    cluster.kill(away)
    cluster.fill(leader, 300)
    assert cluster.members[leader].core.first_index > 100

    cluster.restart(away)
    cluster.settle()

    assert cluster.get_now(away, b"k299", Consistency.LOCAL) == b"v"
    assert cluster.members[away].snapshots.newest.index > 100


def test_a_snapshot_that_is_replaced_while_it_is_offered_is_offered_anew():
    cluster = Cluster(3, snapshot_entries=4)
    leader = cluster.elect()
    away = cluster.others(leader)[0]
    cluster.kill(away)
    for number in range(30):
        cluster.put_now(leader, b"a%d" % number)
        cluster.run(0.05)
    cluster.network.latency_s = (0.1, 0.1)
    cluster.restart(away)
    for number in range(200):
        cluster.put(leader, b"b%d" % number)
        cluster.step()

    cluster.network.latency_s = (0.001, 0.002)
    cluster.settle()

    assert cluster.get_now(away, b"a29", Consistency.LOCAL) == b"v"


def test_a_peer_that_reconnects_while_it_is_paused_is_not_flooded_23():
    cluster = Cluster(3, window_bytes=1)
    leader = cluster.elect()
    peer = cluster.others(leader)[0]
    cluster.cut(leader, peer)
    cluster.fill(leader, 3)
    replica = cluster.members[leader].replica
    replica.work(cluster.now_s)
    assert replica.parts.transport._peers[peer].paused or cluster.put(leader, b"more")
    cluster.step()

    replica.conversation.link_down(peer)
    replica.conversation.link_up(peer)
    before = cluster.network.sent_count
    replica.parts.core.append(bytes(9) + b"x")

    assert cluster.network.sent_count - before < 10


def test_an_offered_snapshot_does_not_replace_what_a_follower_holds_already_11():
    cluster = Cluster(3, snapshot_entries=5)
    leader = cluster.elect()
    cluster.fill(leader, 12)
    cluster.run(1.0)
    cluster.put_now(leader, b"not in the snapshot")
    cluster.run(0.1)
    peer = cluster.others(leader)[0]
    held = len(cluster.members[peer].log)
    replica = cluster.members[leader].replica
    assert cluster.members[leader].snapshots.newest.index < replica.core.last_index

    replica.parts.transfers.offer(peer, replica.core.term, cluster.now_s)
    cluster.run(1.0)

    assert len(cluster.members[peer].log) >= held


def test_a_reset_below_what_a_follower_is_known_to_hold_does_not_stop_it():
    """The log may have been cut there; the follower then needs neither a snapshot nor anything before it."""
    cluster = Cluster(3, snapshot_entries=5)
    leader = cluster.elect()
    cluster.fill(leader, 20)
    cluster.run(1.0)
    replica = cluster.members[leader].replica
    assert cluster.members[leader].core.first_index > 2

    for peer in cluster.others(leader):
        match_index = replica.core.match_index(peer)
        reset = messages.AppendAnswer(
            term=replica.core.term,
            sequence=replica.parts.transport._peers[peer].sequence,
            next_index=min(match_index, replica.core.first_index),
            success=False,
            reset=True,
        )
        replica.conversation.received(peer, messages.encode(reset))
    written = cluster.put_now(leader, b"after")

    assert written.committed


def test_a_follower_that_has_just_started_takes_the_first_snapshot_offered_23():
    cluster = Cluster(3, snapshot_entries=20)
    leader = cluster.elect()
    away = cluster.others(leader)[0]
    cluster.kill(away)
    cluster.fill(leader, 60)
    cluster.restart(away)

    # An offer that is not taken is repeated after five seconds.
    cluster.run_until(lambda: cluster.members[away].snapshots.received_count > 0, limit_s=3.0)
