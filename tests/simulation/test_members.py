"""Members come and go: one at a time, in force when appended, learners first, and never at the cost of the quorum."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.requests import AddMember, ChangeMember, PromoteMember, RemoveMember, TransferLeadership
from raftkv.core.results import LeaderChanged, MembersChanged
from raftkv.core.status import MemberState
from raftkv.formats.identity import Standing
from tests.simulation.cluster import Cluster


def add(node):
    return AddMember(id=node, http=f"{node}:1", peer=f"{node}:2")


def states(outcome):
    assert isinstance(outcome, MembersChanged), outcome
    return {member.id: member.state for member in outcome.members}


def voters(cluster, node):
    return set(cluster.members[node].replica.parts.electorate.voters.names)


def await_voters(cluster, *names, at=None):
    """Until all of them, or those of ``at``, count by them."""
    for node in at or names:
        cluster.run_until(lambda node=node: voters(cluster, node) == set(names))


def made(size=3, joining=1, **settings):
    cluster = Cluster(size, joining=joining, **settings)
    cluster.elect()
    cluster.run(0.5)
    return cluster


def test_a_node_that_is_let_in_learns_and_then_votes_by_itself():
    cluster = made()
    cluster.fill("n1", 20)

    added = states(cluster.ask("n2", add("n4")))
    await_voters(cluster, "n1", "n2", "n3", "n4")

    assert added["n4"] is MemberState.LEARNER
    assert cluster.get_now("n4", b"k7") == b"v"
    cluster.put_now("n4", b"k", b"v")


def test_one_node_becomes_three_and_one_again():
    cluster = made(size=1, joining=2)
    cluster.put_now("n1", b"k")
    for node in ("n2", "n3"):
        cluster.ask("n1", add(node))
        await_voters(cluster, *[f"n{number}" for number in range(1, int(node[1]) + 1)])
    cluster.kill("n1")
    leader = cluster.elect("n2", "n3")
    cluster.put_now(leader, b"l")
    cluster.restart("n1")
    cluster.run(3.0)

    for node in ("n1", "n2"):
        cluster.ask("n3", RemoveMember(id=node), 20.0)
        cluster.run(3.0)

    assert voters(cluster, "n3") == {"n3"}
    assert cluster.get_now("n3", b"k") == cluster.get_now("n3", b"l") == b"v"
    assert cluster.members["n1"].machine.process is None
    assert cluster.members["n2"].machine.process is None


def test_what_is_in_force_is_what_was_appended_last_also_after_a_restart_of_all():
    cluster = made()
    cluster.ask("n1", add("n4"))
    await_voters(cluster, "n1", "n2", "n3", "n4")

    cluster.run(1.0)
    cluster.start_again("n1", "n2", "n3", "n4", power=True)
    cluster.elect()
    cluster.run(1.0)

    assert all(len(voters(cluster, node)) == 4 for node in cluster.members)


def test_a_change_that_was_not_committed_is_undone_with_its_entry():
    cluster = made(joining=1)
    old = cluster.leader()
    others = [node for node in ("n1", "n2", "n3") if node != old]
    cluster.isolate(old, "n4")
    pending = cluster.submit(old, add("n4"))
    cluster.run(0.05)
    appended = voters(cluster, old), cluster.members[old].replica.parts.electorate.learners
    cluster.elect(*others)
    cluster.put_now(others[0], b"k")
    cluster.heal()
    cluster.run(3.0)

    assert appended == ({"n1", "n2", "n3"}, ("n4",))
    assert cluster.members[old].replica.parts.electorate.learners == ()
    assert isinstance(pending.outcome, Unknown)


def test_there_is_one_change_at_a_time():
    cluster = made(joining=2)
    leader = cluster.leader()
    cluster.isolate(leader)

    first, second = cluster.submit(leader, add("n4")), cluster.submit(leader, add("n5"))
    cluster.run(0.3)
    begun = cluster.members[leader].replica.parts.electorate.learners
    cluster.run(5.0)

    assert begun == ("n4",)
    assert isinstance(first.outcome, Unknown)
    assert isinstance(second.outcome, Refused)


def test_what_would_cost_the_quorum_is_refused():
    cluster = made(joining=0)
    leader, down, up = cluster.leader(), *cluster.others(cluster.leader())
    cluster.kill(down)
    cluster.run(2.0)

    refused = cluster.ask(leader, RemoveMember(id=up))
    removed = cluster.ask(leader, RemoveMember(id=down))

    assert isinstance(refused, Refused)
    assert refused.code is Code.QUORUM_UNREACHABLE
    assert set(states(removed)) == {leader, up}


def test_a_leader_that_is_removed_hands_over_first_and_ends():
    cluster = made(joining=0)
    old = cluster.leader()

    removed = states(cluster.ask(old, RemoveMember(id=old), 10.0))
    cluster.run(5.0)

    assert set(removed) == set(cluster.others(old))
    assert cluster.members[old].machine.process is None
    cluster.put_now(cluster.others(old)[0], b"k")


def test_who_answers_and_has_no_room_for_entries_is_not_counted_on():
    """A majority of the living that can write nothing is none."""
    cluster = made(joining=0)
    leader, full, up = cluster.leader(), *cluster.others(cluster.leader())
    room = cluster.members[full].replica.parts.room
    room._look = lambda: room.reserve_bytes // 4 - 1
    cluster.run(2.0)
    cluster.put_now(leader, b"k")

    refused = cluster.ask(leader, RemoveMember(id=up))
    cluster.put_now(leader, b"k")
    room._look = lambda: 10 * room.reserve_bytes
    cluster.run(5.0)
    removed = cluster.ask(leader, RemoveMember(id=up))

    assert isinstance(refused, Refused)
    assert refused.detail == "only 1 of the 2 members that would vote take entries: no majority, and so no writes"
    assert set(states(removed)) == {leader, full}


def test_a_follower_that_was_asked_to_have_the_leader_removed_learns_what_came_of_it_from_the_log():
    """The old leader may be gone before it has passed on what the new one told it."""
    cluster = made(joining=0)
    old = cluster.leader()
    asked, new = cluster.others(old)

    pending = cluster.submit(asked, RemoveMember(id=old))
    cluster.run_until(lambda: old not in voters(cluster, new))
    cluster.kill(old)
    removed = states(cluster.await_outcome(pending))

    assert set(removed) == {asked, new}


def test_to_remove_who_is_no_member_is_refused_wherever_it_is_asked():
    cluster = made(joining=0)
    leader = cluster.leader()
    outcomes = [cluster.ask(node, RemoveMember(id="n9")) for node in (leader, *cluster.others(leader))]

    assert [isinstance(outcome, Refused) and outcome.code for outcome in outcomes] == [Code.NOT_FOUND] * 3


def test_a_learner_that_cannot_be_reached_does_not_vote_and_costs_nothing():
    cluster = made(size=1, joining=1)
    cluster.kill("n2")

    cluster.ask("n1", add("n2"))
    cluster.run(5.0)
    cluster.put_now("n1", b"k")
    refused = cluster.ask("n1", PromoteMember(id="n2"))

    assert voters(cluster, "n1") == {"n1"}
    assert cluster.get_now("n1", b"k") == b"v"
    assert isinstance(refused, Refused)


def test_a_member_that_was_removed_comes_back_as_one_that_lost_its_disk():
    """It may have voted, and has forgotten that."""
    cluster = made(joining=1)
    cluster.ask("n1", add("n4"))
    await_voters(cluster, "n1", "n2", "n3", "n4")
    cluster.ask("n1", RemoveMember(id="n4"), 10.0)
    cluster.run(3.0)
    assert cluster.members["n4"].machine.process is None
    cluster._mode.empty_disk("n4")
    cluster.restart("n4")
    cluster.ask("n1", add("n4"))
    cluster.run_until(lambda: cluster.machines["n4"].identity.standing is Standing.RECOVERING)
    await_voters(cluster, "n1", "n2", "n3", "n4", at=["n1", "n2", "n3"])
    cluster.run_until(lambda: cluster.members["n4"].replica.counts)


def test_a_node_is_let_in_by_a_snapshot_of_before_any_change():
    cluster = made(size=1, snapshot_entries=20, trailing_entries=1)
    for number in range(60):
        cluster.put_now("n1", b"k%d" % number)
        cluster.step()  # who is alone takes no time at all
    cluster.run_until(lambda: cluster.members["n1"].log.first_index > 20)

    cluster.ask("n1", add("n2"))
    await_voters(cluster, "n1", "n2")

    assert cluster.members["n2"].snapshots.newest.configuration is UNSET, "the scenario is not what it says"
    assert cluster.get_now("n2", b"k0") == b"v"


def test_a_snapshot_carries_the_members_of_its_index():
    cluster = made(joining=1, snapshot_entries=20)
    cluster.fill("n1", 60)
    cluster.ask("n1", add("n4"))
    await_voters(cluster, "n1", "n2", "n3", "n4")
    for node in ("n1", "n2", "n3"):
        manifest = cluster.members[node].snapshots.newest
        held = cluster.members[node].replica.parts.configurations
        assert not manifest.configuration or manifest.configuration_index <= manifest.index
        assert held.newest_index > 0
    cluster.fill("n1", 60)
    cluster.run(1.0)
    cluster.start_again("n1", "n2", "n3", "n4", power=True)
    cluster.elect()
    cluster.run(1.0)

    assert all(len(voters(cluster, node)) == 4 for node in cluster.members)


def test_addresses_change_through_the_log():
    cluster = made(joining=0)
    moved = cluster.ask("n3", ChangeMember(id="n2", http="h:1", peer="h:2"))
    cluster.run(1.0)

    assert {member.id: member.peer for member in moved.members}["n2"] == "h:2"
    status = cluster.members["n1"].replica.status()
    assert {member.id: member.http for member in status.members}["n2"] == "h:1"


@pytest.mark.parametrize("loaded", [False, True])
def test_leadership_is_transferred_to_whom_it_was_asked_for(loaded):
    cluster = made(joining=0)
    for _ in range(5):
        old = cluster.leader()
        target = cluster.others(old)[0]
        pendings = [cluster.put(target, b"k%d" % number) for number in range(20 * loaded)]
        outcome = cluster.ask(cluster.others(old)[1], TransferLeadership(to=target))
        cluster.elect(target)
        assert outcome == LeaderChanged(leader=target, term=cluster.members[target].core.term)
        for pending in pendings:
            cluster.await_outcome(pending)


def test_who_founded_the_cluster_alone_and_repairs_itself_does_not_found_it_again():
    """By its file it is the only member; that it is not any more outlives its data."""
    cluster = made(size=1, joining=2)
    cluster.put_now("n1", b"k")
    for node in ("n2", "n3"):
        cluster.ask("n1", add(node))
        await_voters(cluster, *[f"n{number}" for number in range(1, int(node[1]) + 1)])
    cluster.members["n1"].replica.parts.readmission.discard()
    cluster.kill("n1")
    cluster.isolate("n1")
    cluster.restart("n1")
    cluster.run(3.0)
    role = cluster.members["n1"].core.role
    cluster.heal()
    cluster.run_until(lambda: cluster.members["n1"].replica.counts)

    assert role == "follower"
    assert cluster.get_now("n1", b"k") == b"v"
    cluster.settle()
