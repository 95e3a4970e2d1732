"""The feed of changes, over a real machine and over a scripted replicator: complete, in order, once, and for little."""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Callable, Sequence

import pytest

from raftkv.coordination.audience import KEPT_BYTES, Audience, Interest
from raftkv.coordination.feed import READ_WITHIN_S, RETRY_S, Feed, Heard
from raftkv.core.errors import Code, Refused
from raftkv.core.replicator import Pending, Shown, Subscribers, Subscription
from raftkv.core.requests import (
    SYSTEM,
    ChangesAfter,
    Compact,
    Consistency,
    Delete,
    Put,
    Read,
    Request,
    Transaction,
    Write,
    prefix_end,
)
from raftkv.core.results import Answer, Change, ChangePage, HistoryAhead, HistoryGone, KeyRecord
from tests.contract.solo import SoloReplicator

ALL = Interest(start=b"", end=SYSTEM)


def tell(revision: int, changes: Sequence[Change], interest: Interest) -> bytes:
    """One line a revision."""
    words = []
    for change in changes:
        word = change.key + (b"" if change.record is None else b"=" + change.record.value)
        if interest.previous:
            word += b"<" + (b"" if change.previous is None else change.previous.value)
        words.append(word)
    return b"%d %s\n" % (revision, b",".join(words))


def under(prefix: bytes, **more) -> Interest:
    end = prefix_end(prefix)
    assert end is not None
    return Interest(start=prefix, end=end, **more)


class Driven:
    """A feed over ``replicator``, whose calls to come are made by ``turn``; ``now_s`` moves when it is moved."""

    def __init__(self, replicator, **more) -> None:
        self.replicator = replicator
        self.now_s = 100.0
        self.due: list[tuple[float, int, Callable[[], None]]] = []
        self.feed = Feed(replicator, now_s=lambda: self.now_s, schedule=self._schedule, **more)

    def _schedule(self, delay_s: float, call: Callable[[], None]) -> None:
        self.due.append((self.now_s + delay_s, len(self.due), call))

    def turn(self) -> bool:
        """Make the calls that are due, and let the replicator work; was there anything to do?"""
        calls = [one for one in self.due if one[0] <= self.now_s]
        self.due = [one for one in self.due if one[0] > self.now_s]
        for _, _, call in calls:
            call()
        is_asked = self.replicator.is_asked
        self.replicator.work(self.now_s)
        return bool(calls) or is_asked

    def settle(self) -> None:
        while self.turn():
            pass

    def follow(self, interest: Interest = ALL, after: int = 0) -> Follower:
        return Follower(self.feed, interest, after)


class Follower:
    """Asks for more as soon as it was told, unless it is ``slow``."""

    def __init__(self, feed: Feed, interest: Interest, after: int) -> None:
        self.told: list[bytes] = []
        self.throughs: list[int] = []
        self.gone: HistoryGone | None = None
        self.slow = False
        self.listener = feed.listen(interest, tell, after)
        self.listener.ask(self._hear)

    def _hear(self, heard: Heard) -> None:
        if isinstance(heard, HistoryGone):
            self.gone = heard
            return
        self.told.append(heard.content)
        self.throughs.append(heard.through)
        if not self.slow:
            self.listener.ask(self._hear)

    def go_on(self) -> None:
        self.listener.ask(self._hear)

    def go_on_if_it_can(self) -> None:
        if self.listener.hear is None and self.gone is None and not self.is_over:
            self.go_on()

    @property
    def is_over(self) -> bool:
        return self.listener.is_over

    @property
    def lines(self) -> list[str]:
        return b"".join(self.told).decode().splitlines()


class Solo(SoloReplicator):
    """The solo replicator, with a way to write and a count of reads of changes."""

    @property
    def is_asked(self) -> bool:
        return bool(self._queue)

    def write(self, *operations) -> int:
        outcome = self._carry_out(Write(operations=operations))
        return outcome.revision

    def put(self, key: str, value: str = "") -> int:
        return self.write(Put(key=key.encode(), value=value.encode()))

    def txn(self, *operations) -> int:
        return self.write(Transaction(success=operations))

    @property
    def reads(self) -> list[ChangesAfter]:
        found = [request.query for request in self.submitted if isinstance(request, Read)]
        return [query for query in found if isinstance(query, ChangesAfter)]


