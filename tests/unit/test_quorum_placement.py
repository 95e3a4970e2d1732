"""Where keys belong while the members change: reads and writes meet at every step, whoever is how far."""

import itertools

import pytest

from raftkv.quorum.membership.placement import Placement
from raftkv.quorum.membership.ring import position

OLD = {"n1": "", "n2": "", "n3": "", "n4": ""}
NEW = {**OLD, "n5": ""}
KEYS = [b"key %d" % number for number in range(60)]

STABLE_OLD, FETCHING, SETTLING, STABLE_NEW = "stable old", "fetching", "settling", "stable new"
STEPS = (STABLE_OLD, FETCHING, SETTLING, STABLE_NEW)
RINGS = {
    STABLE_OLD: (OLD, (OLD, OLD)),
    FETCHING: (OLD, (OLD, NEW)),
    SETTLING: (NEW, (OLD, NEW)),
    STABLE_NEW: (NEW, (NEW, NEW)),
}


def at(step, before=OLD, after=NEW):
    swap = {id(OLD): before, id(NEW): after}
    reading, others = RINGS[step]
    placement = Placement(8, is_usable=lambda _node: True)
    placement.update(swap[id(reading)], [swap[id(ring)] for ring in others])
    return placement


def quorums(nodes, size):
    return [set(chosen) for chosen in itertools.combinations(sorted(nodes), size)]


@pytest.mark.parametrize(("before", "after"), [(OLD, NEW), (NEW, OLD)])
@pytest.mark.parametrize("sizes", [(3, 2, 2), (3, 1, 3), (2, 2, 1), (1, 1, 1)])
@pytest.mark.parametrize("step", [STABLE_OLD, FETCHING, SETTLING, STABLE_NEW])
def test_what_a_node_at_one_step_writes_is_met_by_what_nodes_one_step_on_or_back_read(before, after, sizes, step):
    n, r, w = sizes
    writing = at(step, before, after)
    number = STEPS.index(step)
    for other in STEPS[max(0, number - 1) : number + 2]:
        reading = at(other, before, after)
        for key in KEYS:
            targets = writing.targets(key, n, sloppy=False)
            needed = w + targets.besides_count
            for written in quorums(targets.asked, needed):
                for asked in quorums(reading.read_targets(key, n, sloppy=False).asked, r):
                    assert written & asked


def test_without_a_change_nobody_is_asked_besides():
    placement = at(STABLE_OLD)

    assert placement.others == ()
    assert all(placement.targets(key, 3, sloppy=False).besides_count == 0 for key in KEYS)


def test_each_node_that_a_key_moves_to_must_take_a_write_as_well():
    moving = at(FETCHING)
    future = at(STABLE_NEW)
    for key in KEYS:
        now = set(moving.read_targets(key, 3, sloppy=False).asked)
        later = set(future.read_targets(key, 3, sloppy=False).asked)

        assert moving.targets(key, 3, sloppy=False).besides_count == len(later - now)


def test_views_are_equal_where_keys_are_placed_alike_and_differ_at_every_step():
    views = {at(step).view for step in STEPS}

    assert len(views) == len(STEPS)
    assert at(FETCHING).view == at(FETCHING).view


def test_no_piece_has_two_preference_lists():
    placement = at(FETCHING)
    pieces = placement.pieces()
    for key in KEYS:
        (piece,) = [piece for piece in pieces if piece.start <= position(key) <= piece.last]

        assert placement.owners(piece, 3) == tuple(placement.read_targets(key, 3, sloppy=False).asked)


def test_a_node_is_placed_while_it_is_in_any_ring():
    assert at(FETCHING).is_placed("n5")
    assert not at(STABLE_OLD).is_placed("n5")


def test_a_node_that_knows_no_ring_has_nobody_to_ask():
    placement = Placement(8, is_usable=lambda _node: True)

    assert placement.nodes == ()
    assert placement.targets(b"k", 3, sloppy=True).asked == {}
