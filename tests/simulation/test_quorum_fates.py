"""What becomes of writes, deletions and reads in leaderless clusters: refused, unknown, forgotten, seen."""

import pytest

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.requests import Consistency, Delete, Get, Inspect, List, Put, Read, RemoveMember, Repair, Write
from raftkv.core.results import Missing, StampedDelete, StampedPut, Written
from raftkv.formats.versions import encode_state
from raftkv.instruments.sim.disk import UNLIMITED
from tests.simulation.leaderless import KEYS, Leaderless, joining

# -- the fate of writes


def test_a_write_that_its_origin_may_have_made_is_never_definitely_refused():
    cluster = Leaderless(3, n=3, r=1, w=3, conflicts="siblings", flush_s=0.05)
    pending = cluster.submit("n1", cluster.written(b"k", b"value", w=3, sloppy=False))
    cluster.machines["n1"].process.begin_work(cluster.now_s)
    cluster.network.disconnect("n1", "n2", now=True)
    cluster.await_outcome(pending)

    assert isinstance(pending.outcome, Unknown)


def test_a_refused_write_does_not_come_back_by_a_hint():
    cluster = Leaderless(3, n=2, r=1, w=1, clock_ahead_s=100.0)
    owners = cluster.replica("n1").owners(b"k")
    via = next(name for name in cluster.machines if name not in owners)
    for owner in owners:
        cluster.machines[owner].disk.limit_bytes = 10
    cluster.put(via, b"k", b"first", w=1, sloppy=False)
    refused = cluster.put(via, b"k", b"refused", w=1, sloppy=False)
    for owner in owners:
        cluster.machines[owner].disk.limit_bytes = UNLIMITED
    cluster.run(10.0)

    assert refused.code is Code.DISK_FULL
    assert cluster.replica(via).store.hints_pending == 0
    assert b"refused" not in [*cluster.held(owners[0]).values(), *cluster.held(owners[1]).values()]


def test_a_delete_without_a_context_deletes_what_its_coordinator_reads():
    cluster = Leaderless(3, conflicts="siblings")
    cluster.put("n1", b"k", b"one")
    cluster.put("n2", b"k", b"other")
    deleted = cluster.delete("n3", b"k")
    cluster.run_until_level()

    assert isinstance(deleted.results[0], StampedDelete)
    assert cluster.get("n1", b"k", r=3) is None


def test_what_a_delete_without_a_context_has_not_read_survives_it():
    cluster = Leaderless(3, conflicts="siblings")
    cluster.put("n1", b"k", b"seen", w=3)
    cluster.isolate("n3")
    cluster.run(4.0)
    cluster.put("n3", b"k", b"concurrent", w=1, sloppy=False)
    cluster.delete("n1", b"k", sloppy=False)
    cluster.heal()
    cluster.run_until_level()

    assert cluster.get("n1", b"k", r=3) == b"concurrent"


def test_a_delete_that_cannot_read_is_refused_and_changes_nothing():
    cluster = Leaderless(3, conflicts="siblings", r=2, w=1)
    cluster.put("n1", b"k", b"value", w=3)
    before = cluster.replica("n1").contents()
    cluster.isolate("n1")
    cluster.run(4.0)
    refused = cluster.delete("n1", b"k", sloppy=False)

    assert refused.code is Code.QUORUM_UNREACHABLE
    assert cluster.replica("n1").contents() == before


def test_a_delete_that_reads_nothing_writes_nothing():
    cluster = Leaderless(3, conflicts="siblings")
    deleted = cluster.delete("n1", b"k")

    assert deleted.results == (Missing(key=b"k"),)
    assert not any(cluster.held(name) for name in cluster.machines)


def test_a_delete_of_a_batch_without_a_context_deletes_what_stood_before_it():
    cluster = Leaderless(3, conflicts="siblings")
    cluster.put("n1", b"old", b"value")
    batch = (Put(key=b"new", value=b"value"), Delete(key=b"old"), Delete(key=b"new"), Get(key=b"new"))
    outcome = cluster.ask("n2", Write(operations=batch))

    assert [type(result) for result in outcome.results] == [StampedPut, StampedDelete, StampedDelete, Missing]
    assert cluster.get("n3", b"old") is None


def test_a_read_of_two_replicas_waits_for_the_second():
    cluster = Leaderless(3, anti_entropy_s=1000.0, max_hints=0)
    cluster.put("n1", b"k", b"old", w=3)
    cluster.isolate("n3")
    cluster.run(4.0)
    cluster.put("n1", b"k", b"new", w=2, sloppy=False)
    cluster.heal()
    cluster.run(2.0)

    assert cluster.held("n3") == {b"k": b"old"}
    assert cluster.get("n3", b"k", r=2) == b"new"


