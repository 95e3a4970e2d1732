"""What is kept of the past: the store as it stood at a revision or at a time, and the changes since one.

A revision is shown by undoing what came after it: of each key, the first event after it says what was there before.
So a page costs what has happened since; a key alone costs its own changes, each of which leads to the one before. What
is asked of a view is answered by that view alone, and bounded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import partial
from typing import Final

from raftkv.core.pages import count_of, page_of, size_of
from raftkv.core.requests import ChangesAfter, CountKeys, Get, List
from raftkv.core.results import Change, ChangePage, HistoryAhead, HistoryGone, KeyCount, KeyPage, KeyRecord, Missing
from raftkv.formats import layout
from raftkv.formats.layout import Event
from raftkv.storage.engines.port import TableReader

EVENT_BYTES: Final = 256
"""What a change counts beside its key and values, wanted or not: many small ones take as long as a few large ones."""

Place = tuple[bytes, int]
"""Where an event stands: the key of its chunk, and the place in that."""


def gone_or_ahead(reader: TableReader, revision: int) -> HistoryGone | HistoryAhead | None:
    """Why the store cannot be shown as it stood at ``revision``, if it cannot."""
    newest = layout.unpack_number(reader.get(layout.META, layout.REVISION))
    if revision > newest:
        return HistoryAhead(revision=newest)
    numbers = layout.unpack_history(reader.get(layout.META, layout.HISTORY))
    # A state that keeps no history can be shown as it stands, and no other.
    oldest = numbers.compacted if numbers.events_max else newest
    return HistoryGone(compacted_revision=oldest) if revision < oldest else None


def _moment(reader: TableReader, query: Get | List | CountKeys) -> int | HistoryGone | HistoryAhead:
    """The revision at which ``query`` looks at the store."""
    if isinstance(query, CountKeys) or query.revision:
        return gone_or_ahead(reader, query.revision) or query.revision
    return _revision_at(reader, query.at_ms)


def _revision_at(reader: TableReader, at_ms: int) -> int | HistoryGone:
    """The last revision that is not later than ``at_ms`` by the log's clock; the newest, if that has not come so far.

    What is not kept has no time, so the oldest revision that can be read counts only where nothing was before it.
    """
    newest = layout.unpack_number(reader.get(layout.META, layout.REVISION))
    if at_ms >= layout.unpack_number(reader.get(layout.META, layout.CLOCK_MS)):
        return newest
    numbers = layout.unpack_history(reader.get(layout.META, layout.HISTORY))
    oldest = numbers.compacted if numbers.events_max else newest
    later = bisect_right(range(oldest + 1, newest + 1), at_ms, key=partial(_time_ms, reader))
    return HistoryGone(compacted_revision=oldest) if oldest and not later else oldest + later


def _time_ms(reader: TableReader, revision: int) -> int:
    """When ``revision``, which is kept, came about: a command's changes have one time, and so has a chunk of them."""
    _, chunk = next(reader.scan(layout.EVENTS, layout.pack_place(revision, 0), None))
    time_ms: int = layout.unpack_chunk(chunk)[0]
    return time_ms


def events_after(reader: TableReader, revision: int) -> Iterator[Event]:
    """The changes after ``revision``, in order; whoever asks has made sure that they are kept."""
    return (event for _, _, event in _placed_after(reader, revision))


def _placed_after(reader: TableReader, revision: int) -> Iterator[tuple[Place, int, Event]]:
    """Each of them with its place and its time (ms)."""
    for key, chunk in reader.scan(layout.EVENTS, layout.pack_place(revision + 1, 0), None):
        time_ms = layout.unpack_chunk(chunk)[0]
        for start, event in _events_of(chunk):
            if event.revision > revision:
                yield (key, start), time_ms, event


def _events_of(chunk: bytes) -> Iterator[tuple[int, Event]]:
    """The events of a chunk, and where each stands in it."""
    start = layout.CHUNK_BYTES
    while start < len(chunk):
        event, end = layout.unpack_event(chunk, start)
        yield start, event
        start = end


def changes_after(reader: TableReader, query: ChangesAfter) -> ChangePage | HistoryGone | HistoryAhead:
    """What ``query`` asks for, in this view."""
    newest = layout.unpack_number(reader.get(layout.META, layout.REVISION))
    if query.revision <= newest and not layout.unpack_history(reader.get(layout.META, layout.HISTORY)).events_max:
        return HistoryGone(compacted_revision=newest + 1)  # what comes next will not be kept either
    refusal = gone_or_ahead(reader, query.revision)
    if refusal is not None:
        return refusal
    if query.end is not None and query.start >= query.end:
        return ChangePage(changes=(), through=newest, is_level=True)  # whoever asks so wants to know where it stands
    changes: list[Change] = []
    through, size_bytes = query.revision, 0
    for _, time_ms, event in _placed_after(reader, query.revision):
        if event.revision != through and size_bytes > query.limit_bytes:
            return ChangePage(changes=tuple(changes), through=through, is_level=False)
        through = event.revision
        if event.key >= query.start and (query.end is None or event.key < query.end):
            change = _change(event, time_ms, with_previous=query.previous)
            changes.append(change)
            size_bytes += sum([size_of(one) for one in (change.record, change.previous) if one is not None])
        size_bytes += len(event.key) + EVENT_BYTES
    return ChangePage(changes=tuple(changes), through=newest, is_level=True)


