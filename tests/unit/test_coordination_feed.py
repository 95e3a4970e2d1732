"""The feed of changes, over a real machine and over a scripted replicator: complete, in order, once, and for little."""

from __future__ import annotations

import random
import sys

from raftkv.coordination.audience import Interest
from raftkv.coordination.feed import READ_WITHIN_S, RETRY_S, Heard
from raftkv.core.requests import Delete, Put
from tests.unit.driven_feed import ALL, Driven, Scripted, Solo, tell, under


def test_who_listens_from_now_hears_every_revision_once_whole_and_in_order(solo: Solo, driven: Driven) -> None:
    solo.put("before")
    follower = driven.follow(after=1)
    driven.settle()
    solo.put("a", "1")
    solo.txn(Put(key=b"b", value=b"2"), Put(key=b"c", value=b"3"), Delete(key=b"a"))
    driven.settle()
    solo.put("d", "4")
    driven.settle()

    assert follower.lines == ["2 a=1", "3 b=2,c=3,a", "4 d=4"]
    assert follower.throughs == [3, 4]


def test_who_listens_from_before_hears_what_was_and_then_what_is(solo: Solo, driven: Driven) -> None:
    for number in range(5):
        solo.put(f"k{number}")
    follower = driven.follow(after=2)
    driven.settle()
    solo.put("k5")
    driven.settle()

    assert follower.lines == [f"{number + 1} k{number}=" for number in range(2, 6)]


def test_listeners_hear_of_their_key_prefix_or_range_and_of_the_kind_that_they_want(solo: Solo, driven: Driven) -> None:
    followers = {
        "key": driven.follow(Interest(start=b"a/1", end=b"a/1\x00")),
        "prefix": driven.follow(under(b"a/")),
        "range": driven.follow(Interest(start=b"a/2", end=b"b/2")),
        "puts": driven.follow(under(b"a/", only="put")),
        "deletes": driven.follow(under(b"a/", only="delete")),
        "previous": driven.follow(under(b"b/", previous=True)),
    }
    driven.settle()
    solo.txn(*(Put(key=key.encode(), value=b"x") for key in ("a/1", "a/2", "b/1", "b/2")))
    solo.txn(Put(key=b"a/1", value=b"y"), Delete(key=b"a/2"), Delete(key=b"b/1"))
    driven.settle()

    assert {name: follower.lines for name, follower in followers.items()} == {
        "key": ["1 a/1=x", "2 a/1=y"],
        "prefix": ["1 a/1=x,a/2=x", "2 a/1=y,a/2"],
        "range": ["1 a/2=x,b/1=x", "2 a/2,b/1"],
        "puts": ["1 a/1=x,a/2=x", "2 a/1=y"],
        "deletes": ["2 a/2"],
        "previous": ["1 b/1=x<,b/2=x<", "2 b/1<x"],
    }


def test_who_wants_no_previous_values_is_told_the_same_whether_somebody_else_does(solo: Solo, driven: Driven) -> None:
    plain, curious = driven.follow(under(b"a")), driven.follow(under(b"a", previous=True))
    driven.settle()
    solo.put("a", "1")
    solo.put("a", "2")
    driven.settle()

    assert plain.lines == ["1 a=1", "2 a=2"]
    assert curious.lines == ["1 a=1<", "2 a=2<1"]


def test_a_thousand_listeners_cost_one_read_and_share_their_bytes(solo: Solo, driven: Driven) -> None:
    followers = [driven.follow(under(b"job/")) for _ in range(1_000)]
    driven.settle()
    solo.submitted.clear()
    for number in range(3):
        solo.put(f"job/{number}")
    driven.settle()
    solo.put("other")
    driven.settle()

    assert len(solo.reads) == 2  # one for each time that something was shown, whoever wanted it
    assert {follower.lines[-1] for follower in followers} == {"3 job/2="}
    assert len({id(follower.told[0]) for follower in followers}) == 1
    assert {follower.listener.through for follower in followers} == {4}


def test_who_ends_while_it_is_told_is_not_level_whatever_it_says(solo: Solo, driven: Driven) -> None:
    listener = driven.feed.listen(ALL, tell, 0)

    def hear(_: Heard) -> bool:
        listener.end()
        return True

    listener.ask(hear)
    solo.put("a")
    driven.settle()

    assert (driven.feed.listener_count, driven.feed.waiting_count, listener.hear) == (0, 0, None)


def test_a_quiet_listener_knows_how_far_it_has_seen(solo: Solo, driven: Driven) -> None:
    quiet = driven.follow(under(b"quiet/"))
    driven.settle()
    assert quiet.listener.through == 0
    solo.put("loud")
    assert quiet.listener.through == 0  # it was not looked at yet
    driven.settle()

    assert quiet.listener.through == 1
    assert quiet.told == []


