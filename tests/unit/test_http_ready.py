"""When a node says that it can serve."""

import pytest

from raftkv.core.errors import Code
from raftkv.core.requests import Consistency
from raftkv.core.status import MemberState, MemberStatus, PeerStatus, QuorumStatus, RaftStatus
from raftkv.http.handlers.cluster import LEVEL_WITHIN_S, NO_DATA_YET, unready


def status(**changes):
    values = {
        "node": "n1",
        "mode": "raft",
        "role": "follower",
        "leader": "n2",
        "term": 1,
        "commit_index": 1,
        "applied_index": 1,
        "revision": 0,
        "peers": (PeerStatus(id="n2", reachable=True), PeerStatus(id="n3", reachable=False)),
        "offers": (Consistency.LINEARIZABLE, Consistency.LOCAL),
        "cluster_size": 3,
        "level_at_s": 100.0,
    }
    return RaftStatus(**{**values, **changes})


def leaderless(**changes):
    values = {
        "node": "n1",
        "mode": "quorum",
        "role": "replica",
        "leader": None,
        "revision": 0,
        "peers": (PeerStatus(id="n2", reachable=True), PeerStatus(id="n3", reachable=False)),
        "offers": (Consistency.EVENTUAL,),
        "cluster_size": 3,
        "n": 3,
        "r": 2,
        "w": 2,
        "ring": "",
        "vnodes": 1,
        "conflicts": "lww",
        "hints_pending": 0,
        "members": (),
    }
    return QuorumStatus(**{**values, **changes})


def test_a_follower_level_with_its_leader_is_ready():
    assert unready(status(), 100.0 + LEVEL_WITHIN_S) is None


def test_a_node_that_may_not_stamp_is_not_and_says_why():
    assert unready(leaderless(clock_fault="no time"), 0.0) == (Code.QUORUM_UNREACHABLE, "no time")


@pytest.mark.parametrize("level_at_s", [None, 99.0 - LEVEL_WITHIN_S])
def test_a_follower_that_catches_up_is_not(level_at_s):
    assert unready(status(level_at_s=level_at_s), 100.0) == (Code.QUORUM_UNREACHABLE, "catching up with the leader")


def test_a_leader_needs_to_be_level_with_nobody():
    assert unready(status(role="leader", leader="n1", level_at_s=None), 100.0) is None


@pytest.mark.parametrize(("r", "w", "reachable", "reason"), [(2, 2, 1, None), (1, 3, 1, "no quorum: 2 of 3")])
def test_without_a_leader_as_many_nodes_are_needed_as_reads_and_writes_ask(r, w, reachable, reason):
    peers = tuple(PeerStatus(id=f"n{2 + place}", reachable=place < reachable) for place in range(2))
    found = unready(leaderless(peers=peers, r=r, w=w), 100.0)

    assert found == (None if reason is None else (Code.QUORUM_UNREACHABLE, reason))


def test_without_a_majority_or_a_leader_no_node_is_ready():
    alone = status(peers=(PeerStatus(id="n2", reachable=False), PeerStatus(id="n3", reachable=False)))

    assert unready(alone, 100.0) == (Code.QUORUM_UNREACHABLE, "no quorum: 1 of 3")
    assert unready(status(leader=None), 100.0) == (Code.NO_LEADER, "no leader")


def test_a_node_that_lost_its_data_is_not_ready_before_it_has_it_back():
    found = unready(leaderless(can_read=False), 100.0)

    assert found == (Code.QUORUM_UNREACHABLE, NO_DATA_YET)


def test_where_no_writes_are_taken_for_want_of_room_a_node_is_not_ready():
    full = (
        Code.DISK_FULL,
        "the disk is full: writes are refused, below half of the reserve deletions too; reads go on",
    )

    assert unready(leaderless(can_write=False), 100.0) == full
    assert unready(status(can_write=False, role="leader", leader="n1"), 100.0) == full
    code, reason = unready(status(can_write=False, leader="n7"), 100.0)
    assert code is Code.DISK_FULL
    assert reason.startswith("the disk of the leader, n7, is full")


def test_a_follower_without_room_serves_as_long_as_the_leader_has_some():
    assert unready(status(has_room=False), 100.0) is None


def test_who_only_learns_counts_for_no_quorum():
    learner = MemberStatus(id="n2", http="h:1", peer="h:2", state=MemberState.LEARNER)

    reason = unready(status(members=(learner,)), 100.0)

    assert reason == (Code.QUORUM_UNREACHABLE, "no quorum: 1 of 3")
