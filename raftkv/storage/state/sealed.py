"""The rows of an applied state, read through their seals.

The state is read straight from a memory map, so nothing but its seals (``raftkv.formats.seals``) would notice a byte
that the disk or a stray write has changed. What does not check out is ``DamagedState``: the state is a cache of
snapshot and log, and is rebuilt from them.

Rows of long keys that share their first 480 bytes lie side by side, and a scan sorts them by their full keys.

This module imports nothing but the standard library, ``raftkv.formats`` and its neighbours in ``storage``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from raftkv.formats.seals import LONG_KEY_BYTES, RAW_KEY_BYTES, opened, part_of, physical_key, unpack_long, unpack_seal
from raftkv.storage.engines.port import DamagedState, Row, RowChange, TableReader


def removed(table: bytes, key: bytes) -> RowChange:
    """The change of an engine that deletes the row."""
    return table, physical_key(key), None


class SealedRows:
    """Implements ``TableReader`` for keys of any length, over one that holds the rows sealed."""

    def __init__(self, reader: TableReader, directory: Path) -> None:
        """What is damaged is in ``directory``."""
        self._reader = reader
        self._get = reader.get
        self._directory = directory

    def get(self, table: bytes, key: bytes) -> bytes | None:
        """See ``TableReader``; there is no row under an empty key."""
        if not 0 < len(key) <= RAW_KEY_BYTES:
            return self._get_long(table, key) if key else None
        row = self._get(table, key)
        if row is None:
            return None
        value = opened(table, key, row)
        if value is None:
            raise self._damage(table, row)
        return value

    def find(self, table: bytes, key: bytes) -> tuple[bytes, int] | None:
        """The value under ``key`` and the row's part in the sum of rows."""
        if not 0 < len(key) <= RAW_KEY_BYTES:
            value = self._get_long(table, key) if key else None
            return None if value is None else (value, part_of(table, key, value))
        row = self._get(table, key)
        if row is None:
            return None
        value = opened(table, key, row)
        if value is None:
            raise self._damage(table, row)
        return value, unpack_seal(row)[0]

    def scan(self, table: bytes, start: bytes, end: bytes | None) -> Iterator[Row]:
        """See ``TableReader``."""
        # The first 480 bytes of a key sort before every row of keys that share them, so a scan can begin there; and all
        # that share them lie before those bytes and a one.
        last = end if end is None or len(end) <= RAW_KEY_BYTES else end[:RAW_KEY_BYTES] + b"\x01"
        group: list[tuple[bytes, bytes]] = []
        for key, row in self._reader.scan(table, start[:RAW_KEY_BYTES], last):
            if group and key[: RAW_KEY_BYTES + 1] != group[0][1][: RAW_KEY_BYTES + 1]:
                yield from self._in_order(table, group, start, end)
                group = []
            if len(key) == LONG_KEY_BYTES:
                group.append((unpack_long(key, self.opened(table, key, row))[0], key))
            elif key >= start:
                value = opened(table, key, row)
                if value is None:
                    raise self._damage(table, row)
                yield key, value
        yield from self._in_order(table, group, start, end)

    def opened(self, table: bytes, key: bytes, row: bytes) -> bytes:
        """What was sealed in the row found under ``key``; raises ``DamagedState``."""
        value = opened(table, key, row)
        if value is None:
            raise self._damage(table, row)
        return value

    def _damage(self, table: bytes, row: bytes) -> DamagedState:
        return DamagedState(self._directory, f"a row of {len(row)} bytes in table {table.decode()}")

    def _get_long(self, table: bytes, key: bytes) -> bytes | None:
        physical = physical_key(key)
        row = self._get(table, physical)
        if row is None:
            return None
        full, value = unpack_long(physical, self.opened(table, physical, row))
        assert full == key
        return value

    def _in_order(
        self, table: bytes, group: list[tuple[bytes, bytes]], start: bytes, end: bytes | None
    ) -> Iterator[Row]:
        """The rows of keys that share their first 480 bytes, by full and physical key; they are read once more."""
        for full, physical in sorted(group):
            if full >= start and (end is None or full < end):
                row = self._reader.get(table, physical)
                assert row is not None
                yield full, unpack_long(physical, self.opened(table, physical, row))[1]
