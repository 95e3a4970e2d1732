"""What is kept of the past: the store as it stood at a revision, and the changes since one.

A revision is shown by undoing what came after it: of each key, the first event after it says what was there before.
The cost is what has happened since. What is asked of a view is answered by that view alone, and bounded.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from raftkv.core.pages import page_of, size_of
from raftkv.core.requests import ChangesAfter, Get, List
from raftkv.core.results import Change, ChangePage, HistoryAhead, HistoryGone, KeyPage, KeyRecord, Missing
from raftkv.formats import layout
from raftkv.formats.layout import Event
from raftkv.storage.engines.port import TableReader

NO_ROW = b""


class PastEvent(msgspec.Struct, frozen=True, gc=False):
    """An event and where it stands."""

    revision: int
    place: int
    event: Event


def gone_or_ahead(reader: TableReader, revision: int) -> HistoryGone | HistoryAhead | None:
    """Why the store cannot be shown as it stood at ``revision``, if it cannot."""
    newest = layout.unpack_number(reader.get(layout.META, layout.REVISION))
    if revision > newest:
        return HistoryAhead(revision=newest)
    numbers = layout.unpack_history(reader.get(layout.META, layout.HISTORY))
    # A state that keeps no history can be shown as it stands, and no other.
    oldest = numbers.compacted if numbers.events_max else newest
    return HistoryGone(compacted_revision=oldest) if revision < oldest else None


def events_after(reader: TableReader, revision: int) -> Iterator[PastEvent]:
    """The changes after ``revision``, in order; whoever asks has made sure that they are kept."""
    for place, packed in reader.scan(layout.EVENTS, layout.pack_place(revision + 1, 0), None):
        revision, number = layout.unpack_place(place)
        yield PastEvent(revision, number, layout.unpack_event(packed))


def row_before(reader: TableReader, event: Event) -> bytes | None:
    """The row that ``event`` replaced; ``None`` if there was no key, empty if it is not kept."""
    previous = event.previous
    if not isinstance(previous, tuple):
        return previous
    packed = reader.get(layout.EVENTS, layout.pack_place(*previous))
    return NO_ROW if packed is None else layout.unpack_event(packed).row


def changes_after(reader: TableReader, query: ChangesAfter) -> ChangePage | HistoryGone | HistoryAhead:
    """What ``query`` asks for, in this view."""
    refusal = gone_or_ahead(reader, query.revision)
    if refusal is not None:
        return refusal
    changes: list[Change] = []
    through, size_bytes = query.revision, 0
    for past in events_after(reader, query.revision):
        if past.revision != through and size_bytes > query.limit_bytes:
            return ChangePage(changes=tuple(changes), through=through, is_level=False)
        through = past.revision
        event = past.event
        if event.key >= query.start and (query.end is None or event.key < query.end):
            change = _change(reader, past, with_previous=query.previous)
            changes.append(change)
            size_bytes += sum([size_of(one) for one in (change.record, change.previous) if one is not None])
        size_bytes += len(event.key)
    newest = layout.unpack_number(reader.get(layout.META, layout.REVISION))
    return ChangePage(changes=tuple(changes), through=newest, is_level=True)


def _change(reader: TableReader, past: PastEvent, *, with_previous: bool) -> Change:
    event = past.event
    before = row_before(reader, event) if with_previous else None
    return Change(
        revision=past.revision,
        key=event.key,
        record=layout.unpack_record(event.key, event.row) if event.row else None,
        previous=layout.unpack_record(event.key, before) if before else None,
        expired=event.expired,
    )


def record_at(reader: TableReader, query: Get) -> KeyRecord | Missing | HistoryGone | HistoryAhead:
    """The key as it stood at the revision of ``query``."""
    refusal = gone_or_ahead(reader, query.revision)
    if refusal is not None:
        return refusal
    row = reader.get(layout.KEYS, query.key)
    if row is None or layout.unpack_header(row)[2] > query.revision:
        for past in events_after(reader, query.revision):
            if past.event.key == query.key:
                row = row_before(reader, past.event)
                assert row != NO_ROW
                break
    return Missing(key=query.key) if row is None else layout.unpack_record(query.key, row)


def page_at(reader: TableReader, query: List) -> KeyPage | HistoryGone | HistoryAhead:
    """The page as it stood at the revision of ``query``."""
    refusal = gone_or_ahead(reader, query.revision)
    if refusal is not None:
        return refusal
    changed: dict[bytes, tuple[int, int]] = {}
    for past in events_after(reader, query.revision):
        key = past.event.key
        if key not in changed and key >= query.start and (query.end is None or key < query.end):
            changed[key] = (past.revision, past.place)
    records = (
        layout.unpack_record(key, row, with_value=not query.keys_only) for key, row in _undone(reader, query, changed)
    )
    return page_of(query, records)


def _undone(reader: TableReader, query: List, changed: dict[bytes, tuple[int, int]]) -> Iterator[tuple[bytes, bytes]]:
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


def _row_of(reader: TableReader, key: bytes, changed: dict[bytes, tuple[int, int]]) -> Iterator[tuple[bytes, bytes]]:
    packed = reader.get(layout.EVENTS, layout.pack_place(*changed[key]))
    assert packed is not None
    row = row_before(reader, layout.unpack_event(packed))
    assert row != NO_ROW
    if row is not None:
        yield key, row
