"""History: an event for every change of a key, kept by number, age and size, and forgotten by the log alone.

An event has the row of its key afterwards, and says where the row before it stands: in the event of the change before,
or in itself if that is gone. So any revision that is kept can be shown by undoing what came after it
(``raftkv.machine.past``), and nothing has to be looked up when a key changes.

**Compaction passes over the events in order.** Where it passes an event, what that points at is needed no more and is
dropped; and the event itself, unless a later change of the key points at it, which is so if it is neither a removal
nor what the key holds now. Each event is thus dropped once, either when it is passed or when its successor is. A
change of a key whose last event is gone holds the row that it replaced.

All is judged by the state and the machine's clock, so that every replica keeps the same. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from raftkv.formats import layout
from raftkv.formats.layout import HistoryNumbers
from raftkv.machine.rows import StandingRow, SummedRows
from raftkv.storage.state.tables import StateTables

PASSED_PER_COMMAND: Final = 1_000
"""Events that one command passes, to the end of a revision, so that applying stays short."""

SLACK: Final = 16
"""A bound may be passed by this part of itself before anything is dropped, so that it is done in bulk."""


class ChangeHistory:
    """The events of one state. ``numbers`` are all that its bounds are judged by."""

    def __init__(self, tables: StateTables, rows: SummedRows) -> None:
        self._tables = tables
        self._rows = rows
        self.numbers: HistoryNumbers = layout.unpack_history(tables.get(layout.META, layout.HISTORY))
        self._oldest_ms: int | None = None
        self.is_kept = self.numbers.events_max > 0
        """Does this state keep history?"""

    @property
    def packed(self) -> bytes:
        """What of it enters the hash of the state beside its rows."""
        return layout.pack_history(self.numbers) if self.is_kept else b""

    def adopt(self, revision: int, *, events_max: int, age_max_ms: int, bytes_max: int) -> None:
        """Keep history from ``revision`` on, or by other bounds than so far."""
        numbers = self.numbers
        if not self.is_kept:
            numbers.compacted = numbers.passed = revision
            numbers.key_bytes = sum([len(row) for _, row in self._tables.scan(layout.KEYS, b"", None)])
        numbers.events_max, numbers.age_max_ms, numbers.bytes_max = events_max, age_max_ms, bytes_max
        self.is_kept = True

    def record(  # noqa: PLR0917  a change, and what it changes
        self,
        key: bytes,
        revision: int,
        place: int,
        before: StandingRow | None,
        row: bytes,
        now_ms: int,
        *,
        expired: bool = False,
    ) -> None:
        """Let ``key`` have changed from ``before`` to ``row`` (empty: removed), at a place in a revision."""
        numbers = self.numbers
        previous: tuple[int, int] | bytes | None = None
        if before is not None:
            numbers.key_bytes -= len(before.row)
            if before.mod_revision > numbers.passed:
                previous = (before.mod_revision, before.place)
            elif numbers.event_bytes + len(before.row) <= self._bytes_max:
                previous = before.row
            else:  # what it was cannot be kept, so nobody may ask for it
                previous, numbers.compacted = b"", revision
        numbers.key_bytes += len(row)
        packed = layout.pack_event(key, row, now_ms, previous, expired)
        self._rows.put(layout.EVENTS, layout.pack_place(revision, place), packed)
        numbers.event_count += 1
        numbers.event_bytes += layout.PLACE_BYTES + len(packed)

    def compact(self, revision: int) -> None:
        """Let nothing before ``revision`` be readable; the rows go by and by."""
        self.numbers.compacted = max(self.numbers.compacted, revision)

    def trim(self, now_ms: int) -> None:
        """Pass over what is forgotten, and what is beyond the bounds."""
        if self.is_kept and (self._is_owed or self._is_beyond(now_ms, SLACK)):
            self._pass_over(now_ms)

    def store(self) -> None:
        """Let the numbers be committed with the rows."""
        if self.is_kept:
            self._tables.put(layout.META, layout.HISTORY, self.packed)

    @property
    def _bytes_max(self) -> int:
        return max(self.numbers.bytes_max, self.numbers.key_bytes)

    @property
    def _is_owed(self) -> bool:
        """Is there something left to pass that nobody may read?"""
        return self.numbers.passed < self.numbers.compacted

    def _is_beyond(self, now_ms: int, slack: int | None = None) -> bool:
        """Is there more than is kept, by more than one part in ``slack`` of it?"""

        def more(amount: int, bound: int) -> bool:
            return amount > (bound if slack is None else bound + bound // slack)

        numbers = self.numbers
        if not numbers.event_count:
            return False
        if self._oldest_ms is None:
            _, packed = next(self._after_passed())
            self._oldest_ms = layout.unpack_event(packed).stamp_ms
        return (
            more(numbers.event_count, numbers.events_max)
            or more(numbers.event_bytes, self._bytes_max)
            or more(now_ms - self._oldest_ms, numbers.age_max_ms)
        )

    def _after_passed(self) -> Iterator[tuple[bytes, bytes]]:
        return self._tables.scan(layout.EVENTS, layout.pack_place(self.numbers.passed + 1, 0), None)

    def _pass_over(self, now_ms: int) -> None:
        """Pass over whole revisions, until what is left is within the bounds, or enough for once."""
        numbers = self.numbers
        revisions: list[tuple[int, list[_Passed]]] = []
        for seen, (place, packed) in enumerate(self._after_passed()):
            revision, _ = layout.unpack_place(place)
            if not revisions or revisions[-1][0] != revision:
                if seen >= PASSED_PER_COMMAND:
                    break
                revisions.append((revision, []))
            event = layout.unpack_event(packed)
            previous = event.previous if isinstance(event.previous, tuple) else None
            revisions[-1][1].append(_Passed(place, event.key, bool(event.row), previous, event.stamp_ms))
        for revision, events in revisions:
            self._oldest_ms = events[0].stamp_ms
            if revision > numbers.compacted and not self._is_beyond(now_ms):
                break
            for passed in events:
                self._pass(passed)
            numbers.passed = revision
            numbers.event_count -= len(events)
            numbers.compacted = max(numbers.compacted, revision)
            self._oldest_ms = None
        if not numbers.event_count:
            numbers.passed = max(numbers.passed, numbers.compacted)

    def _pass(self, event: _Passed) -> None:
        if event.previous is not None:
            self._drop(layout.pack_place(*event.previous))
        if event.is_put:
            row = self._tables.get(layout.KEYS, event.key)
            if row is None or layout.pack_place(*layout.last_change(row)) != event.place:
                return  # a later change points at it
        self._drop(event.place)

    def _drop(self, place: bytes) -> None:
        row, part = self._tables.find(layout.EVENTS, place)
        assert row is not None
        self._rows.remove(layout.EVENTS, place, part)
        self.numbers.event_bytes -= len(place) + len(row)


class _Passed(NamedTuple):
    """What passing an event needs of it."""

    place: bytes
    key: bytes
    is_put: bool
    previous: tuple[int, int] | None
    stamp_ms: int
