"""What a majority of clocks has reached: true for any minority of wrong ones, whoever was heard."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raftkv.core.agreement import reached_by_majority

CLOCKS = st.lists(st.integers(-1000, 1000), min_size=1, max_size=7)


def test_a_majority_is_needed():
    assert reached_by_majority([], 1) is None
    assert reached_by_majority([5.0], 2) is None
    assert reached_by_majority([5.0, 6.0], 4) is None
    assert reached_by_majority([5.0], 1) == (5.0, 5.0)


def test_the_bounds_are_what_the_missing_clocks_may_make_of_it():
    assert reached_by_majority([1.0, 3.0], 3) == (1.0, 3.0)
    assert reached_by_majority([1.0, 3.0, 900.0], 3) == (3.0, 3.0)
    assert reached_by_majority([1.0, 3.0, 4.0], 5) == (1.0, 4.0)


@given(st.data())
def test_a_minority_of_wrong_clocks_moves_it_beyond_no_right_one(data):
    size = data.draw(st.integers(1, 7))
    wrong = data.draw(st.lists(st.integers(-(10**9), 10**9), max_size=(size - 1) // 2))
    right = data.draw(st.lists(st.integers(-5, 5), min_size=size - len(wrong), max_size=size - len(wrong)))
    earlier, later = reached_by_majority([*wrong, *right], size)

    assert earlier == later
    assert min(right) <= earlier <= max(right)


@given(CLOCKS, st.data())
def test_whoever_has_heard_a_majority_finds_bounds_of_what_all_would_find(clocks, data):
    size = len(clocks)
    count = data.draw(st.integers(size // 2 + 1, size))
    heard = data.draw(st.permutations(clocks))[:count]
    earlier, later = reached_by_majority(heard, size)

    assert earlier <= reached_by_majority(clocks, size)[0] <= later
