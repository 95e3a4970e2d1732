"""What operations make of a document of rights: the same that they would make of keys, or nothing at all. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from raftkv.core.requests import (
    AnyOperation,
    ComparedField,
    Delete,
    Get,
    KeyComparison,
    List,
    Operator,
    Put,
    Transaction,
)
from raftkv.core.results import AnyResult, Missing, StampedDelete, StampedPut, StampedRecord, Transacted
from raftkv.formats.rights import AUTH, AUTH_END, ENABLED, NEVER, Document, Stamp, StampedRow, decoded

DELETED_KEPT: Final = 100
"""So that whoever changed something at the same time can tell whether that was undone or never came to be."""


class Amending:
    """Operations on a document: none of them is to be seen unless all could be done."""

    def __init__(self, rows: Mapping[bytes, StampedRow], stamp: Stamp) -> None:
        self._before = rows
        self._rows = dict(rows)
        self._stamp = stamp

    @property
    def document(self) -> Document:
        """What comes of it: of what was deleted, the last ``DELETED_KEPT`` stay without a value."""
        rows = [row for _, row in sorted(self._rows.items())]
        deleted = sorted([row.stamp for row in rows if row.value is None])[-DELETED_KEPT:]
        oldest = deleted[0] if deleted else self._stamp
        return tuple([row for row in rows if row.value is not None or row.stamp >= oldest])

    def do_all(self, operations: Iterable[AnyOperation]) -> tuple[AnyResult, ...] | None:
        """The results; ``None`` where one of the operations cannot be done to rights."""
        results: list[AnyResult] = []
        for one in operations:
            result = self._do(one)
            if result is None:
                return None
            results.append(result)
        return tuple(results)

    def _do(self, one: AnyOperation) -> AnyResult | None:  # noqa: PLR0911  one line for each way out
        if isinstance(one, Transaction):
            if not all(AUTH <= each.start < AUTH_END for each in one.comparisons):
                return None
            succeeded = all(map(self._holds, one.comparisons))
            results = self.do_all(one.success if succeeded else one.failure)
            return None if results is None else Transacted(succeeded=succeeded, results=results)
        if not isinstance(one, Put | Delete | Get) or not AUTH <= one.key < AUTH_END:
            return None
        row = self._rows.get(one.key)
        standing = None if row is None or row.value is None else row
        if isinstance(one, Get):
            return Missing(key=one.key) if standing is None else record_of(standing)
        if one.match is not None or (isinstance(one, Put) and not _is_meaningful(one)):
            return None
        if isinstance(one, Delete) and standing is None:
            return Missing(key=one.key)
        counter, node = self._stamp
        self._rows[one.key] = StampedRow(one.key, one.value if isinstance(one, Put) else None, counter, node)
        if isinstance(one, Delete):
            return StampedDelete(revision=counter, node=node)
        return StampedPut(version=counter, revision=counter, node=node, replaced=standing is not None)

    def _holds(self, one: KeyComparison) -> bool:
        """All comparisons see the document as it was before."""
        if one.several:
            rows = [row for row in self._before.values() if row.value is not None and is_in(row.key, one)]
            return all(_compare(one, row) for row in rows)
        row = self._before.get(one.start)
        return _compare(one, None if row is None or row.value is None else row)


def confirmed(rows: Mapping[bytes, StampedRow], stamp: Stamp) -> Document:
    """The same with a later ``stamp``: that of its latest change."""
    latest = max(rows.values(), key=lambda row: row.stamp)
    counter, node = stamp
    again = StampedRow(latest.key, latest.value, counter, node)
    return tuple([again if key == latest.key else row for key, row in sorted(rows.items())])


def came_to_be(rows: Mapping[bytes, StampedRow], stamp: Stamp, keys: Iterable[bytes]) -> bool | None:
    """Are ``rows`` made of what had that ``stamp``, at ``keys``? ``None``: it cannot be told any more."""
    standing = [rows[key].stamp if key in rows else NEVER for key in keys]
    if stamp in standing:
        return True
    deleted = sorted([row.stamp for row in rows.values() if row.value is None])
    is_remembered = len(deleted) < DELETED_KEPT or deleted[0] < stamp
    return False if any(found < stamp and (found != NEVER or is_remembered) for found in standing) else None


def _compare(one: KeyComparison, row: StampedRow | None) -> bool:
    found: int | bytes | None = 0 if row is None else row.counter
    if one.target is ComparedField.VALUE:
        found = None if row is None else row.value
    elif one.target is ComparedField.EXISTS:
        found = int(row is not None)
    if found is None or type(found) is not type(one.operand):
        return False
    match one.operator:
        case Operator.EQUAL:
            return found == one.operand
        case Operator.UNEQUAL:
            return found != one.operand
        case Operator.LESS:
            return found < one.operand  # type: ignore[operator]
        case Operator.GREATER:
            return found > one.operand  # type: ignore[operator]


def _is_meaningful(put: Put) -> bool:
    is_plain = not put.ttl_ms and not put.lease
    return is_plain and (put.key == ENABLED or decoded(put.key, put.value) is not None)


def is_in(key: bytes, span: List | KeyComparison) -> bool:
    """Does ``key`` lie in ``span``?"""
    return span.start <= key and (span.end is None or key < span.end)


def record_of(row: StampedRow) -> StampedRecord:
    """What a client is shown of ``row``, which has a value."""
    counter = row.counter
    return StampedRecord(
        key=row.key,
        value=row.value or b"",
        version=counter,
        create_revision=counter,
        mod_revision=counter,
        node=row.node,
    )
