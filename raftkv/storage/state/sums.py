"""The sum of all rows: a hash of the applied state that a change of one row changes by that row's part alone.

Each row of every table but ``meta`` counts with a 64-bit hash of table, key and value; their sum, modulo 2**64, does
not depend on the order, so whoever knows the row that was there before keeps it up to date. The rows are sealed with
the same hash (``raftkv.formats.seals``), so that this costs nothing more.
It finds replicas that computed differently; it is no proof against somebody who chooses rows so that sums collide.

This module imports nothing but the standard library, ``raftkv.formats`` and its neighbours in ``storage``.
"""

from __future__ import annotations

from collections.abc import Iterable

from raftkv.formats.landmarks import META, SUM, unpack_number
from raftkv.formats.seals import SUM_MASK, part_of
from raftkv.storage.engines.port import TableReader


def sum_of(reader: TableReader, tables: Iterable[bytes]) -> int:
    """The sum of all rows, which are all read."""
    total = 0
    for table in tables:
        if table != META:
            total += sum([part_of(table, key, value) for key, value in reader.scan(table, b"", None)])
    return total & SUM_MASK


def stored_sum(reader: TableReader) -> int | None:
    """The sum that the state says it has; ``None`` where a version wrote it that kept none."""
    packed = reader.get(META, SUM)
    return None if packed is None else unpack_number(packed)
