"""Keys longer than LMDB allows, and reading rows in the order of their full keys.

LMDB's keys end at 511 bytes. Keys of up to 480 bytes are stored as they are; a longer one under its first 480 bytes, a
zero byte and a hash, with the rest of the key inside the row. Such physical keys have 497 bytes, so the two kinds are
never confused; rows that share the 480 bytes lie side by side, and a scan sorts them by their full keys.

This module imports nothing but the standard library, lmdb and its neighbours in ``storage``.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Final

import lmdb

from raftkv.storage.state.sealed import Table

RAW_KEY_BYTES: Final = 480
_HASH_BYTES: Final = 16
_LONG_KEY_BYTES: Final = RAW_KEY_BYTES + 1 + _HASH_BYTES
_REST_LENGTH: Final = struct.Struct(">I")


def physical_key(key: bytes) -> bytes:
    """Where a long key is stored."""
    digest = hashlib.blake2b(key, digest_size=_HASH_BYTES).digest()
    return key[:RAW_KEY_BYTES] + b"\x00" + digest


def pack_long(key: bytes, value: bytes) -> bytes:
    """The row stored under a long key."""
    return _REST_LENGTH.pack(len(key) - RAW_KEY_BYTES) + key[RAW_KEY_BYTES:] + value


def _unpack_long(physical: bytes, row: bytes) -> tuple[bytes, bytes]:
    """The full key and the value of a row under a long key."""
    end = _REST_LENGTH.size + _REST_LENGTH.unpack_from(row)[0]
    return physical[:RAW_KEY_BYTES] + row[_REST_LENGTH.size : end], row[end:]


def get_row(transaction: lmdb.Transaction[bytes], table: Table, key: bytes) -> tuple[bytes, bytes] | None:
    """The value under ``key`` and the row as it is stored, or ``None``; raises ``DamagedState``."""
    if not key:
        return None
    physical = key if len(key) <= RAW_KEY_BYTES else physical_key(key)
    try:
        row = transaction.get(physical, db=table.database)
    except lmdb.Error as error:
        raise table.unreadable(error) from error
    if row is None:
        return None
    value = table.opened(physical, row)
    if physical is key:
        return value, row
    full, value = _unpack_long(key, value)
    assert full == key
    return value, row


def scan_rows(
    transaction: lmdb.Transaction[bytes], table: Table, start: bytes, end: bytes | None
) -> Iterator[tuple[bytes, bytes]]:
    """Every (key, value) with ``start`` <= key < ``end`` in the order of full keys; raises ``DamagedState``."""
    try:
        yield from _scan(transaction, table, start, end)
    except lmdb.Error as error:
        raise table.unreadable(error) from error


def _scan(
    transaction: lmdb.Transaction[bytes], table: Table, start: bytes, end: bytes | None
) -> Iterator[tuple[bytes, bytes]]:
    with transaction.cursor(table.database) as cursor:
        # The first 480 bytes of a key sort before every row of keys that share them, so a scan can begin there.
        found = cursor.set_range(start[:RAW_KEY_BYTES]) if start else cursor.first()
        while found:
            key = cursor.key()
            if len(key) < _LONG_KEY_BYTES:
                if end is not None and key >= end:
                    return
                if key >= start:
                    yield key, table.opened(key, cursor.value())
                found = cursor.next()
                continue
            prefix = key[: RAW_KEY_BYTES + 1]
            if end is not None and prefix[:RAW_KEY_BYTES] >= end:
                return
            group: list[tuple[bytes, bytes]] = []
            while found and (key := cursor.key()).startswith(prefix) and len(key) == _LONG_KEY_BYTES:
                group.append((_unpack_long(key, table.opened(key, cursor.value()))[0], key))
                found = cursor.next()
            for full, physical in sorted(group):
                if full >= start and (end is None or full < end):
                    row = transaction.get(physical, db=table.database)
                    assert row is not None
                    yield full, _unpack_long(physical, table.opened(physical, row))[1]