def lost_and_alone_with_one_who_was_away():
    """A write that only n2, which is away now, still holds; n3 had it as well, and lost its disk."""
    cluster = Leaderless(3, sloppy=False, max_hints=0)
    cluster.isolate("n1")
    cluster.run(4.0)
    written = cluster.put("n2", b"k", b"value")
    cluster.kill("n2")
    cluster.lose_disk("n3")
    cluster.heal()
    cluster.run(4.0)

    assert written.replicas == ("n2", "n3")

    return cluster


def test_a_node_that_lost_its_disk_answers_no_reads_before_it_has_its_data_back():
    cluster = lost_and_alone_with_one_who_was_away()
    page = Read(query=List(start=b"", end=None, limit=10), consistency=Consistency.EVENTUAL)
    refused = [cluster.read(node, b"k") for node in ("n1", "n3")] + [cluster.ask("n1", page)]

    assert [getattr(outcome, "code", None) for outcome in refused] == [Code.QUORUM_UNREACHABLE] * 3
    assert [cluster.ask(node, Inspect()).can_read for node in ("n1", "n3")] == [True, False]

    cluster.restart("n2")
    cluster.run_until_level()

    assert cluster.get("n3", b"k") == b"value"


def test_a_node_that_lost_its_disk_acknowledges_no_writes_before_it_has_its_data_back():
    """Found by seed 20421: nobody it asks knows of the stamp that the write has to pass."""
    cluster = lost_and_alone_with_one_who_was_away()
    for machine in cluster.machines.values():
        machine.wall_offset_s = -100.0
    cluster.start_again("n1")
    cluster.kill("n3")
    cluster.lose_disk("n3")
    cluster.run(4.0)
    later = cluster.put("n1", b"k", b"later", w=2, sloppy=False)
    cluster.restart("n2")
    cluster.run_until_level()

    assert not isinstance(later, Written) or cluster.get("n3", b"k") == b"later"
    assert isinstance(cluster.put("n3", b"k", b"last", w=3), Written)
    cluster.run_until_level()
    assert cluster.get("n1", b"k") == b"last"


def test_a_node_that_starts_again_before_it_has_its_data_back_still_answers_no_reads():
    cluster = lost_and_alone_with_one_who_was_away()
    cluster.start_again("n3")
    cluster.run(4.0)

    assert isinstance(cluster.read("n1", b"k"), Refused)


def test_a_newcomer_who_knows_nothing_does_not_attest_that_a_disk_was_not_lost():
    """Found by seed 13595."""
    cluster = Leaderless(4, members=3)
    cluster.put("n1", b"k", b"value", w=3)
    cluster.isolate("n2")
    joining(cluster, "n4", via="n1")
    cluster.lose_disk("n3")
    cluster.run(4.0)
    cluster.isolate("n1")
    cluster.kill("n3")
    cluster.mode.lose_disk("n4")
    for name in ("n3", "n4"):
        cluster.restart(name)
    cluster.run(4.0)

    assert not cluster.ask("n3", Inspect()).can_read


class Apart(Leaderless):
    """One of which n2 has met nobody yet."""

    def begin(self):
        self.isolate("n2")
        super().begin()


def test_the_word_of_one_who_has_met_nobody_does_not_say_that_no_disk_was_lost():
    """Found by seed 8760: n1 lost its disk and met n2 first, who knew of no earlier life of anybody."""
    cluster = Apart(3, sloppy=False, max_hints=0)
    cluster.run(4.0)
    written = cluster.put("n1", b"k", b"value")
    cluster.kill("n3")
    cluster.lose_disk("n1")
    cluster.heal()
    cluster.run(4.0)
    read = cluster.read("n1", b"k")

    assert isinstance(written, Refused) or isinstance(read, Refused)

    cluster.restart("n3")
    cluster.run_until_level()

    assert not isinstance(cluster.put("n1", b"k", b"value", w=3), Refused)


def test_a_member_that_does_not_come_keeps_a_new_cluster_waiting_until_it_is_removed():
    cluster = Apart(3, sloppy=False)
    cluster.run(4.0)
    refused = cluster.read("n1", b"k")
    cluster.ask("n1", RemoveMember(id="n2"))
    cluster.run(20.0)

    assert isinstance(refused, Refused)
    assert isinstance(cluster.put("n1", b"k", b"value"), Written)
    assert cluster.get("n3", b"k") == b"value"


