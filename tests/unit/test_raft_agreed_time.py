"""Agreed time as arithmetic: any minority of wrong clocks, any of the others unheard."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raftkv.core.voters import Voters
from raftkv.raft.electorate import Electorate
from raftkv.raft.leadership.agreed_time import SLOWEST_RATE, AgreedTime

TRUTH_MS = 1_700_000_000_000


def agreed_time(size):
    return AgreedTime(Electorate("n0", Voters.of(f"n{number}" for number in range(size))))


def read(agreed, *, wall_ms, machine_ms=0, term=1, now_s=0.0):
    return agreed.read(term=term, wall_ms=wall_ms, machine_ms=machine_ms, now_s=now_s)


@given(data=st.data(), size=st.sampled_from([1, 2, 3, 4, 5, 7]))
def test_no_minority_of_clocks_moves_time_ahead_of_the_right_ones(data, size):
    wrong_count = data.draw(st.integers(0, (size - 1) // 2))
    clocks = [TRUTH_MS + data.draw(st.integers(-50, 50)) for _ in range(size - wrong_count)]
    latest_right_ms = max(clocks)
    clocks += [data.draw(st.integers(1, 2 * TRUTH_MS)) for _ in range(wrong_count)]
    own_ms, *told = data.draw(st.permutations(clocks))
    agreed = agreed_time(size)
    for number, wall_ms in enumerate(told[: data.draw(st.integers(0, size - 1))]):
        agreed.told(term=1, peer=f"n{number + 1}", wall_ms=wall_ms, now_s=0.0)

    assert read(agreed, wall_ms=own_ms) <= latest_right_ms


@given(data=st.data(), size=st.sampled_from([1, 3, 5, 7]))
def test_when_all_clocks_are_known_no_minority_holds_time_behind_the_right_ones(data, size):
    wrong_count = data.draw(st.integers(0, (size - 1) // 2))
    clocks = [TRUTH_MS + data.draw(st.integers(-50, 50)) for _ in range(size - wrong_count)]
    earliest_right_ms = min(clocks)
    clocks += [data.draw(st.integers(1, 2 * TRUTH_MS)) for _ in range(wrong_count)]
    own_ms, *told = data.draw(st.permutations(clocks))
    agreed = agreed_time(size)
    for number, wall_ms in enumerate(told):
        agreed.told(term=1, peer=f"n{number + 1}", wall_ms=wall_ms, now_s=0.0)

    assert read(agreed, wall_ms=own_ms) >= earliest_right_ms


def test_a_clock_once_told_goes_on_with_the_monotonic_one():
    agreed = agreed_time(3)
    agreed.told(term=1, peer="n1", wall_ms=TRUTH_MS, now_s=0.0)

    assert read(agreed, wall_ms=2 * TRUTH_MS, now_s=5.0) == TRUTH_MS + 5000


def test_time_passes_at_the_slowest_rate_while_it_is_ahead_of_the_clocks():
    agreed = agreed_time(1)
    read(agreed, wall_ms=1, machine_ms=TRUTH_MS, now_s=0.0)

    assert read(agreed, wall_ms=1, machine_ms=TRUTH_MS, now_s=10.0) == TRUTH_MS + 10_000 * SLOWEST_RATE


def test_time_is_never_behind_the_machine():
    agreed = agreed_time(1)

    assert read(agreed, wall_ms=1, machine_ms=TRUTH_MS) == TRUTH_MS


def test_what_was_told_in_an_earlier_term_is_forgotten_and_late_news_of_it_ignored():
    agreed = agreed_time(3)
    agreed.told(term=1, peer="n1", wall_ms=TRUTH_MS, now_s=0.0)
    read(agreed, wall_ms=TRUTH_MS, term=2)
    agreed.told(term=1, peer="n1", wall_ms=TRUTH_MS, now_s=0.0)

    assert read(agreed, wall_ms=TRUTH_MS, machine_ms=7, term=2) == 7


def test_a_peer_that_does_not_tell_its_clock_does_not_count():
    agreed = agreed_time(2)
    agreed.told(term=1, peer="n1", wall_ms=0, now_s=0.0)

    assert read(agreed, wall_ms=TRUTH_MS, machine_ms=7) == 7
