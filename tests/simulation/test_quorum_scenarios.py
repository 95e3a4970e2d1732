"""Leaderless clusters in situations that were once handled wrongly, or could be: clocks, disks, rings, hints."""

from unittest import mock

import pytest
from structlog.testing import capture_logs

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.requests import (
    AddMember,
    Configure,
    Consistency,
    Delete,
    Get,
    Inspect,
    List,
    Put,
    Read,
    RemoveMember,
    Repair,
    StoreHere,
    Write,
)
from raftkv.core.results import MembersChanged, Missing, StampedDelete, StampedPut, StoredVersion, Written
from raftkv.formats.gossip import MemberEntry, Phase
from raftkv.formats.versions import Version, encode_context, encode_state
from raftkv.http.handlers.cluster import unready
from raftkv.instruments.sim.disk import UNLIMITED
from raftkv.instruments.sim.quorum import entry_of, quorum_settings
from raftkv.quorum.data.versions import LastWriterWins
from raftkv.quorum.membership.gossip import CHANGING
from raftkv.quorum.membership.members import INVITED_S, Members
from raftkv.quorum.membership.ring import Ring, position
from tests.simulation.leaderless import Leaderless

KEYS = [b"key %d" % number for number in range(20)]


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


# -- rings


def joining(cluster, *names, via):
    """``names`` are let in by ``via``, then started."""
    told = {}
    for name in names:
        outcome = cluster.ask(via, AddMember(id=name, http=f"{name}:1", peer=f"{name}:2"))
        assert isinstance(outcome, MembersChanged)
        told[name] = [entry_of(one.id, Phase.JOINING if one.id == name else Phase.UP) for one in outcome.members]
    for name, members in told.items():
        cluster.mode.let_in(name, tuple(members))


def test_a_ring_change_that_not_everybody_knows_of_lets_the_others_sleep():
    cluster = Leaderless(4, members=3)
    cluster.pause("n3")
    joining(cluster, "n4", via="n1")
    cluster.run(1.0)
    due_s = [cluster.machines[name].process.work(cluster.now_s) for name in ("n1", "n2", "n4")]

    assert min(due_s) > cluster.now_s


def test_no_step_is_taken_while_a_live_member_has_not_heard_of_the_one_before():
    cluster = Leaderless(4, members=3)
    cluster.pause("n3")
    joining(cluster, "n4", via="n1")
    cluster.run(2.0)
    meanwhile = cluster.replica("n4").entries["n4"].phase
    cluster.resume("n3")
    cluster.run_until_level()

    assert meanwhile is Phase.JOINING
    assert cluster.replica("n3").entries["n4"].phase is Phase.UP


def test_a_write_that_comes_in_after_the_data_was_fetched_is_not_missed_when_reads_move():
    cluster = Leaderless(3, members=2, n=1, r=1, w=1, anti_entropy_s=1000.0)
    for key in KEYS:
        cluster.put("n1", key, b"old")
    joining(cluster, "n3", via="n1")
    cluster.run_until(lambda: cluster.replica("n3").entries["n3"].synced != "")
    before = cluster.replica("n1").entries["n3"].phase
    for key in KEYS:
        cluster.put("n1", key, b"new")
    cluster.run_until(lambda: cluster.replica("n2").entries["n3"].phase is Phase.UP)

    assert before is Phase.JOINING
    assert [cluster.get("n2", key, r=1) for key in KEYS] == [b"new"] * len(KEYS)


def key_of(owner, *others, later):
    """A key that is ``owner``'s among the ``others``, but not once ``later`` is there as well."""
    vnodes = quorum_settings().vnodes
    before = Ring(dict.fromkeys((owner, *others), ""), vnodes)
    after = Ring(dict.fromkeys((owner, *others, later), ""), vnodes)
    keys = (b"key %d" % number for number in range(1000))
    return next(
        key
        for key in keys
        if before.preference(position(key), 1)[0] == owner and after.preference(position(key), 1)[0] == later
    )


