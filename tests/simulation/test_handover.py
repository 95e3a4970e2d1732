"""A leader makes way: because its disk is full, or because it was told to, and no other way than safely."""

from __future__ import annotations

import pytest

from raftkv.core.errors import Code, Refused
from raftkv.core.requests import Consistency, Delete, Inspect, Write
from raftkv.core.results import Written
from raftkv.formats import raft_messages as messages
from raftkv.raft.snapshots.transfer import RETRY_WRITE_S
from raftkv.storage.disk import DiskError
from tests.simulation.cluster import Cluster

RESERVE_BYTES = 64_000


def full(cluster, *nodes, free_bytes=RESERVE_BYTES - 1):
    for node in nodes:
        cluster.members[node].replica.parts.room._look = lambda: free_bytes


def emptied(cluster, *nodes):
    full(cluster, *nodes, free_bytes=10 * RESERVE_BYTES)


def counted_rotations(cluster):
    """How often each node has begun a segment of its log early, from now on."""
    counts = dict.fromkeys(cluster.members, 0)
    for name, member in cluster.members.items():
        rotate = member.replica._log.rotate

        def counting(name=name, rotate=rotate):
            counts[name] += 1
            rotate()

        member.replica._log.rotate = counting
    return counts


def hand_over(cluster, leader, target=None):
    return cluster.members[leader].replica.parts.handover.hand_over(target, cluster.machines[leader].now_s())


@pytest.fixture
def cluster():
    return made()


def made(size=3, **settings):
    cluster = Cluster(size, disk_reserve_bytes=RESERVE_BYTES, **settings)
    cluster.elect()
    cluster.run(0.5)
    return cluster


def test_a_leader_without_room_hands_over_and_no_write_is_refused():
    cluster = made()
    old = cluster.leader()
    full(cluster, old)
    pendings = []
    for number in range(300):
        pendings.append(cluster.put(list(cluster.members)[number % 3], b"k%d" % number))
        cluster.step()
    cluster.run(2.0)

    assert cluster.leader() not in (old, None)
    assert all(isinstance(pending.outcome, Written) for pending in pendings)
    assert cluster.submit(old, Inspect()).outcome.has_room is False
    assert all(cluster.submit(node, Inspect()).outcome.can_write for node in cluster.members)


def test_it_takes_no_election_timeout():
    cluster = made(election_timeout_s=3.0)
    old = cluster.leader()
    term = cluster.members[old].core.term
    began_s = cluster.now_s
    target = cluster.others(old)[1]

    assert hand_over(cluster, old, target)
    cluster.run_until(lambda: cluster.leader() == target)

    assert cluster.now_s - began_s < 0.2
    assert cluster.members[target].core.term == term + 1


def test_the_member_that_lacks_least_and_has_room_is_chosen():
    cluster = made(5)
    old = cluster.leader()
    behind, crammed, *able = cluster.others(old)
    full(cluster, crammed)
    cluster.cut(old, behind, both=False)
    cluster.put_now(old, b"k")
    cluster.run(1.2)
    full(cluster, old)
    cluster.run_until(lambda: cluster.leader() not in (old, None))

    assert cluster.leader() in able


def test_a_member_that_is_not_level_is_not_told_to_stand():
    """What it lacks is not even on its way: its link takes little at a time, and the word would overtake the rest."""
    cluster = made(window_bytes=60)
    old = cluster.leader()
    near, far = cluster.others(old)
    term = cluster.members[old].core.term
    cluster.network.latency_s = (0.001, 0.001)
    cluster.network.slow(old, far, 50.0)
    cluster.fill(near, 20)

    assert hand_over(cluster, old, far)
    cluster.run_until(lambda: cluster.leader() == far, limit_s=5.0)

    assert cluster.members[far].core.term == term + 1


def test_who_handed_over_holds_no_lease_whatever_comes_of_it():
    """The new leader is elected by the third member, and the old one does not hear of it."""
    cluster = made()
    old = cluster.leader()
    target, third = cluster.others(old)
    cluster.cut({target, third}, old, both=False)

    assert hand_over(cluster, old, target)
    cluster.run_until(lambda: cluster.leader() == target)

    assert cluster.members[old].core.is_leader
    assert not cluster.members[old].replica.holds_lease
    cluster.put_now(target, b"k", b"new")
    cluster.heal()
    assert cluster.get_now(old, b"k", Consistency.LEASE) == b"new"


def test_when_nothing_comes_of_it_the_leader_goes_on():
    cluster = made()
    old = cluster.leader()
    target, third = cluster.others(old)
    cluster.pause(target)

    assert hand_over(cluster, old, target)
    pendings = [cluster.put(old, b"a"), cluster.put(third, b"b")]
    cluster.run(0.5)
    assert [pending.outcome for pending in pendings] == [None, None]
    cluster.run(1.5)

    assert all(isinstance(pending.outcome, Written) for pending in pendings)
    assert cluster.leader() == old
    cluster.settle()


def test_a_word_of_an_earlier_term_or_of_another_member_moves_nobody():
    cluster = made()
    leader = cluster.leader()
    one, other = cluster.others(leader)
    term = cluster.members[leader].core.term
    words = [(leader, term - 1), (leader, term + 1), (other, term)]
    for sender, number in words:
        cluster.members[one].replica.conversation.received(sender, messages.encode(messages.HandOver(term=number)))
        cluster.run(0.5)

    assert cluster.leader() == leader
    assert cluster.members[leader].core.term == term


