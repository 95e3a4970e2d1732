"""The rows of an applied state as they lie in an engine: sealed, and under keys of any length.

A hash of table, key and value stands before the value, 64 bits of XXH3. The state is read straight from a memory map,
so nothing else would notice a byte that the disk or a stray write has changed. What does not check out is
``DamagedState``: the state is a cache of snapshot and log, and is rebuilt from them. ``FORMAT`` names this layout; a
state of another is rebuilt as well.

Keys of up to 480 bytes are stored as they are; a longer one under its first 480 bytes, a zero byte and a hash, with the
rest of the key inside the row. Such physical keys have 497 bytes, so the two kinds are never confused; rows that share
the 480 bytes lie side by side, and a scan sorts them by their full keys. The seal of such a row is over the physical
key and all that is stored under it.

The same hash of table, key and value is the row's part in the sum of rows (``raftkv.storage.state.sums``), so a row is
hashed once for both.

This module imports nothing but the standard library, xxhash and its neighbours in ``storage``.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from xxhash import xxh3_64_digest, xxh3_64_intdigest

from raftkv.storage.engines.port import DamagedState, Row, RowChange, TableReader

FORMAT: Final = b"3\n"
"""Format 1 had no seals, and no file that names it; format 2 never left the development of this one."""

RAW_KEY_BYTES: Final = 480

_SEAL_BYTES: Final = 8
_SEAL: Final = struct.Struct(">Q")
_HASH_BYTES: Final = 16
_LONG_KEY_BYTES: Final = RAW_KEY_BYTES + 1 + _HASH_BYTES
_REST_LENGTH: Final = struct.Struct(">I")


class _Seeds(dict[bytes, int]):
    """What the hashes of a table's rows begin with, by its name."""

    def __missing__(self, table: bytes) -> int:
        seed = self[table] = xxh3_64_intdigest(table)
        return seed


_seeds = _Seeds()
_seal = _SEAL.pack


def part_of(table: bytes, key: bytes, value: bytes) -> int:
    """The part of one row in the sum of rows."""
    return xxh3_64_intdigest(value, xxh3_64_intdigest(key, _seeds[table]))


def sealed(table: bytes, key: bytes, value: bytes, part: int) -> RowChange:
    """The change of an engine that puts the row, whose part is ``part``."""
    if len(key) <= RAW_KEY_BYTES:
        return table, key, _seal(part) + value
    key, value = _physical(key), _REST_LENGTH.pack(len(key) - RAW_KEY_BYTES) + key[RAW_KEY_BYTES:] + value
    return table, key, _seal(part_of(table, key, value)) + value


def removed(table: bytes, key: bytes) -> RowChange:
    """The change of an engine that deletes the row."""
    return table, key if len(key) <= RAW_KEY_BYTES else _physical(key), None


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
        return None if row is None else self.opened(table, key, row)

    def find(self, table: bytes, key: bytes) -> tuple[bytes, int] | None:
        """The value under ``key`` and the row's part in the sum of rows."""
        if not 0 < len(key) <= RAW_KEY_BYTES:
            value = self._get_long(table, key) if key else None
            return None if value is None else (value, part_of(table, key, value))
        row = self._get(table, key)
        return None if row is None else (self.opened(table, key, row), _SEAL.unpack_from(row)[0])

    def scan(self, table: bytes, start: bytes, end: bytes | None) -> Iterator[Row]:
        """See ``TableReader``."""
        # The first 480 bytes of a key sort before every row of keys that share them, so a scan can begin there; and all
        # that share them lie before those bytes and a one.
        last = end if end is None or len(end) <= RAW_KEY_BYTES else end[:RAW_KEY_BYTES] + b"\x01"
        group: list[tuple[bytes, bytes]] = []
        opened = self.opened
        for key, row in self._reader.scan(table, start[:RAW_KEY_BYTES], last):
            if group and key[: RAW_KEY_BYTES + 1] != group[0][1][: RAW_KEY_BYTES + 1]:
                yield from self._in_order(table, group, start, end)
                group = []
            if len(key) == _LONG_KEY_BYTES:
                group.append((_unpack_long(key, opened(table, key, row))[0], key))
            elif key >= start:
                yield key, opened(table, key, row)
        yield from self._in_order(table, group, start, end)

    def opened(self, table: bytes, key: bytes, row: bytes) -> bytes:
        """What was sealed in the row found under ``key``; raises ``DamagedState``."""
        value = row[_SEAL_BYTES:]
        if not row.startswith(xxh3_64_digest(value, xxh3_64_intdigest(key, _seeds[table]))):
            raise DamagedState(self._directory, f"a row of {len(row)} bytes in table {table.decode()}")
        return value

    def _get_long(self, table: bytes, key: bytes) -> bytes | None:
        physical = _physical(key)
        row = self._get(table, physical)
        if row is None:
            return None
        full, value = _unpack_long(physical, self.opened(table, physical, row))
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
                yield full, _unpack_long(physical, self.opened(table, physical, row))[1]


def _physical(key: bytes) -> bytes:
    """Where a long key is stored."""
    return key[:RAW_KEY_BYTES] + b"\x00" + hashlib.blake2b(key, digest_size=_HASH_BYTES).digest()


def _unpack_long(physical: bytes, row: bytes) -> tuple[bytes, bytes]:
    """The full key and the value of a row under a long key."""
    end = _REST_LENGTH.size + _REST_LENGTH.unpack_from(row)[0]
    return physical[:RAW_KEY_BYTES] + row[_REST_LENGTH.size : end], row[end:]