def test_a_write_while_two_nodes_join_is_not_missed_when_reads_move_to_one_of_them():
    """Found by seed 205935: of two that joined, the first to arrive was asked for what had gone to the second only."""
    cluster = Leaderless(3, members=1, n=1, r=1, w=1)
    key = key_of("n2", "n1", later="n3")
    cluster.isolate("n1")  # so that neither has linked up when the other one is invited
    cluster.run(5.0)
    with mock.patch.object(Members, "_lead_changes"):
        joining(cluster, "n2", "n3", via="n1")
        cluster.heal()
        newcomers = [cluster.replica(name).entries for name in ("n2", "n3")]
        cluster.run(5.0)
        synced = {entries[name].synced for entries in newcomers for name in ("n2", "n3")}
        cluster.put("n1", key, b"value")
    cluster.pause("n3")
    cluster.run_until(lambda: newcomers[0]["n2"].phase is Phase.SETTLING)

    assert synced == {newcomers[0]["n3"].synced}
    assert newcomers[0]["n3"].phase is Phase.JOINING
    assert cluster.read("n2", key).replicas == ("n2",)
    assert cluster.get("n2", key) == b"value"


def test_what_a_newcomer_had_fetched_before_it_was_let_go_counts_for_nothing_when_it_joins_again():
    cluster = Leaderless(2, members=1, n=1, r=1, w=1)
    with mock.patch.object(Members, "_lead_changes"):
        joining(cluster, "n2", via="n1")
        entries = cluster.replica("n2").entries
        cluster.run_until(lambda: entries["n2"].synced == entries["n1"].view != "")
    cluster.isolate("n2")
    cluster.run(5.0)
    phase = cluster.replica("n1").entries["n2"].phase
    cluster.ask("n1", RemoveMember(id="n2"))
    for key in KEYS:
        cluster.put("n1", key, b"value")
    cluster.ask("n1", AddMember(id="n2", http="n2:1", peer="n2:2"))
    cluster.heal()
    cluster.run_until(lambda: entries["n2"].phase is not Phase.JOINING)

    assert phase is Phase.JOINING
    assert [cluster.get("n2", key) for key in KEYS] == [b"value"] * len(KEYS)


def test_a_node_that_lost_its_disk_does_not_claim_to_have_seen_what_it_forgot():
    cluster = Leaderless(3, n=2, r=1, w=1, conflicts="siblings")
    key = next(key for key in KEYS if set(cluster.replica("n1").owners(key)) == {"n1", "n2"})
    cluster.put("n1", key, b"before", w=2)
    cluster.cut(["n1"], ["n2"])
    cluster.lose_disk("n1")
    cluster.run(4.0)
    cluster.put("n1", key, b"after", w=1, sloppy=False)
    cluster.heal()
    cluster.run_until_level()

    assert cluster.get("n2", key, r=2) == [b"before", b"after"]


def test_a_node_is_not_in_until_it_has_asked_who_alone_has_the_data():
    cluster = Leaderless(3, members=2, n=1, r=1, w=1)
    for key in KEYS:
        cluster.put("n1", key, b"value")
    cluster.cut(["n3"], ["n2"])
    joining(cluster, "n3", via="n1")
    cluster.run(10.0)

    assert cluster.replica("n1").entries["n3"].phase is Phase.JOINING
    assert [cluster.get("n1", key, r=1) for key in KEYS] == [b"value"] * len(KEYS)

    cluster.heal()
    cluster.run_until_level()

    assert cluster.replica("n1").entries["n3"].phase is Phase.UP
    assert [cluster.get("n3", key, r=1) for key in KEYS] == [b"value"] * len(KEYS)


def test_how_far_a_transfer_is_shows_while_one_peer_is_still_sending():
    cluster = Leaderless(3, members=1, n=1, r=1, w=1, transfer_bytes_per_s=1 << 10)
    for key in KEYS:
        cluster.put("n1", key, bytes(200))
    joining(cluster, "n2", via="n1")

    def transfer():
        cluster.run(0.05)
        return cluster.machines["n2"].process.status().transfer

    seen = [transfer() for _ in range(400)]
    moving = [each for each in seen if each is not None and each.keys]

    assert seen[-1] is None
    assert len({each.keys for each in moving}) > 2
    assert len({each.bytes for each in moving}) > 2
    assert moving[0].ranges_done < moving[0].ranges


