"""The hazards of PySyncObj as scenarios on whole clusters; numbers are those of the table in docs/pysyncobj.rst.

Each fails when its remedy is taken away; ``test_remedies.py`` takes them away and sees that it does.
"""

from __future__ import annotations

import pickle
import threading

import pytest

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.requests import Consistency
from raftkv.core.results import Missing, Written
from raftkv.formats import raft_messages as messages
from raftkv.formats.entries import REGULAR
from tests.simulation.cluster import Cluster


def test_nothing_leaves_before_the_log_is_flushed_1():
    cluster = Cluster(3)
    for member in cluster.members.values():
        send, log = member.replica._link.send, member.log

        def checked(peer, payload, send=send, log=log):
            # Only a leader's entries may leave before its own flush; its copy does not count before (thesis, 10.2.1).
            assert not log.dirty or isinstance(messages.decode(payload), messages.Append)
            return send(peer, payload)

        member.replica._link.send = checked

    leader = cluster.elect()
    for number in range(50):
        cluster.put(leader, b"k%d" % number)
    cluster.run(1.0)

    assert cluster.get_now(leader, b"k49") == b"v"


def test_power_loss_of_all_nodes_keeps_every_acknowledged_write_1():
    cluster = Cluster(3)
    cluster.elect()
    pending = {b"k%d" % n: cluster.put(f"n{n % 3 + 1}", b"k%d" % n) for n in range(200)}
    cluster.run_until(lambda: sum(isinstance(p.outcome, Written) for p in pending.values()) > 100)
    acknowledged = [key for key, p in pending.items() if isinstance(p.outcome, Written)]

    cluster.start_again(*cluster.members, power=True)
    leader = cluster.elect()

    assert all(cluster.get_now(leader, key) == b"v" for key in acknowledged)


def test_a_leader_alone_acknowledges_nothing_after_a_restart_4():
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.fill(leader, 20)
    for node in cluster.members:
        cluster.start_again(node, power=True)
    leader = cluster.elect()
    cluster.isolate(leader)

    pending = cluster.put(leader, b"alone")
    cluster.run(6.0)

    assert isinstance(pending.outcome, Refused | Unknown)


def test_a_stale_answer_of_an_earlier_term_commits_nothing_6():
    cluster = Cluster(5)
    first = cluster.elect()
    core = cluster.members[first].core
    cluster.isolate(first)
    held = core.last_index
    cluster.put(first, b"alone")
    cluster.run_until(lambda: core.last_index > held)
    # It speaks of an entry that stood at that index in an earlier term.
    stale = messages.AppendAnswer(
        term=core.term - 1, sequence=1, next_index=core.last_index + 1, success=True, reset=False
    )

    for other in cluster.others(first):
        cluster.members[first].replica.conversation.received(other, messages.encode(stale))
    cluster.step()

    assert core.commit_index < core.last_index


def test_a_repeated_append_truncates_nothing_7():
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = cluster.others(leader)[0]
    recorded = []
    member = cluster.members[follower]
    received = member.replica.conversation.received

    def record(peer, payload):
        message = messages.decode(payload)
        if isinstance(message, messages.Append) and message.entries:
            recorded.append(payload)
        received(peer, payload)

    member.replica.conversation.received = record
    cluster.fill(leader, 5)
    last = member.core.last_index

    received(leader, recorded[0])
    cluster.step()

    assert member.core.last_index == last


def test_an_acknowledgement_never_lowers_what_goes_next_7():
    cluster = Cluster(3)
    leader = cluster.elect()
    replica = cluster.members[leader].replica
    sent = []
    send = replica._link.send

    def counting(peer, payload):
        message = messages.decode(payload)
        if isinstance(message, messages.Append):
            sent.extend((peer, entry[1]) for entry in message.entries)
        return send(peer, payload)

    replica._link.send = counting
    pending = []
    for number in range(100):  # a new command each step, while acknowledgements are on their way
        pending.append(cluster.put(leader, b"k%d" % number))
        replica.parts.proposals.release()
        cluster.step()
    cluster.run_until(lambda: all(p.outcome is not None for p in pending))

    assert len(sent) == len(set(sent)), "entries were sent twice without a fault"


