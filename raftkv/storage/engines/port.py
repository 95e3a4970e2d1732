"""The engine port of the leaderless mode: ordered tables of bytes with atomic, durable batches; and one in memory.

This module imports nothing but the standard library. The engine on a disk is ``raftkv.storage.engines.rocks``.
"""

from __future__ import annotations

import enum
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from typing import Protocol


class Table(enum.StrEnum):
    """The tables of a replica; each orders its keys bytewise."""

    DATA = "data"
    ORDER = "order"
    HINTS = "hints"
    META = "meta"


Batch = list[tuple[Table, bytes, bytes | None]]
"""Puts, and deletions where the value is ``None``, in order."""

Row = tuple[bytes, bytes]


class Engine(Protocol):
    """Ordered tables on a disk. One thread owns it.

    Crash: a batch is there wholly or not at all; one whose ``commit`` returned survives the loss of power.
    Retry: a batch whose ``commit`` raised is not read in this life, but may be there in the next. If the ``DiskError``
    says ``full``, reads go on and commits will once there is room again; after any other the node must end.
    """

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value under ``key``."""

    def commit(self, batch: Batch) -> None:
        """Make ``batch`` durable. Raises ``DiskError``."""

    def scan(self, table: Table, start: bytes, end: bytes | None) -> Iterator[Row]:
        """The rows with ``start`` <= key < ``end`` in order (``None``: to the last), as they are at this moment."""

    def close(self) -> None:
        """Let go of the files."""


class MemoryEngine:
    """An engine in memory, for simulations and tests; the harness keeps the object through a process's death.

    ``before_commit`` and ``after_commit`` may raise, as a disk that fails, or a machine that stops, before the batch is
    on the disk and after it.
    """

    def __init__(self) -> None:
        self.before_commit: Callable[[], None] | None = None
        self.after_commit: Callable[[], None] | None = None
        self._rows: dict[Table, dict[bytes, bytes]] = {table: {} for table in Table}
        self._keys: dict[Table, list[bytes]] = {table: [] for table in Table}

    def get(self, table: Table, key: bytes) -> bytes | None:
        """See ``Engine``."""
        return self._rows[table].get(key)

    def commit(self, batch: Batch) -> None:
        """See ``Engine``."""
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

    def scan(self, table: Table, start: bytes, end: bytes | None) -> Iterator[Row]:
        """See ``Engine``."""
        rows, keys = self._rows[table], self._keys[table]
        last = len(keys) if end is None else bisect_left(keys, end)
        return iter([(key, rows[key]) for key in keys[bisect_left(keys, start) : last]])

    def close(self) -> None:
        """See ``Engine``: what was committed stays."""
