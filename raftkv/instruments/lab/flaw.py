"""The contradictions that have a name, found without a search.

Each recogniser looks for one pattern among all operations on a key, and yields it only where it is a contradiction
whatever else happened: who may have written a value is asked of everybody. Not every contradiction has a name. Each
recogniser takes about one sort, so that the common flaws are found at once, also in histories that would take a search
very long. Pure. Imports its neighbours ``history`` and ``specification``.
"""

from __future__ import annotations

import bisect
import enum
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from raftkv.instruments.lab.history import CompareAndSet, ObservedOperation, Outcome, PutAction
from raftkv.instruments.lab.specification import State, Test, transition_of, without_test


class FlawKind(enum.StrEnum):
    """The flaws, by name."""

    DIRTY_READ = "dirty read"
    """The value of a write that failed, or of a compare-and-set that was told that it did nothing."""

    INVENTED_VALUE = "invented value"
    """A value that nobody wrote, or not yet."""

    STALE_READ = "stale read"
    """A value that had been replaced before the read began."""

    LOST_WRITE = "lost write"
    """Nothing, where an acknowledged write should be."""

    RESURRECTED = "resurrected delete"
    """A value that had been deleted before the read began."""

    BACKWARDS = "non-monotonic read"
    """An older value, after somebody had read a newer one."""

    REAPPEARED = "value applied twice"
    """A value that was written once was there, was not, and was there again."""

    LOST_UPDATE = "lost update"
    """Two conditional writes that replaced the same value, which was written once."""

    SIBLINGS = "siblings"
    """Several values at once, which no single copy has."""

    OTHER = "contradiction"
    """No order explains the answers, but there is no short name for it."""


class Flaw(msgspec.Struct, frozen=True, kw_only=True):
    """What ``accused`` was told cannot be, because of ``other``: what that is depends on the kind.

    ``operations`` are a contradiction by themselves, in order of invocation. ``refused`` had no effect, but belongs to
    the story.
    """

    kind: FlawKind
    accused: ObservedOperation
    other: ObservedOperation | None
    operations: tuple[ObservedOperation, ...]
    refused: tuple[ObservedOperation, ...] = ()


def recognised(operations: Sequence[ObservedOperation]) -> Flaw | None:
    """The flaw in ``operations`` of one key that showed first, or ``None`` when there is none that has a name.

    The operations must be in order of invocation.
    """
    case = Case(operations)
    recognisers = (_unwritten, _outdated, _backwards, _reappeared, _replaced_twice)
    flaws = [flaw for recognise in recognisers for flaw in recognise(case)]
    return min(flaws, key=lambda flaw: (flaw.accused.returned_ns or 0, len(flaw.operations)), default=None)


def unnamed(operations: Sequence[ObservedOperation]) -> Flaw:
    """What can be said of any contradiction: that it shows at the latest with the answer that was asked for last."""
    known = [operation for operation in operations if operation.outcome is Outcome.OK]
    accused = max(known, key=lambda operation: operation.invoked_ns)
    return Flaw(kind=FlawKind.OTHER, accused=accused, other=None, operations=tuple(operations))


def two_at_once(operations: Iterable[ObservedOperation]) -> Flaw | None:
    """The first read that was given several values, with those who may have written them, if there is one."""
    operations = list(operations)
    read = next((operation for operation in operations if operation.siblings), None)
    if read is None:
        return None
    values = {read.result, *read.siblings}
    writers = [
        operation
        for operation in operations
        if operation.key == read.key
        and isinstance(operation.action, PutAction)
        and operation.action.value in values
        and operation.outcome is not Outcome.FAILED
    ]
    return Flaw(kind=FlawKind.SIBLINGS, accused=read, other=None, operations=(*writers, read))


class _Event(NamedTuple):
    """Somebody certainly found the key in ``state``, or certainly wrote ``state``, between two moments."""

    operation: ObservedOperation
    state: State
    invoked_ns: int
    returned_ns: int


