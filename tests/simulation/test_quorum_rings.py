"""Leaderless clusters whose ring changes: who is waited for, what moves, and what is not missed meanwhile."""

from unittest import mock

import pytest

from raftkv.core.errors import Refused
from raftkv.core.requests import AddMember, RemoveMember, StoreHere
from raftkv.core.results import StoredVersion
from raftkv.formats.gossip import Phase
from raftkv.instruments.sim.quorum import quorum_settings
from raftkv.quorum.membership.gossip import CHANGING
from raftkv.quorum.membership.members import Members
from raftkv.quorum.membership.ring import Ring, position
from tests.simulation.leaderless import KEYS, Leaderless, joining


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