def test_a_dead_member_is_removed_without_being_waited_for():
    cluster = Leaderless(4, n=2, r=1, w=2)
    for key in KEYS:
        cluster.put("n1", key, b"value")
    cluster.kill("n4")
    cluster.run(1.0)
    cluster.ask("n1", RemoveMember(id="n4"))
    cluster.run_until_level()

    assert cluster.replica("n1").entries["n4"].phase is Phase.LEFT
    assert [cluster.get("n3", key, r=1) for key in KEYS] == [b"value"] * len(KEYS)


def test_a_member_that_is_cut_off_is_waited_for_so_that_it_never_acts_on_rings_two_steps_behind():
    """Found by seed 4382: back again, and before it heard of the change, it read from an owner of before."""
    cluster = Leaderless(4, members=3)
    cluster.isolate("n3")
    joining(cluster, "n4", via="n1")
    cluster.run(20.0)

    assert cluster.replica("n1").entries["n4"].phase is Phase.JOINING

    cluster.heal()
    cluster.run_until_level()

    assert cluster.replica("n3").entries["n4"].phase is Phase.UP


def test_a_member_says_that_it_acts_on_a_ring_once_it_would_not_forget_it():
    cluster = Leaderless(4, members=3, flush_s=0.1)
    joining(cluster, "n4", via="n1")
    entries = cluster.replica("n1").entries
    cluster.run_until(lambda: entries["n2"].view == entries["n1"].view)
    said = entries["n2"].view
    cluster.kill("n2", power=True)
    cluster.isolate("n2")
    cluster.restart("n2")

    assert cluster.replica("n2").entries["n2"].view == said


def key_that_moves(cluster, to, leaver):
    """A key that ``to`` is not to have, but is once ``leaver`` is gone."""
    before = Ring(dict.fromkeys(cluster.machines, ""), cluster.mode.settings.vnodes)
    after = Ring(dict.fromkeys(cluster.machines.keys() - {leaver}, ""), cluster.mode.settings.vnodes)

    def moves(key):
        return to in {*after.preference(position(key), 3)[:3]} - {*before.preference(position(key), 3)[:3]}

    return next(key for key in (b"key %d" % number for number in range(1000)) if moves(key))


def test_a_member_that_gains_data_is_waited_for_although_it_is_away():
    cluster = Leaderless(4, anti_entropy_s=1000.0)
    key = key_that_moves(cluster, "n1", leaver="n2")
    for name in ("n2", "n3"):  # a write of w = 2 whose third message was lost
        cluster.ask(name, StoreHere(key=key, value=b"value", counter=1, node="n2"))
    cluster.kill("n1")
    cluster.run(5.0)
    cluster.ask("n3", RemoveMember(id="n2"))
    cluster.run(20.0)
    meanwhile = cluster.replica("n3").entries["n2"].phase
    cluster.restart("n1")
    cluster.run_until(lambda: cluster.replica("n1").entries["n2"].phase is Phase.LEFT)
    cluster.isolate("n3")
    cluster.run(5.0)

    assert meanwhile is Phase.LEAVING
    assert cluster.held("n1")[key] == b"value"
    assert cluster.get("n4", key, r=2, sloppy=False) == b"value"


def test_a_member_does_not_leave_before_its_hints_are_handed_over():
    cluster = Leaderless(4, anti_entropy_s=1000.0)
    ring = Ring(dict.fromkeys(cluster.machines, ""), cluster.mode.settings.vnodes)
    orders = {key: ring.preference(position(key), 3) for key in KEYS}
    key = next(key for key, order in orders.items() if order[3] == "n2" and "n4" in order)
    cut = cluster.cut(["n2"], ["n4"])
    cluster.run(5.0)
    cluster.put("n2", key, b"value")
    cluster.ask("n1", RemoveMember(id="n2"))
    cluster.run(20.0)
    meanwhile = cluster.replica("n1").entries["n2"].phase
    cluster.heal(cut)
    cluster.run_until(lambda: cluster.replica("n1").entries["n2"].phase is Phase.LEFT)

    assert meanwhile is Phase.LEAVING
    assert cluster.held("n4") == {key: b"value"}


