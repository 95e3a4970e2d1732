"""Answers to queries from a consistent view of the machine's tables; one code for replica and front-end.

An expired key is there until a command has removed it: what a read shows depends on the log alone, never on the
reader's clock.
"""

from __future__ import annotations

from raftkv.core.pages import page_of
from raftkv.core.requests import Get, Query
from raftkv.core.results import Missing, Page, Record
from raftkv.machine import layout
from raftkv.storage.tables import TableReader


def answer(reader: TableReader, query: Query) -> Record | Missing | Page:
    """What ``query`` finds in this view."""
    if isinstance(query, Get):
        row = reader.get(layout.KEYS, query.key)
        if row is None:
            return Missing(key=query.key)
        return layout.unpack_record(query.key, row)
    rows = reader.scan(layout.KEYS, query.start, query.end)
    return page_of(query, (layout.unpack_record(key, row, with_value=not query.keys_only) for key, row in rows))


def revision(reader: TableReader) -> int:
    """The store's revision in this view: the number of changes applied since the beginning."""
    return layout.unpack_number(reader.get(layout.META, layout.REVISION))
