"""Hazards of PySyncObj around terms, votes and leases; see ``test_hazards``."""

from __future__ import annotations

from raftkv.core.errors import Code, Refused
from raftkv.core.requests import Consistency, TransferLeadership
from raftkv.core.results import Answer
from raftkv.formats import raft_messages as messages
from tests.simulation.cluster import Cluster


def test_votes_and_terms_survive_power_loss_5():
    cluster = Cluster(3)
    leader = cluster.elect()

    def votes():
        return {node: (m.core.term, m.core._SyncObj__votedForNodeId) for node, m in cluster.members.items()}

    before = votes()
    for node in cluster.members:
        cluster.start_again(node, power=True)

    assert before[leader] == (1, leader)
    assert votes() == before


def test_a_cut_off_leader_steps_down_within_an_election_timeout_17():
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.isolate(leader)

    cluster.run(1.2)

    assert not cluster.members[leader].core.is_leader


def test_a_cut_off_leader_refuses_within_seconds_17():
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.isolate(leader)
    cluster.run(3.5)

    read, write = cluster.get(leader, b"k"), cluster.put(leader, b"k")
    cluster.run(0.1)

    assert read.outcome.code is Code.NO_LEADER
    assert write.outcome.code is Code.NO_LEADER
    assert cluster.get_now(leader, b"k", Consistency.LOCAL) is None


def test_a_returning_node_does_not_depose_the_leader_21():
    cluster = Cluster(3)
    leader = cluster.elect()
    term = cluster.members[leader].core.term
    away = cluster.others(leader)[0]
    cluster.isolate(away)
    cluster.run(10.0)

    cluster.heal()
    cluster.run(5.0)

    assert cluster.leader() == leader
    assert cluster.members[leader].core.term == term


def test_a_partial_partition_burns_no_terms_21():
    cluster = Cluster(3)
    leader = cluster.elect()
    term = cluster.members[leader].core.term
    cluster.cut(leader, cluster.others(leader)[0])

    cluster.run(60.0)

    assert max(member.core.term for member in cluster.members.values()) == term


def test_a_node_with_a_newer_term_is_taken_back():
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = cluster.others(leader)[0]
    cluster.isolate(follower)
    cluster.run(2.0)
    core = cluster.members[follower].core
    core.adopt_term(leader, core.term + 5)
    cluster.step()

    cluster.heal()
    cluster.settle()
    cluster.put_now(follower, b"k")

    assert cluster.members[cluster.leader()].core.term >= core.term


def test_a_paused_leader_never_answers_a_lease_read_with_old_state_22():
    cluster = Cluster(3)
    old = cluster.elect()
    cluster.put_now(old, b"k", b"old")
    rest = cluster.others(old)

    def is_answer(payload):
        return isinstance(messages.decode(payload), messages.AppendAnswer)

    def answers_under_way(peer):
        return any(is_answer(payload) for payload in cluster.network.in_flight(peer, old))

    cluster.network.latency_s = (0.02, 0.02)
    cluster.run_until(lambda: all(answers_under_way(peer) for peer in rest))
    cluster.pause(old)  # with acknowledgements waiting in its sockets
    new = cluster.elect(*rest)
    cluster.put_now(new, b"k", b"new")
    for peer in rest:  # the old answers arrive first; what the new leader sent is still on its way
        cluster.network.keep_in_flight(peer, old, is_answer)
    cluster.network.latency_s = (0.3, 0.3)
    cluster.resume(old)

    for level in (Consistency.LEASE, Consistency.LINEARIZABLE):
        outcome = cluster.await_outcome(cluster.get(old, b"k", level))
        assert isinstance(outcome, Refused) or outcome.content.value == b"new"


def test_lease_reads_need_no_message_while_the_lease_holds():
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.put_now(leader, b"k")
    cluster.run(0.5)

    pending = cluster.get(leader, b"k", Consistency.LEASE)
    cluster.members[leader].replica.work(cluster.now_s)

    assert isinstance(pending.outcome, Answer)


def test_no_leader_is_elected_while_a_lease_holds_22():
    """Whatever a follower does, nobody is elected before the old leader's lease is over."""
    for seed in range(10):
        cluster = Cluster(3, seed=seed)
        old = cluster.elect()
        cluster.run(1.0)
        cluster.cut(old, cluster.others(old)[0])
        cluster.cut(old, cluster.others(old)[1])
        while cluster.leader() == old and cluster.members[old].core.is_leader:
            replica = cluster.members[old].replica
            others = [cluster.members[node].core for node in cluster.others(old)]
            if replica.parts.rounds.holds_lease(replica.parts.core.term, cluster.now_s):
                assert not any(core.is_leader for core in others)
            cluster.step()


def test_a_node_that_has_just_started_ends_no_lease_that_it_may_have_granted_22():
    for seed in range(10):
        cluster = Cluster(3, seed=seed)
        leader = cluster.elect()
        voter, other = cluster.others(leader)
        cluster.cut(leader, other)
        cluster.run(1.0)  # the other asks for votes from now on

        cluster.cut(leader, voter)
        cluster.start_again(voter)
        cluster.run(2.0)  # the invariants see a leader while another's lease holds


def test_a_lease_is_no_longer_when_its_confirmation_is_slow_22():
    """Followers promise to elect nobody from when they are asked; how long their answers take adds nothing."""
    for seed in range(10):
        cluster = Cluster(3, seed=seed)
        leader = cluster.elect()
        cluster.run(1.0)
        rest = cluster.others(leader)
        for peer in rest:
            cluster.network.slow(peer, leader, 100.0)
        while not all(confirms(cluster, peer, leader) for peer in rest):
            cluster.step()
        cluster.cut(leader, rest, both=False)

        cluster.run(2.0)  # the invariants see a leader while another's lease holds


def confirms(cluster, peer, leader):
    return any(isinstance(messages.decode(one), messages.Pong) for one in cluster.network.in_flight(peer, leader))


def test_votes_are_counted_once_for_each_voter_24():
    cluster = Cluster(5)
    cluster.run(0.1)
    candidate = cluster.members["n1"]
    candidate.core.election_deadline_s = float("-inf")
    candidate.core.tick()
    assert candidate.core.role == "candidate"
    vote = messages.encode(messages.Vote(term=candidate.core.term))

    candidate.replica.conversation.received("n2", vote)
    candidate.replica.conversation.received("n2", vote)

    assert not candidate.core.is_leader


def test_a_lease_is_over_before_those_whose_clocks_run_faster_elect_another_22():
    cluster = Cluster(3, begins=False)
    for name, machine in cluster.machines.items():
        machine.rate = 0.951 if name == "n1" else 1.049
        machine.start()
    if cluster.elect() != "n1":
        cluster.ask("n1", TransferLeadership(to="n1"))
    cluster.elect("n1")
    cluster.run(0.5)
    cluster.get_now("n1", b"k")  # by a round that begins now
    cluster.isolate("n1")
    for name in ("n2", "n3"):
        cluster.members[name].core.election_deadline_s = cluster.machines[name].now_s() + 1.01
    cluster.run_until(lambda: cluster.leader() in {"n2", "n3"})  # the invariants look who holds a lease then
    new = cluster.elect("n2", "n3")
    cluster.put_now(new, b"k", b"new")

    assert not isinstance(cluster.await_outcome(cluster.get("n1", b"k", Consistency.LEASE, timeout_s=0.3)), Answer)
