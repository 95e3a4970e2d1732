"""How much one answer may hold, whoever gives it: the one place where a page ends, and where a batch of reads does.

Imports its neighbours in ``core`` only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from raftkv.core.errors import Code, Refused
from raftkv.core.requests import CountKeys, List
from raftkv.core.results import KeyCount, KeyPage, KeyRecord

ANSWER_BYTES: Final = 8 << 20
"""An answer ends once its keys and values pass this size: it holds at most one value more."""

TOO_LARGE: Final = Refused(
    code=Code.VALUE_TOO_LARGE, detail="what is asked for is too large for one answer; ask for fewer keys at a time"
)


def size_of(record: KeyRecord) -> int:
    """What ``record`` adds to an answer, in bytes."""
    return len(record.key) + len(record.value)


def page_of(query: List, found: Iterable[KeyRecord], limit_bytes: int | None = None) -> KeyPage:
    """The page that ``found``, in key order, begins with: full by ``query.limit`` or by bytes, whichever is first."""
    records: list[KeyRecord] = []
    size_bytes, limit_bytes = 0, ANSWER_BYTES if limit_bytes is None else limit_bytes
    for record in found:
        if len(records) == query.limit or size_bytes > limit_bytes:
            return KeyPage(records=tuple(records), next_start=record.key)
        records.append(record)
        size_bytes += size_of(record)
    return KeyPage(records=tuple(records), next_start=None)


def count_of(query: CountKeys, rows: Iterable[tuple[bytes, object]]) -> KeyCount:
    """How many ``rows`` there are, in key order, as far as ``query`` looks."""
    count = 0
    for key, _ in rows:
        if count == query.limit:
            return KeyCount(count=count, next_start=key)
        count += 1
    return KeyCount(count=count)
