"""Freshness as arithmetic: echoes of this life's readings, and what is awaited before they count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raftkv.formats.raft_messages import ClockReading, Level
from raftkv.raft.reading.freshness import Freshness, Vouching

NEVER_S = float("-inf")


def fresh(shown_index: int = 0) -> Freshness:
    return Freshness(life=7, started_at_s=100.0, shown_index=shown_index)


def test_a_reading_comes_back_no_later_than_it_was_taken():
    freshness = fresh(shown_index=5)
    reading = freshness.reading(103.4567891)

    freshness.echoed(Level(index=5, reading=reading), 104.0)

    assert 103.456788 < freshness.level_at_s <= 103.4567891


def test_readings_of_another_life_and_of_the_future_say_nothing():
    freshness = fresh(shown_index=5)

    freshness.echoed(Level(index=5, reading=ClockReading(life=8, elapsed_us=1)), 104.0)
    freshness.echoed(Level(index=5, reading=ClockReading(life=7, elapsed_us=4_000_001)), 104.0)

    assert freshness.level_at_s == NEVER_S


def test_a_follower_that_never_quite_catches_up_still_knows_how_far_it_is():
    freshness = fresh()
    for step in range(1, 100):
        freshness.level(10 * step, 100.0 + step)
        freshness.shown(10 * step - 15)

        assert step < 5 or freshness.level_at_s >= 100.0 + step - 3


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=60))
def test_never_level_with_what_is_not_shown(steps):
    """Indexes grow with time, as a leader's commit index does."""
    freshness, told, index, shown = fresh(), {}, 0, 0
    for now_s, (number, is_told) in enumerate(steps):
        if is_told:
            index += number
            told[float(now_s)] = index
            freshness.level(index, float(now_s))
        else:
            shown = max(shown, min(number, index))
            freshness.shown(shown)

        assert freshness.level_at_s == NEVER_S or told[freshness.level_at_s] <= shown
        reached = [at_s for at_s, needed in told.items() if needed <= shown]
        assert not reached or freshness.level_at_s != NEVER_S


def test_followers_are_told_twice_a_heartbeat_at_most():
    vouching = Vouching(heartbeat_s=0.1)

    told = [vouching.due(number / 100) for number in range(100)]

    assert 18 <= sum(told) <= 20
