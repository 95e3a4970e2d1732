"""Answers to queries from a consistent view of the machine's tables; one code for replica and front-end.

An expired key is there until a command has removed it: what a read shows depends on the log alone, never on the
reader's clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from raftkv.core.pages import ANSWER_BYTES, count_of, page_of
from raftkv.core.requests import (
    AnyOperation,
    ChangesAfter,
    CountKeys,
    FindLease,
    FindLeases,
    Get,
    LaterQuery,
    List,
    Query,
    is_of_past,
)
from raftkv.core.results import Found, KeyPage, KeyRecord, LeasePage, LeaseRecord, Missing, NoLease, Withheld
from raftkv.formats import layout
from raftkv.machine import past
from raftkv.machine.lease_rows import LeaseRow, attached, leapt_ms, lease_record, lease_row
from raftkv.storage.engines.port import TableReader

RECORD_BYTES: Final = 128
"""What a record takes up in memory beside its key and value, about."""


class Answers:
    """The records that one command, or one read of several keys, answers with: the one place that bounds them.

    A record begins only while those before it are within ``limit_bytes``, so that the first of any size is told. What
    counts is what is read, whether or not the value is told, and what a record takes up besides.
    """

    __slots__ = ("limit_bytes", "size_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 0

    def begin(self, limit_bytes: int) -> None:
        """Nothing is answered yet."""
        self.limit_bytes = limit_bytes
        self.size_bytes = 0

    @property
    def is_full(self) -> bool:
        """Is there no room for another record?"""
        return self.limit_bytes <= 0 or self.size_bytes > self.limit_bytes

    def found(self, key: bytes, row: bytes) -> KeyRecord | Withheld:
        """The record in ``row``, if there is room for it."""
        if self.is_full:
            return Withheld(key=key)
        self.size_bytes += RECORD_BYTES + len(key) + len(row)
        return layout.unpack_record(key, row)

    def page(self, rows: Iterable[tuple[bytes, bytes]], limit: int, *, keys_only: bool) -> KeyPage:
        """The page that ``rows`` begin with, as far as there is room."""
        records: list[KeyRecord] = []
        for key, row in rows:
            if len(records) == limit or self.is_full:
                return KeyPage(records=tuple(records), next_start=key)
            self.size_bytes += RECORD_BYTES + len(key) + len(row)
            records.append(layout.unpack_record(key, row, with_value=not keys_only))
        return KeyPage(records=tuple(records), next_start=None)


def answer(reader: TableReader, query: Query | LaterQuery) -> Found:  # noqa: PLR0911  one line for each kind
    """What ``query`` finds in this view."""
    if isinstance(query, Get):
        if is_of_past(query):
            return past.record_at(reader, query)
        row = reader.get(layout.KEYS, query.key)
        if row is None:
            return Missing(key=query.key)
        return layout.unpack_record(query.key, row)
    if isinstance(query, List):
        if is_of_past(query):
            return past.page_at(reader, query)
        rows = reader.scan(layout.KEYS, query.start, query.end)
        return page_of(query, (layout.unpack_record(key, row, with_value=not query.keys_only) for key, row in rows))
    if isinstance(query, ChangesAfter):
        return past.changes_after(reader, query)
    if isinstance(query, CountKeys):
        if query.revision:
            return past.count_at(reader, query)
        return count_of(query, reader.scan(layout.KEYS, query.start, query.end))
    return _lease(reader, query.lease) if isinstance(query, FindLease) else _leases(reader, query)


def _lease(reader: TableReader, lease: int) -> LeaseRecord | NoLease:
    row = lease_row(reader, lease)
    return (
        NoLease(lease=lease)
        if row is None
        else lease_record(lease, row, leapt_ms(reader), tuple(attached(reader, lease)))
    )


def _leases(reader: TableReader, query: FindLeases) -> LeasePage:
    records: list[LeaseRecord] = []
    leapt = leapt_ms(reader)
    for number, packed in reader.scan(layout.LEASES, layout.pack_number(query.start), None):
        lease = layout.unpack_number(number)
        if len(records) == query.limit:
            return LeasePage(leases=tuple(records), next_start=lease)
        records.append(lease_record(lease, LeaseRow(*layout.unpack_lease(packed)), leapt))
    return LeasePage(leases=tuple(records), next_start=None)


def several(reader: TableReader, operations: Iterable[AnyOperation]) -> tuple[KeyRecord | Missing | Withheld, ...]:
    """What the gets of a batch that changes nothing find in this view."""
    answers = Answers(ANSWER_BYTES)
    found: list[KeyRecord | Missing | Withheld] = []
    for operation in operations:
        assert isinstance(operation, Get)
        if answers.is_full:
            found.append(Withheld(key=operation.key))
            continue
        row = reader.get(layout.KEYS, operation.key)
        found.append(Missing(key=operation.key) if row is None else answers.found(operation.key, row))
    return tuple(found)


def revision(reader: TableReader) -> int:
    """The store's revision in this view: the number of changes applied since the beginning."""
    return layout.unpack_number(reader.get(layout.META, layout.REVISION))
