"""Who is behind the feed of changes, and what is long past: read at one's own pace, within bounds, nothing left out."""

from __future__ import annotations

from raftkv.coordination.audience import KEPT_BYTES, Interest
from raftkv.coordination.feed import Feed, Heard
from raftkv.core.requests import Compact
from raftkv.core.results import HistoryGone
from tests.unit.driven_feed import ALL, Driven, Scripted, Solo, tell, under


def test_who_takes_more_at_once_asks_by_saying_so_and_misses_nothing(solo: Solo) -> None:
    driven = Driven(solo, limit_bytes=64)
    values = [solo.put(f"a{number}", "x" * 50) for number in range(1500)]  # a page each, all of them read at once
    told: list[bytes] = []
    takes = [True]

    def hear(heard: Heard) -> bool:
        assert not isinstance(heard, HistoryGone)
        told.append(heard.content)
        return takes[0]

    listener = driven.feed.listen(ALL, tell, 0)
    listener.ask(hear)
    driven.settle()
    assert len(b"".join(told).splitlines()) == len(values)
    for _ in range(3):
        values.append(solo.put("b"))
        driven.settle()
        assert driven.feed.waiting_count == 1
    takes[0] = False
    values += [solo.put("c"), solo.put("d")]
    driven.settle()
    solo.put("e")
    driven.settle()
    assert driven.feed.waiting_count == 0
    count = len(told)
    takes[0] = True
    listener.ask(hear)
    driven.settle()
    lines = [int(line.split()[0]) for line in b"".join(told).splitlines()]

    assert len(told) > count
    assert lines == [*values, values[-1] + 1]


def test_nothing_is_held_for_who_does_not_ask_and_it_misses_nothing(solo: Solo, driven: Driven) -> None:
    quick, slow = driven.follow(under(b"k")), driven.follow(under(b"k"))
    slow.slow = True
    driven.settle()
    solo.put("k", "first")
    driven.settle()
    assert slow.lines == ["1 k=first"]
    for _ in range(200):
        solo.put("k", "x" * 20_000)
        driven.settle()

    assert len(slow.told) == 1
    assert slow.listener.through == 1
    assert held_bytes(driven.feed) <= KEPT_BYTES
    slow.slow = False
    slow.go_on()
    driven.settle()
    assert slow.lines == quick.lines
    assert max(map(len, slow.told)) < (1 << 18) + 2 * 20_100


def held_bytes(feed: Feed) -> int:
    """What the groups keep."""
    return sum(sum(len(told) for _, told in group.since(group.complete_from)) for group in feed._audience)


def test_a_moment_behind_is_served_from_what_is_kept_and_longer_from_the_state(solo: Solo, driven: Driven) -> None:
    quick, slow = driven.follow(under(b"k")), driven.follow(under(b"k"))
    slow.slow = True
    driven.settle()
    for number in range(4):
        solo.put("k", str(number))
        driven.settle()
    solo.submitted.clear()
    slow.go_on()
    assert slow.lines == quick.lines
    assert solo.reads == []

    for _ in range(20):
        solo.put("k", "x" * 20_000)
        driven.settle()
    solo.submitted.clear()
    slow.go_on()
    driven.settle()
    assert solo.reads[0].revision == 4


def test_history_that_overtakes_a_slow_listener_is_told_to_it_and_to_nobody_else(solo: Solo, driven: Driven) -> None:
    quick, slow = driven.follow(under(b"k")), driven.follow(under(b"k"))
    single = driven.follow(under(b"kk"))
    slow.slow = single.slow = True
    driven.settle()
    for number in range(9):
        solo.put("kk", str(number) * (KEPT_BYTES // 8))
        driven.settle()
    solo._carry_out(Compact(revision=8))
    for late in (slow, single):
        late.go_on()
        driven.settle()

        assert late.gone == HistoryGone(compacted_revision=8)
        assert len(late.told) == 1
    assert quick.gone is None
    assert len(quick.lines) == 9


def test_a_snapshot_that_moves_the_state_far_forward_is_read_on_piece_by_piece(scripted: Scripted) -> None:
    played = Driven(scripted, limit_bytes=100)
    scripted.show(0)
    follower, other = played.follow(), played.follow(Interest(start=b"x", end=b"y"))
    played.settle()
    scripted.log = [(b"key-%06d" % number,) for number in range(1_000)]
    scripted.show()
    played.settle()

    assert [int(line.split()[0]) for line in follower.lines] == list(range(1, 1_001))
    assert max(map(len, follower.told)) < 300
    assert other.listener.through == 1_000


def test_a_snapshot_whose_history_begins_later_ends_all_that_were_level(scripted: Scripted, played: Driven) -> None:
    scripted.log = [(b"a",)] * 10
    scripted.show(1)
    level, quiet = played.follow(after=1), played.follow(Interest(start=b"x", end=b"y"), after=1)
    played.settle()
    scripted.compacted = 5
    scripted.show(9)
    late = played.follow(after=7)
    played.settle()
    scripted.show(10)
    played.settle()

    assert level.gone == quiet.gone == HistoryGone(compacted_revision=5)
    assert level.told == quiet.told == []
    assert late.lines == ["8 a=", "9 a=", "10 a="]


def test_of_many_who_are_behind_one_reads_at_a_turn_and_those_who_left_take_no_turn(
    scripted: Scripted, played: Driven
) -> None:
    scripted.log = [(b"a",), (b"b",)]
    scripted.show()
    followers = [played.follow(after=0) for _ in range(6)]
    for gone in (followers[0], *followers[3:]):
        gone.listener.end()
    read = []
    while played.turn():
        read.append(len(scripted.reads))

    assert read[:2] == [1, 2]
    assert followers[1].lines == followers[2].lines == ["1 a=", "2 b="]
    assert not any(one.told for one in (followers[0], *followers[3:]))
    assert not played.feed._behind


def test_one_read_of_a_long_past_passes_a_bounded_number_of_changes_wanted_or_not(solo: Solo, driven: Driven) -> None:
    for number in range(2_500):
        solo.put(f"k{number % 9}")
    everything, nothing = driven.follow(), driven.follow(under(b"x"))
    driven.settle()

    assert len(everything.lines) == nothing.listener.through == 2_500
    assert max(told.count(b"\n") for told in everything.told) < 1_100
    assert [query.start for query in solo.reads].count(b"x") >= 3
