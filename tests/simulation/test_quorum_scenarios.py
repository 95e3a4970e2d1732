"""Leaderless clusters in situations that were handled wrongly, or could be: clocks, sizes, disks, hints, silence."""

from structlog.testing import capture_logs

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.requests import Configure, Consistency, Get, Inspect, List, Read, RemoveMember, StoreHere
from raftkv.core.results import StampedDelete, Written
from raftkv.formats.gossip import Phase
from raftkv.formats.versions import Version, encode_context
from raftkv.instruments.sim.disk import UNLIMITED
from raftkv.quorum.data.versions import LastWriterWins
from tests.simulation.leaderless import KEYS, Leaderless, joining

# -- clocks


def hold_wild_version(cluster, node, key):
    """Let ``node`` hold a version an hour ahead, as from a time when its own clock was believed; its counter."""
    version = Version(cluster.machines[node].wall_us() + 3_600_000_000, node, b"wild")
    store = cluster.replica(node).store
    store.stage(key, LastWriterWins().write(None, version, ()))
    store.commit()
    return version.counter


def test_a_wild_clock_drags_no_other_along_by_writes_hints_or_exchanges():
    cluster = Leaderless(3, clock_ahead_s=5.0)
    wild = hold_wild_version(cluster, "n1", b"k")
    cluster.run(10.0)
    sane = cluster.put("n2", b"other", b"sane", w=2)

    assert sane.results[0].revision < wild - 3_000_000_000
    assert b"k" not in cluster.held("n2")
    assert b"k" not in cluster.held("n3")
    assert cluster.get("n1", b"k", r=1) == b"wild"


def test_a_version_of_a_wild_clock_does_not_keep_other_keys_from_being_exchanged():
    cluster = Leaderless(2, n=2, r=1, w=1, clock_ahead_s=5.0, max_hints=0, vnodes=1)
    hold_wild_version(cluster, "n1", b"k")
    cluster.isolate("n1")
    cluster.run(4.0)
    for key in KEYS:
        cluster.put("n2", key, b"sane", w=1)
    cluster.heal()
    cluster.run(10.0)

    assert cluster.held("n1") == {b"k": b"wild", **dict.fromkeys(KEYS, b"sane")}
    assert cluster.held("n2") == dict.fromkeys(KEYS, b"sane")


def test_a_write_comes_after_everything_that_its_context_has_seen():
    cluster = Leaderless(1, n=1, r=1, w=1, conflicts="siblings", clock_ahead_s=60.0)
    cluster.put("n1", b"k", b"first")
    (state,) = cluster.replica("n1").contents().values()
    _, counter = state.seen[0]
    ahead = encode_context(type(state)(state.versions, (("another", counter + 30_000_000),)))
    second = cluster.put("n1", b"k", b"second", context=ahead)

    assert second.results[0].revision > counter + 30_000_000


def test_a_context_from_the_future_is_refused():
    cluster = Leaderless(1, n=1, r=1, w=1, conflicts="siblings", clock_ahead_s=60.0)
    cluster.put("n1", b"k", b"value")
    (state,) = cluster.replica("n1").contents().values()
    actor, counter = state.seen[0]
    forged = encode_context(type(state)(state.versions, ((actor, counter + 3_600_000_000),)))
    refused = cluster.put("n1", b"k", b"other", context=forged)
    after = cluster.put("n1", b"k", b"later")

    assert isinstance(refused, Refused)
    assert after.results[0].revision < counter + 60_000_000


def test_the_stamp_that_a_client_is_told_is_the_one_that_replicas_hold():
    cluster = Leaderless(3, conflicts="siblings")
    written = cluster.put("n1", b"k", b"value", w=3)
    (result,) = written.results

    for node in cluster.machines:
        assert cluster.replica(node).contents()[b"k"].newest == (result.revision, result.node)


# -- first sizes


def test_nodes_that_begin_with_other_sizes_take_no_part_with_each_other_and_say_which():
    """Until gossip had made one of them the winner, R + W > N failed across coordinators."""
    rules = {"n2": {"quorum.r": 1, "quorum.w": 3}, "n3": {"quorum.r": 1, "quorum.w": 1}}
    cluster = Leaderless(3, rules=rules, n=3, r=2, w=2, sloppy=False)
    written = cluster.put("n1", b"k", b"v")
    cluster.run(2.0)

    assert isinstance(written, Refused)
    assert [cluster.replica(node).sizes for node in cluster.machines] == [(3, 2, 2), (3, 1, 3), (3, 1, 1)]
    assert {peer.id: peer.misfit for peer in cluster.replica("n1").status().peers} == {
        "n2": "n2 has other rules: quorum.r 1 (here 2), quorum.w 3 (here 2)",
        "n3": "n3 has other rules: quorum.r 1 (here 2), quorum.w 1 (here 2)",
    }
    assert "quorum.w 1 (here 3)" in {peer.id: peer.misfit for peer in cluster.replica("n2").status().peers}["n3"]


