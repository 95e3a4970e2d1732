"""Gossip: whatever is lost, doubled or late, nodes that exchanged everything agree."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.formats.gossip import AgreedSizes, Delta, Digest, MemberEntry, Phase
from raftkv.formats.peers import MalformedMessageError
from raftkv.formats.quorum_messages import Gossip, decode, encode, frame
from raftkv.quorum.membership.gossip import merged
from tests.unit.memberships import NAMES, SIZES, all_meet, entry_of, make_cluster, make_membership, meet

few = st.integers(0, 2)
texts = st.sampled_from(["", "a", "b"])
entries_of_one = st.builds(
    MemberEntry,
    st.just("n1"),
    texts,
    texts,
    texts,
    generation=few,
    heartbeat=few,
    view=texts,
    synced=texts,
    phase=st.sampled_from(Phase),
    phase_version=few,
)


def without_heartbeats(node):
    return {name: msgspec.structs.replace(entry, heartbeat=0) for name, entry in node.entries.items()}


def assert_agreed(nodes):
    first, *others = nodes
    for other in others:
        assert without_heartbeats(other) == without_heartbeats(first)
        assert other.sizes == first.sizes


# -- merging


@given(entries_of_one, entries_of_one, entries_of_one)
def test_entries_merge_to_the_same_in_whatever_order_and_however_often(a, b, c):
    assert merged(a, a) == a
    assert merged(a, b) == merged(b, a)
    assert merged(merged(a, b), c) == merged(a, merged(b, c))


def test_a_phase_that_another_node_set_stands_beside_newer_word_of_the_member_itself():
    removed = entry_of("n2", generation=5, phase=Phase.LEAVING, phase_version=3)
    restarted = entry_of("n2", generation=9, heartbeat=40, view="v", phase=Phase.UP, phase_version=2)

    assert merged(removed, restarted) == msgspec.structs.replace(restarted, phase=Phase.LEAVING, phase_version=3)


changes = st.one_of(
    st.tuples(st.just("gossip"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("deliver"), st.integers(0, 50), st.booleans()),
    st.tuples(st.just("lose"), st.integers(0, 50)),
    st.tuples(st.just("move"), st.sampled_from(NAMES), st.sampled_from((*NAMES, "n9")), st.sampled_from(Phase)),
    st.tuples(st.just("add"), st.sampled_from(NAMES), st.sampled_from(["n7", "n8"]), texts),
    st.tuples(st.just("say"), st.sampled_from(NAMES), texts),
    st.tuples(st.just("sizes"), st.sampled_from(NAMES), few, st.integers(1, 5)),
)


def change(nodes, step):
    """One step of a history at one node; steps that make no sense there do nothing."""
    match step:
        case ("move", at, member, phase) if member in nodes[at].entries:
            nodes[at].move(member, phase)
        case ("add", at, member, address):
            held = nodes[at].entries.get(member)
            if held is None or held.phase is Phase.LEFT:
                nodes[at].add(MemberEntry(member, address, address, address), 0.0)
        case ("say", at, view):
            nodes[at].say(view=view, synced=view)
        case ("sizes", at, counter, n):
            nodes[at].set_sizes(AgreedSizes(counter, at, n, 1, 1))


@settings(max_examples=300)
@given(st.lists(changes, max_size=60))
def test_nodes_that_exchanged_everything_agree_whatever_was_lost_doubled_or_late(history):
    """``n9`` never speaks for itself, so what two nodes decide about it at once must be settled by gossip alone."""
    nodes = {name: make_membership(name, [*map(entry_of, NAMES), entry_of("n9")]) for name in NAMES}
    waiting = []
    for step in history:
        match step:
            case ("gossip", at, peer):
                waiting += [(at, *sent) for sent in nodes[at].tick([peer])]
            case ("deliver", place, again) if waiting:
                sender, receiver, message = waiting[place % len(waiting)]
                if not again:
                    del waiting[place % len(waiting)]
                waiting += [(receiver, *sent) for sent in nodes[receiver].heard(sender, message, 0.0)]
            case ("lose", place) if waiting:
                del waiting[place % len(waiting)]
            case _:
                change(nodes, step)
    all_meet(list(nodes.values()))

    assert_agreed(nodes.values())


# -- exchanges


def test_a_node_that_knows_one_address_learns_of_all_members_in_one_exchange():
    cluster = make_cluster()
    joiner = make_membership("n4", [entry_of("n1")])
    cluster["n1"].add(entry_of("n4"), 0.0)

    meet(joiner, cluster["n1"])

    assert set(joiner.entries) == {"n1", "n2", "n3", "n4"}
    assert joiner.own.phase is Phase.JOINING
    assert cluster["n1"].entries["n4"].generation == joiner.own.generation


def test_an_exchange_goes_both_ways():
    cluster = make_cluster()
    cluster["n1"].move("n3", Phase.LEAVING)
    cluster["n2"].say(view="ring", synced="")

    meet(cluster["n1"], cluster["n2"])

    assert cluster["n2"].entries["n3"].phase is Phase.LEAVING
    assert cluster["n1"].entries["n2"].view == "ring"


def test_a_digest_that_says_nothing_new_is_not_answered():
    cluster = make_cluster(("n1", "n2"))
    all_meet(list(cluster.values()))
    [(_, digest)] = cluster["n1"].tick(["n2"])
    [(_, delta)] = cluster["n2"].heard("n1", digest, 0.0)
    [(_, answer)] = cluster["n1"].heard("n2", delta, 0.0)
    cluster["n2"].heard("n1", answer, 0.0)

    assert cluster["n2"].heard("n1", digest, 0.0) == []


def test_two_nodes_that_move_a_dead_member_at_once_settle_on_the_later_phase():
    cluster = make_cluster()
    cluster["n1"].move("n3", Phase.DEPARTING)
    cluster["n2"].move("n3", Phase.LEFT)

    meet(cluster["n1"], cluster["n2"])

    assert cluster["n1"].entries["n3"].phase is Phase.LEFT
    assert cluster["n2"].entries["n3"].phase is Phase.LEFT


def test_two_places_of_one_version_are_settled_however_far_the_member_itself_has_gone_on():
    one, other = make_membership("a"), make_membership("b")
    member = entry_of("c", generation=5)
    one.heard("b", Delta((msgspec.structs.replace(member, phase=Phase.JOINING, heartbeat=9),), SIZES), 0.0)
    other.heard("a", Delta((msgspec.structs.replace(member, heartbeat=3),), SIZES), 0.0)
    meet(one, other)

    assert one.entries["c"] == other.entries["c"]
    assert one.entries["c"].phase is Phase.UP


def test_a_node_alone_has_nobody_to_gossip_to():
    node = make_membership("n1")

    assert node.tick(["n1"]) == []
    assert node.own.heartbeat == 1


def test_every_live_peer_is_gossiped_to_sooner_or_later_and_no_other():
    node = make_membership("n1", map(entry_of, ("n2", "n3", "n4")))
    asked = [peer for _ in range(100) for peer, _ in node.tick(["n1", "n2", "n3"])]

    assert set(asked) == {"n2", "n3"}
    assert len(asked) == 100


def test_the_sizes_with_the_highest_stamp_hold_everywhere():
    cluster = make_cluster()
    cluster["n1"].set_sizes(AgreedSizes(7, "n1", 3, 1, 3))
    cluster["n2"].set_sizes(AgreedSizes(7, "n2", 3, 3, 1))
    cluster["n3"].set_sizes(AgreedSizes(6, "n3", 5, 5, 5))
    all_meet(list(cluster.values()))

    assert {node.sizes for node in cluster.values()} == {AgreedSizes(7, "n2", 3, 3, 1)}


def test_sizes_of_an_older_stamp_change_nothing():
    node = make_membership("n1", sizes=AgreedSizes(7, "n2", 3, 3, 1))
    node.set_sizes(AgreedSizes(7, "n1", 5, 5, 5))

    assert node.sizes == AgreedSizes(7, "n2", 3, 3, 1)


def test_messages_survive_the_wire():
    cluster = make_cluster()
    [(_, digest)] = cluster["n1"].tick(["n2"])
    [(_, delta)] = cluster["n2"].heard("n1", digest, 0.0)

    assert isinstance(digest, Digest)
    assert isinstance(delta, Delta)
    assert decode(frame([encode(Gossip(digest)), encode(Gossip(delta))])) == (Gossip(digest), Gossip(delta))


def test_a_phase_nobody_knows_is_a_malformed_message():
    payload = frame([encode(Gossip(Delta((entry_of("n1"),), SIZES)))])

    with pytest.raises(MalformedMessageError):
        decode(payload.replace(b"\xa2up", b"\xa2no"))


def test_gossip_about_a_hundred_members_stays_small():
    names = [f"node-{number:03}" for number in range(100)]
    generation = 1_767_225_600_000
    known = [
        MemberEntry(
            name, "192.168.100.100:8001", "192.168.100.100:9001", "zone-a", generation, 43_200, "0" * 17, "0" * 17
        )
        for name in names
    ]
    node = make_membership("node-000", known, generation=generation + 1)
    stranger = make_membership("n1", generation=generation)
    [(_, digest)] = node.tick(["n1"])
    [(_, wish)] = stranger.heard("node-000", digest, 0.0)
    [(_, everything)] = node.heard("n1", wish, 0.0)

    assert len(everything.entries) == 100
    assert len(encode(Gossip(digest))) < 3_300
    assert len(encode(Gossip(everything))) < 13_000
