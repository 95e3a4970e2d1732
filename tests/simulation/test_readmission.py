"""A node whose disk was emptied counts again only once it has made good what it had promised; and clusters are founded.

Each is tried without its remedy in ``test_remedies``.
"""

from __future__ import annotations

from copy import deepcopy

from raftkv.core.requests import Consistency
from raftkv.core.results import Answer, Written
from raftkv.instruments.sim.disk import VirtualDisk
from raftkv.raft.standing.readmission import FOUNDING_HEARTBEATS
from tests.simulation.cluster import Cluster


def emptied(cluster: Cluster, name: str) -> None:
    """Empty the disk of ``name``, which has ended, whatever the cluster can bear."""
    machine = cluster.machines[name]
    if machine.process is not None:
        cluster.kill(name, power=True)
    machine.disk, machine.keeps, machine.identity = VirtualDisk(), None, None
    cluster._mode.invariants.emptied(name)


def counts(cluster: Cluster, name: str) -> bool:
    process = cluster.machines[name].process
    return process is not None and process.counts


def test_an_emptied_node_is_a_member_again_by_itself_and_has_everything():
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.fill(leader, 20)
    name = cluster.others(leader)[0]
    emptied(cluster, name)
    cluster.restart(name)

    cluster.run_until(lambda: counts(cluster, name))
    assert cluster.members[name].core.applied_index >= 20
    cluster.settle()
    cluster.kill(leader)
    cluster.run_until(lambda: cluster.leader() not in (None, leader))
    assert cluster.get_now(name, b"k19") == b"v"


def test_an_emptied_leader_is_followed_by_another_and_comes_back():
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.put_now(leader, b"k")
    cluster.settle()
    emptied(cluster, leader)
    cluster.restart(leader)

    cluster.run_until(lambda: counts(cluster, leader), 60)
    assert cluster.get_now(leader, b"k") == b"v"


def acknowledged_by_one_that_is_emptied_then() -> tuple[Cluster, str, str]:
    """A write is committed by the leader and one follower; that one's disk is emptied, and the leader cut off."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.put_now(leader, b"before")
    cluster.settle()
    holder, behind = cluster.others(leader)
    cluster.isolate(behind)
    cluster.put_now(leader, b"k", b"acknowledged")
    emptied(cluster, holder)
    cluster.isolate(leader)
    cluster.heal([(behind, holder), (holder, behind)])
    cluster.restart(holder)
    return cluster, holder, behind


def test_an_emptied_node_elects_nobody_who_lacks_what_it_had_acknowledged():
    cluster, holder, behind = acknowledged_by_one_that_is_emptied_then()
    cluster.run(15.0)

    assert not counts(cluster, holder)
    assert cluster.members[behind].core.role != "leader"
    cluster.heal()
    cluster.run_until(lambda: counts(cluster, holder), 60)
    assert cluster.get_now(behind, b"k") == b"acknowledged"
    cluster.settle()


def kept_from_recovering() -> tuple[Cluster, str, str, str]:
    """A node with an emptied disk follows a leader of a later term, and cannot hear the third one."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.put_now(leader, b"k")
    cluster.settle()
    holder, away = cluster.others(leader)
    emptied(cluster, holder)
    cluster.cut(holder, away)
    cluster.start_again(leader)
    cluster.restart(holder)
    while (elected := cluster.elect()) != leader:
        cluster.start_again(elected)
    cluster.run_until(lambda: cluster.members[holder].core.applied_index >= 2)
    return cluster, leader, holder, away


def test_an_emptied_node_acknowledges_and_confirms_nothing_that_counts():
    cluster, leader, holder, away = kept_from_recovering()
    cluster.cut(leader, away)
    pending = cluster.put(leader, b"k", b"w", timeout_s=1.0)
    read = cluster.get(leader, b"k", timeout_s=1.0)
    cluster.run(1.5)

    assert not isinstance(pending.outcome, Written), "an emptied disk made a majority"
    assert not isinstance(read.outcome, Answer), "a leader was confirmed by a node that does not count"
    assert not counts(cluster, holder)
    cluster.settle()


def test_an_emptied_node_that_restarts_has_not_forgotten_that_it_does_not_count():
    cluster, _, holder, _ = kept_from_recovering()
    for _ in range(3):
        assert not counts(cluster, holder)
        cluster.start_again(holder, power=True)
        cluster.run(0.5)

    cluster.heal()
    cluster.run_until(lambda: counts(cluster, holder), 60)
    cluster.settle()