class Writers:
    """Everybody who may have written a value, in order of invocation; who began after a moment is nothing to it."""

    def __init__(self, operations: Sequence[ObservedOperation]) -> None:
        self._operations = operations
        self._invoked_ns = [operation.invoked_ns for operation in operations]
        returns_ns = (
            math.inf if each.outcome is Outcome.UNKNOWN or each.returned_ns is None else each.returned_ns
            for each in operations
        )
        self._latest_ns = list(itertools.accumulate(returns_ns, max))

    def begun_by(self, moment_ns: int) -> Sequence[ObservedOperation]:
        """Those who had begun."""
        return self._operations[: bisect.bisect_right(self._invoked_ns, moment_ns)]

    def first(self) -> ObservedOperation | None:
        """Who began first."""
        return self._operations[0] if self._operations else None

    def first_ns(self) -> float:
        """When the first began; before everything when there is none."""
        return self._invoked_ns[0] if self._invoked_ns else -math.inf

    def over_ns(self, moment_ns: float) -> float:
        """When all who had begun by ``moment_ns`` had ended; before everything when there is none."""
        begun_count = bisect.bisect_right(self._invoked_ns, moment_ns)
        return self._latest_ns[begun_count - 1] if begun_count else -math.inf


_NOBODY = Writers(())


class Case:
    """Operations on one key, in order of invocation: who found what, who wrote what, and who may have written what."""

    def __init__(self, operations: Sequence[ObservedOperation]) -> None:
        self.sights: list[_Event] = []
        self.writes: list[_Event] = []
        self.refused: dict[State, ObservedOperation] = {}
        writers: dict[State, list[ObservedOperation]] = {}
        for operation in operations:
            transition = transition_of(operation)
            returned_ns = operation.returned_ns
            is_refused = operation.outcome is Outcome.FAILED or operation.result is False
            if is_refused and isinstance(operation.action, PutAction | CompareAndSet):
                self.refused.setdefault(operation.action.value, operation)
            if transition is None:
                continue
            if transition.writes:
                writers.setdefault(transition.value, []).append(operation)
            if operation.outcome is not Outcome.OK or returned_ns is None:
                continue
            if transition.writes:
                self.writes.append(_Event(operation, transition.value, operation.invoked_ns, returned_ns))
            if transition.test is Test.EQUAL:
                self.sights.append(_Event(operation, transition.against, operation.invoked_ns, returned_ns))
        self.sights_of: dict[State, list[_Event]] = {}
        for sight in self.sights:
            self.sights_of.setdefault(sight.state, []).append(sight)
        self._writers = {value: Writers(each) for value, each in writers.items()}

    def writers(self, value: State) -> Writers:
        """Everybody who may have written ``value``; the absence that was there at first has no writer."""
        return self._writers.get(value, _NOBODY)

    def origin(self, sight: _Event) -> Sequence[ObservedOperation]:
        """The last of those who may have written what was found; none if it was absent from the first."""
        return self.writers(sight.state).begun_by(sight.returned_ns)[-1:]


def _flaw(
    kind: FlawKind,
    accused: _Event,
    other: ObservedOperation | None,
    *,
    sights: Iterable[_Event] = (),
    writes: Iterable[ObservedOperation],
) -> Flaw:
    """A flaw in what ``accused`` and the other ``sights`` found; of ``writes`` it matters only that they were done."""
    seen = [accused.operation, *(sight.operation for sight in sights)]
    done = [without_test(write) for write in writes if write not in seen]
    operations = sorted(dict.fromkeys([*seen, *done]), key=lambda operation: operation.invoked_ns)
    return Flaw(kind=kind, accused=accused.operation, other=other, operations=tuple(operations))


def _unwritten(case: Case) -> Iterator[Flaw]:
    """Values that nobody had begun to write; ``other`` is who did later, or whose write of it was refused."""
    for sight in case.sights:
        if sight.state is None or case.origin(sight):
            continue
        later, refused = case.writers(sight.state).first(), case.refused.get(sight.state)
        if later is not None:
            yield _flaw(FlawKind.INVENTED_VALUE, sight, later, writes=[later])
        elif refused is None:
            yield _flaw(FlawKind.INVENTED_VALUE, sight, None, writes=())
        else:
            flaw = _flaw(FlawKind.DIRTY_READ, sight, refused, writes=())
            yield msgspec.structs.replace(flaw, refused=(refused,))


