"""Eventual reads in raft mode: r replicas are asked, the newest of their applied states answers."""

from __future__ import annotations

import pytest

from raftkv.core.errors import Code, Refused
from raftkv.core.requests import Barrier, Consistency, Delete, Get, List, Placing, Read, Write
from raftkv.core.results import Answer, KeyPage, Missing
from raftkv.formats.raft_messages import AppliedView, RecordAnswer, encode
from raftkv.raft.reading.eventual import EventualReads
from tests.simulation.cluster import Cluster


def ask(cluster, node, key, r, timeout_s=5.0):
    return cluster.submit(node, Read(query=Get(key=key), consistency=Consistency.EVENTUAL, r=r), timeout_s)


def asked(cluster, node, key, r):
    return cluster.await_outcome(ask(cluster, node, key, r))


def with_one_behind():
    """A cluster of five, its leader, and a follower that hears nobody's entries but talks to all."""
    cluster = Cluster(5)
    leader = cluster.elect()
    cluster.put_now(leader, b"k", b"old")
    cluster.put_now(leader, b"gone", b"old")
    cluster.run(0.5)
    behind = cluster.others(leader)[0]
    cluster.cut(leader, behind)
    cluster.put_now(leader, b"k", b"new")
    gone = cluster.submit(leader, Write(operations=(Delete(key=b"gone"),)))
    cluster.await_outcome(gone)
    cluster.run(0.3)
    return cluster, leader, behind


def test_one_replica_is_the_asked_node_whatever_it_has():
    cluster, _, behind = with_one_behind()
    answer = ask(cluster, behind, b"k", 1).outcome

    assert answer.content.value == b"old"
    assert answer.consistency is Consistency.EVENTUAL


@pytest.mark.parametrize("r", [2, 3])
def test_the_newest_of_several_replicas_answers(r):
    cluster, _, behind = with_one_behind()
    answer = asked(cluster, behind, b"k", r)

    assert answer.content.value == b"new"
    assert answer.consistency is Consistency.EVENTUAL
    assert len(answer.replicas) == r
    assert behind in answer.replicas


def test_a_key_deleted_in_the_newest_view_is_missing_although_others_still_have_it():
    cluster, _, behind = with_one_behind()
    here = ask(cluster, behind, b"gone", 1).outcome
    answer = asked(cluster, behind, b"gone", 2)

    assert here.content.value == b"old"
    assert answer.content == Missing(key=b"gone")
    assert answer.revision > here.revision


def test_the_newest_view_decides_in_whatever_order_views_come():
    def view(applied_index, record=None):
        return AppliedView(applied_index=applied_index, revision=applied_index, record=record)

    for order in ([5, 7, 6], [7, 6, 5], [6, 5, 7]):
        cluster = Cluster(1)
        pending = cluster.get("n1", b"k")
        reads = EventualReads(first_number=0, max_waiting=1)
        number = reads.add(b"k", 3, 10.0, pending)
        for node, applied_index in enumerate(order):
            reads.answered(number, f"n{node}", view(applied_index))
        ((_, answer),) = reads.settled

        assert answer.revision == 7


def test_a_replica_that_hangs_delays_nobody_as_long_as_enough_others_answer():
    cluster = Cluster(5)
    leader = cluster.elect()
    cluster.put_now(leader, b"k")
    hanging = cluster.others(leader)[:2]
    for node in hanging:
        cluster.pause(node)
    answer = asked(cluster, leader, b"k", 3)

    assert answer.content.value == b"v"
    assert not set(answer.replicas) & set(hanging)


def test_a_read_of_more_replicas_than_can_be_reached_is_refused_at_once():
    cluster = Cluster(3)
    leader = cluster.elect()
    for node in cluster.others(leader):
        cluster.kill(node)
    cluster.run(0.1)
    outcome = ask(cluster, leader, b"k", 2).outcome

    assert isinstance(outcome, Refused)
    assert outcome.code is Code.QUORUM_UNREACHABLE


