"""What nodes of a leaderless cluster know of its members: silence is told from absence, and one life from the next."""

import itertools

import pytest

from raftkv.core.status import MemberState
from raftkv.formats.gossip import (
    MEMBERS_LIMIT,
    AgreedSizes,
    Delta,
    MemberEntry,
    Phase,
    Remembered,
    decode_remembered,
    encode_remembered,
)
from raftkv.quorum.membership.gossip import LEFT_LIMIT
from tests.unit.memberships import NAMES, SIZES, all_meet, entry_of, make_cluster, make_membership, meet

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