def test_a_forgotten_vote_is_not_given_again():
    """Five nodes: one candidate has the vote of the emptied node, and nobody else knows of that term."""
    cluster = Cluster(5)
    leader = cluster.elect()
    cluster.put_now(leader, b"k")
    cluster.settle()
    emptied_one, candidate = cluster.others(leader)[:2]
    cluster.isolate(candidate, emptied_one)
    term = cluster.members[candidate].core.term + 3
    core = cluster.members[candidate].core
    core.adopt_term(emptied_one, term)
    cluster.run(0.1)
    emptied(cluster, emptied_one)
    cluster.heal()
    cluster.isolate(candidate)
    cluster.restart(emptied_one)
    cluster.run(10.0)

    assert not counts(cluster, emptied_one), "it was not told the term of every other member"
    cluster.heal()
    cluster.run_until(lambda: counts(cluster, emptied_one), 60)
    replica = cluster.members[emptied_one].replica
    assert not replica.parts.readmission.may_vote_in(term)
    assert cluster.members[emptied_one].core.term >= term
    cluster.settle()


def test_two_emptied_disks_of_three_are_refused_with_the_reason():
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.put_now(leader, b"k")
    cluster.settle()
    lost = cluster.others(leader)
    for name in lost:
        emptied(cluster, name)
    for name in lost:
        cluster.restart(name)
    cluster.run(20.0)

    assert cluster.leader() is None
    for name in lost:
        reason = cluster.members[name].replica.status().misfit
        assert reason == "its data was lost; it waits for a leader that 2 other members confirm"
    assert cluster.get_now(leader, b"k", Consistency.LOCAL) == b"v"


def test_readmission_outlives_restarts_at_any_time():
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.fill(leader, 30, b"v" * 100)
    name = cluster.others(leader)[0]
    emptied(cluster, name)
    for _ in range(40):
        cluster.restart(name)
        cluster.run(0.01)
        assert not counts(cluster, name) or cluster.members[name].core.applied_index >= 30
        cluster.kill(name, power=True)
    cluster.restart(name)

    cluster.run_until(lambda: counts(cluster, name), 60)
    cluster.settle()


def test_a_cluster_is_founded_by_a_majority_of_new_nodes_and_a_late_one_catches_up_first():
    cluster = Cluster(3, begins=False)
    for name in ("n1", "n2"):
        cluster.machines[name].start()
    leader = cluster.elect()
    cluster.put_now(leader, b"k")
    cluster.cut([leader], ["n3"])
    cluster.machines["n3"].start()
    cluster.run(2 * FOUNDING_HEARTBEATS * 0.1)
    assert not counts(cluster, "n3"), "it counted before it had caught up"

    cluster.heal()
    cluster.run_until(lambda: counts(cluster, "n3"), 60)
    assert cluster.members["n3"].core.applied_index >= 2
    assert cluster.members["n3"].replica.status().misfit == ""
    assert cluster.get_now("n3", b"k") == b"v"


def test_two_emptied_nodes_that_meet_before_the_third_found_no_cluster_anew():
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.put_now(leader, b"k", b"acknowledged")
    cluster.settle()
    lost = cluster.others(leader)
    for name in lost:
        emptied(cluster, name)
    cluster.isolate(leader)
    for name in lost:
        cluster.restart(name)
    cluster.run(0.5 * FOUNDING_HEARTBEATS * 0.1)
    assert not [name for name in lost if counts(cluster, name)], "two emptied nodes founded the cluster again"

    cluster.heal()
    cluster.run(15.0)
    assert not [name for name in lost if counts(cluster, name)]
    assert cluster.leader() is None
    assert cluster.get_now(leader, b"k", Consistency.LOCAL) == b"acknowledged"


def test_the_wish_to_lead_of_a_founder_keeps_no_new_node_from_founding_too():
    """Of five, one meets two others while these have met nobody else, and asks them for their votes."""
    cluster = Cluster(5, begins=False)
    for name in cluster.machines:
        cluster.isolate(name)
        cluster.machines[name].start()
    for other in ("n2", "n3"):
        cluster.heal([("n1", other), (other, "n1")])
    cluster.run_until(lambda: counts(cluster, "n1"))
    cluster.run(5.0)
    assert [name for name in cluster.machines if counts(cluster, name)] == ["n1"]

    cluster.heal()
    leader = cluster.elect()
    cluster.put_now(leader, b"k")
    cluster.settle()


