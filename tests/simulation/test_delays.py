"""Artificial delays in raft mode: every w measures differently, local reads show the window, leaders stay."""

from __future__ import annotations

import msgspec
import pytest

from raftkv.core.delays import DelaysSection
from raftkv.core.errors import Code
from raftkv.core.requests import Consistency, Get, Read
from raftkv.formats.raft_messages import Append, AppendAnswer, Pong, decode
from raftkv.raft.delays import AppendLine
from tests.simulation.cluster import Cluster

AFTER_MESSAGE_S, UPDATE_S, READ_S = 0.2, 0.1, 0.05
REFERENCE = DelaysSection(leader_after_message_s=AFTER_MESSAGE_S, follower_update_s=UPDATE_S, follower_read_s=READ_S)
HOPS_S = 0.06
"""What the messages of one write or read take on links of a few milliseconds, in steps of five."""


def write_s(cluster, node, acks):
    """How long a write takes on the virtual clock."""
    began_s = cluster.now_s
    outcome = cluster.await_outcome(cluster.put(node, b"k", acks=acks))
    assert outcome.acks == acks
    return round(cluster.now_s - began_s, 6)


def read_s(cluster, node, **read):
    began_s = cluster.now_s
    outcome = cluster.ask(node, Read(query=Get(key=b"k"), **read))
    assert not hasattr(outcome, "code")
    return round(cluster.now_s - began_s, 6)


def five_nodes(delays=REFERENCE, **settings):
    cluster = Cluster(5, delays=delays, **settings)
    cluster.elect()
    cluster.run(1.5)
    return cluster


@pytest.mark.parametrize(
    ("acks", "takes_s"), [(1, 0.0), (3, AFTER_MESSAGE_S + UPDATE_S), (5, 3 * AFTER_MESSAGE_S + UPDATE_S)]
)
def test_every_w_takes_as_long_as_its_last_follower(acks, takes_s):
    cluster = five_nodes()
    for _ in range(4):  # one right after the other, as a client does
        assert takes_s <= write_s(cluster, cluster.leader(), acks) < takes_s + HOPS_S


def test_after_a_write_to_the_leader_alone_local_reads_are_old_for_as_long_as_the_delays_say():
    cluster = five_nodes()
    leader = cluster.leader()
    last = cluster.others(leader)[-1]
    write_s(cluster, leader, 1)
    began_s = cluster.now_s
    while cluster.get_now(last, b"k", Consistency.LOCAL) is None:
        pass

    assert 3 * AFTER_MESSAGE_S + UPDATE_S <= cluster.now_s - began_s < 3 * AFTER_MESSAGE_S + UPDATE_S + READ_S + HOPS_S


@pytest.mark.parametrize("read", [{"consistency": level} for level in (Consistency.LOCAL, Consistency.LINEARIZABLE)])
def test_followers_wait_before_they_answer_a_read_and_the_leader_does_not(read):
    cluster = five_nodes()
    leader = cluster.leader()
    follower = cluster.others(leader)[0]

    assert READ_S <= read_s(cluster, follower, **read) < READ_S + HOPS_S
    assert read_s(cluster, leader, **read) < HOPS_S


@pytest.mark.parametrize(("r", "takes_s"), [(1, 0.0), (3, READ_S), (5, READ_S)])
def test_replicas_that_are_asked_wait_side_by_side(r, takes_s):
    cluster = five_nodes()
    took_s = read_s(cluster, cluster.leader(), consistency=Consistency.EVENTUAL, r=r)

    assert takes_s <= took_s < takes_s + HOPS_S


def test_the_state_is_not_shared_with_the_front_end_while_reads_are_delayed():
    with_delay, without = five_nodes(), five_nodes(DelaysSection(leader_after_message_s=0.2))

    assert with_delay.members["n1"].replica.status().state_path == ""
    assert without.members["n1"].replica.status().state_path != ""


def test_a_read_that_would_be_held_beyond_its_deadline_is_refused_at_once():
    cluster = five_nodes()
    follower = cluster.others(cluster.leader())[0]
    pending = cluster.get(follower, b"k", Consistency.LOCAL, timeout_s=READ_S / 2)

    assert pending.outcome.code is Code.OVERLOADED


def test_reads_that_are_held_are_bounded():
    cluster = five_nodes(max_waiting=2)
    follower = cluster.others(cluster.leader())[0]
    outcomes = [cluster.get(follower, b"k", Consistency.LOCAL).outcome for _ in range(3)]

    assert outcomes[:2] == [None, None]
    assert outcomes[2].code is Code.OVERLOADED