def test_a_read_of_replicas_that_do_not_answer_is_refused_at_its_deadline():
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    for node in cluster.others(leader):
        cluster.pause(node)
    pending = ask(cluster, leader, b"k", 3, timeout_s=0.5)
    cluster.run(0.6)

    assert isinstance(pending.outcome, Refused)
    assert pending.outcome.code is Code.QUORUM_UNREACHABLE


def test_eventual_reads_need_no_leader():
    cluster = Cluster(5)
    leader = cluster.elect()
    cluster.put_now(leader, b"k")
    cluster.run(0.5)
    rest = cluster.others(leader)
    for node in (leader, *rest[:2]):
        cluster.kill(node)
    cluster.run(10.0)

    assert asked(cluster, rest[2], b"k", 2).content.value == b"v"


def test_without_r_a_majority_is_read():
    cluster = Cluster(5)
    leader = cluster.elect()
    cluster.put_now(leader, b"k")

    assert len(asked(cluster, leader, b"k", 0).replicas) == 3


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (Read(query=Get(key=b"k"), consistency=Consistency.EVENTUAL, r=4), Code.BAD_REQUEST),
        (Read(query=Get(key=b"k"), consistency=Consistency.EVENTUAL, r=-1), Code.BAD_REQUEST),
        (Read(query=Get(key=b"k"), consistency=Consistency.LOCAL, r=2), Code.BAD_REQUEST),
        (Read(query=Get(key=b"k"), r=2), Code.BAD_REQUEST),
        (Read(query=Get(key=b"k"), consistency=Consistency.EVENTUAL, placing=Placing(n=3)), Code.NOT_SUPPORTED),
        (Read(query=Get(key=b"k"), placing=Placing(sloppy=True)), Code.NOT_SUPPORTED),
        (Read(query=List(start=b"", end=None, limit=9), consistency=Consistency.EVENTUAL, r=2), Code.NOT_SUPPORTED),
        (Barrier(consistency=Consistency.EVENTUAL), Code.NOT_SUPPORTED),
        (Write(operations=(), placing=Placing(n=3)), Code.NOT_SUPPORTED),
        (Write(operations=(), placing=Placing(sloppy=False)), Code.NOT_SUPPORTED),
        (Write(operations=(), placing=Placing(context=b"c")), Code.NOT_SUPPORTED),
    ],
)
def test_what_raft_mode_cannot_give_is_refused(request_, code):
    cluster = Cluster(3)
    leader = cluster.elect()
    outcome = cluster.submit(leader, request_).outcome

    assert isinstance(outcome, Refused)
    assert outcome.code is code


def test_a_list_may_be_read_from_one_replica():
    cluster = Cluster(3)
    leader = cluster.elect()
    read = Read(query=List(start=b"", end=None, limit=9), consistency=Consistency.EVENTUAL, r=1)

    assert isinstance(cluster.submit(leader, read).outcome.content, KeyPage)


def test_waiting_eventual_reads_are_bounded():
    cluster = Cluster(3, max_waiting=2)
    leader = cluster.elect()
    cluster.run(0.5)
    for node in cluster.others(leader):
        cluster.pause(node)
    outcomes = [ask(cluster, leader, b"k", 3).outcome for _ in range(3)]

    assert outcomes[:2] == [None, None]
    assert outcomes[2].code is Code.OVERLOADED


def test_a_node_that_ends_turns_its_readers_away():
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    pending = ask(cluster, leader, b"k", 3)
    cluster.members[leader].replica.close()

    assert isinstance(pending.outcome, Refused)


def test_an_answer_to_no_question_is_ignored():
    cluster = Cluster(3)
    leader = cluster.elect()
    pending = ask(cluster, leader, b"k", 2)
    late = RecordAnswer(request=12345, view=AppliedView(applied_index=1 << 40, revision=9, record=None))
    cluster.members[leader].replica.conversation.received("n1" if leader != "n1" else "n2", encode(late))
    cluster.await_outcome(pending)

    assert isinstance(pending.outcome, Answer)
    assert pending.outcome.revision < 9
