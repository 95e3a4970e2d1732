"""The read coordinator: the first R answers joined, who is behind, and who is asked instead."""

from hypothesis import given
from hypothesis import strategies as st

from raftkv.core.errors import Code
from raftkv.formats.versions import KeyState, Version
from raftkv.quorum.coordination.reads import ReadCoordinator
from raftkv.quorum.coordination.targets import Target, Targets
from raftkv.quorum.data.versions import CONFLICTS

JOIN = CONFLICTS["lww"].join
NODES = ("n1", "n2", "n3")


def state(counter):
    return None if counter is None else KeyState((Version(counter, "n1", b"v"),))


def read(needed=2, *, fallbacks=(), down=()):
    targets = Targets(NODES, fallbacks, usable=lambda node: node not in down, sloppy=bool(fallbacks))
    made = ReadCoordinator(targets, needed=needed, join=JOIN)
    if not made.is_hopeless:
        made.begin()
    return made


def test_r_answers_make_the_response_and_it_is_the_newest_of_them():
    made = read()

    assert not made.add("n1", state(1))
    assert made.add("n2", state(2))
    assert made.joined == state(2)


def test_one_replica_that_answers_twice_counts_once():
    made = read()
    made.add("n1", state(1))

    assert not made.add("n1", state(1))
    assert not made.add("stranger", state(1))


@given(st.lists(st.one_of(st.none(), st.integers(1, 3)), min_size=3, max_size=3))
def test_whoever_holds_less_than_the_others_is_repaired(counters):
    made = read()
    for node, counter in zip(NODES, counters, strict=True):
        made.add(node, state(counter))
    newest = max((counter for counter in counters if counter), default=None)
    behind = {node for node, counter in zip(NODES, counters, strict=True) if newest and counter != newest}

    assert {target.node for target in made.repairs()} == behind


def test_a_fallback_is_not_repaired_for_it_keeps_hints_only():
    made = read(fallbacks=("n4",), down={"n3"})
    made.add("n1", state(2))
    made.add("n4", None)
    made.add("n2", state(1))

    assert made.repairs() == (Target("n2"),)


def test_who_is_silent_or_lost_is_replaced_once():
    made = read(fallbacks=("n4", "n5"))

    assert made.silent("n1") == Target("n4", "n1")
    assert made.silent("n1") is None
    assert made.lost("n2") == Target("n5", "n2")
    assert made.lost("n2") is None


def test_a_silent_replica_counts_once_it_answers_and_a_lost_one_does_not():
    made = read(needed=3)
    made.silent("n1")

    assert made.is_hopeless

    made.add("n1", state(1))

    assert not made.is_hopeless

    made.lost("n2")

    assert made.is_hopeless
    assert made.failure("lost").code is Code.QUORUM_UNREACHABLE


def test_a_read_that_asked_too_few_says_how_many_can_be_reached():
    refused = read(needed=3, down=("n3",)).failure("lost")

    assert refused.detail == "3 replicas must answer the read, but only 2 can be reached"


def test_a_read_is_complete_when_nobody_is_left_to_hear():
    made = read()
    made.add("n1", None)
    made.lost("n2")

    assert not made.is_complete

    made.silent("n3")

    assert made.is_complete


def sparing(needed=2, *, fallbacks=(), usable=lambda _node: True, last=lambda _node: 0):
    """A read that asks as many as must answer."""
    made = ReadCoordinator(Targets(NODES, fallbacks, usable=usable, sloppy=bool(fallbacks)), needed=needed, join=JOIN)
    return made, made.begin(last)


def test_as_many_as_must_answer_are_asked_first_and_who_comes_last_only_where_others_do_not_suffice():
    made, asked = sparing(last=lambda node: node == "n2")

    assert asked == (Target("n1"), Target("n3"))
    assert made.waiting == ("n1", "n3")
    assert not made.add("n2", state(1))

    made.add("n1", state(1))

    assert made.lacking_count == 1
    assert made.ask_others(1) == (Target("n2"),)
    assert made.lacking_count == 0
    assert made.add("n2", state(1))
    assert not made.is_complete


def test_a_read_that_has_its_answers_waits_for_nobody_it_has_not_asked():
    made, _ = sparing()
    made.add("n1", state(1))
    made.add("n2", state(1))

    assert made.is_complete
    assert not made.differ

    made, _ = sparing()
    made.add("n1", None)
    made.add("n2", state(1))

    assert made.differ
    assert made.ask_others(5) == (Target("n3"),)
    assert not made.is_complete


def test_who_is_in_reserve_is_asked_before_a_fallback_and_one_that_went_meanwhile_is_replaced():
    gone: set[str] = set()
    made, _ = sparing(fallbacks=("n4", "n5"), usable=lambda node: node not in gone)

    assert made.lost("n1") == Target("n3")
    assert made.lost("n2") == Target("n4", "n2")

    made, _ = sparing(fallbacks=("n4", "n5"), usable=lambda node: node not in gone)
    gone.add("n3")

    assert made.lost("n1") == Target("n4", "n3")

    made, _ = sparing(fallbacks=("n5",))

    assert made.lost("n3") is None
    assert made.lost("n1") == Target("n5", "n3")
    assert not made.is_hopeless