@pytest.fixture
def solo() -> Solo:
    return Solo()


@pytest.fixture
def driven(solo: Solo) -> Driven:
    return Driven(solo)


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


# -- waiting for one thing ----------------------------------------------------------------------------------------


def test_a_wait_ends_once_when_something_in_its_range_changes(solo: Solo, driven: Driven) -> None:
    heard: list[str] = []
    driven.feed.wait(b"k", b"k\x00", 0, lambda: heard.append("k"))
    driven.feed.wait(b"l", b"m", 0, lambda: heard.append("l"))
    never = driven.feed.wait(b"k", b"k\x00", 0, lambda: heard.append("never"))
    driven.settle()
    never.end()
    solo.put("j")
    driven.settle()
    assert heard == []
    solo.put("k")
    solo.put("k")
    driven.settle()

    assert heard == ["k"]
    assert driven.feed.listener_count == 1


def test_a_wait_for_what_has_happened_already_or_is_forgotten_ends_at_once(solo: Solo, driven: Driven) -> None:
    heard: list[str] = []
    for _ in range(3):
        solo.put("k")
    solo._carry_out(Compact(revision=3))
    driven.feed.wait(b"k", b"k\x00", 2, lambda: heard.append("forgotten"))
    solo.put("k")
    driven.feed.wait(b"k", b"k\x00", 3, lambda: heard.append("happened"))
    driven.feed.wait(b"k", b"k\x00", 4, lambda: heard.append("not yet"))
    driven.settle()

    assert heard == ["forgotten", "happened"]


# -- a replica that misbehaves as it may ----------------------------------------------------------------------------


class Scripted:
    """A replicator whose state is a list of revisions; reads wait for ``answer`` unless they are answered ``at_once``.

    It goes away, comes back with less, jumps, forgets and refuses, as the contract allows.
    """

    is_asked = False

    def __init__(self) -> None:
        self.log: list[tuple[bytes, ...]] = []
        self.shown = 0
        self.compacted = 0
        self.at_once = True
        self.refuses = 0
        self.deadlines: list[float] = []
        self.reads: list[ChangesAfter] = []
        self.waiting: deque[tuple[ChangesAfter, Pending]] = deque()
        self.subscribers = Subscribers()

    def subscribe(self, hear) -> Subscription:
        return self.subscribers.add(hear)

    def submit(self, request: Request, deadline_s: float) -> Pending:
        assert isinstance(request, Read)
        assert request.consistency is Consistency.LOCAL
        assert isinstance(request.query, ChangesAfter)
        self.reads.append(request.query)
        self.deadlines.append(deadline_s)
        pending = Pending()
        self.waiting.append((request.query, pending))
        if self.at_once:
            self.answer()
        return pending

    def answer(self) -> None:
        query, pending = self.waiting.popleft()
        if self.refuses:
            self.refuses -= 1
            pending.resolve(Refused(code=Code.NO_LEADER, detail="away"))
            return
        pending.resolve(Answer(content=self.content(query), consistency=Consistency.LOCAL, revision=self.shown))

    def content(self, query: ChangesAfter) -> ChangePage | HistoryGone | HistoryAhead:
        if query.revision > self.shown:
            return HistoryAhead(revision=self.shown)
        if query.revision < self.compacted:
            return HistoryGone(compacted_revision=self.compacted)
        changes, size_bytes = [], 0
        through = query.revision
        for revision in range(query.revision + 1, self.shown + 1):
            if size_bytes > query.limit_bytes:
                return ChangePage(changes=tuple(changes), through=through, is_level=False)
            through = revision
            for key in self.log[revision - 1]:
                size_bytes += len(key)
                if query.start <= key and (query.end is None or key < query.end):
                    record = KeyRecord(key=key, value=b"", version=1, create_revision=revision, mod_revision=revision)
                    changes.append(Change(revision=revision, key=key, record=record))
        return ChangePage(changes=tuple(changes), through=self.shown, is_level=True)

    def work(self, now_s: float) -> float:
        return now_s + 1

    def tell(self) -> None:
        self.subscribers.tell(Shown(revision=self.shown, applied_index=self.shown))

    def show(self, revision: int | None = None) -> None:
        self.shown = len(self.log) if revision is None else revision
        self.tell()

    def go(self) -> None:
        self.subscribers.tell(None)


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
def played(scripted: Scripted) -> Driven:
    return Driven(scripted)


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


