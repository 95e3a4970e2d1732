"""Gossip: whatever is lost, doubled or late, all come to know the same, and silence is told from absence."""

import itertools
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.core.status import MemberState
from raftkv.formats.gossip import (
    MEMBERS_LIMIT,
    AgreedSizes,
    Delta,
    Digest,
    MemberEntry,
    Phase,
    Remembered,
    decode_remembered,
    encode_remembered,
)
from raftkv.formats.peers import MalformedMessageError
from raftkv.formats.quorum_messages import Gossip, decode, encode, frame
from raftkv.quorum.membership.gossip import LEFT_LIMIT, Membership, merged

NAMES = ("n1", "n2", "n3")
SIZES = AgreedSizes(0, "", 3, 2, 2)
SUSPECT_AFTER_S = 8.0
DOWN_AFTER_S = 30.0

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


def entry_of(name, **changes):
    number = name.removeprefix("n")
    return MemberEntry(name, f"10.0.0.{number}:8001", f"10.0.0.{number}:9001", **changes)


def make_membership(name, known=(), *, generation=1_000, seed=0, sizes=SIZES, now_s=0.0, **changes):
    return Membership(
        entry_of(name, generation=generation, **changes),
        known,
        sizes,
        suspect_after_s=SUSPECT_AFTER_S,
        down_after_s=DOWN_AFTER_S,
        now_s=now_s,
        random=Random(seed),
    )


def make_cluster(names=NAMES):
    return {name: make_membership(name, [entry_of(other) for other in names]) for name in names}


def meet(one, other, now_s=0.0):
    """One whole exchange that ``one`` begins, nothing lost."""
    nodes = {one.own.id: one, other.own.id: other}
    sender, sent = one.own.id, one.tick([other.own.id])
    for _ in range(4):
        if not sent:
            return
        [(receiver, message)] = sent
        sender, sent = receiver, nodes[receiver].heard(sender, message, now_s)
    pytest.fail("an exchange of two nodes goes on for ever")


def all_meet(nodes, now_s=0.0):
    for _ in nodes:
        for one, other in itertools.permutations(nodes, 2):
            meet(one, other, now_s)


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


# -- silence


def test_a_member_without_heartbeats_is_suspect_then_down_and_recovers_with_the_next():
    cluster = make_cluster()
    one, other = cluster["n1"], cluster["n2"]
    meet(other, one, now_s=10.0)
    seen = [one.state("n2", now_s) for now_s in (10.0, 18.0, 18.1, 40.0, 40.1)]
    meet(other, one, now_s=50.0)
    seen.append(one.state("n2", 50.0))

    up, suspect, down = MemberState.UP, MemberState.SUSPECT, MemberState.DOWN
    assert seen == [up, up, suspect, suspect, down, up]


def test_a_member_that_only_the_configuration_knows_was_never_heard():
    node = make_membership("a", [entry_of("b")])

    assert not node.was_heard("b")

    node.heard("c", Delta((entry_of("b", generation=1),), SIZES), 1.0)

    assert node.was_heard("b")


def test_heartbeats_count_by_whatever_way_they_come():
    cluster = make_cluster()
    meet(cluster["n3"], cluster["n2"], now_s=20.0)
    meet(cluster["n2"], cluster["n1"], now_s=20.0)

    assert not cluster["n1"].is_silent("n3", 21.0)


def test_old_news_is_no_sign_of_life():
    cluster = make_cluster()
    meet(cluster["n3"], cluster["n2"])
    meet(cluster["n3"], cluster["n1"])
    cluster["n2"].move("n3", Phase.LEAVING)
    meet(cluster["n2"], cluster["n1"], now_s=20.0)

    assert cluster["n1"].entries["n3"].phase is Phase.LEAVING
    assert cluster["n1"].is_silent("n3", 20.0)