def test_a_new_node_alone_founds_nothing():
    cluster = Cluster(3, begins=False)
    cluster.machines["n1"].start()
    cluster.run(5.0)

    assert not counts(cluster, "n1")
    reason = "it is new and has met 1 of the 2 new nodes that can found a cluster (to join one: --join)"
    assert cluster.members["n1"].replica.status().misfit == reason


def test_a_founder_that_is_killed_before_its_first_vote_still_counts():
    cluster = Cluster(3, begins=False)
    for name in ("n1", "n2"):
        cluster.machines[name].start()
    cluster.run_until(lambda: counts(cluster, "n1") and counts(cluster, "n2"))
    cluster.start_again("n1", power=True)
    cluster.machines["n3"].start()

    cluster.elect()
    cluster.run_until(lambda: counts(cluster, "n3"), 60)
    cluster.settle()


def copied(cluster: Cluster, name: str):
    """What lies on the disks of ``name``, which has ended, as a copy."""
    machine = cluster.machines[name]
    return deepcopy(machine.disk), deepcopy(machine.keeps.newest), machine.identity


def put_back(cluster: Cluster, name: str, copy) -> None:
    machine = cluster.machines[name]
    if machine.process is not None:
        cluster.kill(name, power=True)
    machine.disk, newest, machine.identity = copy
    assert newest is None, "the scenarios here take no snapshots"
    machine.keeps.kept_state = None
    cluster._mode.invariants.emptied(name)
    cluster.restart(name)


def an_old_copy_is_put_back(restarts: int) -> tuple[Cluster, str, str]:
    """n3's disk is copied; writes go on, some with n3 alone; then the copy comes back, and starts a few times."""
    cluster = Cluster(3)
    leader = cluster.elect()
    holder, behind = cluster.others(leader)
    cluster.put_now(leader, b"before")
    cluster.settle()
    cluster.kill(holder)
    copy = copied(cluster, holder)
    cluster.restart(holder)
    cluster.settle()
    for _ in range(2):
        cluster.start_again(holder)
        cluster.settle()
    leader = cluster.elect()
    behind = cluster.others(leader, holder)[0] if leader != holder else behind
    cluster.isolate(behind)
    cluster.run(3.0)
    writer = cluster.elect()
    cluster.put_now(writer, b"k", b"acknowledged")
    cluster.kill(writer if writer != holder else cluster.others(holder, behind)[0])
    put_back(cluster, holder, copy)
    for _ in range(restarts):
        cluster.run(0.5)  # long enough to be refused
        cluster.start_again(holder)
    return cluster, holder, behind


def test_an_old_copy_of_a_disk_takes_no_part_and_says_why():
    for restarts in (0, 1, 3):
        cluster, holder, behind = an_old_copy_is_put_back(restarts)
        cluster.heal()
        cluster.run(10.0)

        assert cluster.members[holder].core.role != "leader"
        assert cluster.members[behind].core.role != "leader", "it was elected by an old copy"
        assert "its data is a copy" in cluster.members[holder].replica.status().misfit
        peer = next(peer for peer in cluster.members[behind].replica.status().peers if peer.id == holder)
        assert not peer.reachable
        assert "its data is a copy" in peer.misfit


def test_nodes_with_other_rules_take_no_part_and_both_say_which():
    cluster = Cluster(3, begins=False)
    for name, machine in cluster.machines.items():
        machine.rules |= {"raft.idempotency_keys": 1 if name == "n3" else 100_000}
        machine.start()
    leader = cluster.elect()
    cluster.put_now(leader, b"k")
    cluster.run(2.0)

    assert cluster.members["n3"].core.applied_index <= 1
    told = {peer.id: peer.misfit for peer in cluster.members["n3"].replica.status().peers}
    assert told == {name: f"{name} has other rules: raft.idempotency_keys 100000 (here 1)" for name in ("n1", "n2")}
    told = {peer.id: peer.misfit for peer in cluster.members["n1"].replica.status().peers}
    assert told == {"n2": "", "n3": "n3 has other rules: raft.idempotency_keys 1 (here 100000)"}
