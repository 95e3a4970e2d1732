"""The storage port: ordered tables of bytes that are read, scanned, and changed by atomic batches. Both modes use it.

A table is known by its name. Whoever owns a table declares it and hands its name in; nothing here knows any. This
module imports nothing but the standard library and ``raftkv.storage.disk``. LMDB, RocksDB and memory are behind it, in
the modules beside this one; ``tests/unit/test_storage_contract.py`` holds all of them to what is said here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from raftkv.storage.disk import DiskError

Row = tuple[bytes, bytes]
"""A key and its value."""

RowChange = tuple[bytes, bytes, bytes | None]
"""A table, a key in it, and the value that is put there, or ``None`` where the row is deleted."""

Batch = Iterable[RowChange]
"""Changes in order, gone through once: of several of one row the last counts."""


class DamagedState(DiskError):  # noqa: N818  the name says what is wrong; it is an error by its base
    """What is in ``directory`` does not check out; it must not be used, and can be rebuilt."""

    def __init__(self, directory: Path, detail: str) -> None:
        """``detail`` says what does not check out."""
        self.directory = directory
        super().__init__(f"{directory}: the applied state is damaged ({detail})")


class TableScanner(Protocol):
    """A view of ordered tables that is gone through. One thread owns it. A read raises ``DiskError``."""

    def scan(self, table: bytes, start: bytes, end: bytes | None) -> Iterator[Row]:
        """The rows with ``start`` <= key < ``end`` in bytewise order (``None``: to the last), as they are now."""


class TableReader(TableScanner, Protocol):
    """A view of ordered tables: the reading half of the port.

    A key has 1 to ``longest_key_bytes`` bytes, a value any number, none included.
    """

    def get(self, table: bytes, key: bytes) -> bytes | None:
        """The value under ``key``, or ``None``."""


class StorageEngine(TableReader, Protocol):
    """Tables that one process writes. One thread owns it.

    Crash: a batch is there wholly or not at all, after any that was committed before it. If the engine ``is_durable``,
    a batch whose ``commit`` returned survives the loss of power; otherwise only the death of the process, and whoever
    owns the tables must be able to rebuild them.
    Retry: a batch whose ``commit`` raised is not read in this life, but may be there in the next. If the ``DiskError``
    says ``full``, reads go on and commits will once there is room again; after any other the node must end.
    Scans: with ``keeps_scans`` one that is under way goes on through commits, and shows the rows as they were when it
    was asked for; otherwise it must be at its end, or given up, before the next commit.
    """

    is_durable: bool
    keeps_scans: bool
    longest_key_bytes: int

    def commit(self, batch: Batch) -> None:
        """Make ``batch`` visible to every reader at once. Raises ``DiskError``, and what going through it raises."""

    def close(self) -> None:
        """Let go of the files: every later call raises ``DiskError``."""


class CountedEngine(StorageEngine, Protocol):
    """An engine that knows how much it holds."""

    def row_count(self, table: bytes) -> int:
        """How many rows are in ``table``, as they were committed last. Raises ``DiskError``."""
