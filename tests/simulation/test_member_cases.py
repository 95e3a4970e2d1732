"""How others lost data or quorums by changes of members, tried here: none of it comes about.

The three cases of the error in single-server changes that the thesis (section 4.1) had until its author's correction of
2015 on raft-dev: two leaders, of two terms, change the same old configuration, and count by majorities that share
nobody. The four of etcd's design of learners: a member is added while the network is split, or a member is down.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from raftkv.core.delays import DelaysSection
from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.requests import AddMember, PromoteMember, RemoveMember, TransferLeadership
from raftkv.core.results import LeaderChanged, MembersChanged, Written
from tests.simulation.cluster import Cluster
from tests.simulation.test_readmission import counts, emptied


def add(node):
    return AddMember(id=node, http=f"{node}:1", peer=f"{node}:2")


def electorate(cluster, node):
    return cluster.members[node].replica.parts.electorate


def voters(cluster, node):
    return set(electorate(cluster, node).voters.names)


def made(size=3, joining=1, **settings):
    cluster = Cluster(size, joining=joining, **settings)
    cluster.elect()
    cluster.run(0.5)
    return cluster


def let_learn(cluster, *nodes):
    """Let these in, until they may vote, and no further."""
    leader = cluster.leader()
    parts = cluster.members[leader].replica.parts
    parts.changes._watch_learners, watch = (lambda _now_s: None), parts.changes._watch_learners
    for node in nodes:
        assert isinstance(cluster.ask(leader, add(node)), MembersChanged)
    cluster.run(1.0)
    parts.changes._watch_learners = watch
    cluster.run_until(lambda: all(parts.changes._level.get(node) for node in nodes))
    assert electorate(cluster, leader).learners == nodes


class Rivals(NamedTuple):
    """A leader that is cut off with its change, the next one, and the two others, of which it reaches the first."""

    old: str
    new: str
    near: str
    far: str


def rivals(cluster, change, *, mates=()):
    """Of four members the leader, cut off with its ``mates``, begins ``change``; the next one reaches one other."""
    old = cluster.leader()
    rest = [node for node in ("n1", "n2", "n3", "n4") if node != old]
    began = voters(cluster, old)
    cluster.network.latency_s = (0.02, 0.02)
    cluster.cut({old, *mates}, set(cluster.members) - {old, *mates})
    cluster.submit(old, change(old))
    cluster.run_until(lambda: voters(cluster, old) != began)
    cluster.run_until(lambda: any(cluster.members[node].core.is_leader for node in rest))
    new = next(node for node in rest if cluster.members[node].core.is_leader)
    far = next(node for node in rest if node != new and node in voters(cluster, old))
    near = next(node for node in rest if node not in (new, far))
    cluster.cut(far, set(cluster.members))
    return Rivals(old, new, near, far)


def begins(cluster, leader, change):
    """Does this leader, which has committed nothing yet, begin to do it?"""
    before = voters(cluster, leader)
    cluster.submit(leader, change, timeout_s=0.3)
    cluster.run(0.4)
    return voters(cluster, leader) != before


def let_the_old_one_lead(cluster, rivals, *mates):
    """The one that was cut off finds a majority of those that it counts by, if that is to be had."""
    group = {rivals.old, rivals.far, *mates}
    cluster.network.heal([(one, other) for one in group for other in group if one != other])
    cluster.run_until(lambda: cluster.members[rivals.old].core.leads_committed_term, limit_s=20.0)
    cluster.heal()
    cluster.run(3.0)
    cluster.put_now(rivals.old, b"k")


def test_a_member_comes_and_another_goes_in_two_terms():
    cluster = made(4, joining=1)
    let_learn(cluster, "n5")
    who = rivals(cluster, lambda _old: PromoteMember(id="n5"), mates=["n5"])
    begun = begins(cluster, who.new, RemoveMember(id=who.old))
    let_the_old_one_lead(cluster, who, "n5")

    assert not begun


def test_two_members_come_in_two_terms():
    cluster = made(4, joining=2)
    let_learn(cluster, "n5", "n6")
    who = rivals(cluster, lambda _old: PromoteMember(id="n5"), mates=["n5"])
    cluster.run(0.3)
    begun = begins(cluster, who.new, PromoteMember(id="n6"))
    let_the_old_one_lead(cluster, who, "n5")

    assert not begun


def test_two_members_go_in_two_terms():
    cluster = made(4, joining=0)
    who = rivals(cluster, lambda old: RemoveMember(id=cluster.others(old)[0]))
    begun = begins(cluster, who.new, RemoveMember(id=who.old))
    let_the_old_one_lead(cluster, who)

    assert not begun


def test_a_leader_that_is_cut_off_with_a_new_node_changes_nothing():
    cluster = made(joining=1)
    old = cluster.leader()
    rest = [node for node in ("n1", "n2", "n3") if node != old]
    cluster.cut({old, "n4"}, set(rest))
    pending = cluster.submit(old, add("n4"))
    written = cluster.put(old, b"lost", timeout_s=3.0)
    cluster.elect(*rest)
    cluster.put_now(rest[0], b"kept")
    cluster.await_outcome(pending)
    cluster.heal()
    cluster.run(3.0)

    assert isinstance(pending.outcome, Unknown)
    assert not isinstance(written.outcome, MembersChanged)
    assert all(voters(cluster, node) == {"n1", "n2", "n3"} for node in (old, *rest))
    assert electorate(cluster, old).learners == ()
    assert cluster.get_now(old, b"kept") == b"v"


@pytest.mark.parametrize("mates", [0, 1])
def test_a_new_node_that_is_cut_off_alone_or_with_a_member_costs_nothing(mates):
    cluster = made(joining=1)
    leader = cluster.leader()
    cluster.cut({"n4", *[node for node in ("n1", "n2", "n3") if node != leader][:mates]}, set(cluster.members))
    assert isinstance(cluster.ask(leader, add("n4")), MembersChanged)
    cluster.run(3.0)
    cluster.put_now(leader, b"k")
    assert cluster.leader() == leader
    assert voters(cluster, leader) == {"n1", "n2", "n3"}
    cluster.heal()
    cluster.run_until(lambda: voters(cluster, leader) == {"n1", "n2", "n3", "n4"})
    cluster.settle()


def test_a_new_node_that_nobody_reaches_costs_no_quorum_while_a_member_is_down():
    cluster = made(joining=1)
    leader = cluster.leader()
    (down, _) = [node for node in ("n1", "n2", "n3") if node != leader]
    cluster.kill(down)
    cluster.kill("n4")
    cluster.run(2.0)

    assert isinstance(cluster.ask(leader, add("n4")), MembersChanged)
    cluster.run(3.0)
    cluster.put_now(leader, b"k")
    assert isinstance(cluster.ask(leader, RemoveMember(id="n4")), MembersChanged)


def test_who_only_learns_never_leads():
    cluster = made(joining=1)
    let_learn(cluster, "n4")
    leader = cluster.leader()
    cluster.kill(leader)
    cluster.run(0.05)  # what was on its way has come
    for node in cluster.others(leader, "n4"):
        cluster.members[node].core.election_deadline_s = cluster.now_s + 2.0
    cluster.members["n4"].core.election_deadline_s = cluster.now_s + 1.1
    cluster.run_until(lambda: cluster.leader() is not None)

    assert cluster.leader() != "n4"


def test_a_snapshot_does_not_carry_members_that_come_after_it():
    """The state is written while the entry comes in."""
    cluster = made(joining=1, snapshot_entries=20)
    leader = cluster.leader()
    snapshots = cluster.members[leader].snapshots
    while snapshots.busy_until_s == 0:
        cluster.put_now(leader, b"k")
    pending = cluster.submit(leader, add("n4"))
    cluster.run_until(lambda: snapshots.newest is not None)
    manifest, held = snapshots.newest, cluster.members[leader].replica.parts.configurations

    assert pending.outcome is None or isinstance(pending.outcome, MembersChanged)
    assert manifest.index < held.newest_index
    assert not manifest.configuration


def test_what_two_operators_ask_for_at_once_is_done_one_after_the_other():
    cluster = made(joining=2)
    pendings = [cluster.submit("n1", add("n4")), cluster.submit("n2", add("n5"))]
    for pending in pendings:
        cluster.await_outcome(pending)
    refused = [pending.outcome for pending in pendings if isinstance(pending.outcome, Refused)]

    assert all(refusal.code is Code.OVERLOADED for refusal in refused)
    assert len(refused) < 2
    cluster.run(5.0)
    assert len(voters(cluster, cluster.leader())) == 5 - len(refused)


def test_leadership_moves_as_often_as_it_is_asked_for():
    """Under load, where the engine's own transfer was refused each time."""
    cluster = made(joining=0)
    pendings = []
    for number in range(20):
        target = cluster.others(cluster.leader())[number % 2]
        pendings += [cluster.put(node, b"k") for node in cluster.members]
        outcome = cluster.ask(list(cluster.members)[number % 3], TransferLeadership(to=target))
        assert outcome == LeaderChanged(leader=target, term=cluster.members[target].core.term)
    for pending in pendings:
        assert isinstance(cluster.await_outcome(pending), Written)