def _change(event: Event, time_ms: int, *, with_previous: bool) -> Change:
    before = event.before if with_previous else None
    return Change(
        revision=event.revision,
        key=event.key,
        record=layout.unpack_record(event.key, event.row) if event.row else None,
        previous=layout.unpack_record(event.key, before) if before else None,
        expired=event.expired,
        time_ms=time_ms,
    )


def record_at(reader: TableReader, query: Get) -> KeyRecord | Missing | HistoryGone | HistoryAhead:
    """The key as it stood at the moment of ``query``."""
    revision = _moment(reader, query)
    if not isinstance(revision, int):
        return revision
    row = _row_at(reader, query.key, revision)
    return Missing(key=query.key) if row is None else layout.unpack_record(query.key, row)


def _row_at(reader: TableReader, key: bytes, revision: int) -> bytes | None:
    """From what stands now back from change to change; what was removed and created again is searched for."""
    row, chunk = reader.get(layout.KEYS, key), _Chunk(reader)
    created: int | None = None
    while row is not None and (changed := layout.unpack_header(row)[2]) > revision:
        row, created = chunk.before(key, changed), changed
    if row is None:
        for event in events_after(reader, revision):
            if event.revision == created:
                break
            if event.key == key:
                row = event.before
                assert row != b""
                break
    return row


class _Chunk:
    """Looks events up, the latest first; what was read of the chunk last looked into serves the next as well."""

    def __init__(self, reader: TableReader) -> None:
        self._reader = reader
        self._before: dict[tuple[int, bytes], bytes | None] = {}

    def before(self, key: bytes, revision: int) -> bytes | None:
        """What ``key`` was before its change at ``revision``."""
        wanted = (revision, key)
        if wanted not in self._before:
            for _, chunk in self._reader.scan(layout.EVENTS, layout.pack_place(revision, 0), None):
                self._before = {(one.revision, one.key): one.before for _, one in _events_of(chunk)}
                if wanted in self._before:
                    break
        found = self._before[wanted]
        assert found != b""
        return found


def page_at(reader: TableReader, query: List) -> KeyPage | HistoryGone | HistoryAhead:
    """The page as it stood at the moment of ``query``."""
    revision = _moment(reader, query)
    if not isinstance(revision, int):
        return revision
    rows = _rows_at(reader, query, revision)
    return page_of(query, (layout.unpack_record(key, row, with_value=not query.keys_only) for key, row in rows))


def count_at(reader: TableReader, query: CountKeys) -> KeyCount | HistoryGone | HistoryAhead:
    """How many keys there were at the revision of ``query``."""
    revision = _moment(reader, query)
    return count_of(query, _rows_at(reader, query, revision)) if isinstance(revision, int) else revision


def _rows_at(reader: TableReader, query: List | CountKeys, revision: int) -> Iterator[tuple[bytes, bytes]]:
    """The rows in the range of ``query`` as they were at ``revision``, in order."""
    changed: dict[bytes, Place] = {}
    for place, _, event in _placed_after(reader, revision):
        key = event.key
        if key not in changed and key >= query.start and (query.end is None or key < query.end):
            changed[key] = place
    return _undone(reader, query, changed)


def _undone(reader: TableReader, query: List | CountKeys, changed: dict[bytes, Place]) -> Iterator[tuple[bytes, bytes]]:
    """The rows in the range of ``query``, with what ``changed`` since as it was before that change."""
    older = iter(sorted(changed))
    key_before = next(older, None)
    for key, row in reader.scan(layout.KEYS, query.start, query.end):
        while key_before is not None and key_before <= key:
            yield from _row_of(reader, key_before, changed)
            key_before = next(older, None)
        if key not in changed:
            yield key, row
    while key_before is not None:
        yield from _row_of(reader, key_before, changed)
        key_before = next(older, None)


def _row_of(reader: TableReader, key: bytes, changed: dict[bytes, Place]) -> Iterator[tuple[bytes, bytes]]:
    chunk_key, start = changed[key]
    chunk = reader.get(layout.EVENTS, chunk_key)
    assert chunk is not None
    row = layout.unpack_event(chunk, start)[0].before
    assert row != b""
    if row is not None:
        yield key, row