def test_sizes_that_were_changed_reach_who_was_away_and_who_joins_although_all_begin_with_those_of_the_file():
    cluster = Leaderless(4, members=3, n=3, r=2, w=2)
    cluster.isolate("n3")
    cluster.ask("n1", Configure(n=2, r=1, w=2))
    cluster.run(2.0)
    cluster.start_again("n3")
    cluster.heal()
    cluster.run(3.0)
    joining(cluster, "n4", via="n1")
    cluster.run_until(lambda: cluster.replica("n1").entries["n4"].phase is Phase.UP)

    assert [cluster.replica(node).sizes for node in cluster.machines] == [(2, 1, 2)] * 4


# -- full disks


def test_a_write_that_finds_the_disk_full_is_unknown_and_the_next_is_refused():
    cluster = Leaderless(1, n=1, r=1, w=1)
    cluster.put("n1", b"k", b"old")
    cluster.machines["n1"].disk.limit_bytes = 10
    first = cluster.put("n1", b"k", b"new")
    second = cluster.put("n1", b"k", b"newer")

    assert isinstance(first, Unknown)
    assert second.code is Code.DISK_FULL
    assert not cluster.ask("n1", Inspect()).can_write
    assert cluster.get("n1", b"k", r=1) == b"old"


def test_a_replica_with_a_full_disk_goes_on_reading_and_takes_writes_again_when_there_is_room():
    cluster = Leaderless(3)
    cluster.put("n1", b"k", b"old", w=3)
    cluster.machines["n3"].disk.limit_bytes = 10
    meanwhile = cluster.put("n1", b"k", b"new", w=2)
    cluster.run(3.0)

    assert isinstance(meanwhile, Written)
    assert cluster.get("n3", b"k", r=2) == b"new"

    cluster.machines["n3"].disk.limit_bytes = UNLIMITED
    cluster.run_until_level()

    assert cluster.held("n3") == {b"k": b"new"}
    assert isinstance(cluster.put("n1", b"k", b"newest", w=3), Written)
    assert cluster.machines["n3"].lives_count == 1


def test_while_all_disks_are_nearly_full_writes_are_definitely_refused_and_it_is_logged_once():
    cluster = Leaderless(3, disk_reserve_bytes=1 << 20)
    with capture_logs() as lines:
        for machine in cluster.machines.values():
            machine.disk.limit_bytes = 1 << 19
        cluster.run(1.0)
        refused = [cluster.put("n1", key, b"value") for key in KEYS]
        for machine in cluster.machines.values():
            machine.disk.limit_bytes = UNLIMITED
        cluster.run(1.0)

    assert {outcome.code for outcome in refused} == {Code.DISK_FULL}
    assert isinstance(cluster.put("n1", b"k", b"value", w=3), Written)
    assert [line["event"] for line in lines] == ["disk full: writes are declined"] * 3 + ["disk has room again"] * 3


def test_deletions_use_the_reserve_of_a_full_disk_down_to_half_of_it():
    for conflicts in ("lww", "siblings"):
        deletions_on_a_full_disk(conflicts)


def deletions_on_a_full_disk(conflicts):
    cluster = Leaderless(3, disk_reserve_bytes=1 << 20, conflicts=conflicts)
    for key in KEYS[:3]:
        cluster.put("n1", key, bytes(100), w=3)

    def leave(free_bytes):
        for machine in cluster.machines.values():
            machine.disk.limit_bytes = machine.disk.used() + free_bytes
        cluster.run(1.0)

    leave(3 << 18)
    put, deleted = cluster.submit("n1", cluster.written(KEYS[3], b"value")), cluster.delete("n1", KEYS[0], w=3)
    cluster.run(1.0)
    leave(1 << 18)
    low = cluster.delete("n1", KEYS[1], w=3)

    assert isinstance(deleted, Written)
    assert isinstance(deleted.results[0], StampedDelete)
    assert put.outcome.code is low.code is Code.DISK_FULL
    assert cluster.get("n2", KEYS[0]) is None

    leave(UNLIMITED)

    assert isinstance(cluster.delete("n1", KEYS[1], w=3), Written)


