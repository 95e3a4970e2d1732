"""Ordered byte tables: the port that the state machine writes through, and its in-memory end.

The LMDB end is ``raftkv.storage.engines.lmdb``. This module imports nothing but the standard library and ``parts``.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Protocol

from raftkv.storage.state.parts import row_hash


class TableReader(Protocol):
    """A consistent view of named, ordered tables of bytes. One thread owns it."""

    def get(self, table: bytes, key: bytes) -> bytes | None:
        """The value under ``key``, or ``None``."""

    def scan(self, table: bytes, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Every (key, value) with ``start`` <= key < ``end``, in bytewise order; the table must not change then."""


class Tables(TableReader, Protocol):
    """Tables that can also be written. Writes are seen by later reads at once, and by other readers after ``commit``.

    ``commit`` is atomic, not durable: after a crash of the process the last commit stands, after a crash of the machine
    the tables are rebuilt from snapshot and log.
    """

    def put(self, table: bytes, key: bytes, value: bytes) -> int:
        """Store ``value`` under ``key``; returns the row's part in the sum of rows (``raftkv.storage.state.sums``)."""

    def part(self, table: bytes, key: bytes, value: bytes) -> int:
        """The part of a row; nothing is hashed again if it is the one that ``get`` returned last."""

    def delete(self, table: bytes, key: bytes) -> None:
        """Remove ``key`` if it is there."""

    def commit(self) -> None:
        """Make everything written since the last commit visible to other readers, atomically."""


class MemoryTables:
    """``Tables`` in memory: for tests, the simulator and embedded use. A commit changes nothing here."""

    def __init__(self) -> None:
        self._values: dict[bytes, dict[bytes, bytes]] = {}
        self._keys: dict[bytes, list[bytes]] = {}

    def get(self, table: bytes, key: bytes) -> bytes | None:
        """See ``TableReader``."""
        return self._values.get(table, {}).get(key)

    def scan(self, table: bytes, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """See ``TableReader``."""
        keys, values = self._keys.get(table, []), self._values.get(table, {})
        for position in range(bisect.bisect_left(keys, start), len(keys)):
            key = keys[position]
            if end is not None and key >= end:
                return
            yield key, values[key]

    def put(self, table: bytes, key: bytes, value: bytes) -> int:
        """See ``Tables``."""
        values = self._values.setdefault(table, {})
        if key not in values:
            bisect.insort(self._keys.setdefault(table, []), key)
        values[key] = value
        return row_hash(table, key, value)

    def part(self, table: bytes, key: bytes, value: bytes) -> int:
        """See ``Tables``."""
        return row_hash(table, key, value)

    def delete(self, table: bytes, key: bytes) -> None:
        """See ``Tables``."""
        if self._values.get(table, {}).pop(key, None) is not None:
            keys = self._keys[table]
            del keys[bisect.bisect_left(keys, key)]

    def commit(self) -> None:
        """See ``Tables``."""
