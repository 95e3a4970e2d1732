"""Events of actors in one replica's store: what a context covers, and what is kept beside each other."""

import pytest

from raftkv.core.errors import Code, Refused
from raftkv.formats.rows import TABLES
from raftkv.formats.versions import Version, decode_context, encode_context, encode_state
from raftkv.storage.engines.memory import MemoryEngine
from tests.unit.opened_store import SIBLINGS, WHOLE, event, opened, values


@pytest.fixture
def siblings():
    return opened(MemoryEngine(TABLES), SIBLINGS, max_siblings=3)


def test_an_event_keeps_what_its_context_does_not_cover(siblings):
    event(siblings, 1, b"a")
    siblings.commit()
    context = decode_context(encode_context(siblings.read(b"k")))
    event(siblings, 2, b"b")
    before, now = event(siblings, 3, b"c", context=context)

    assert values(before) == [b"a", b"b"]
    assert values(now) == [b"b", b"c"]

    siblings.commit()

    assert values(siblings.read(b"k")) == [b"b", b"c"]


def test_one_row_has_one_actor_as_long_as_it_is_there(siblings):
    event(siblings, 1)
    siblings.commit()
    siblings.stage(b"k", SIBLINGS.write(None, Version(5, "n2~x", b"other"), ()))
    siblings.commit()
    _, now = event(siblings, 7)

    assert sorted(now.seen) == [("n1~dir~1", 7), ("n2~x", 5)]


def test_another_row_and_another_directory_are_another_actor(siblings):
    event(siblings, 1)
    event(siblings, 2, stands_for="n2")
    event(siblings, 3, key=b"other")
    siblings.commit()
    _, copied = event(siblings, 4, directory="n1~restored")

    assert siblings.read_hinted(b"k").seen == (("n1~dir~2", 2),)
    assert siblings.read(b"other").seen == (("n1~dir~3", 3),)
    assert copied.seen == (("n1~dir~1", 1), ("n1~restored~4", 4))


def test_a_fallback_that_handed_its_hint_over_does_not_claim_to_have_seen_it(siblings):
    _, first = event(siblings, 1, b"first", stands_for="n2")
    siblings.commit()
    siblings.drop_hint("n2", b"k", encode_state(first))
    siblings.commit()
    _, second = event(siblings, 2, b"second", stands_for="n2")

    assert values(SIBLINGS.join(first, second)) == [b"first", b"second"]


def test_a_primary_whose_range_went_away_and_came_back_does_not_claim_to_have_seen_it(siblings):
    _, first = event(siblings, 1, b"first")
    siblings.commit()
    siblings.drop_range(WHOLE)
    _, second = event(siblings, 2, b"second")
    siblings.commit()

    assert values(SIBLINGS.join(first, second)) == [b"first", b"second"]

    siblings.stage(b"k", first)
    siblings.commit()
    _, third = event(siblings, 3, b"third")

    assert values(third) == [b"first", b"second", b"third"]
    assert values(SIBLINGS.join(third, SIBLINGS.join(first, second))) == [b"first", b"second", b"third"]


def test_more_concurrent_values_than_allowed_are_refused_and_nothing_is_staged(siblings):
    for counter in (1, 2, 3):
        event(siblings, counter)
    refused = event(siblings, 4)

    assert isinstance(refused, Refused)
    assert refused.code is Code.OVERLOADED
    assert "3 concurrent values" in refused.detail

    siblings.commit()

    assert len(siblings.read(b"k").versions) == 3

    context = decode_context(encode_context(siblings.read(b"k")))
    _, now = event(siblings, 5, b"one", context=context)

    assert values(now) == [b"one"]


def test_joins_never_refuse_however_many_values_there_are(siblings):
    for counter in range(1, 9):
        siblings.stage(b"k", SIBLINGS.write(None, Version(counter, f"n{counter}~x~1", b"v"), ()))
    siblings.commit()

    assert len(siblings.read(b"k").versions) == 8


def test_a_context_that_names_events_to_come_is_refused(siblings):
    event(siblings, 1)
    refused = event(siblings, 2, context=(("n1~dir~1", 99),))

    assert isinstance(refused, Refused)
    assert refused.code is Code.BAD_REQUEST


def test_a_row_that_was_told_of_its_own_future_goes_on_under_another_name(siblings):
    event(siblings, 1, b"mine")
    siblings.stage(b"k", SIBLINGS.write(None, Version(2, "n2~x~1", b"theirs"), (("n1~dir~1", 99),)))
    _, now = event(siblings, 3, b"next")

    assert values(now) == [b"theirs", b"next"]
    assert now.versions[-1].node == "n1~dir~3"
