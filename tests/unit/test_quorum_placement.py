"""Where keys belong while the members change: reads and writes meet at every step, whoever is how far."""

import itertools

import pytest

from raftkv.formats.gossip import AgreedSizes, MemberEntry, Phase, Remembered, decode_remembered, encode_remembered
from raftkv.quorum.membership.placement import Placement
from raftkv.quorum.membership.ring import position

STAYING = ("n1", "n2", "n3", "n4")
KEYS = [b"key %d" % number for number in range(60)]

JOINS = (None, Phase.JOINING, Phase.SETTLING, Phase.UP)
LEAVES = (Phase.UP, Phase.LEAVING, Phase.DEPARTING, Phase.LEFT)
NO_ZONES = dict.fromkeys((*STAYING, "n5", "n6"), "")
ZONES = {"n1": "a", "n2": "a", "n3": "b", "n4": "b", "n5": "c", "n6": "a"}


def at(*, zones=NO_ZONES, version=1, staying=STAYING, **moving):
    """Where keys lie while those of ``moving`` are in these phases; ``None`` for who is no member yet."""
    phases = {**dict.fromkeys(staying, Phase.UP), **moving}
    members = [
        MemberEntry(name, f"{name}:1", f"{name}:2", zones[name], phase=phase, phase_version=version)
        for name, phase in phases.items()
        if phase is not None
    ]
    placement = Placement(8, is_usable=lambda _node: True)
    placement.update(members)
    return placement


def meet(writing, reading, key, sizes):
    """Does every read quorum of ``reading`` meet every write quorum of ``writing``?"""
    n, r, w = sizes
    targets = writing.targets(key, n, sloppy=False)
    missed = len(targets.asked) - (w + targets.besides_count)
    asked = set(reading.read_targets(key, n, sloppy=False).asked)
    return r > missed + len(asked.difference(targets.asked))


def one_step_apart(*changes):
    """Where each of ``changes`` stands for one node and for another, all pairs with no change two steps ahead."""
    steps = [(here, there) for here in range(4) for there in range(4) if abs(here - there) <= 1]
    for pairs in itertools.product(steps, repeat=len(changes)):
        yield (
            [change[here] for change, (here, _) in zip(changes, pairs, strict=True)],
            [change[there] for change, (_, there) in zip(changes, pairs, strict=True)],
        )


@pytest.mark.parametrize("zones", [NO_ZONES, ZONES])
@pytest.mark.parametrize("sizes", [(3, 2, 2), (3, 1, 3), (2, 2, 1), (1, 1, 1)])
@pytest.mark.parametrize("change", [JOINS, LEAVES])
def test_what_a_node_at_one_step_writes_is_met_by_what_nodes_one_step_on_or_back_read(change, sizes, zones):
    for (writer,), (reader,) in one_step_apart(change):
        writing, reading = at(n5=writer, zones=zones), at(n5=reader, zones=zones)

        assert all(meet(writing, reading, key, sizes) for key in KEYS)


@pytest.mark.parametrize("zones", [NO_ZONES, ZONES])
@pytest.mark.parametrize("sizes", [(3, 2, 2), (3, 1, 3), (2, 2, 1), (1, 1, 1)])
@pytest.mark.parametrize("changes", [(JOINS, JOINS), (JOINS, LEAVES), (LEAVES, LEAVES)])
def test_what_is_written_is_met_by_reads_while_two_members_are_on_their_way_at_once(changes, sizes, zones):
    """Found by seed 205935: of two that joined, the first to arrive was asked for what had gone to the second only."""
    for (writer5, writer6), (reader5, reader6) in one_step_apart(*changes):
        writing = at(n5=writer5, n6=writer6, zones=zones)
        reading = at(n5=reader5, n6=reader6, zones=zones)

        assert all(meet(writing, reading, key, sizes) for key in KEYS)


def test_without_a_change_nobody_is_asked_besides():
    placement = at()

    assert placement.others == ()
    assert all(placement.targets(key, 3, sloppy=False).besides_count == 0 for key in KEYS)


def test_each_node_that_a_key_moves_to_must_take_a_write_as_well():
    moving = at(n5=Phase.JOINING)
    future = at(n5=Phase.UP)
    for key in KEYS:
        now = set(moving.read_targets(key, 3, sloppy=False).asked)
        later = set(future.read_targets(key, 3, sloppy=False).asked)

        assert moving.targets(key, 3, sloppy=False).besides_count == len(later - now)


@pytest.mark.parametrize("zones", [NO_ZONES, ZONES])
def test_whoever_a_key_may_come_to_must_take_its_writes_whichever_of_those_on_their_way_arrive_first(zones):
    names = ("n3", "n4", "n5", "n6")
    moving = at(staying=("n1", "n2"), zones=zones, **dict.fromkeys(names, Phase.JOINING))
    arrivals = [arrived for count in range(5) for arrived in itertools.combinations(names, count)]
    futures = [at(staying=("n1", "n2", *arrived), zones=zones) for arrived in arrivals]
    for key in KEYS:
        owners = [set(future.read_targets(key, 2, sloppy=False).asked) for future in futures]

        assert set(moving.targets(key, 2, sloppy=False).asked) == set.union(*owners)


def test_views_are_equal_where_keys_are_placed_alike_and_differ_at_every_step():
    phases = [*JOINS, *LEAVES[1:]]
    views = {at(n5=phase).view for phase in phases}

    assert len(views) == len(phases) - 1
    assert at(n5=None).view == at(n5=Phase.LEFT).view
    assert at(n5=Phase.JOINING).view == at(n5=Phase.JOINING).view


def test_a_change_that_is_begun_again_is_another_one():
    assert at(n5=Phase.JOINING).view != at(n5=Phase.JOINING, version=3).view
    assert at(n5=Phase.UP).view == at(n5=Phase.UP, version=3).view


def test_a_view_has_room_in_an_entry_however_many_are_on_their_way():
    names = [f"m{number}" for number in range(100)]
    placement = at(zones=NO_ZONES | dict.fromkeys(names, ""), **dict.fromkeys(names, Phase.JOINING))
    entry = MemberEntry("n1", "n1:1", "n1:2", view=placement.view)

    assert decode_remembered(encode_remembered(Remembered((entry,), AgreedSizes(0, "", 3, 2, 2)))).entries == (entry,)


def test_no_piece_has_two_preference_lists():
    placement = at(n5=Phase.JOINING)
    pieces = placement.pieces()
    for key in KEYS:
        (piece,) = [piece for piece in pieces if piece.start <= position(key) <= piece.last]

        assert placement.owners(piece, 3) == tuple(placement.read_targets(key, 3, sloppy=False).asked)


def test_a_node_is_placed_while_it_is_in_any_ring():
    assert at(n5=Phase.JOINING).is_placed("n5")
    assert not at().is_placed("n5")


def test_a_node_that_knows_no_ring_has_nobody_to_ask():
    placement = Placement(8, is_usable=lambda _node: True)

    assert placement.nodes == ()
    assert placement.targets(b"k", 3, sloppy=True).asked == {}
