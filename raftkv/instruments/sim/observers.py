"""Who observes elections: the product's follower, led through the log of a run; and whether it was told who led.

Nothing more happens in the run for it. At the end an observer begins at a moment of the log, hears what changed from
then on, each revision whole, reads what it must at later moments, leaves after what it has seen or after what it was
told last, and goes on elsewhere; the model answers its reads, and tells it when what it asks for was forgotten. That
the feed tells all changes, once and in order, is shown by ``watchers``. What is promised, and held against the log:

- From where it began an observer was told each leader, in order, once, and nobody who never led, with each value that
  it was known by from then on: he leads at a revision who has the lowest create revision of all who stand then.
- Moving leaves nothing out and repeats nothing. Only where history is forgotten does it begin anew.
"""

from __future__ import annotations

import bisect
import random as random_module
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from raftkv.coordination import succession
from raftkv.coordination.names import ELECTIONS, Contender, Queue, contender_of, names_among
from raftkv.coordination.steps import Circumstances, Plan, Submit
from raftkv.coordination.succession import Beginning
from raftkv.core.requests import ChangesAfter, Consistency, Get, LaterQuery, List, Query, Read
from raftkv.core.results import Answer, Change, ChangePage, HistoryGone, KeyRecord
from raftkv.instruments.sim.log_order import LogOrder

OBSERVERS_COUNT: Final = 3
"""Of each election."""

MOVES_MAX: Final = 6
_HERE: Final = Circumstances(lambda: 0.0, lambda: False)


class Reign(NamedTuple):
    """Who leads from ``revision`` on, and is known by what, if anybody does."""

    revision: int
    leader: Contender | None


class ObservedStretch(msgspec.Struct):
    """What an observer was told without a gap, after revision ``after`` or of it, too, up to ``through``."""

    after: int
    through: int
    has_first: bool
    told: list[Reign] = []


def check_elections(order: LogOrder, dice: random_module.Random) -> None:
    """Let every election be observed; raises ``AssertionError``."""
    _, _, names = names_among({change.key for change in order.changes})
    for name in sorted(names):
        queue = Queue(ELECTIONS, name)
        reigns = list(_reigns(order, queue))
        for _ in range(OBSERVERS_COUNT):
            observer = _Observer(order, queue, dice)
            observer.observe()
            for stretch in observer.stretches:
                _check_stretch(stretch, reigns)


def _reigns(order: LogOrder, queue: Queue) -> Iterator[Reign]:
    """Whoever led, from the beginning."""
    standing: dict[bytes, KeyRecord] = {}
    before = None
    for revision, changes in _revisions(order, queue, 0, order.states[-1].revision):
        for change in changes:
            standing.pop(change.key, None)
            if change.record is not None:
                standing[change.key] = change.record
        leader = min(standing.values(), key=attrgetter("create_revision"), default=None)
        if leader is not before:
            yield Reign(revision, _known(leader))
        before = leader


def _known(record: KeyRecord | None) -> Contender | None:
    return None if record is None else contender_of(ELECTIONS, record)


def _revisions(order: LogOrder, queue: Queue, after: int, through: int) -> Iterator[tuple[int, Sequence[Change]]]:
    interest = succession.interest_in(queue)
    changes = [
        msgspec.structs.replace(change, previous=None)
        for change in order.changes_between(after, through)
        if interest.start <= change.key < interest.end
    ]
    for revision, found in groupby(changes, attrgetter("revision")):
        yield revision, tuple(found)


def _check_stretch(stretch: ObservedStretch, reigns: list[Reign]) -> None:
    led = [reign for reign in reigns if stretch.after < reign.revision <= stretch.through]
    if stretch.has_first:
        before = [reign.leader for reign in reigns if reign.revision <= stretch.after]
        led = [Reign(stretch.after, before[-1] if before else None), *led]
    assert stretch.told == led, (
        f"after {stretch.after} through {stretch.through} an observer was\ntold {stretch.told}\nand led {led}"
    )


class _Observer:
    """One observer; ``stretches`` are what it was told, and it stands at index ``_at`` of the log."""

    def __init__(self, order: LogOrder, queue: Queue, dice: random_module.Random) -> None:
        self.stretches: list[ObservedStretch] = []
        self._order = order
        self._queue = queue
        self._dice = dice
        begins = dice.choice([revision for revision, _ in _revisions(order, queue, 0, order.states[-1].revision)])
        self._at = bisect.bisect_left(order.states, begins, key=attrgetter("revision"))

    def observe(self) -> None:
        """Begin somewhere, and go on elsewhere a few times."""
        after = self._dice.choice((None, None, 0))
        for _ in range(MOVES_MAX):
            begun = self._perform(succession.begin(self._queue, after, 1.0, _HERE))
            if isinstance(begun, HistoryGone):
                assert begun.compacted_revision > (after or 0), f"{begun}, and it has seen all up to {after}"
                after = None
                continue
            assert isinstance(begun, Beginning), f"nobody can follow: {begun}"
            if after is None or not self.stretches:
                self.stretches.append(ObservedStretch(begun.revision, begun.revision, begun.first is not None))
            stretch = self.stretches[-1]
            if begun.first is not None:
                stretch.told.append(Reign(begun.first.revision, _known(begun.first.record)))
            after = self._listen(stretch, begun)

    def _listen(self, stretch: ObservedStretch, begun: Beginning) -> int | None:
        """Be told for a while; after which revision to go on, ``None`` where that is forgotten."""
        self._wait()
        through = self._order.states[self._at].revision
        heard = _revisions(self._order, self._queue, begun.revision, through)
        for accession in begun.succession.accessions(heard):
            query = accession.value_read
            record = accession.record if query is None else self._read(query)
            if isinstance(record, HistoryGone):
                stretch.through = accession.revision - 1
                return None
            assert record is None or isinstance(record, KeyRecord), f"{query} finds {record}"
            stretch.told.append(Reign(accession.revision, _known(record)))
        stretch.through = through
        return self._dice.choice((through, stretch.told[-1].revision)) if stretch.told else through

    def _wait(self) -> None:
        """Let time pass: a moment, or until the end."""
        last = len(self._order.states) - 1
        self._at = self._dice.choice((self._at, min(self._at + 3, last), self._dice.randint(self._at, last), last))

    def _read(self, query: Query | LaterQuery) -> object:
        nothing = (
            ChangePage(changes=(), through=query.revision, is_level=False) if isinstance(query, ChangesAfter) else 0
        )
        return self._order.found(self._order.states[self._at], query, nothing)

    def _perform(self, plan: Plan[Any]) -> object:
        """What comes of ``plan``, whose reads are linearizable: they are no earlier than what it has seen."""
        outcome: Answer | None = None
        while True:
            try:
                step = plan.send(outcome)
            except StopIteration as end:
                return end.value
            assert isinstance(step, Submit)
            assert isinstance(step.request, Read)
            query = step.request.query
            assert isinstance(query, Get | List | ChangesAfter)
            outcome = Answer(
                content=self._read(query),  # type: ignore[arg-type]
                consistency=Consistency.LINEARIZABLE,
                revision=self._order.states[self._at].revision,
            )
            self._wait()