class Chaos:
    """One run of everything that may happen, by a seed."""

    KEYS = (b"a", b"b", b"c", b"d", b"e")

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.scripted = Scripted()
        self.played = Driven(self.scripted, limit_bytes=self.chance.choice((0, 3, 50, 1 << 18)))
        self.followers: list[tuple[Follower, Interest, int]] = []
        self.scripted.show(0)

    def comes_back(self) -> None:
        self.scripted.go()
        self.scripted.show(self.chance.randint(max(0, self.scripted.shown - 3), self.scripted.shown))

    def listens(self) -> None:
        start, end = sorted(self.chance.sample(self.KEYS, 2))
        interest = Interest(start=start, end=end)
        after = self.chance.randint(self.scripted.compacted, len(self.scripted.log))
        follower = self.played.follow(interest, after)
        follower.slow = self.chance.random() < 0.5
        self.followers.append((follower, interest, after))

    def forgets(self) -> None:
        most = max(self.scripted.compacted, self.scripted.shown - 4)
        self.scripted.compacted = self.chance.randint(self.scripted.compacted, most)

    def leaves(self) -> None:
        if self.followers:
            self.chance.choice(self.followers)[0].listener.end()

    def refuses(self) -> None:
        self.scripted.refuses = self.chance.randrange(3)

    def is_quick_or_not(self) -> None:
        self.scripted.at_once = not self.scripted.at_once

    def goes_on(self) -> None:
        if self.followers:
            self.chance.choice(self.followers)[0].go_on_if_it_can()

    def writes(self) -> None:
        for _ in range(3):
            count = self.chance.randint(1, 3)
            self.scripted.log.append(tuple(sorted(self.chance.sample(self.KEYS[:4], count))))
        self.scripted.show(self.chance.randint(self.scripted.shown, len(self.scripted.log)))

    def step(self) -> None:
        happens = (self.comes_back, self.listens, self.forgets, self.leaves, self.refuses, self.is_quick_or_not)
        self.chance.choice((*happens, self.goes_on, self.writes, self.writes))()
        if self.chance.random() < 0.7:
            while self.scripted.waiting and self.chance.random() < 0.8:
                self.scripted.answer()
            self.played.now_s += RETRY_S
            self.played.turn()
        self.check()

    def end(self) -> None:
        """All is well again: whoever is still there hears everything."""
        self.scripted.at_once, self.scripted.refuses = True, 0
        self.scripted.show()
        for follower, _, _ in self.followers:
            follower.slow = False
            follower.go_on_if_it_can()
        for _ in range(20):
            while self.scripted.waiting:
                self.scripted.answer()
            self.played.now_s += RETRY_S
            self.played.settle()
        self.check()
        throughs = [one.listener.through for one, _, _ in self.followers if one.gone is None and not one.is_over]
        assert set(throughs) <= {len(self.scripted.log)}

    def check(self) -> None:
        for follower, interest, after in self.followers:
            check(self.scripted, follower, interest, after)


def test_nothing_is_lost_repeated_or_turned_round_whatever_happens_in_whatever_order() -> None:
    gone = told = 0
    for seed in range(40):
        chaos = Chaos(seed)
        for _ in range(150):
            chaos.step()
        chaos.end()
        gone += sum(follower.gone is not None for follower, _, _ in chaos.followers)
        told += sum(len(follower.told) for follower, _, _ in chaos.followers)

    assert gone > 50
    assert told > 1_000


def check(scripted: Scripted, follower: Follower, interest: Interest, after: int) -> None:
    """What ``follower`` was told is the whole of what it wanted, up to where it says that it was told all."""
    through = follower.listener.through if not follower.is_over else max([after, *follower.throughs])
    wanted = []
    for revision in range(after + 1, through + 1):
        keys = [key for key in scripted.log[revision - 1] if interest.start <= key < interest.end]
        if keys:
            wanted.append(f"{revision} " + ",".join(key.decode() + "=" for key in keys))
    assert follower.lines == wanted


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
