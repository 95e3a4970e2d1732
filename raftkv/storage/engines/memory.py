"""The engine in memory, for simulations, tests and embedded use; what was committed lasts as long as the object.

This module imports nothing but the standard library and its neighbours.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator

from raftkv.storage.engines.port import Batch, Row


class MemoryEngine:
    """Implements ``Engine``. A harness keeps the object through a process's death, or through the loss of power.

    ``before_commit`` and ``after_commit`` may raise, as a disk that fails, or a machine that stops, before the batch is
    there and after it.
    """

    is_durable = True
    keeps_scans = True
    longest_key_bytes = 1 << 16

    def __init__(self, tables: Iterable[bytes]) -> None:
        self.before_commit: Callable[[], None] | None = None
        self.after_commit: Callable[[], None] | None = None
        self._rows: dict[bytes, dict[bytes, bytes]] = {table: {} for table in tables}
        self._keys: dict[bytes, list[bytes]] = {table: [] for table in self._rows}

    @property
    def tables(self) -> tuple[bytes, ...]:
        """The names of the tables."""
        return tuple(self._rows)

    def get(self, table: bytes, key: bytes) -> bytes | None:
        """See ``TableReader``."""
        return self._rows[table].get(key)

    def scan(self, table: bytes, start: bytes, end: bytes | None) -> Iterator[Row]:
        """See ``TableReader``."""
        rows, keys = self._rows[table], self._keys[table]
        last = len(keys) if end is None else bisect_left(keys, end)
        return iter([(key, rows[key]) for key in keys[bisect_left(keys, start) : last]])

    def row_count(self, table: bytes) -> int:
        """See ``CountedEngine``."""
        return len(self._rows[table])

    def commit(self, batch: Batch) -> None:
        """See ``StorageEngine``."""
        batch = list(batch)
        if self.before_commit is not None:
            self.before_commit()
        for table, key, value in batch:
            rows, keys = self._rows[table], self._keys[table]
            if value is not None:
                if key not in rows:
                    insort(keys, key)
                rows[key] = value
            elif rows.pop(key, None) is not None:
                del keys[bisect_left(keys, key)]
        if self.after_commit is not None:
            self.after_commit()

    def close(self) -> None:
        """See ``StorageEngine``; this one is only put down, and may be taken up again."""