def _outdated(case: Case) -> Iterator[Flaw]:
    """Values all of whose writers had ended before ``other``, a write, began, which had ended before they were found.

    Of the writes that had ended by then it is enough to look at the one that began last.
    """
    ended = sorted(case.writes, key=_returned_ns)
    latest = _greatest_so_far(ended, key=_invoked_ns)
    for sight in case.sights:
        ended_count = bisect.bisect_left(ended, sight.invoked_ns, key=_returned_ns)
        if not ended_count:
            continue
        write = latest[ended_count - 1]
        if write.state == sight.state or case.writers(sight.state).over_ns(sight.returned_ns) >= write.invoked_ns:
            continue
        kind = FlawKind.STALE_READ if write.state is not None else FlawKind.RESURRECTED
        kind = kind if sight.state is not None else FlawKind.LOST_WRITE
        yield _flaw(kind, sight, write.operation, writes=[*case.origin(sight), write.operation])


def _backwards(case: Case) -> Iterator[Flaw]:
    """Values all of whose writers had ended before anybody wrote what ``other`` had already found."""

    def begun_ns(sight: _Event) -> float:
        return case.writers(sight.state).first_ns()

    # The absence at first is older than everything, whoever deleted the key later.
    ended = sorted((sight for sight in case.sights if sight.state is not None), key=_returned_ns)
    newest = _greatest_so_far(ended, key=begun_ns)
    for older in case.sights:
        ended_count = bisect.bisect_left(ended, older.invoked_ns, key=_returned_ns)
        if not ended_count:
            continue
        newer = newest[ended_count - 1]
        if case.writers(older.state).over_ns(older.returned_ns) < begun_ns(newer):
            writes = [*case.origin(older), *case.origin(newer)]
            yield _flaw(FlawKind.BACKWARDS, older, newer.operation, sights=[newer], writes=writes)


def _reappeared(case: Case) -> Iterator[Flaw]:
    """Values with one writer that were there, then were not, as ``other`` found, and were there again."""
    for value, sights in case.sights_of.items():
        first = min(sights, key=_returned_ns)
        again = max(sights, key=_invoked_ns)
        writers = case.writers(value).begun_by(again.returned_ns)
        if value is None or len(writers) != 1:
            continue
        written_ns = case.writers(value).over_ns(again.returned_ns)
        there_ns = min(written_ns, first.returned_ns)
        since = bisect.bisect_right(case.sights, there_ns, key=_invoked_ns)
        until = bisect.bisect_left(case.sights, again.invoked_ns, key=_invoked_ns)
        for between in case.sights[since:until]:
            if between.state != value and between.returned_ns < again.invoked_ns:
                needed = [between] if written_ns <= first.returned_ns else [first, between]
                writes = [*writers, *case.origin(between)]
                yield _flaw(FlawKind.REAPPEARED, again, between.operation, sights=needed, writes=writes)
                break


def _replaced_twice(case: Case) -> Iterator[Flaw]:
    """Values with one writer that two conditional writes replaced; ``other`` is the first."""
    for value, sights in case.sights_of.items():
        replacing = sorted((sight for sight in sights if _writes(sight.operation)), key=_returned_ns)[:2]
        if value is None or len(replacing) < 2:
            continue
        first, last = replacing
        writers = case.writers(value).begun_by(last.returned_ns)
        if len(writers) == 1:
            yield _flaw(FlawKind.LOST_UPDATE, last, first.operation, sights=[first], writes=writers)


def _greatest_so_far(events: Iterable[_Event], key: Callable[[_Event], float]) -> list[_Event]:
    def greater(one: _Event, another: _Event) -> _Event:
        return max(one, another, key=key)

    return list(itertools.accumulate(events, greater))


def _invoked_ns(event: _Event) -> int:
    return event.invoked_ns


def _returned_ns(event: _Event) -> int:
    return event.returned_ns


def _writes(operation: ObservedOperation) -> bool:
    transition = transition_of(operation)
    return transition is not None and transition.writes