def test_a_connection_is_a_sign_of_life():
    node = make_membership("n1", [entry_of("n2")])
    node.hear("n2", 100.0)

    assert node.heard_ago_s("n2", 103.0) == 3.0
    assert node.state("n2", 103.0) is MemberState.UP


def test_a_node_never_suspects_itself():
    node = make_membership("n1")

    assert not node.is_silent("n1", 1e9)
    assert node.state("n1", 1e9) is MemberState.UP


def test_a_member_that_cannot_be_heard_stays_a_member():
    node = make_membership("n1", [entry_of("n2")])

    assert node.state("n2", 1e9) is MemberState.DOWN
    assert set(node.in_phases(Phase.UP)) == {"n1", "n2"}


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (Phase.JOINING, MemberState.JOINING),
        (Phase.SETTLING, MemberState.JOINING),
        (Phase.UP, MemberState.UP),
        (Phase.LEAVING, MemberState.LEAVING),
        (Phase.DEPARTING, MemberState.LEAVING),
        (Phase.LEFT, MemberState.LEFT),
    ],
)
def test_a_live_member_shows_its_phase(phase, state):
    node = make_membership("n1", [entry_of("n2", phase=phase, phase_version=1)])

    assert node.state("n2", 1.0) is state
    assert [entry.id for entry in node.changing()] == ([] if phase in (Phase.UP, Phase.LEFT) else ["n2"])


# -- lives


def test_a_restarted_node_replaces_what_its_earlier_life_said():
    cluster = make_cluster()
    cluster["n2"].say(view="old", synced="old")
    meet(cluster["n2"], cluster["n1"])
    again = make_membership("n2", [entry_of("n1")], generation=2_000)

    meet(again, cluster["n1"])

    assert cluster["n1"].entries["n2"] == again.own
    assert again.own.synced == ""


def test_a_node_restarted_with_its_clock_set_back_outlives_its_earlier_life():
    """What it said then, such as having all its data, may not hold any more: it may have lost its disk."""
    cluster = make_cluster()
    cluster["n2"].say(view="ring", synced="ring")
    meet(cluster["n2"], cluster["n1"])
    again = make_membership("n2", generation=500)
    again.say(view="ring", synced="")
    meet(again, cluster["n1"])
    meet(again, cluster["n1"])

    assert again.own.generation == 1_001
    assert again.own.synced == ""
    assert cluster["n1"].entries["n2"] == again.own


def test_a_node_outlives_the_life_it_remembers():
    remembered = entry_of("n1", generation=9_000, heartbeat=7, synced="ring", phase=Phase.LEAVING, phase_version=4)
    node = make_membership("n1", [remembered, entry_of("n2")], generation=500)

    assert node.own.generation > 9_000
    assert node.own.synced == ""
    assert node.own.phase is Phase.LEAVING


def test_a_restart_with_another_zone_leaves_the_ring_as_it_is():
    node = make_membership("n1", [entry_of("n1", zone="a", generation=500)], zone="b")

    assert node.own.zone == "a"
    assert node.in_phases(Phase.UP) == {"n1": "a"}


def test_a_node_that_was_removed_while_it_was_away_sees_it_and_does_not_fight():
    cluster = make_cluster()
    cluster["n1"].move("n3", Phase.LEFT)
    meet(cluster["n1"], cluster["n2"])
    again = make_membership("n3", map(entry_of, NAMES), generation=2_000)

    meet(again, cluster["n2"])

    assert again.own.phase is Phase.LEFT
    assert cluster["n2"].entries["n3"].phase is Phase.LEFT


def test_old_gossip_does_not_bring_back_who_left():
    cluster = make_cluster()
    cluster["n1"].move("n3", Phase.LEFT)

    meet(cluster["n2"], cluster["n1"])

    assert cluster["n1"].state("n3", 0.0) is MemberState.LEFT
    assert cluster["n2"].state("n3", 0.0) is MemberState.LEFT