def test_a_new_node_that_has_met_nobody_answers_no_reads_and_a_new_cluster_does():
    cluster = Leaderless(3, r=1, w=3)
    first = cluster.read("n1", b"k")
    cluster.put("n1", b"k", b"value")
    cluster.lose_disk("n3")
    cluster.isolate("n3")
    cluster.run(4.0)

    assert isinstance(first.content, Missing)
    assert isinstance(cluster.read("n3", b"k", sloppy=False), Refused)


def test_a_read_repairs_the_replica_that_is_behind():
    cluster = Leaderless(3, anti_entropy_s=1000.0, max_hints=0)
    cluster.put("n1", b"k", b"old", w=3)
    cluster.isolate("n3")
    cluster.run(4.0)
    cluster.put("n1", b"k", b"new", w=2, sloppy=False)
    cluster.heal()
    cluster.run(2.0)
    before = cluster.held("n3")
    cluster.ask("n1", Read(query=Get(key=b"k"), consistency=Consistency.EVENTUAL, r=3))
    cluster.run(1.0)

    assert before == {b"k": b"old"}
    assert cluster.held("n3") == {b"k": b"new"}
    assert cluster.ask("n3", Inspect()).repaired_keys == 1


@pytest.mark.parametrize("who", ["n1", "n3"])
def test_what_repair_brings_is_counted_where_it_comes_in_whoever_began(who):
    cluster = Leaderless(3, anti_entropy_s=1000.0)
    for key in KEYS:
        cluster.put("n1", key, b"value", w=3)
    cluster.lose_disk("n3")
    cluster.run(2.0)
    cluster.ask(who, Repair())
    cluster.run(1.0)

    assert cluster.ask("n3", Inspect()).repaired_keys == len(KEYS)
    assert cluster.ask("n1", Inspect()).repaired_keys == 0


def test_states_survive_the_wire_between_replicas_unchanged():
    cluster = Leaderless(3, conflicts="siblings")
    for node in cluster.machines:
        cluster.put(node, b"k", node.encode(), w=3)
    states = {encode_state(cluster.replica(node).contents()[b"k"]) for node in cluster.machines}

    assert len(states) == 1
    assert cluster.get("n1", b"k", r=1) == [b"n1", b"n2", b"n3"]


# -- what was seen


def test_a_write_that_was_seen_and_deleted_is_not_made_again():
    """Its coordinator is slow to reach the third replica, which hears of the deletion first."""
    cluster = Leaderless(3, sloppy=False, replica_timeout_s=30.0, anti_entropy_s=1000.0)
    cluster.network.slow("n1", "n3", 1000.0)
    writing = cluster.submit("n1", cluster.written(b"k", b"A", w=3), 20.0)
    cluster.run(0.5)
    seen = cluster.get("n2", b"k")
    deleted = cluster.delete("n2", b"k")
    gone = cluster.get("n2", b"k")
    cluster.await_outcome(writing)
    cluster.run(5.0)

    assert (seen, gone) == (b"A", None)
    assert isinstance(deleted.results[0], StampedDelete)
    assert [cluster.get(name, b"k") for name in cluster.machines] == [None, None, None]
    assert isinstance(writing.outcome, Unknown)


def overtaken_at_n3(w):
    """What becomes of a write that ``n1`` and ``n2`` come to show, and ``n3`` does not, as another was there first."""
    cluster = Leaderless(3, sloppy=False, replica_timeout_s=30.0, anti_entropy_s=1000.0)
    to_n2 = cluster.cut(["n1"], ["n2"], both=False)
    from_n3 = cluster.cut(["n3"], ["n1", "n2"], both=False)
    writing = cluster.submit("n1", cluster.written(b"k", b"A", w=w), 20.0)
    later = cluster.submit("n3", cluster.written(b"k", b"B", w=3), 20.0)
    cluster.run(0.1)
    cluster.heal(from_n3[:1])  # first n1 hears that n3 has a later one
    cluster.run(0.1)
    before = writing.outcome
    cluster.heal(to_n2)  # then that n2 has come to show its own
    cluster.run(0.1)
    cluster.heal()
    cluster.run_until(lambda: writing.outcome is not None and later.outcome is not None)
    cluster.run(1.0)

    assert before is None
    assert isinstance(later.outcome, Written)
    assert [cluster.held(name) for name in cluster.machines] == [{b"k": b"B"}] * 3
    return writing.outcome


def test_a_write_that_w_replicas_came_to_show_is_done_although_a_concurrent_one_was_first_at_the_third():
    assert isinstance(overtaken_at_n3(w=2), Written)


def test_a_write_that_fewer_than_w_replicas_came_to_show_is_not_called_done():
    assert isinstance(overtaken_at_n3(w=3), Unknown)
