"""Hash trees: equal for equal contents, different in exactly the leaf that differs, and never behind the data."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.formats.quorum_messages import HASH_BYTES, LEAVES
from raftkv.formats.rows import TABLES
from raftkv.formats.versions import KeyState, Version
from raftkv.quorum.data.store import Store
from raftkv.quorum.data.trees import Trees, differing, leaf_of, root_of
from raftkv.quorum.data.versions import CONFLICTS
from raftkv.quorum.membership.ring import POSITIONS, Range, Ring, position
from raftkv.storage.engines.memory import MemoryEngine

WHOLE = Range(0, POSITIONS - 1)
HALVES = (Range(0, POSITIONS // 2 - 1), Range(POSITIONS // 2, POSITIONS - 1))


def state(counter, value=b"v"):
    return KeyState((Version(counter, "n1", value),))


class Data:
    """A store with the trees of its ranges."""

    def __init__(self, pieces=(WHOLE,), contents=()):
        self.store = Store(MemoryEngine(TABLES), CONFLICTS["lww"])
        self.trees = Trees(self.store.scan_order)
        self.store.on_change = self.trees.changed
        self.trees.set_ranges(pieces)
        for key, counter in contents:
            self.put(key, counter)

    def put(self, key, counter, value=b"v"):
        self.store.stage(key, state(counter, value))
        self.store.commit()

    def leaves(self, piece=WHOLE):
        found = self.trees.leaves(piece)
        while found is None:
            found = self.trees.grow(1000).get(piece)
        return found


CONTENTS = tuple((b"key-%d" % number, number + 1) for number in range(200))


def test_equal_contents_have_equal_trees_whatever_the_order_they_came_in():
    shuffled = list(CONTENTS)
    random.Random(1).shuffle(shuffled)
    one, other = Data(contents=CONTENTS), Data(contents=[(key, 1) for key, _ in CONTENTS[:90]] + shuffled)

    assert one.leaves() == other.leaves()
    assert root_of(one.leaves()) == root_of(other.leaves())
    assert differing(one.leaves(), other.leaves()) == 0
    assert len(one.leaves()) == LEAVES * HASH_BYTES


@pytest.mark.parametrize("key", [b"key-0", b"key-77", b"key-199"])
def test_one_version_that_differs_shows_in_exactly_its_leaf(key):
    one, other = Data(contents=CONTENTS), Data(contents=CONTENTS)
    other.put(key, 1000)

    assert root_of(one.leaves()) != root_of(other.leaves())
    assert differing(one.leaves(), other.leaves()) == 1 << position(key) * LEAVES // POSITIONS


def test_a_range_without_keys_has_a_tree_of_its_own_kind():
    empty, one = Data(), Data(contents=CONTENTS[:1])

    assert empty.leaves() == b""
    assert root_of(b"") == b""
    assert differing(b"", b"") == 0
    assert differing(empty.leaves(), one.leaves()) == 1 << position(b"key-0") * LEAVES // POSITIONS


def test_a_tree_is_of_its_range_only():
    one, other = Data(HALVES, CONTENTS), Data(HALVES, CONTENTS)
    key = next(key for key, _ in CONTENTS if position(key) > HALVES[0].last)
    other.put(key, 1000)

    assert one.leaves(HALVES[0]) == other.leaves(HALVES[0])
    assert one.leaves(HALVES[1]) != other.leaves(HALVES[1])


@pytest.mark.parametrize("piece", [WHOLE, *HALVES, Range(5, 5), Range(10, 40), Range(POSITIONS - 3, POSITIONS - 1)])
def test_every_position_of_a_range_has_a_leaf(piece):
    numbers = [leaf_of(piece, where.to_bytes(8, "big") + b"key") for where in (piece.start, piece.last)]

    assert numbers[0] == 0
    assert 0 <= numbers[1] < LEAVES
    assert piece.last - piece.start < LEAVES or numbers[1] == LEAVES - 1


def test_trees_are_made_a_few_keys_at_a_time_and_only_when_asked_for():
    data = Data(HALVES, CONTENTS)

    assert not data.trees.is_busy
    assert data.trees.grow(10) == {}
    assert data.trees.leaves(HALVES[0]) is None
    assert data.trees.is_busy

    rounds = 0
    while data.trees.is_busy:
        data.trees.grow(10)
        rounds += 1

    assert rounds >= 9
    assert data.trees.leaves(HALVES[0]) == Data(HALVES, CONTENTS).leaves(HALVES[0])
    assert data.trees.leaves(HALVES[1]) is None


def test_finished_trees_are_returned_once():
    data = Data(HALVES, CONTENTS)
    for piece in HALVES:
        data.trees.leaves(piece)
    finished = data.trees.grow(1000)

    assert finished == {piece: data.trees.leaves(piece) for piece in HALVES}
    assert data.trees.grow(1000) == {}


def test_a_tree_follows_every_change_without_being_made_again():
    data = Data(contents=CONTENTS)
    data.leaves()
    data.put(b"key-5", 1000)
    data.put(b"new", 1)
    changed = data.trees.leaves(WHOLE)

    assert not data.trees.is_busy
    assert changed == Data(contents=[*CONTENTS, (b"key-5", 1000), (b"new", 1)]).leaves()

    data.store.drop_range(WHOLE)

    assert data.trees.leaves(WHOLE) == b""


def test_a_tree_that_is_being_made_misses_no_change():
    data = Data(contents=CONTENTS)
    data.trees.leaves(WHOLE)
    data.trees.grow(50)
    for key, _ in CONTENTS:
        data.put(key, 2000)
    data.put(b"new", 1)
    while data.trees.is_busy:
        data.trees.grow(50)

    assert data.trees.leaves(WHOLE) == Data(contents=[*((key, 2000) for key, _ in CONTENTS), (b"new", 1)]).leaves()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32))
def test_trees_are_those_of_the_data_whatever_happened_to_it(seed):
    dice = random.Random(seed)
    pieces = Ring({"n1": "", "n2": ""}, 2).ranges()
    data = Data(pieces)
    for _ in range(dice.randrange(80)):
        match dice.randrange(6):
            case 0:
                data.trees.leaves(dice.choice(pieces))
            case 1:
                data.trees.grow(dice.randrange(1, 20))
            case 2:
                data.store.purge(dice.randrange(50), 0, b"", 5)
            case 3 if dice.random() < 0.2:
                data.store.drop_range(dice.choice(pieces))
            case _:
                data.put(b"%d" % dice.randrange(30), dice.randrange(1, 100), dice.choice((b"v", None)))
    fresh = Trees(data.store.scan_order)
    fresh.set_ranges(pieces)
    for piece in pieces:
        fresh.leaves(piece)
    expected = fresh.grow(10_000)

    assert {piece: data.leaves(piece) for piece in pieces} == expected


def test_ranges_that_stay_keep_their_trees_and_others_are_forgotten():
    data = Data(HALVES, CONTENTS)
    for piece in HALVES:
        data.leaves(piece)
    data.trees.set_ranges(
        (HALVES[0], Range(HALVES[1].start, HALVES[1].start + 9), Range(HALVES[1].start + 10, POSITIONS - 1))
    )

    assert data.trees.knows(HALVES[0])
    assert not data.trees.knows(HALVES[1])
    assert not data.trees.knows(Range(0, 9))

    data.trees.leaves(HALVES[0])

    assert not data.trees.is_busy


def test_changes_outside_all_ranges_mean_nothing():
    data = Data((HALVES[0],), CONTENTS)
    before = data.leaves(HALVES[0])
    for key, counter in CONTENTS:
        if position(key) > HALVES[0].last:
            data.put(key, counter + 1000)

    assert data.trees.leaves(HALVES[0]) == before