def test_a_disk_that_stays_full_is_logged_once():
    cluster = Leaderless(1, n=1, r=1, w=1)
    with capture_logs() as lines:
        cluster.machines["n1"].disk.limit_bytes = 10
        cluster.put("n1", b"k", b"value")
        cluster.run(5.0)

    assert [(line["event"], line["reason"]) for line in lines] == [
        ("disk full: writes are declined", "no space left on the device")
    ]


def test_a_version_that_one_replica_is_given_directly_is_unknown_when_it_finds_the_disk_full():
    cluster = Leaderless(1, n=1, r=1, w=1)
    cluster.machines["n1"].disk.limit_bytes = 10
    outcome = cluster.ask("n1", StoreHere(key=b"k", value=b"v"))

    assert isinstance(outcome, Unknown)


def test_what_a_node_knows_of_the_members_is_remembered_although_the_disk_was_full_when_it_heard():
    cluster = Leaderless(3)
    cluster.machines["n3"].disk.limit_bytes = 10
    cluster.ask("n1", Configure(n=3, r=1, w=3))
    cluster.run(2.0)
    cluster.machines["n3"].disk.limit_bytes = UNLIMITED
    cluster.run(2.0)
    cluster.isolate("n3")
    cluster.start_again("n3")
    cluster.run(0.1)

    assert cluster.replica("n3").sizes == (3, 1, 3)


# -- hints


def test_hints_for_a_node_that_has_left_reach_the_new_owners():
    cluster = Leaderless(5, n=3, r=2, w=3, suspect_after_s=0.5)
    gone = cluster.replica("n1").owners(b"k")[0]
    via = next(name for name in cluster.machines if name != gone)
    cluster.kill(gone)
    cluster.run(1.0)
    written = cluster.put(via, b"k", b"value", w=3)
    cluster.ask(via, RemoveMember(id=gone))
    cluster.run_until_level()

    assert written.hinted == 1
    assert all(cluster.held(owner) == {b"k": b"value"} for owner in cluster.replica(via).owners(b"k"))


def test_a_hint_stays_until_the_node_that_it_is_for_has_it_on_its_disk():
    cluster = Leaderless(4, n=3, r=2, w=3, suspect_after_s=0.5)
    away = cluster.replica("n1").owners(b"k")[0]
    keeper = next(name for name in cluster.machines if name not in cluster.replica("n1").owners(b"k"))
    cluster.kill(away)
    cluster.run(1.0)
    cluster.put(keeper, b"k", b"value", w=3)
    cluster.machines[away].disk.limit_bytes = 10
    cluster.restart(away)
    cluster.run(8.0)

    assert cluster.replica(keeper).store.hint_count(away) == 1

    cluster.machines[away].disk.limit_bytes = UNLIMITED
    cluster.run_until_level()

    assert cluster.held(away) == {b"k": b"value"}
    assert cluster.replica(keeper).store.hint_count(away) == 0


# -- who is silent


def test_a_request_ends_once_too_few_answer_in_time():
    """The links to the others stand still for seconds after the network was cut."""
    cluster = Leaderless(3, sloppy=False)
    cluster.put("n1", b"k", b"value", w=3)
    cluster.isolate("n3")
    began_s = cluster.now_s
    write = cluster.submit("n3", cluster.written(b"k", b"new"), 20.0)
    read = cluster.submit("n3", Read(query=Get(key=b"k"), consistency=Consistency.EVENTUAL), 20.0)
    page = cluster.submit("n3", Read(query=List(start=b"", end=None, limit=10), consistency=Consistency.EVENTUAL), 20.0)
    cluster.run_until(lambda: all(pending.outcome is not None for pending in (write, read, page)))

    assert cluster.now_s - began_s < 2 * cluster.mode.settings.replica_timeout_s
    assert isinstance(write.outcome, Unknown)
    assert read.outcome.code is page.outcome.code is Code.QUORUM_UNREACHABLE


def test_clients_go_on_at_once_behind_a_fresh_partition_and_after_it():
    cluster = Leaderless(3, sloppy=False)
    cluster.put("n1", b"k", b"value", w=3)
    cluster.isolate("n3")
    cluster.put("n3", b"k", b"first", w=3)
    began_s = cluster.now_s
    refused = [cluster.put("n3", key, b"value") for key in KEYS]
    taken = [cluster.put("n1", key, b"value") for key in KEYS]
    codes = {outcome.code for outcome in refused}

    assert cluster.now_s - began_s < 1.0
    assert codes == {Code.QUORUM_UNREACHABLE}
    assert all("none was asked" in outcome.detail for outcome in refused)
    assert all(isinstance(outcome, Written) for outcome in taken)

    cluster.heal()
    cluster.run(5.0)

    assert isinstance(cluster.put("n3", b"k", b"later", w=3), Written)
