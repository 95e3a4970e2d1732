"""Replicas notice when they differ: whoever is wrong stops serving, by the word of the others, and says why.

Each is tried without its remedy in ``test_remedies``.
"""

from __future__ import annotations

from raftkv.core.errors import Code, Refused
from raftkv.core.requests import Consistency, Inspect, Repair
from raftkv.core.results import Repaired
from raftkv.formats import layout
from raftkv.formats.identity import Standing
from raftkv.instruments.sim.disk import VirtualDisk
from raftkv.instruments.sim.raft import flip_row
from raftkv.raft.standing.divergence import StateJudgement
from tests.simulation.cluster import Cluster


def flipped(role: str) -> tuple[Cluster, str]:
    """A cluster that is level, and a value that one of its nodes has wrong."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.fill(leader, 5)
    cluster.settle()
    name = leader if role == "leader" else cluster.others(leader)[0]
    assert flip_row(cluster.members[name].replica, layout.KEYS, b"k3")
    return cluster, name


def standing(cluster: Cluster, name: str) -> Standing:
    return cluster.machines[name].identity.standing


def notice(cluster: Cluster, name: str) -> None:
    """Write something, so that there is something to compare, and wait until ``name`` has stopped, and no other."""
    others = cluster.others(name)
    cluster.put(others[0], b"another", timeout_s=5.0)
    cluster.run_until(lambda: standing(cluster, name) is Standing.DIVERGED)
    # Whoever has heard the wrong one only, so far, disputes with it for that long, and does not lead.
    cluster.run_until(lambda: all(standing(cluster, other) is Standing.MEMBER for other in others))
    cluster.elect(*others)


def refused(cluster: Cluster, name: str) -> None:
    for pending in [cluster.put(name, b"k"), *[cluster.get(name, b"k3", level) for level in Consistency]]:
        cluster.await_outcome(pending)
        assert isinstance(pending.outcome, Refused), pending.outcome
        if pending.outcome.code is not Code.NOT_SUPPORTED:
            assert "differs from that of" in pending.outcome.detail


def test_a_follower_that_is_wrong_stops_serving_and_says_so():
    cluster, name = flipped("follower")
    notice(cluster, name)

    refused(cluster, name)
    status = cluster.submit(name, Inspect()).outcome
    assert status.diverged
    assert "differs" in status.misfit
    assert status.state_path == ""
    for other in cluster.others(name):
        assert cluster.get_now(other, b"k3") == b"v"
        assert standing(cluster, other) is Standing.MEMBER


def test_a_leader_that_is_wrong_stops_leading():
    cluster, name = flipped("leader")
    notice(cluster, name)

    cluster.run_until(lambda: cluster.leader() not in (None, name))
    refused(cluster, name)
    for other in cluster.others(name):
        assert cluster.get_now(other, b"k3") == b"v"


def test_a_candidate_that_stops_does_not_lead_though_others_vote_for_it():
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.settle()
    cluster.machines[leader].end()
    candidate = None
    while candidate is None:
        cluster.step()
        standing_now = [name for name in cluster.others(leader) if cluster.members[name].core.role == "candidate"]
        candidate = standing_now[0] if standing_now else None
    cluster.members[candidate].replica.parts.readmission.judged(StateJudgement("its state differs"))

    cluster.run(2.0)

    assert cluster.leader() is None
    cluster.machines[leader].start()
    cluster.run_until(lambda: cluster.leader() not in (None, candidate))
    assert standing(cluster, candidate) is Standing.DIVERGED


def test_whoever_was_wrong_still_is_after_a_restart():
    cluster, name = flipped("follower")
    notice(cluster, name)
    cluster.start_again(name)
    cluster.run(0.05)

    assert standing(cluster, name) is Standing.DIVERGED
    refused(cluster, name)


def test_one_that_is_wrong_neither_elects_nor_acknowledges():
    cluster, name = flipped("follower")
    notice(cluster, name)
    leader = cluster.elect()
    (third,) = cluster.others(name, leader)
    cluster.kill(third)
    pending = cluster.put(leader, b"k", timeout_s=2.0)
    cluster.run(3.0)
    assert not hasattr(pending.outcome, "acks"), "a replica that is wrong made a majority"
    assert cluster.leader() is None


def test_in_a_tie_both_stop():
    cluster, name = flipped("follower")
    leader = cluster.elect()
    (third,) = cluster.others(name, leader)
    cluster.kill(third)
    cluster.put_now(leader, b"another")
    cluster.run_until(lambda: standing(cluster, leader) is Standing.DISPUTED, 20)
    cluster.run_until(lambda: standing(cluster, name) is Standing.DISPUTED, 20)
    refused(cluster, name)
    refused(cluster, leader)


def test_replicas_that_hold_the_same_never_stop():
    cluster = Cluster(3)
    leader = cluster.elect()
    for number in range(30):
        cluster.put_now(cluster.others(leader)[number % 2], b"k%d" % number)
        if number % 10 == 5:
            victim = list(cluster.members)[number // 10]
            cluster.start_again(victim)
            leader = cluster.elect()
    cluster.settle()

    assert {standing(cluster, name) for name in cluster.machines} == {Standing.MEMBER}


def repair(cluster: Cluster, name: str) -> None:
    """Tell ``name`` to repair itself, and start it again, as its process does."""
    outcome = cluster.ask(name, Repair())
    assert isinstance(outcome, Repaired), outcome
    cluster.run_until(lambda: cluster.machines[name].process is None)
    cluster.restart(name)


def test_a_repair_lets_whoever_was_wrong_fetch_everything_anew_and_count_again():
    cluster, name = flipped("follower")
    notice(cluster, name)
    repair(cluster, name)

    cluster.run_until(lambda: standing(cluster, name) is Standing.MEMBER, 60)
    cluster.settle()
    assert cluster.get_now(name, b"k3") == b"v"


def test_a_repair_of_one_ends_a_tie_for_the_other():
    cluster, name = flipped("follower")
    leader = cluster.elect()
    (third,) = cluster.others(name, leader)
    cluster.kill(third)
    cluster.put_now(leader, b"another")
    for one in (leader, name):
        cluster.run_until(lambda one=one: standing(cluster, one) is Standing.DISPUTED, 20)
    assert isinstance(cluster.ask(name, Repair()), Refused), "nobody could give it back what it threw away"
    cluster.restart(third)
    cluster.run(0.5)
    repair(cluster, name)

    cluster.run_until(lambda: {standing(cluster, one) for one in cluster.machines} == {Standing.MEMBER}, 60)
    cluster.settle()
    assert cluster.get_now(name, b"k3") == b"v"


def test_a_node_that_is_right_is_not_repaired():
    cluster = Cluster(3)
    outcome = cluster.ask(cluster.elect(), Repair())

    assert isinstance(outcome, Refused)
    assert "nothing to repair" in outcome.detail


def test_a_repaired_replica_does_not_count_before_it_has_all_again():
    cluster, name = flipped("follower")
    notice(cluster, name)
    leader = cluster.elect()
    repair(cluster, name)
    (third,) = cluster.others(name, leader)
    cluster.kill(third)
    cluster.cut(leader, name)
    cluster.restart(third)
    cluster.kill(third)
    cluster.run(3.0)

    assert not cluster.members[name].replica.counts, "it counts, and has forgotten what it acknowledged"


def test_a_repair_waits_for_a_node_that_fetches_its_own_data():
    cluster, name = flipped("follower")
    notice(cluster, name)
    leader = cluster.elect()
    (third,) = cluster.others(name, leader)
    cluster.kill(third)
    cluster.run(0.5)
    machine = cluster.machines[third]
    machine.disk, machine.keeps, machine.identity = VirtualDisk(), None, None
    cluster._mode.invariants.emptied(third)
    cluster.restart(third)
    links = cluster.members[name].replica.parts.transport
    cluster.run_until(lambda: links.is_up(third) and links.is_up(leader))
    outcome = cluster.ask(name, Repair())

    assert isinstance(outcome, Refused), "two of three threw their data away"
    assert outcome.detail.endswith(f"{third} may not have all of its own yet")


def all_three_differ() -> tuple[Cluster, list[str]]:
    cluster, one = flipped("follower")
    other = next(name for name in cluster.members if name != one)
    assert flip_row(cluster.members[other].replica, layout.KEYS, b"k2")
    cluster.put(other, b"another", timeout_s=5.0)
    cluster.run_until(lambda: all(standing(cluster, name) is Standing.DIVERGED for name in cluster.members))
    return cluster, [one, other]


def test_of_two_that_are_told_to_repair_themselves_at_once_one_does_at_most():
    cluster, both = all_three_differ()
    pendings = [cluster.submit(name, Repair()) for name in both]
    for pending in pendings:
        cluster.await_outcome(pending)
    cluster.run(1.0)

    assert sum(isinstance(pending.outcome, Repaired) for pending in pendings) < 2, "two of three threw their data away"
    assert sum(standing(cluster, name) is Standing.DIVERGED for name in cluster.members) >= 2


def test_who_was_not_let_to_repair_itself_may_be_told_again():
    cluster, (one, other) = all_three_differ()
    cluster.cut(one, other)
    pending = cluster.submit(one, Repair(), timeout_s=0.5)
    again = cluster.ask(one, Repair())
    assert isinstance(again, Refused)
    assert "has begun" in again.detail
    cluster.await_outcome(pending)
    assert isinstance(pending.outcome, Refused)
    assert pending.outcome.detail.startswith(f"{other} did not answer")
    cluster.heal()
    cluster.run(5.0)

    assert isinstance(cluster.ask(one, Repair()), Repaired)


def test_a_difference_that_a_rebuild_has_ended_stops_nobody():
    """A node is wrong in one life, and right in the next: its state was rebuilt from snapshot and log."""
    cluster, name = flipped("follower")
    leader = cluster.elect()
    (third,) = cluster.others(name, leader)
    cluster.kill(third)
    cluster.put_now(leader, b"another")
    divergence = cluster.members[leader].replica.parts.divergence
    cluster.run_until(lambda: any(voice.agrees is False for voice in divergence._voices.values()))
    cluster.kill(name)
    cluster.machines[name].keeps.kept_state = None
    cluster.run(2.0)
    assert standing(cluster, leader) is Standing.MEMBER, "it stopped by the word of a life that has ended"
    cluster.restart(name)
    cluster.run(2.0)

    assert standing(cluster, leader) is Standing.MEMBER
