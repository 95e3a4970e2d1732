"""Who wants to hear of which changes."""

from __future__ import annotations

import random

from raftkv.coordination.audience import Audience, Interest, ListenerGroup
from raftkv.core.keys import SYSTEM
from raftkv.core.results import Change
from tests.unit.driven_feed import tell, under


def test_groups_of_keys_prefixes_and_ranges_are_found_by_what_changed() -> None:
    audience: Audience[str] = Audience()
    interests = [
        Interest(start=b"ab", end=b"ab\x00"),
        under(b"a"),
        under(b"ab"),
        under(b"abc"),
        Interest(start=b"", end=SYSTEM),
        Interest(start=b"a", end=b"ac"),
    ]
    for interest in interests:
        audience.join(interest, tell)
    changes = [Change(revision=1, key=key, record=None) for key in (b"ab", b"abcd", b"b")]

    found = {group.interest: [change.key for change in got] for group, got in audience.sort(changes).items()}
    assert found == {
        interests[0]: [b"ab"],
        interests[1]: [b"ab", b"abcd"],
        interests[2]: [b"ab", b"abcd"],
        interests[3]: [b"abcd"],
        interests[4]: [b"ab", b"abcd", b"b"],
        interests[5]: [b"ab", b"abcd"],
    }
    assert audience.hull == (b"", SYSTEM, False)


def test_what_is_read_for_all_is_always_from_the_first_to_the_last_of_what_anybody_wants() -> None:
    chance = random.Random(3)
    audience: Audience[str] = Audience()
    joined: list[tuple[ListenerGroup[str], Interest]] = []
    looked = 0
    for _ in range(3_000):
        if not joined or chance.random() < 0.5 + 0.1 * (len(joined) < 4):
            start, end = sorted(b"%02d" % chance.randrange(40) for _ in range(2))
            interest = Interest(start=start, end=end, previous=chance.random() < 0.1)
            joined.append((audience.join(interest, tell), interest))
        else:
            audience.leave(joined.pop(chance.randrange(len(joined)))[0], tell)
        if joined and chance.random() < 0.5:
            looked += 1
            wanted = [interest for _, interest in joined]
            starts, ends = {one.start for one in wanted}, {one.end for one in wanted}
            assert audience.hull == (min(starts), max(ends), any(one.previous for one in wanted))
    assert looked > 1_000


def test_who_joins_or_leaves_in_the_middle_lets_nobody_be_looked_at_again() -> None:
    audience: Audience[str] = Audience()
    outer = audience.join(Interest(start=b"a", end=b"z"), tell)
    first = audience.hull
    inner = audience.join(under(b"m"), tell)
    audience._groups = {}  # whoever looked at all would find none

    assert audience.hull == first
    audience._groups = {(one.interest, tell): one for one in (outer, inner)}
    audience.leave(inner, tell)
    audience._groups = {}
    assert audience.hull == first