def test_the_only_voter_commits_nothing_of_a_learner_before_it_is_flushed():
    """Appends go to the learner before the flush; the invariants look in between."""
    cluster = made(1, joining=1)
    let_learn(cluster, "n2")
    cluster.members["n1"].replica.parts.changes._watch_learners = lambda _now_s: None
    pendings = [cluster.put("n2", b"k%d" % number) for number in range(20)]

    for pending in pendings:
        assert isinstance(cluster.await_outcome(pending), Written)


def test_the_only_voter_that_leads_again_commits_nothing_before_it_is_flushed():
    cluster = made(1, joining=1)
    let_learn(cluster, "n2")
    cluster.members["n1"].replica.parts.changes._watch_learners = lambda _now_s: None
    core = cluster.members["n1"].core
    term = core.term + 1
    core.adopt_term("n2", term)
    cluster.run_until(lambda: core.term > term and core.leads_committed_term)

    cluster.put_now("n2", b"k")


def test_who_has_not_caught_up_is_not_let_vote_by_request():
    cluster = made(joining=1)
    cluster.kill("n4")
    assert isinstance(cluster.ask("n1", add("n4")), MembersChanged)
    outcome = cluster.ask("n1", PromoteMember(id="n4"))

    assert isinstance(outcome, Refused)
    assert "has not caught up" in outcome.detail