def test_a_node_that_ends_answers_the_reads_it_holds():
    cluster = five_nodes()
    follower = cluster.others(cluster.leader())[0]
    held = [cluster.get(follower, b"k", level) for level in (Consistency.LOCAL, Consistency.LINEARIZABLE)]
    cluster.members[follower].replica.close()

    assert all(pending.outcome is not None for pending in held)


def keeps_its_leader(delays):
    """Writes without pause, delays beyond the election timeout: nobody stands for election, nothing is sent again."""
    cluster = five_nodes(delays)
    leader, term = cluster.leader(), cluster.members["n1"].core.term
    resets = []
    for member in cluster.members.values():

        def noting(peer, payload, send=member.replica._link.send):
            message = decode(payload)
            if isinstance(message, AppendAnswer) and message.reset:
                resets.append(message)
            return send(peer, payload)

        member.replica._link.send = noting
    pending = [cluster.put(leader, b"first", timeout_s=30.0)]
    for number in range(1500):
        pending.append(cluster.put(leader, b"k%d" % number, acks=1, timeout_s=30.0))
        cluster.step()
    cluster.run_until(lambda: all(one.outcome is not None for one in pending), limit_s=60.0)

    assert {member.core.term for member in cluster.members.values()} == {term}, "an election was held"
    assert not resets, "a follower saw a gap"
    return cluster


LONG = DelaysSection(leader_after_message_s=2.0, follower_update_s=1.5)


def test_delays_beyond_the_election_timeout_disturb_no_leader():
    keeps_its_leader(LONG).settle()


def test_delaying_heartbeats_as_well_would_cost_the_leader_its_place(monkeypatch):
    put = AppendLine.put

    def hold_all(self, append, now_s):
        if self._delay_s and not append.entries:
            self._waiting.append((now_s + self._delay_s, 0, append))
            return Pong(term=0, round=0)  # means nothing to a follower
        return put(self, append, now_s)

    monkeypatch.setattr(AppendLine, "put", hold_all)

    with pytest.raises(AssertionError, match=r"an election was held|nothing happened"):
        keeps_its_leader(DelaysSection(leader_after_message_s=2.0))


def test_appends_that_overtake_entries_unchanged_would_be_taken_for_gaps(monkeypatch):
    put = AppendLine.put

    def overtake(self, append, now_s):
        return put(self, append, now_s) if append.entries else append

    monkeypatch.setattr(AppendLine, "put", overtake)

    with pytest.raises(AssertionError, match="gap"):
        keeps_its_leader(LONG)


def append(index, *, commit_index=0, entries=True, term=1, size=10):
    content = ((bytes(size), index, term),) if entries else ()
    return Append(
        term=term, commit_index=commit_index, sequence=index, previous_index=index - 1, previous_term=1, entries=content
    )


def heartbeat_of(message):
    return msgspec.structs.replace(message, previous_index=0, previous_term=0, entries=())


def test_entries_leave_a_heartbeat_and_come_out_in_order_with_the_latest_commit_index():
    line = AppendLine(1.0, 1 << 20)

    assert line.put(append(5), 0.0) == heartbeat_of(append(5))
    assert line.put(append(6), 0.5) == heartbeat_of(append(6))
    notice = append(7, commit_index=6, entries=False)
    assert line.put(notice, 0.6) == heartbeat_of(notice)
    assert list(line.due(0.9)) == []
    assert line.next_s == 1.0
    assert list(line.due(1.5)) == [append(5, commit_index=6), append(6, commit_index=6)]
    assert line.put(notice, 1.5) == notice


def test_a_commit_index_of_another_term_does_not_go_with_entries():
    line = AppendLine(1.0, 1 << 20)
    line.put(append(5), 0.0)
    line.put(append(6, commit_index=5, entries=False, term=2), 0.1)

    assert list(line.due(1.0)) == [append(5)]


def test_what_finds_no_room_is_dropped_and_a_broken_connection_drops_the_rest():
    line = AppendLine(1.0, 100)
    line.put(append(5, size=80), 0.0)
    line.put(append(6, size=80), 0.0)
    held_bytes = line.waiting_bytes
    line.clear()

    assert held_bytes == 80
    assert line.waiting_bytes == 0
    assert list(line.due(9.0)) == []


def test_a_line_without_delay_changes_nothing():
    line = AppendLine(0.0, 100)

    assert line.put(append(5), 0.0) == append(5)
    assert line.next_s == float("inf")
