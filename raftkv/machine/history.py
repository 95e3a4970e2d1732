"""History: an event for every change of a key, kept by number, age and size, and forgotten by the log alone.

An event has the row of its key before and afterwards. So any revision that is kept can be shown by undoing what came
after it (``raftkv.machine.past``), and events are forgotten from the oldest on without a look at any other row.

The events of one command lie together, in chunks: a row for each event would cost more than the events do.

All is judged by the state and the machine's clock, so that every replica keeps the same. Pure.
"""

from __future__ import annotations

from typing import Final

import msgspec

from raftkv.formats import layout
from raftkv.formats.layout import HistoryNumbers
from raftkv.machine.rows import StandingRow, SummedRows
from raftkv.storage.state.tables import StateTables

CHUNK_BYTES: Final = 1 << 16
"""A chunk is full once its rows have this size: small enough to be read for one event of it."""

CHUNKS_PER_COMMAND: Final = 128
"""Chunks that one command forgets, so that applying stays short; the next goes on."""

SLACK: Final = 16
"""What is beyond a bound is forgotten down to this part of it below, so that it is done in bulk."""

HELD_BYTES: Final = 64 << 20
"""Rows before changes that one command keeps: what it has staged is in memory until it is committed."""


class _Oldest(msgspec.Struct, frozen=True, gc=False):
    """The oldest chunk: its key, the last revision in it, and the machine's time then."""

    key: bytes
    last_revision: int
    stamp_ms: int


class ChangeHistory:
    """The events of one state. ``numbers`` are all that its bounds are judged by."""

    def __init__(self, tables: StateTables, rows: SummedRows) -> None:
        self._tables = tables
        self._rows = rows
        self.numbers: HistoryNumbers = layout.unpack_history(tables.get(layout.META, layout.HISTORY))
        self.is_kept = self.numbers.events_max > 0
        """Does this state keep history?"""

        self.packed = layout.pack_history(self.numbers) if self.is_kept else b""
        """What of it enters the hash of the state beside its rows, as of the last command."""

        self._recorded: list[bytes] = []
        self._recorded_count = self._recorded_bytes = 0
        self._chunk_count = 0
        self._held_bytes = 0
        self._revision = 0
        self._oldest: _Oldest | None = None
        self._after = b""
        """No chunk has a key before this."""

    def adopt(self, revision: int, *, events_max: int, age_max_ms: int, bytes_max: int) -> None:
        """Keep history from ``revision`` on, or by other bounds than so far."""
        numbers = self.numbers
        if not self.is_kept:
            numbers.compacted = revision
            numbers.key_bytes = sum([len(row) for _, row in self._tables.scan(layout.KEYS, b"", None)])
        numbers.events_max, numbers.age_max_ms, numbers.bytes_max = events_max, age_max_ms, bytes_max
        self.is_kept = True

    def record(
        self, key: bytes, revision: int, before: StandingRow | None, row: bytes, now_ms: int, *, expired: bool = False
    ) -> None:
        """Let ``key`` have changed from ``before`` to ``row`` (empty: removed) at ``revision``."""
        numbers = self.numbers
        held: bytes | None = None
        if before is not None:
            held = before.row
            numbers.key_bytes -= len(held)
            self._held_bytes += len(held)
            if self._held_bytes > HELD_BYTES:  # what it was is not kept, so nobody may ask for it
                held, numbers.compacted = b"", revision
        numbers.key_bytes += len(row)
        self._recorded += layout.event_parts(revision, key, held, row, expired)
        self._recorded_count += 1
        self._recorded_bytes += len(row) if held is None else len(row) + len(held)
        self._revision = revision
        if self._recorded_bytes >= CHUNK_BYTES:
            self._close_chunk(now_ms)

    def compact(self, revision: int) -> None:
        """Let nothing before ``revision`` be readable; the rows go by and by."""
        self.numbers.compacted = max(self.numbers.compacted, revision)

    def finish(self, now_ms: int) -> None:
        """A command was applied: keep what it changed, and forget what nobody may read or is beyond the bounds."""
        if self._recorded:
            self._close_chunk(now_ms)
        self._chunk_count = self._held_bytes = 0
        if not self.is_kept:
            return
        if self._is_beyond(now_ms):
            for _ in range(CHUNKS_PER_COMMAND):
                self._forget_oldest()
                if not self._is_beyond(now_ms, SLACK):
                    break
        self.packed = layout.pack_history(self.numbers)
        self._tables.put(layout.META, layout.HISTORY, self.packed)

    def _close_chunk(self, now_ms: int) -> None:
        key = layout.pack_place(self._revision, self._chunk_count)
        chunk = layout.pack_chunk(now_ms, self._recorded_count, self._recorded)
        self._rows.put(layout.EVENTS, key, chunk)
        self.numbers.event_count += self._recorded_count
        self.numbers.event_bytes += len(key) + len(chunk)
        self._chunk_count += 1
        self._recorded, self._recorded_count, self._recorded_bytes = [], 0, 0

    def _is_beyond(self, now_ms: int, slack: int = 0) -> bool:
        """Is there more than is kept, less one part in ``slack`` of it, or something that nobody may read?"""
        numbers = self.numbers
        if not numbers.event_count:
            return False
        oldest = self._oldest or self._find_oldest()
        events, age_ms = numbers.events_max, numbers.age_max_ms
        size_bytes = max(numbers.bytes_max, numbers.key_bytes)
        if slack:
            events, age_ms, size_bytes = (
                events - events // slack,
                age_ms - age_ms // slack,
                size_bytes - size_bytes // slack,
            )
        return (
            oldest.last_revision <= numbers.compacted
            or numbers.event_count > events
            or numbers.event_bytes > size_bytes
            or now_ms - oldest.stamp_ms > age_ms
        )

    def _find_oldest(self) -> _Oldest:
        key, chunk = next(self._tables.scan(layout.EVENTS, self._after, None))
        self._oldest = _Oldest(key, layout.unpack_place(key)[0], layout.unpack_chunk(chunk)[0])
        return self._oldest

    def _forget_oldest(self) -> None:
        oldest = self._oldest or self._find_oldest()
        chunk, part = self._tables.find(layout.EVENTS, oldest.key)
        assert chunk is not None
        self._rows.remove(layout.EVENTS, oldest.key, part)
        numbers = self.numbers
        numbers.event_count -= layout.unpack_chunk(chunk)[1]
        numbers.event_bytes -= len(oldest.key) + len(chunk)
        numbers.compacted = max(numbers.compacted, oldest.last_revision)
        self._oldest, self._after = None, oldest.key
