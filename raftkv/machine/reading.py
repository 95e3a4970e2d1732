"""Answers to queries from a consistent view of the machine's tables; one code for replica and front-end.

An expired key is there until a command has removed it: what a read shows depends on the log alone, never on the
reader's clock.
"""

from __future__ import annotations

from typing import Final

from raftkv.core.requests import Get, Query
from raftkv.core.results import Missing, Page, Record
from raftkv.machine import layout
from raftkv.storage.tables import TableReader

PAGE_BYTES: Final = 8 << 20
"""A page ends early once its values pass this size, so that no answer is unbounded."""


def answer(reader: TableReader, query: Query) -> Record | Missing | Page:
    """What ``query`` finds in this view."""
    if isinstance(query, Get):
        row = reader.get(layout.KEYS, query.key)
        if row is None:
            return Missing(key=query.key)
        return layout.unpack_record(query.key, row)
    records: list[Record] = []
    size_bytes = 0
    for key, row in reader.scan(layout.KEYS, query.start, query.end):
        if len(records) == query.limit or size_bytes > PAGE_BYTES:
            return Page(records=tuple(records), next_start=key)
        records.append(layout.unpack_record(key, row, with_value=not query.keys_only))
        size_bytes += len(key) if query.keys_only else len(key) + len(row)
    return Page(records=tuple(records), next_start=None)


def revision(reader: TableReader) -> int:
    """The store's revision in this view: the number of changes applied since the beginning."""
    return layout.unpack_number(reader.get(layout.META, layout.REVISION))