def test_a_node_is_let_in_where_appends_are_delayed_on_purpose():
    """It has no members yet when the first of them comes."""
    cluster = made(1, joining=1, delays=DelaysSection(follower_update_s=0.02))
    assert isinstance(cluster.ask("n1", add("n2")), MembersChanged)

    cluster.run_until(lambda: voters(cluster, "n2") == {"n1", "n2"})


def test_a_leader_that_has_only_just_been_elected_takes_nobody_for_alive():
    """Of three, one fetches its data anew and counts for nothing: the second one is not to be removed."""
    cluster = made(joining=0)
    old = cluster.leader()
    lost, target = cluster.others(old)
    emptied(cluster, lost)
    cluster.cut(lost, old)  # it hears no term of one member, and does not count
    cluster.restart(lost)
    cluster.run(0.5)
    cluster.submit(old, TransferLeadership(to=target))
    cluster.run_until(lambda: cluster.members[target].core.leads_committed_term)
    refused = cluster.ask(target, RemoveMember(id=old), timeout_s=0.3)
    cluster.settle()

    assert isinstance(refused, Refused)
    assert refused.code is Code.QUORUM_UNREACHABLE


def test_a_voter_that_was_let_in_and_lost_its_disk_counts_no_sooner_than_any_other():
    """Nobody it meets knew its other disk, and by the first entries that it is sent it is a learner."""
    cluster = Cluster(3, joining=1, begins=False)
    for node in ("n1", "n2", "n3"):
        cluster.machines[node].start()
    old = cluster.elect()
    near = cluster.others(old, "n4")[0]
    cluster.run(0.5)
    cluster.cut(near, "n4")  # these never meet, and nobody greets the one anew who has met the other
    cluster.machines["n4"].start()
    assert isinstance(cluster.ask(old, add("n4")), MembersChanged)
    cluster.run_until(lambda: voters(cluster, old) == {"n1", "n2", "n3", "n4"})
    cluster.run(1.0)
    emptied(cluster, "n4")
    assert isinstance(cluster.ask(old, TransferLeadership(to=near)), LeaderChanged)
    cluster.cut("n4", set(cluster.others("n4")))
    cluster.network.heal([(near, "n4"), ("n4", near)])
    cluster.restart("n4")
    cluster.run_until(lambda: voters(cluster, "n4") == {"n1", "n2", "n3", "n4"})
    counted = counts(cluster, "n4")
    cluster.heal()
    cluster.run_until(lambda: counts(cluster, "n4"), 60)
    cluster.settle()

    assert not counted