def test_a_long_conflicting_tail_reconciles_at_once_10():
    cluster = Cluster(3)
    old = cluster.elect()
    cluster.isolate(old)
    core = cluster.members[old].core
    for number in range(3000):
        core.append(b"\x01" + bytes(8) + b"stale%d" % number)
    cluster.run(4.0)  # the connections break, and what was on them is gone
    rest = cluster.others(old)
    new = cluster.elect(*rest)
    for number in range(3000):
        cluster.members[new].core.append(b"\x01" + bytes(8) + b"fresh%d" % number)
    cluster.put_now(new, b"after")
    new_core = cluster.members[new].core
    new_core.set_next_index(old, new_core.last_index + 1)

    cluster.heal()
    cluster.run_until(lambda: core.last_index == cluster.members[new].core.last_index, limit_s=5.0)
    cluster.settle()

    assert cluster.get_now(old, b"after") == b"v"


def test_values_larger_than_any_batch_arrive_whole_12():
    cluster = Cluster(3, largest_command_bytes=4 << 20, window_bytes=8 << 20)
    leader = cluster.elect()
    value = cluster.random.randbytes(3 << 20)

    cluster.put_now(cluster.others(leader)[0], b"large", value)
    cluster.settle()

    assert all(cluster.get_now(node, b"large", Consistency.LOCAL) == value for node in cluster.members)


def test_commands_of_an_earlier_life_settle_nothing_13():
    cluster = Cluster(3)
    leader = cluster.elect()
    node = cluster.others(leader)[0]
    cluster.put(node, b"old")
    cluster.run_until(lambda: bool(cluster.network.in_flight(node, leader)))
    origin = cluster.members[node].replica.parts.proposals.origin
    cluster.start_again(node)

    assert cluster.members[node].replica.parts.proposals.origin != origin


def test_a_lost_proposal_is_unknown_at_its_deadline_14():
    cluster = Cluster(3)
    leader = cluster.elect()
    node = cluster.others(leader)[0]
    cluster.cut(node, leader, both=False)

    pending = cluster.put(node, b"lost", timeout_s=2.0)
    cluster.run(2.1)

    assert isinstance(pending.outcome, Unknown)


def test_an_unapplied_command_is_proposed_again_once_a_later_term_committed():
    cluster = Cluster(3)
    old = cluster.elect()
    cluster.isolate(old)
    pending = cluster.put(old, b"k", timeout_s=30.0)
    cluster.run(3.5)

    cluster.heal()
    cluster.await_outcome(pending)

    assert isinstance(pending.outcome, Written)
    assert pending.outcome.revision == 1  # applied once


