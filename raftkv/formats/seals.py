"""How rows of an applied state lie in an engine: sealed, under keys of any length; and what they add up to.

A row is ``seal u64 | value``, the seal being 64 bits of XXH3 over table, key and value. ``FORMAT`` names this layout; a
state of another is rebuilt.

Keys of up to 480 bytes are stored as they are; a longer one under its first 480 bytes, a zero byte and a hash, with
``length of the rest u32 | rest`` before the value. Such physical keys have 497 bytes, so the two kinds are never
confused. The seal of such a row is over the physical key and all that is stored under it.

The same hash of table, key and value is the row's part in the sum of rows, so a row is hashed once for both; replicas
compare that sum, with the numbers of ``meta``, as the hash of their state. This module imports the standard library and
xxhash only.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from xxhash import xxh3_64_digest, xxh3_64_intdigest

FORMAT: Final = b"3\n"
"""Format 1 had no seals, and no file that names it; format 2 never left the development of this one."""

RAW_KEY_BYTES: Final = 480

SUM_MASK: Final = (1 << 64) - 1
"""Sums are modulo 2**64."""

_SEAL: Final = struct.Struct(">Q")
_SEAL_BYTES: Final = _SEAL.size
_HASH_BYTES: Final = 16
LONG_KEY_BYTES: Final = RAW_KEY_BYTES + 1 + _HASH_BYTES
_REST_LENGTH: Final = struct.Struct(">I")
_STATE: Final = struct.Struct(">7Q")


class _Seeds(dict[bytes, int]):
    """What the hashes of a table's rows begin with, by its name."""

    def __missing__(self, table: bytes) -> int:
        seed = self[table] = xxh3_64_intdigest(table)
        return seed


_seeds = _Seeds()
_seal = _SEAL.pack

unpack_seal = _SEAL.unpack_from
"""``unpack_seal(row)[0]`` is the part of a row under a key that is not long."""


def part_of(table: bytes, key: bytes, value: bytes) -> int:
    """The part of one row in the sum of rows."""
    return xxh3_64_intdigest(value, xxh3_64_intdigest(key, _seeds[table]))


def state_hash_of(total: int, *numbers: int, more: bytes = b"") -> int:
    """62 bits for a whole state: of the sum of its rows, revision, clock (ms), first and next outcome, R and W.

    Where history is kept, ``more`` are its numbers and that of the next lease.
    """
    return xxh3_64_intdigest(_STATE.pack(total & SUM_MASK, *numbers) + more) >> 2


def sealed(table: bytes, key: bytes, value: bytes, part: int) -> tuple[bytes, bytes, bytes]:
    """Table, physical key and row for the value under ``key``, whose part is ``part``."""
    if len(key) <= RAW_KEY_BYTES:
        return table, key, _seal(part) + value
    key, value = physical_key(key), _REST_LENGTH.pack(len(key) - RAW_KEY_BYTES) + key[RAW_KEY_BYTES:] + value
    return table, key, _seal(part_of(table, key, value)) + value


def opened(table: bytes, key: bytes, row: bytes) -> bytes | None:
    """What was sealed in the row found under the physical key ``key``; ``None`` if it is damaged."""
    value = row[_SEAL_BYTES:]
    return value if row.startswith(xxh3_64_digest(value, xxh3_64_intdigest(key, _seeds[table]))) else None


def physical_key(key: bytes) -> bytes:
    """Where the row of ``key`` lies."""
    if len(key) <= RAW_KEY_BYTES:
        return key
    return key[:RAW_KEY_BYTES] + b"\x00" + hashlib.blake2b(key, digest_size=_HASH_BYTES).digest()


def unpack_long(physical: bytes, sealed_value: bytes) -> tuple[bytes, bytes]:
    """The full key and the value of what was sealed under a long key."""
    end = _REST_LENGTH.size + _REST_LENGTH.unpack_from(sealed_value)[0]
    return physical[:RAW_KEY_BYTES] + sealed_value[_REST_LENGTH.size : end], sealed_value[end:]
