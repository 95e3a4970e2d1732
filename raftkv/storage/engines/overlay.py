"""What was changed in one table and is not committed yet, laid over what an engine holds.

Whoever stages changes reads his own at once; everybody else reads the engine, and sees them after the commit. This
module imports nothing but the standard library and its neighbours.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from raftkv.storage.engines.port import Row

V = TypeVar("V")


class Overlay(Generic[V]):
    """The staged rows of one table by key, ``None`` where one is to go. ``V`` is a row as its owner has it in hand.

    ``rows`` is always the same object, to be read; only ``put`` and ``clear`` change it.
    """

    __slots__ = ("_order", "rows")

    def __init__(self) -> None:
        self.rows: dict[bytes, V | None] = {}
        self._order: list[bytes] | None = None

    def put(self, key: bytes, row: V | None) -> None:
        """Stage ``row`` under ``key``, or its removal."""
        if self._order is not None and key not in self.rows:
            insort(self._order, key)
        self.rows[key] = row

    def over(
        self, committed: Iterator[Row], start: bytes, end: bytes | None, shown: Callable[[V], bytes]
    ) -> Iterator[Row]:
        """The rows with ``start`` <= key < ``end`` in order; ``committed`` are those of the engine.

        ``shown`` tells how a staged row reads. Nothing may be staged before the scan is at its end, or given up.
        """
        if not self.rows:
            return committed
        if self._order is None:
            self._order = sorted(self.rows)
        first = bisect_left(self._order, start)
        last = len(self._order) if end is None else bisect_left(self._order, end)
        return committed if first >= last else self._merged(committed, self._order[first:last], shown)

    def _merged(self, committed: Iterator[Row], staged: list[bytes], shown: Callable[[V], bytes]) -> Iterator[Row]:
        found = next(committed, None)
        for key in staged:
            while found is not None and found[0] < key:
                yield found
                found = next(committed, None)
            if found is not None and found[0] == key:
                found = next(committed, None)
            row = self.rows[key]
            if row is not None:
                yield key, shown(row)
        while found is not None:
            yield found
            found = next(committed, None)

    def clear(self) -> None:
        """What was staged is committed, or given up."""
        self.rows.clear()
        self._order = None