def test_no_pickle_is_ever_loaded_19(monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("a pickle was loaded")

    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr("pysyncobj.pickle.loads", refuse)
    cluster = Cluster(3, snapshot_entries=20)
    leader = cluster.elect()
    cluster.kill(cluster.others(leader)[0])
    cluster.fill(leader, 60)
    cluster.settle()
    cluster.kill(leader)
    cluster.elect()

    cluster.settle()


def test_a_membership_entry_of_a_peer_is_refused_20():
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = cluster.others(leader)[0]
    core = cluster.members[follower].core
    entry = (b"\x02" + pickle.dumps(["rem", leader]), core.last_index + 1, core.term)
    append = messages.Append(
        term=core.term,
        commit_index=core.commit_index,
        sequence=1,
        previous_index=core.last_index,
        previous_term=core.last_term,
        entries=(entry,),
    )

    with pytest.raises(AssertionError, match="malformed"):  # the virtual port's way of closing the connection
        cluster.members[follower].replica.conversation.received(leader, messages.encode(append))


def test_no_thread_is_started_25():
    before = threading.active_count()
    cluster = Cluster(3)
    cluster.elect()

    assert threading.active_count() == before


def test_a_lone_client_does_not_wait_for_a_heartbeat_28():
    cluster = Cluster(3)
    leader = cluster.elect()
    began_s = cluster.now_s
    cluster.fill(leader, 10)

    assert cluster.now_s - began_s < 10 * 0.05


def test_a_watch_for_a_replica_that_is_away_is_given_up():
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.kill(cluster.others(leader)[0])
    for number in range(20):
        cluster.put(leader, b"k%d" % number, timeout_s=0.2, acks=3)
        cluster.run(0.05)
    watches = cluster.members[leader].replica.parts.appends._watches
    assert watches

    cluster.run(61.0)

    assert not cluster.members[leader].replica.parts.appends._watches


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_clusters_of_any_size_write_and_read(size):
    cluster = Cluster(size)
    cluster.elect()

    for node in cluster.members:
        cluster.put_now(node, node.encode())

    for node in cluster.members:
        assert cluster.get_now(node, b"n1") == b"v"
        assert cluster.get_now(node, b"n1", Consistency.LEASE) == b"v"


@pytest.mark.parametrize("acks", [1, 2, 3])
def test_a_write_is_answered_when_as_many_replicas_hold_it_as_asked(acks):
    cluster = Cluster(3)
    leader = cluster.elect()
    for node in (leader, cluster.others(leader)[0]):
        outcome = cluster.await_outcome(cluster.put(node, b"k", acks=acks))

        assert outcome.acks == acks
        assert outcome.committed == (acks > 1)


def test_a_write_for_all_replicas_is_refused_at_once_while_one_is_known_to_be_away():
    cluster = Cluster(3)
    leader = cluster.elect()
    away, other = cluster.others(leader)
    cluster.kill(away)
    cluster.run(0.5)

    for node in (leader, other):
        pending = cluster.put(node, b"k", acks=3)
        cluster.run(0.1)
        assert isinstance(pending.outcome, Refused)
        assert pending.outcome.code is Code.QUORUM_UNREACHABLE
        assert "2 of 3" in pending.outcome.detail
    assert cluster.get_now(leader, b"k") is None


def test_a_write_for_all_replicas_is_unknown_while_one_is_silent():
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.pause(cluster.others(leader)[0])

    pending = cluster.put(leader, b"k", acks=3, timeout_s=0.5)
    cluster.run(0.6)

    assert isinstance(pending.outcome, Unknown)


def test_a_write_to_the_leader_alone_may_be_lost_and_says_so():
    cluster = Cluster(3)
    old = cluster.elect()
    cluster.isolate(old)
    pending = cluster.put(old, b"k", acks=1)
    cluster.run(0.1)
    rest = cluster.others(old)
    cluster.elect(*rest)
    cluster.settle()

    assert pending.outcome.committed is False
    assert cluster.get_now(old, b"k") is None


def test_a_key_expires_on_every_node_without_traffic():
    from raftkv.core.requests import Put, Write

    cluster = Cluster(3)
    leader = cluster.elect()
    pending = cluster.submit(leader, Write(operations=(Put(key=b"k", value=b"v", ttl_ms=500),)))
    cluster.await_outcome(pending)
    there = cluster.get_now(leader, b"k")
    cluster.run(1.0)

    assert there == b"v"
    for node in cluster.members:
        content = cluster.get(node, b"k", Consistency.LOCAL).outcome.content
        assert content == Missing(key=b"k")


def test_staleness_grows_on_a_node_that_hears_no_leader():
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = cluster.others(leader)[0]
    cluster.run(1.0)
    fresh_s = cluster.now_s - cluster.members[follower].replica.status().level_at_s
    cluster.isolate(follower)
    cluster.run(5.0)
    stale_s = cluster.now_s - cluster.members[follower].replica.status().level_at_s

    assert fresh_s < 0.3
    assert stale_s > 4.5


def test_where_every_disk_is_nearly_full_writes_are_refused_and_reads_go_on():
    cluster = Cluster(3, disk_reserve_bytes=64_000)
    leader = cluster.elect()
    cluster.put_now(leader, b"k")
    for member in cluster.members.values():
        member.replica.parts.room._look = lambda: 63_999
    cluster.run(1.1)

    for node in cluster.members:
        outcome = cluster.await_outcome(cluster.put(node, b"other"))
        assert outcome.code is Code.DISK_FULL
        assert cluster.get_now(node, b"k") == b"v"


def test_the_kind_of_an_entry_that_pysyncobj_appends_is_ours():
    cluster = Cluster(1)
    cluster.elect()
    cluster.put_now("n1", b"k")

    assert cluster.members["n1"].log.entry(cluster.members["n1"].core.last_index)[0][:1] == REGULAR


def test_a_read_at_a_leader_that_cannot_commit_ends_by_its_deadline():
    cluster = Cluster(3)
    old = cluster.elect()
    rest = cluster.others(old)
    cluster.kill(old)
    cluster.run_until(lambda: cluster.leader() in rest)
    new = cluster.leader()
    other = next(node for node in rest if node != new)
    cluster.cut(new, other, both=False)  # it hears votes and answers, but what it sends arrives nowhere
    pending = cluster.get(new, b"k", timeout_s=0.5)

    cluster.run(0.6)

    assert pending.outcome is not None


def test_a_read_in_a_round_that_takes_longer_than_its_deadline_is_refused_at_its_deadline():
    """Found by seed 249: a leader's reads ended with their round, and a slow network makes rounds slow."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.network.latency_s = (0.15, 0.15)
    pending = cluster.get(leader, b"k", timeout_s=0.1)

    cluster.run(0.11)

    assert isinstance(pending.outcome, Refused)