def test_a_write_for_all_of_more_members_than_there_are_now_is_refused():
    """Whom it is asked of has not heard yet that one is removed."""
    cluster = made(joining=0)
    leader = cluster.leader()
    gone, asked = cluster.others(leader)
    cluster.network.latency_s = (0.02, 0.02)
    removed = cluster.submit(leader, RemoveMember(id=gone))
    cluster.run_until(lambda: gone not in voters(cluster, leader))
    written = cluster.await_outcome(cluster.put(asked, b"k", acks=3))

    assert isinstance(cluster.await_outcome(removed), MembersChanged)
    assert isinstance(written, Refused)
    assert written.detail == "w=3, but the leader reaches only 2 of 2 nodes, itself included"


def test_a_member_that_is_being_removed_elects_the_other_when_the_leader_is_gone():
    """Only it could have heard of its removal, and would neither stand by that nor vote for who lacks the entry."""
    cluster = made(joining=0)
    leader = cluster.leader()
    gone, rest = cluster.others(leader)
    cluster.cut(leader, rest)
    cluster.submit(leader, RemoveMember(id=gone))
    cluster.run_until(lambda: gone not in voters(cluster, leader))
    cluster.run(0.3)
    cluster.kill(leader)
    new = cluster.elect(gone, rest)
    cluster.put_now(new, b"k")
    cluster.settle()

    assert voters(cluster, new) == {"n1", "n2", "n3"}


def test_a_member_that_was_removed_and_has_not_heard_of_it_disturbs_nobody():
    """It was away, and asks for votes ever after."""
    cluster = made(joining=0)
    leader = cluster.leader()
    gone = cluster.others(leader)[0]
    cluster.isolate(gone)
    cluster.run(2.0)
    assert isinstance(cluster.ask(leader, RemoveMember(id=gone)), MembersChanged)
    cluster.run(4.0)  # nobody tells it any more
    term = cluster.members[leader].core.term
    cluster.heal()
    for number in range(20):
        cluster.run(1.0)
        cluster.put_now(leader, b"k%d" % number)

    assert cluster.machines[gone].process is not None
    assert (cluster.leader(), cluster.members[leader].core.term) == (leader, term)


def test_a_new_member_that_lacks_everything_costs_the_leader_nothing():
    """It is given a snapshot and a long log while clients write."""
    cluster = made(joining=1, snapshot_entries=200, window_bytes=4000)
    leader = cluster.leader()
    cluster.fill(leader, 300, b"v" * 1000)
    term = cluster.members[leader].core.term
    assert isinstance(cluster.ask(leader, add("n4")), MembersChanged)
    for number in range(100):
        cluster.put_now(leader, b"l%d" % number)
    cluster.run_until(lambda: voters(cluster, leader) == {"n1", "n2", "n3", "n4"})

    assert cluster.members["n4"].snapshots.received_count > 0
    assert (cluster.leader(), cluster.members[leader].core.term) == (leader, term)
