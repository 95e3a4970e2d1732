"""The engine on LMDB, a B+ tree in a memory map: one process writes, any number of others read what it committed.

Commits are atomic and not synced: LMDB orders its writes so that killing the writing process loses nothing, but the
loss of power may lose or tear what it likes. Every read of a damaged file leaves as ``DamagedState``, whatever else
LMDB raises as ``DiskError``.

This module imports nothing but the standard library, lmdb and its neighbours in ``storage``.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import lmdb

from raftkv.process.memory import forget_pages
from raftkv.storage.disk import DiskError, RealDisk, disk_error
from raftkv.storage.engines.port import Batch, DamagedState, Row

DATA: Final = "data.mdb"
KEY_BYTES: Final = 511
MAX_TABLES: Final = 32
MAX_READERS: Final = 256

# A batch below half of this always finds room in the map; pages it copies on the way take up the other half.
_BATCH_ROOM_BYTES: Final = 512 << 20
_COMMITS_BETWEEN_READER_CHECKS: Final = 1000
_NO_ROOM_BYTES: Final = 1 << 20
# The writer may grow the map again while a reader adopts the last size; it cannot double many times in a row.
_RESIZE_ATTEMPTS: Final = 64
# What a process that reads everything once holds of the map; so much is let go in well under a millisecond.
_KEPT_BYTES: Final = 32 << 20
_DAMAGE: Final = (lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.VersionMismatchError)


class LmdbEngine:
    """Implements ``Engine`` in one directory, which must be there. One thread of one process owns it."""

    is_durable = False
    keeps_scans = False
    longest_key_bytes = KEY_BYTES

    def __init__(self, directory: Path, tables: Iterable[bytes], *, map_bytes: int = 1 << 30) -> None:
        """Raises ``DamagedState`` for a file that does not check out, ``DiskError`` for one that cannot be opened."""
        self.directory = directory
        self._failure: str | None = None
        self._commits = 0
        self._read: lmdb.Transaction[bytes] | None = None
        with _read_errors(directory):
            self._environment = lmdb.Environment(
                str(directory),
                map_size=map_bytes,
                max_dbs=MAX_TABLES,
                max_readers=MAX_READERS,
                max_spare_txns=1,
                sync=False,
                metasync=False,
                mode=0o600,
            )
            _check_length(directory, self._environment)
            with self._environment.begin(write=True) as transaction:
                self._tables = {name: self._environment.open_db(name, txn=transaction) for name in tables}
            self._page_bytes = self._environment.stat()["psize"]
            self._environment.reader_check()
            self._grow_if_needed()

    def get(self, table: bytes, key: bytes) -> bytes | None:
        """See ``TableReader``."""
        try:
            return (self._read or self._reading()).get(key, None, self._tables[table])
        except lmdb.Error as error:
            raise DamagedState(self.directory, str(error)) from error

    def scan(self, table: bytes, start: bytes, end: bytes | None) -> Iterator[Row]:
        """See ``TableReader``."""
        return _rows(self.directory, self._reading(), self._tables[table], start, end)

    def row_count(self, table: bytes) -> int:
        """See ``CountedEngine``."""
        try:
            return int((self._read or self._reading()).stat(self._tables[table])["entries"])
        except lmdb.Error as error:
            raise DamagedState(self.directory, str(error)) from error

    def commit(self, batch: Batch) -> None:
        """See ``StorageEngine``."""
        self._check_usable()
        self._idle_read()
        tables = self._tables
        try:
            with self._environment.begin(write=True) as transaction:
                put, delete = transaction.put, transaction.delete
                for table, key, value in batch:
                    if value is not None:
                        put(key, value, True, True, False, tables[table])  # noqa: FBT003  by position: twice as fast
                    else:
                        delete(key, b"", tables[table])
            self._commits += 1
            if self._commits % _COMMITS_BETWEEN_READER_CHECKS == 0:
                # A reader that was killed would keep the pages of its view from being used again.
                self._environment.reader_check()
            self._grow_if_needed()
        except lmdb.Error as error:
            raise self._failed(error) from error

    def sync(self) -> None:
        """Make durable what was committed. Raises ``DiskError``, also after any failure before."""
        self._check_usable()
        with _errors(self.directory):
            self._environment.sync(True)  # noqa: FBT003  LMDB's own signature

    def close(self) -> None:
        """See ``StorageEngine``."""
        self._failure = self._failure or f"{self.directory}: the state is closed"
        self._idle_read()
        self._environment.close()

    def _grow_if_needed(self) -> None:
        """Double the map until what is free holds the largest batch; readers adopt the new size by themselves."""
        information = self._environment.info()
        used, size = (information["last_pgno"] + 1) * self._page_bytes, information["map_size"]
        wanted = size
        while wanted - used < max(wanted // 2, _BATCH_ROOM_BYTES):
            wanted *= 2
        if wanted != size:
            self._idle_read()
            self._environment.set_mapsize(wanted)

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise DiskError(self._failure)

    def _failed(self, error: lmdb.Error) -> DiskError:
        """The batch is dropped; unless room was lacking, everything is refused from now on."""
        failure = _as_disk_error(self.directory, error)
        if not failure.full:
            self._failure = f"{failure} (earlier; the state takes nothing after a failure)"
        return failure

    def _reading(self) -> lmdb.Transaction[bytes]:
        """The view that reads share between two commits, made if there is none."""
        if self._read is None:
            self._check_usable()
            with _errors(self.directory):
                self._read = self._environment.begin()
        return self._read

    def _idle_read(self) -> None:
        """Let go of the view, so that its pages can be used again."""
        if self._read is not None:
            self._read.abort()
            self._read = None


class LmdbReader:
    """Reads what another process writes, within a ``with`` statement. One thread of one process owns it.

    Made after the last fork of its process. Within the statement it is a ``TableReader`` that sees everything committed
    before the statement began and nothing after. Beginning one costs a few microseconds; pages it sees are not used
    again while it lasts, so it should be short.
    """

    def __init__(self, directory: Path, *, reads_once: bool = False) -> None:
        """Raises ``DiskError`` when there is nothing in ``directory``, or not yet.

        Who ``reads_once`` reads much, and nothing twice: pages that were read are let go.
        """
        self.directory = directory
        self._reads_once = reads_once
        self._view: lmdb.Transaction[bytes] | None = None
        with _read_errors(directory):
            # The spare transaction makes a view cheap: LMDB renews and resets it instead of taking a new reader's slot.
            self._environment = lmdb.Environment(
                str(directory),
                readonly=True,
                create=False,
                max_dbs=MAX_TABLES,
                max_readers=MAX_READERS,
                max_spare_txns=1,
            )
            try:
                _check_length(directory, self._environment)
                with self._begin() as transaction, transaction.cursor() as cursor:
                    names = list(cursor.iternext(keys=True, values=False))
                self._tables = {name: self._environment.open_db(name, create=False) for name in names}
            except BaseException:
                self._environment.close()
                raise

    @property
    def tables(self) -> tuple[bytes, ...]:
        """The names of the tables, in order."""
        return tuple(self._tables)

    @property
    def commit_shown(self) -> int:
        """The number of the commit that this view shows; one that shows the same has the same."""
        assert self._view is not None
        return self._view.id()

    def __enter__(self) -> Self:
        assert self._view is None
        try:
            self._view = self._begin()
        except lmdb.Error as error:
            raise _as_disk_error(self.directory, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._view is not None
        self._view.abort()
        self._view = None

    def get(self, table: bytes, key: bytes) -> bytes | None:
        """See ``TableReader``."""
        assert self._view is not None
        try:
            return self._view.get(key, None, self._tables[table])
        except lmdb.Error as error:
            raise DamagedState(self.directory, str(error)) from error

    def scan(self, table: bytes, start: bytes, end: bytes | None) -> Iterator[Row]:
        """See ``TableReader``."""
        assert self._view is not None
        rows = _rows(self.directory, self._view, self._tables[table], start, end)
        return self._letting_go(rows) if self._reads_once else rows

    def _letting_go(self, rows: Iterator[Row]) -> Iterator[Row]:
        size = 0
        for row in rows:
            yield row
            size += len(row[0]) + len(row[1])
            if size >= _KEPT_BYTES:
                forget_pages(self.directory / DATA)
                size = 0

    def row_count(self, table: bytes) -> int:
        """How many rows are in ``table``; LMDB keeps the number."""
        assert self._view is not None
        try:
            return int(self._view.stat(self._tables[table])["entries"])
        except lmdb.Error as error:
            raise DamagedState(self.directory, str(error)) from error

    def close(self) -> None:
        """Let go of the map."""
        self._environment.close()

    def _begin(self) -> lmdb.Transaction[bytes]:
        for _ in range(_RESIZE_ATTEMPTS):
            try:
                return self._environment.begin()
            except lmdb.MapResizedError:
                self._environment.set_mapsize(0)
        raise DiskError(f"{self.directory}: the map keeps growing")


def _rows(
    directory: Path, transaction: lmdb.Transaction[bytes], database: lmdb._Database, start: bytes, end: bytes | None
) -> Iterator[Row]:
    try:
        with transaction.cursor(database) as cursor:
            found = cursor.set_range(start[:KEY_BYTES]) if start else cursor.first()
            if found and cursor.key() < start:  # longer than any key here
                found = cursor.next()
            if not found:
                return
            if end is None:
                yield from cursor.iternext()
                return
            for row in cursor.iternext():
                if row[0] >= end:
                    return
                yield row
    except lmdb.Error as error:
        raise DamagedState(directory, str(error)) from error


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Let what LMDB raises inside leave as ``DiskError``."""
    try:
        yield
    except lmdb.Error as error:
        raise _as_disk_error(path, error) from error


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """Let what LMDB finds wrong while it opens a file leave as ``DamagedState``, the rest as ``DiskError``."""
    with _errors(path):
        try:
            yield
        except _DAMAGE as error:
            raise DamagedState(path, str(error)) from error


def _check_length(directory: Path, environment: lmdb.Environment) -> None:
    """Raise ``DamagedState`` if the file is shorter than it says, before a page that is not there is touched.

    The kernel would end the process at such a page.
    """
    said = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    size = (directory / DATA).stat().st_size
    if size < said:
        environment.close()
        raise DamagedState(directory, f"{DATA} has {size} bytes instead of {said}")


def _as_disk_error(path: Path, error: lmdb.Error) -> DiskError:
    number = max(0, error.code)
    # LMDB calls a write that was cut short for lack of room an input/output error.
    if number == errno.EIO and RealDisk().free_bytes(path) < _NO_ROOM_BYTES:
        number = errno.ENOSPC
    return disk_error(path, number, str(error))
