"""What w promises in raft mode: the leader at once, a majority by commit, beyond it every replica shows the write."""

from __future__ import annotations

import pytest

from raftkv.core.errors import Unknown
from raftkv.core.requests import Configure, Consistency, DeleteSpan, Grant, Increment, Transaction, Write
from raftkv.core.results import Written
from raftkv.core.voters import Voters
from raftkv.formats.raft_messages import AppliedShown, decode
from raftkv.raft.electorate import Electorate
from raftkv.raft.writing import appends, proposals
from raftkv.raft.writing.visibility import shown_from
from tests.simulation.cluster import Cluster


def stale_local_reads(size, *, acks, through_leader):
    """Writes with ``acks``, and after each how many nodes do not show it the moment that it is acknowledged."""
    cluster = Cluster(size)
    leader = cluster.elect()
    node = leader if through_leader else cluster.others(leader)[0]
    stale = 0
    for number in range(20):
        outcome = cluster.await_outcome(cluster.put(node, b"k", b"%d" % number, acks=acks))
        assert outcome.acks == acks
        for asked in cluster.members:
            answer = cluster.get(asked, b"k", Consistency.LOCAL).outcome
            stale += getattr(answer.content, "value", None) != b"%d" % number
    return stale


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("through_leader", [True, False])
def test_a_write_on_all_replicas_is_seen_by_local_reads_everywhere(size, through_leader):
    assert stale_local_reads(size, acks=size, through_leader=through_leader) == 0


@pytest.mark.parametrize("size", [2, 3, 5])
def test_counting_replicas_that_only_hold_the_write_would_leave_some_stale(size, monkeypatch):
    for module in (appends, proposals):
        monkeypatch.setattr(module, "shown_from", lambda _voters: 100)

    assert stale_local_reads(size, acks=size, through_leader=True) > 0


@pytest.mark.parametrize(("size", "first"), [(2, 2), (3, 3), (4, 4), (5, 4), (7, 5)])
def test_replicas_beyond_the_majority_must_show_a_write(size, first):
    assert shown_from(Electorate("n0", Voters.of(f"n{number}" for number in range(size)))) == first


def test_who_wants_another_n_is_told_that_every_node_has_every_key():
    cluster = Cluster(3)
    refused = cluster.submit(cluster.elect(), Configure(n=2)).outcome

    assert refused.detail == "n: every node of a raft cluster has every key, so n is 3; leave it out"


def test_what_can_be_told_only_when_it_is_committed_waits_for_that_whatever_w_says():
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.settle()
    for node in cluster.members:
        for operation in (Increment(key=b"n"), Grant(ttl_ms=1000), Transaction(), DeleteSpan(start=b"n", end=None)):
            outcome = cluster.await_outcome(cluster.submit(node, Write(operations=(operation,), acks=1)))
            assert (outcome.committed, len(outcome.results)) == (True, 1)
    assert not cluster.await_outcome(cluster.put(leader, b"k", acks=1)).committed


def test_state_is_committed_before_it_is_said_to_be_visible():
    cluster = Cluster(3)
    leader = cluster.elect()
    committed, told = {}, []
    for member in cluster.members.values():
        tables, send = member.replica.parts.applied.state.tables, member.replica._link.send
        machine = member.replica.parts.applied.machine

        def commit(node=member.id, machine=machine, commit=tables.commit):
            commit()
            committed[node] = machine.applied_index

        def noting(peer, payload, node=member.id, send=send):
            message = decode(payload)
            if isinstance(message, AppliedShown):
                told.append(message.index)
                assert message.index <= committed.get(node, 1)
            return send(peer, payload)

        tables.commit, member.replica._link.send = commit, noting
    for number in range(10):
        pending = cluster.put(leader, b"k%d" % number, acks=3)
        cluster.await_outcome(pending)

    assert len(told) >= 20


def test_nobody_asks_what_replicas_show_while_no_write_waits_for_it():
    cluster = Cluster(3)
    leader = cluster.elect()
    asked = []
    visibility = cluster.members[leader].replica.parts.visibility
    visibility.told = lambda peer, index: asked.append((peer, index))
    for acks in (0, 1, 2):
        cluster.put(leader, b"k", acks=acks)
        cluster.run(0.5)

    assert not asked


def test_a_write_on_all_replicas_is_acknowledged_once_the_last_one_is_back():
    cluster = Cluster(3)
    leader = cluster.elect()
    away = cluster.others(leader)[0]
    cluster.kill(away)
    pending = cluster.put(leader, b"k", acks=3, timeout_s=30.0)
    cluster.run(2.0)
    before = pending.outcome
    cluster.restart(away)
    cluster.await_outcome(pending)

    assert before is None
    assert pending.outcome.acks == 3
    assert cluster.get(away, b"k", Consistency.LOCAL).outcome.content.value == b"v"


def test_a_write_on_all_replicas_is_unknown_when_its_leader_is_lost():
    cluster = Cluster(3)
    leader = cluster.elect()
    rest = cluster.others(leader)
    cluster.isolate(rest[0])  # its link still counts as up, so the write is begun
    pending = cluster.put(rest[1], b"k", acks=3, timeout_s=10.0)
    cluster.run(0.2)
    before = pending.outcome
    cluster.kill(leader)
    cluster.heal()
    cluster.run(12.0)

    assert before is None
    assert isinstance(pending.outcome, Unknown)


def test_writes_to_the_leader_alone_do_not_wait_for_each_others_commit():
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.isolate(leader)
    outcomes = []
    for number in range(5):
        pending = cluster.put(leader, b"k%d" % number, acks=1)
        cluster.run(0.05)
        outcomes.append(pending.outcome)

    assert all(isinstance(outcome, Written) and not outcome.committed for outcome in outcomes)


def test_writes_to_the_leader_alone_are_bounded_while_nothing_commits(monkeypatch):
    monkeypatch.setattr(proposals, "BATCHES_MAX", 3)
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.isolate(leader)
    written = [cluster.put(leader, b"k%d" % number, acks=1) for number in range(1)]
    for number in range(1, 10):
        cluster.run(0.05)
        written.append(cluster.put(leader, b"k%d" % number, acks=1))

    assert sum(pending.outcome is not None for pending in written) == 3