def test_who_leaves_is_told_nothing_more_and_the_last_one_lets_the_replica_be(solo: Solo, driven: Driven) -> None:
    first, second = driven.follow(), driven.follow()
    driven.settle()
    first.listener.end()
    first.listener.end()
    solo.put("a")
    driven.settle()
    assert first.told == []
    assert second.lines == ["1 a="]
    second.listener.end()

    assert len(solo.subscribers) == 0
    assert (driven.feed.listener_count, driven.feed.waiting_count) == (0, 0)
    assert list(driven.feed._audience) == []
    again = driven.follow(after=1)
    driven.settle()
    solo.put("b")
    driven.settle()
    assert again.lines == ["2 b="]


def test_five_thousand_that_come_and_go_leave_nothing(solo: Solo, driven: Driven) -> None:
    chance = random.Random(5)
    stays = driven.follow()
    sizes = []
    for number in range(5_000):
        prefix = b"p%d" % chance.randrange(300)
        interest = under(prefix, previous=chance.random() < 0.5)
        follower = driven.follow(interest, after=solo.machine.revision)
        if chance.random() < 0.2:
            solo.put(prefix.decode())
            driven.settle()
        follower.listener.end()
        if number % 1_000 == 999:
            sizes.append(sum(map(sys.getsizeof, vars(driven.feed._audience).values())))

    assert driven.feed.listener_count == 1
    assert sizes[0] == sizes[-1]
    assert len(stays.lines) == solo.machine.revision


def test_a_replica_that_goes_away_and_comes_back_with_less_is_waited_for(scripted: Scripted, played: Driven) -> None:
    scripted.log = [(b"a",), (b"b",), (b"c",), (b"d",)]
    scripted.shown = 1
    follower = played.follow(after=1)
    scripted.show(3)
    played.settle()
    scripted.go()
    played.settle()
    reads = len(scripted.reads)
    scripted.show(1)
    played.settle()
    scripted.show(2)
    played.settle()
    assert len(scripted.reads) == reads
    scripted.show(4)
    played.settle()

    assert follower.lines == ["2 b=", "3 c=", "4 d="]


def test_who_comes_while_the_state_is_behind_it_hears_what_comes_after_its_own_place_only(
    scripted: Scripted, played: Driven
) -> None:
    scripted.log = [(b"%d" % number,) for number in range(1, 8)]
    scripted.show(2)
    ahead = played.follow(after=5)
    played.settle()
    level = played.follow(after=2)
    played.settle()
    scripted.show(4)
    played.settle()
    assert ahead.listener.through == 5
    scripted.show(7)
    played.settle()

    assert ahead.lines == ["6 6=", "7 7="]
    assert level.lines == [f"{number} {number}=" for number in range(3, 8)]


def test_a_read_that_is_refused_is_tried_again_a_little_later(scripted: Scripted, played: Driven) -> None:
    scripted.log = [(b"a",), (b"b",)]
    scripted.show(1)
    scripted.refuses = 1
    follower = played.follow(after=0)
    played.settle()
    assert follower.told == []
    played.now_s += RETRY_S
    played.settle()
    assert follower.lines == ["1 a="]
    scripted.refuses = 2
    scripted.show(2)
    for _ in range(2):
        played.settle()
        assert follower.lines == ["1 a="]
        played.now_s += RETRY_S
    played.settle()

    assert follower.lines == ["1 a=", "2 b="]
    assert scripted.deadlines[0] == 100.0 + READ_WITHIN_S


def test_who_asks_while_a_read_for_all_is_under_way_misses_nothing_that_it_did_not_look_for(
    scripted: Scripted, played: Driven
) -> None:
    scripted.show(0)
    narrow = played.follow(Interest(start=b"a", end=b"b"))
    played.settle()
    scripted.at_once = False
    scripted.log = [(b"a", b"z"), (b"z",)]
    scripted.show(1)
    played.turn()
    ((query, _),) = scripted.waiting
    assert (query.start, query.end) == (b"a", b"b")
    wide = played.follow(ALL, after=0)
    leaves = played.follow(ALL, after=0)
    leaves.listener.end()
    while scripted.waiting:
        scripted.answer()
        played.settle()
    scripted.at_once = True
    scripted.show(2)
    played.settle()

    assert narrow.lines == ["1 a="]
    assert wide.lines == ["1 a=,z=", "2 z="]
    assert leaves.told == []


def test_all_leave_and_others_come_while_a_read_is_under_way(scripted: Scripted, played: Driven) -> None:
    scripted.show(0)
    first = played.follow(Interest(start=b"a", end=b"b"))
    played.settle()
    scripted.at_once = False
    scripted.log = [(b"a", b"z")]
    scripted.show()
    played.turn()
    first.listener.end()
    second = played.follow(ALL)
    while scripted.waiting:
        scripted.answer()
        played.settle()

    assert second.lines == ["1 a=,z="]
