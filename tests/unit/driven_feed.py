"""A feed that tests drive turn by turn, over a real machine and over a scripted replicator, and who listens to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from raftkv.coordination.audience import Interest
from raftkv.coordination.feed import Feed, Heard
from raftkv.core.errors import Code, Refused
from raftkv.core.keys import SYSTEM, prefix_end
from raftkv.core.replicator import Pending, Shown, Subscribers, Subscription
from raftkv.core.requests import ChangesAfter, Consistency, Put, Read, Request, Transaction, Write
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