def test_a_member_that_is_waited_for_and_never_comes_back_can_be_removed_as_well():
    cluster = Leaderless(5)
    cluster.kill("n1")
    cluster.run(5.0)
    cluster.ask("n3", RemoveMember(id="n2"))
    cluster.run(20.0)
    meanwhile = cluster.replica("n3").entries["n2"].phase
    another = cluster.ask("n3", RemoveMember(id="n4"))
    cluster.ask("n3", RemoveMember(id="n1"))
    entries = cluster.replica("n3").entries
    cluster.run_until(lambda: CHANGING.isdisjoint(entry.phase for entry in entries.values()))

    assert meanwhile is Phase.LEAVING
    assert isinstance(another, Refused)
    assert (entries["n1"].phase, entries["n2"].phase) == (Phase.LEFT, Phase.LEFT)


@pytest.mark.parametrize("size", [2, 4])
def test_half_of_a_cluster_never_steps_a_ring_change(size):
    cluster = Leaderless(size, n=size // 2 + 1, r=1, w=1)
    names = list(cluster.machines)
    for name in names[size // 2 :]:
        cluster.kill(name)
    cluster.run(4.0)
    cluster.ask("n1", RemoveMember(id=names[-1]))
    cluster.run(20.0)

    assert cluster.replica("n1").entries[names[-1]].phase is Phase.LEAVING


def test_a_dead_member_of_two_is_replaced_under_its_own_name_and_can_then_be_removed():
    cluster = Leaderless(2, n=2, r=1, w=1)
    for key in KEYS:
        cluster.put("n1", key, b"value", w=2)
    cluster.lose_disk("n2")
    cluster.run_until_level()
    cluster.ask("n1", RemoveMember(id="n2"))
    cluster.run(5.0)

    assert cluster.mode.useful() == ("n1",)
    assert cluster.held("n1") == dict.fromkeys(KEYS, b"value")


def test_what_does_not_belong_to_a_node_is_handed_to_all_owners_before_it_is_forgotten():
    cluster = Leaderless(4, n=2, r=1, w=1)
    owners = cluster.replica("n1").owners(b"k")
    stranger = next(name for name in cluster.machines if name not in owners)
    cluster.isolate(owners[1])
    cluster.run(4.0)
    stored = cluster.ask(stranger, StoreHere(key=b"k", value=b"value"))
    cluster.run(10.0)

    assert isinstance(stored, StoredVersion)
    assert cluster.held(owners[0]) == {b"k": b"value"}
    assert cluster.held(stranger) == {b"k": b"value"}

    cluster.heal()
    cluster.run_until_level()

    assert cluster.held(owners[1]) == {b"k": b"value"}
    assert cluster.held(stranger) == {}


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


# -- members that have moved


def test_the_address_that_the_configuration_gives_a_member_holds_when_nobody_is_there_to_tell():
    cluster = Leaderless(3)
    cluster.run(2.0)
    for name, machine in cluster.machines.items():
        cluster.kill(name)
        machine.keeps.configured = tuple(MemberEntry(other, f"{other}:3", f"{other}:4") for other in cluster.machines)
    cluster.isolate("n1")
    cluster.restart("n1")
    alone = {entry.id: (entry.http, entry.peer) for entry in cluster.replica("n1").entries.values()}

    assert alone == {name: (f"{name}:3", f"{name}:4") for name in cluster.machines}


def test_where_a_member_says_that_it_is_counts_for_more_than_an_old_configuration():
    cluster = Leaderless(3)
    cluster.kill("n3")
    cluster.machines["n3"].keeps.configured = (entry_of("n1"), entry_of("n2"), MemberEntry("n3", "n3:3", "n3:4"))
    cluster.restart("n3")
    cluster.run(2.0)
    cluster.start_again("n1")
    cluster.run(2.0)

    assert {cluster.replica(name).entries["n3"].peer for name in cluster.machines} == {"n3:4"}


# -- who counts as a member


def test_a_newcomer_that_does_not_come_is_neither_listed_nor_asked_nor_counted():
    """Somebody lets a node in that is not there (or has not the secret), and one member is down."""
    cluster = Leaderless(4, members=3)
    cluster.isolate("n4")
    cluster.run(5.0)
    cluster.ask("n1", AddMember(id="n4", http="n4:1", peer="n4:2"))
    cluster.run(2.0)
    cluster.kill("n3")
    cluster.run(1.0)
    outcomes = [cluster.put("n1", key, b"value") for key in KEYS]
    status = cluster.replica("n1").status()

    assert all(isinstance(outcome, Written) for outcome in outcomes)
    assert [member.id for member in status.members] == ["n1", "n2", "n3"]
    assert "n4" not in cluster.replica("n2").entries
    assert unready(status, 0.0) is None


def test_a_newcomer_is_let_in_once_it_has_linked_up_however_late():
    cluster = Leaderless(4, members=3)
    cluster.isolate("n4")
    cluster.run(5.0)
    joining(cluster, "n4", via="n1")
    cluster.run(20.0)
    cluster.heal()
    cluster.run_until_level()

    assert cluster.replica("n2").entries["n4"].phase is Phase.UP


def test_whoever_was_awaited_in_vain_is_forgotten_or_let_go_by_name():
    cluster = Leaderless(4, members=3)
    for way in ("time", "name"):
        cluster.isolate("n4")
        cluster.run(5.0)
        cluster.ask("n1", AddMember(id="n4", http="n4:1", peer="n4:2"))
        if way == "time":
            cluster.run(INVITED_S + 1.0)
        else:
            assert isinstance(cluster.ask("n1", RemoveMember(id="n4")), MembersChanged)
        cluster.heal()
        cluster.run(5.0)
        assert "n4" not in cluster.replica("n1").entries


def test_nobody_is_let_go_without_whom_a_quorum_is_lost():
    cluster = Leaderless(3)
    first = cluster.ask("n1", RemoveMember(id="n3"))
    cluster.run(20.0)
    second = cluster.ask("n1", RemoveMember(id="n2"))
    cluster.run(5.0)

    assert isinstance(first, MembersChanged)
    assert isinstance(second, Refused)
    assert "w = 2" in second.detail
    assert cluster.replica("n2").entries["n2"].phase is Phase.UP


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2, 1)])
def test_members_that_let_each_other_go_at_once_do_not_all_leave(sizes):
    n, r, w = sizes
    names = ["n1", "n2", "n3"][: max(r, w) + 1]
    cluster = Leaderless(len(names), n=n, r=r, w=w)
    for key in KEYS:
        cluster.put("n1", key, b"value")
    told = [
        cluster.submit(name, RemoveMember(id=other)) for name, other in zip(names, [*names[1:], names[0]], strict=True)
    ]
    cluster.run(20.0)
    left = cluster.mode.useful()

    assert all(isinstance(pending.outcome, MembersChanged) for pending in told)
    assert len(left) >= max(r, w)
    assert [cluster.get(left[0], key) for key in KEYS] == [b"value"] * len(KEYS)