def test_a_node_that_left_may_come_back_elsewhere_and_nothing_it_said_before_holds():
    cluster = make_cluster()
    cluster["n3"].say(view="ring", synced="ring")
    all_meet(list(cluster.values()))
    cluster["n1"].move("n3", Phase.LEFT)

    cluster["n1"].add(MemberEntry("n3", "10.9.9.9:8001", "10.9.9.9:9001", "zone"), 0.0)
    meet(cluster["n1"], cluster["n2"])

    entry = cluster["n2"].entries["n3"]
    assert (entry.http, entry.peer, entry.zone) == ("10.9.9.9:8001", "10.9.9.9:9001", "zone")
    assert entry.phase is Phase.JOINING
    assert entry.synced == ""


def test_only_so_many_that_left_are_remembered():
    node = make_membership("n1")
    for number in range(LEFT_LIMIT + 10):
        name = f"gone-{number}"
        entry = MemberEntry(name, "", "", generation=number + 1, phase=Phase.LEFT, phase_version=2)
        node.heard("n2", Delta((entry,), SIZES), 0.0)

    assert set(node.entries) == {"n1", *(f"gone-{number}" for number in range(10, LEFT_LIMIT + 10))}


def test_only_so_many_members_are_taken_in():
    node = make_membership("n1")
    crowd = tuple(MemberEntry(f"node-{number}", "", "") for number in range(MEMBERS_LIMIT + 10))
    node.heard("n2", Delta(crowd, SIZES), 0.0)

    assert len(node.entries) == MEMBERS_LIMIT


# -- what is worth acting on


def test_the_version_grows_with_everything_but_heartbeats():
    cluster = make_cluster()
    all_meet(list(cluster.values()))
    node, versions = cluster["n1"], []

    def note():
        versions.append(node.version)

    note()
    meet(cluster["n2"], node)
    note()
    node.say(view="ring", synced="")
    note()
    node.say(view="ring", synced="")
    note()
    node.move("n2", Phase.LEAVING)
    note()
    node.set_sizes(AgreedSizes(1, "n1", 1, 1, 1))
    note()
    node.add(entry_of("n4"), 0.0)
    note()
    cluster["n3"].move("n3", Phase.LEAVING)
    meet(cluster["n3"], node)
    note()

    grew = [after > before for before, after in itertools.pairwise(versions)]
    assert grew == [False, True, False, True, True, True, True]


def test_what_is_remembered_survives_a_restart():
    cluster = make_cluster()
    cluster["n1"].move("n2", Phase.LEAVING)
    cluster["n1"].set_sizes(AgreedSizes(5, "n1", 3, 1, 3))
    kept = Remembered(tuple(cluster["n1"].entries.values()), cluster["n1"].sizes)

    found = decode_remembered(encode_remembered(kept))
    again = make_membership("n1", found.entries, sizes=found.sizes, generation=2_000)

    assert found == kept
    assert again.sizes == AgreedSizes(5, "n1", 3, 1, 3)
    assert again.entries["n2"].phase is Phase.LEAVING


def test_a_life_that_nobody_is_to_hear_of_is_shown_as_none():
    other = make_membership("n2", map(entry_of, NAMES), generation=1_000)
    hidden = make_membership("n1", map(entry_of, NAMES), generation=5_000)
    hidden.say(view="a", synced="a")
    hidden.is_hidden = True
    (_, digest), (_, news) = *hidden.tick(["n2"]), *hidden.news(["n2"])
    answers = hidden.heard("n2", other.tick(["n1"])[0][1], 0.0) + hidden.heard("n2", Delta((), SIZES, ("n1",)), 0.0)

    assert next(mark for mark in digest.marks if mark[0] == "n1")[1:3] == (0, 0)
    told = [entry for message in (news, *(message for _, message in answers)) for entry in message.entries]
    assert {(entry.generation, entry.view) for entry in told if entry.id == "n1"} == {(0, "")}

    hidden.is_hidden = False

    assert next(mark for mark in hidden.tick(["n2"])[0][1].marks if mark[0] == "n1")[1] == 5_000
