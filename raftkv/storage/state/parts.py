"""The part of one row: the 64-bit hash of its table, key and value that its seal and the sum of rows are made of.

This module imports nothing but the standard library and xxhash.
"""

from __future__ import annotations

from functools import lru_cache

from xxhash import xxh3_64_intdigest

table_seed = lru_cache(maxsize=32)(xxh3_64_intdigest)
"""What the hashes of a table's rows begin with, by its name."""


def row_hash(table: bytes, key: bytes, value: bytes) -> int:
    """The part of one row."""
    return xxh3_64_intdigest(value, xxh3_64_intdigest(key, table_seed(table)))