def test_nobody_is_let_go_who_may_be_the_last_replica_of_a_key():
    cluster = Leaderless(5, n=2, r=1, w=1)
    cluster.kill("n4")
    cluster.kill("n5")
    cluster.run(4.0)
    refused = cluster.ask("n1", RemoveMember(id="n5"))
    cluster.restart("n4")
    cluster.run(4.0)
    taken = cluster.ask("n1", RemoveMember(id="n5"))

    assert isinstance(refused, Refused)
    assert "n4, n5 cannot be reached" in refused.detail
    assert isinstance(taken, MembersChanged)


@pytest.mark.parametrize("sloppy", [True, False])
def test_a_node_is_ready_when_every_key_has_its_quorum_and_only_then(sloppy):
    cluster = Leaderless(5, sloppy=sloppy)
    cluster.kill("n4")
    cluster.kill("n5")
    cluster.run(1.0)
    outcomes = [isinstance(cluster.put("n1", key, b"value"), Written) for key in KEYS]
    reason = unready(cluster.replica("n1").status(), 0.0)

    assert (reason is None) == sloppy == all(outcomes)
    assert sloppy or "3 of 5 members are reachable" in reason[1]


def test_a_node_is_not_ready_while_who_joins_cannot_be_reached_and_writes_wait_for_it():
    cluster = Leaderless(4, members=3, anti_entropy_s=1000.0)
    for key in KEYS:
        cluster.put("n1", key, b"value")
    cluster.pause("n3")
    joining(cluster, "n4", via="n1")
    cluster.run(1.0)
    cluster.isolate("n4")
    cluster.isolate("n3")
    cluster.run(1.0)
    outcomes = [isinstance(cluster.put("n1", key, b"value"), Written) for key in KEYS]

    assert not all(outcomes)
    assert "no quorum for" in unready(cluster.replica("n1").status(), 0.0)[1]


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