def test_where_nobody_has_room_writes_are_refused_deletions_taken_and_everybody_says_so():
    cluster = made()
    leader = cluster.leader()
    cluster.put_now(leader, b"k")
    full(cluster, *cluster.members)
    cluster.run(1.2)

    for node in cluster.members:
        refused = cluster.put(node, b"other")
        deleted = cluster.submit(node, Write(operations=(Delete(key=b"k"),)))
        cluster.run(0.5)
        assert isinstance(refused.outcome, Refused)
        assert refused.outcome.code is Code.DISK_FULL
        assert isinstance(deleted.outcome, Written)
        status = cluster.submit(node, Inspect()).outcome
        assert not status.can_write
        assert not status.has_room

    emptied(cluster, *cluster.members)
    cluster.run(1.2)
    assert cluster.put_now(cluster.leader(), b"other").committed


def test_deletions_are_refused_too_before_the_reserve_is_gone():
    cluster = made()
    full(cluster, *cluster.members, free_bytes=RESERVE_BYTES // 2 - 1)
    cluster.run(1.2)
    pending = cluster.submit(cluster.leader(), Write(operations=(Delete(key=b"k"),)))
    cluster.run(0.5)

    assert pending.outcome.code is Code.DISK_FULL


def test_a_follower_without_any_room_takes_no_entries_and_catches_up_when_it_has_some():
    cluster = made()
    leader = cluster.leader()
    away = cluster.others(leader)[0]
    full(cluster, away, free_bytes=RESERVE_BYTES // 4 - 1)
    cluster.run(1.2)
    before = cluster.members[away].core.last_index
    cluster.fill(leader, 20)
    cluster.run(1.0)

    assert cluster.members[away].core.last_index == before
    assert cluster.leader() == leader
    for pending in (cluster.put(away, b"k"), cluster.get(away, b"k")):
        cluster.run(0.05)
        assert pending.outcome.code is Code.DISK_FULL
    assert not cluster.submit(away, Inspect()).outcome.can_write
    emptied(cluster, away)
    cluster.run(2.0)
    assert cluster.members[away].core.applied_index == cluster.members[leader].core.last_index


def test_a_node_without_room_leaves_it_to_others_to_stand():
    cluster = made()
    leader = cluster.leader()
    crammed, able = cluster.others(leader)
    full(cluster, crammed)
    cluster.run(1.2)
    cluster.kill(leader)
    cluster.members[able].core.election_deadline_s = cluster.now_s + 1.9
    cluster.members[crammed].core.election_deadline_s = cluster.now_s + 1.1
    cluster.run_until(lambda: cluster.leader() in (crammed, able))

    assert cluster.leader() == able


def test_a_node_without_room_stands_when_nobody_else_does():
    cluster = made()
    leader = cluster.leader()
    full(cluster, *cluster.others(leader))
    cluster.run(1.2)
    cluster.kill(leader)

    cluster.run_until(lambda: cluster.leader() in cluster.others(leader), limit_s=10.0)


def test_a_leader_that_has_room_again_is_a_member_like_any_other():
    cluster = made()
    old = cluster.leader()
    full(cluster, old)
    cluster.run(2.0)
    new = cluster.leader()
    emptied(cluster, old)
    cluster.run(1.2)

    assert new != old
    assert hand_over(cluster, new, old)
    cluster.run_until(lambda: cluster.leader() == old)
    assert cluster.put_now(old, b"k").committed


def test_a_leader_that_is_to_end_makes_way_and_no_write_is_refused(cluster):
    old = cluster.leader()
    replica = cluster.members[old].replica
    pendings = []
    for number in range(200):
        pendings.append(cluster.put(list(cluster.members)[number % 3], b"k%d" % number))
        has_made_way = replica.make_way(cluster.machines[old].now_s())
        cluster.step()
    cluster.run(1.0)

    assert has_made_way
    assert cluster.leader() not in (old, None)
    assert all(isinstance(pending.outcome, Written) for pending in pendings)


def test_whoever_does_not_lead_or_leads_nobody_who_could_lead_ends_at_once(cluster):
    old = cluster.leader()

    def may_end(node):
        return cluster.members[node].replica.make_way(cluster.machines[node].now_s())

    assert all(may_end(node) for node in cluster.others(old))
    for node in cluster.others(old):
        cluster.disconnect(old, node)
    assert cluster.members[old].core.is_leader
    assert may_end(old)


def test_a_leader_whose_word_comes_to_nothing_ends_all_the_same(cluster):
    old = cluster.leader()
    cluster.cut([old], cluster.others(old), both=False)
    replica = cluster.members[old].replica

    assert not replica.make_way(cluster.machines[old].now_s())
    cluster.run_until(lambda: replica.make_way(cluster.machines[old].now_s()))


def test_a_snapshot_takes_no_new_segment_where_the_log_may_need_one_soon():
    cluster = made(snapshot_entries=10)
    leader = cluster.leader()
    short, other = cluster.others(leader)
    rotated = counted_rotations(cluster)
    full(cluster, short, free_bytes=RESERVE_BYTES // 2 - 1)
    cluster.run(2.0)

    cluster.fill(leader, 40)
    cluster.run(2.0)

    assert cluster.members[short].snapshots.newest is not None  # deletions make room only once the log is cut
    assert rotated[short] == 0
    assert rotated[other] > 0
    emptied(cluster, short)
    cluster.run(2.0)
    cluster.fill(leader, 20)
    assert rotated[short] > 0


def test_snapshots_that_fail_again_and_again_take_one_segment():
    cluster = made(snapshot_entries=10)
    leader = cluster.leader()
    away = cluster.others(leader)[0]
    started, rotated = [], counted_rotations(cluster)

    def no_helper(directory):
        started.append(directory)
        raise DiskError("there is no room for a snapshot", full=True)

    cluster.members[away].snapshots.start_write = no_helper
    for _ in range(4):
        cluster.fill(leader, 20)
        cluster.run(RETRY_WRITE_S + 1.0)

    assert len(started) >= 4
    assert rotated[away] == 1
