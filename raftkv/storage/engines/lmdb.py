"""The applied state in LMDB: ``Tables`` for the one process that writes it, ``TableReader`` for any number of others.

The state is a cache of snapshot and log: commits are atomic but not synced. It is trusted again when the same boot of
the machine wrote it (then the page cache still had every commit) or when it was closed cleanly; otherwise it is thrown
away and rebuilt. LMDB orders its writes so that killing the writing process loses nothing that was committed.

This module imports nothing but the standard library, lmdb and its neighbours in ``storage``.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import lmdb

from raftkv.storage.disk import DiskError, RealDisk, disk_error, remove_file, replace_file, translated
from raftkv.storage.state.long_keys import RAW_KEY_BYTES, get_row, pack_long, physical_key, scan_rows
from raftkv.storage.state.sealed import FORMAT, DamagedState, Table, seal, sealed_part

MAX_TABLES: Final = 32
MAX_READERS: Final = 256

# A transaction below half of this always finds room in the map; pages it copies on the way take up the other half.
_TRANSACTION_ROOM_BYTES: Final = 512 << 20
_COMMITS_BETWEEN_READER_CHECKS: Final = 1000
_NO_ROOM_BYTES: Final = 1 << 20
# The writer may grow the map again while a reader adopts the last size; it cannot double many times in a row.
_RESIZE_ATTEMPTS: Final = 64

_DATA: Final = "data.mdb"
_FORMAT: Final = "FORMAT"
_CLEAN: Final = "CLEAN"
_BOOT: Final = "BOOT"
_DAMAGE: Final = (lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.VersionMismatchError)
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """The identity of this boot of the machine, empty on systems that do not tell."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def is_trustworthy(directory: Path) -> bool:
    """Can the state in ``directory`` be used as it is, or must it be rebuilt?"""
    try:
        if not (directory / _DATA).is_file() or (directory / _FORMAT).read_bytes() != FORMAT:
            return False
    except OSError:
        return False
    if (directory / _CLEAN).is_file():
        return True
    boot = boot_id()
    try:
        return boot != "" and (directory / _BOOT).read_text() == boot
    except (OSError, UnicodeDecodeError):
        return False


@contextmanager
def _lmdb_errors(path: Path) -> Iterator[None]:
    """Let what LMDB raises inside leave as ``DiskError``."""
    try:
        yield
    except lmdb.Error as error:
        raise _as_disk_error(path, error) from error


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """Let what LMDB finds wrong while it opens a state leave as ``DamagedState``, the rest as ``DiskError``."""
    try:
        yield
    except _DAMAGE as error:
        raise DamagedState(path, str(error)) from error
    except lmdb.Error as error:
        raise _as_disk_error(path, error) from error


def _check_length(directory: Path, environment: lmdb.Environment) -> None:
    """Raise ``DamagedState`` if the file is shorter than it says, before a page that is not there is touched.

    The kernel would end the process at such a page.
    """
    said = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    size = (directory / _DATA).stat().st_size
    if size < said:
        environment.close()
        raise DamagedState(directory, f"{_DATA} has {size} bytes instead of {said}")


def _as_disk_error(path: Path, error: lmdb.Error) -> DiskError:
    number = max(0, error.code)
    # LMDB calls a write that was cut short for lack of room an input/output error.
    if number == errno.EIO and RealDisk().free_bytes(path) < _NO_ROOM_BYTES:
        number = errno.ENOSPC
    return disk_error(path, number, str(error))


class LmdbTables:
    """``Tables`` in one LMDB directory; made by ``create_or_open``. One thread of one process owns it.

    The first put or delete opens a transaction that later reads see into, ``commit`` ends it. After a failure nothing
    is known of the open transaction: every later call raises ``DiskError``.
    """

    def __init__(self, directory: Path, tables: tuple[bytes, ...], map_bytes: int) -> None:
        self.directory = directory
        self._failure: str | None = None
        self._commits = 0
        self._last = (b"", b"", b"", b"")
        self._write: lmdb.Transaction[bytes] | None = None
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
                self._tables = {
                    name: Table.of(directory, name, self._environment.open_db(name, txn=transaction)) for name in tables
                }
            self._environment.reader_check()
        self.grow_if_needed()

    @classmethod
    def create_or_open(
        cls, directory: Path, tables: tuple[bytes, ...], *, trusted_boot: str | None = None, map_bytes: int = 1 << 30
    ) -> LmdbTables:
        """Open the state in ``directory``, made if missing; whether to trust what is there is the caller's question.

        ``trusted_boot`` is the boot under which the state may be trusted again, this machine's own by default. Raises
        ``DiskError``.
        """
        RealDisk().make_directory(directory)
        # The order matters: from here on, only the boot vouches for the state.
        if (directory / _CLEAN).exists():
            remove_file(directory / _CLEAN)
        if not (directory / _DATA).exists():
            replace_file(directory / _FORMAT, FORMAT)
        opened = cls(directory, tables, map_bytes)
        boot = (boot_id() if trusted_boot is None else trusted_boot).encode()
        try:
            # Within one boot nothing needs to be written, so that a node starts on a full disk.
            if not (directory / _BOOT).is_file() or RealDisk().read(directory / _BOOT) != boot:
                replace_file(directory / _BOOT, boot)
        except BaseException:
            opened.close(clean=False)
            raise
        return opened

    @staticmethod
    def distrust(directory: Path) -> None:
        """Let nobody take up the state in ``directory`` again: it is damaged."""
        for mark in (_CLEAN, _BOOT):
            remove_file(directory / mark)

    @staticmethod
    def discard(directory: Path) -> None:
        """Remove the state in ``directory``, if there is any; what vouches for it goes first."""
        if not directory.exists():
            return
        remove_file(directory / _CLEAN)
        remove_file(directory / _BOOT)
        with translated(directory):
            shutil.rmtree(directory)
        RealDisk().sync_directory(directory.parent)

    def get(self, table: bytes, key: bytes) -> bytes | None:
        """See ``TableReader``."""
        found = get_row(self._reading(), self._tables[table], key)
        if found is None:
            return None
        value, row = found
        self._last = table, key, value, row
        return value

    def scan(self, table: bytes, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """See ``TableReader``."""
        return scan_rows(self._reading(), self._tables[table], start, end)

    def put(self, table: bytes, key: bytes, value: bytes) -> int:
        """See ``Tables``."""
        assert key
        into = self._tables[table]
        part = into.part(key, value)
        if len(key) <= RAW_KEY_BYTES:
            row = seal(part) + value
        else:
            key, value = physical_key(key), pack_long(key, value)
            row = seal(into.part(key, value)) + value
        try:
            self._writing().put(key, row, db=into.database)
        except lmdb.Error as error:
            raise self._failed(error) from error
        return part

    def part(self, table: bytes, key: bytes, value: bytes) -> int:
        """See ``Tables``. The seal of what was read last was verified then, and is the part of exactly that row."""
        last_table, last_key, last_value, row = self._last
        if value is last_value and key == last_key and table == last_table and len(key) <= RAW_KEY_BYTES:
            return sealed_part(row)
        return self._tables[table].part(key, value)

    def delete(self, table: bytes, key: bytes) -> None:
        """See ``Tables``."""
        if not key:
            return
        physical = key if len(key) <= RAW_KEY_BYTES else physical_key(key)
        try:
            self._writing().delete(physical, db=self._tables[table].database)
        except lmdb.Error as error:
            raise self._failed(error) from error

    def commit(self) -> None:
        """See ``Tables``."""
        self._check_usable()
        if self._write is None:
            return
        transaction, self._write = self._write, None
        try:
            transaction.commit()
        except lmdb.Error as error:
            raise self._failed(error) from error
        self._idle_read()
        self._commits += 1
        if self._commits % _COMMITS_BETWEEN_READER_CHECKS == 0:
            # A reader that was killed would keep the pages of its view from being used again.
            with _lmdb_errors(self.directory):
                self._environment.reader_check()
        self.grow_if_needed()

    def grow_if_needed(self) -> None:
        """Double the map until what is free holds the largest transaction; readers adopt the new size by themselves."""
        assert self._write is None
        with _lmdb_errors(self.directory):
            information = self._environment.info()
            page_bytes = self._environment.stat()["psize"]
            used, size = (information["last_pgno"] + 1) * page_bytes, information["map_size"]
            wanted = size
            while wanted - used < max(wanted // 2, _TRANSACTION_ROOM_BYTES):
                wanted *= 2
            if wanted != size:
                self._idle_read()
                self._environment.set_mapsize(wanted)

    def close(self, *, clean: bool) -> None:
        """Close, dropping what was not committed; with ``clean`` the rest is made durable and marked so."""
        if self._write is not None:
            self._write.abort()
            self._write = None
        try:
            if clean:
                self._check_usable()
                with _lmdb_errors(self.directory):
                    self._environment.sync(True)  # noqa: FBT003  LMDB's own signature
                replace_file(self.directory / _CLEAN, b"closed cleanly\n")
        finally:
            self._failure = self._failure or f"{self.directory}: the state is closed"
            self._idle_read()
            self._environment.close()

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise DiskError(self._failure)

    def _failed(self, error: lmdb.Error) -> DiskError:
        """Give up the transaction and refuse everything from now on."""
        failure = _as_disk_error(self.directory, error)
        self._failure = f"{failure} (earlier; the state takes nothing after a failure)"
        if self._write is not None:
            transaction, self._write = self._write, None
            with suppress(lmdb.Error):
                transaction.abort()
        return failure

    def _writing(self) -> lmdb.Transaction[bytes]:
        if self._write is None:
            self._check_usable()
            self._write = self._environment.begin(write=True)
        return self._write

    def _reading(self) -> lmdb.Transaction[bytes]:
        if self._write is not None:
            return self._write
        if self._read is None:
            self._check_usable()
            with _lmdb_errors(self.directory):
                self._read = self._environment.begin()
        return self._read

    def _idle_read(self) -> None:
        """Let go of the view for reads outside a transaction, so that its pages can be used again."""
        if self._read is not None:
            self._read.abort()
            self._read = None


class View:
    """``TableReader`` on one consistent view; valid inside the ``with`` statement that ``LmdbReader.view`` opens."""

    def __init__(self, reader: LmdbReader) -> None:
        self._reader = reader

    def __enter__(self) -> Self:
        self._reader.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.end()

    def get(self, table: bytes, key: bytes) -> bytes | None:
        """See ``TableReader``."""
        transaction, tables = self._reader.opened
        found = get_row(transaction, tables[table], key)
        return None if found is None else found[0]

    def scan(self, table: bytes, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """See ``TableReader``."""
        transaction, tables = self._reader.opened
        return scan_rows(transaction, tables[table], start, end)


class LmdbReader:
    """Reads the state that another process writes. One thread of one process owns it, one view is open at a time.

    Made after the last fork of its process. A view sees everything committed before it began and nothing after, and
    costs a few microseconds; pages it sees are not reused while it lasts, so a view should be short.
    """

    def __init__(self, directory: Path) -> None:
        """Raises ``DiskError`` when there is no state in ``directory``, or not yet."""
        self.directory = directory
        self._transaction: lmdb.Transaction[bytes] | None = None
        self._view = View(self)
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
                self._tables = {
                    name: Table.of(directory, name, self._environment.open_db(name, create=False)) for name in names
                }
            except BaseException:
                self._environment.close()
                raise

    @property
    def tables(self) -> tuple[bytes, ...]:
        """The names of the tables, in order."""
        return tuple(self._tables)

    @property
    def opened(self) -> tuple[lmdb.Transaction[bytes], dict[bytes, Table]]:
        """What the open view reads from."""
        assert self._transaction is not None
        return self._transaction, self._tables

    def view(self) -> View:
        """A consistent view, for use in a ``with`` statement."""
        return self._view

    def begin(self) -> None:
        """Open the view."""
        assert self._transaction is None
        try:
            self._transaction = self._begin()
        except lmdb.Error as error:
            raise _as_disk_error(self.directory, error) from error

    def end(self) -> None:
        """Close the view."""
        assert self._transaction is not None
        self._transaction.abort()
        self._transaction = None

    def close(self) -> None:
        """Let go of the state."""
        if self._transaction is not None:
            self.end()
        self._environment.close()

    def _begin(self) -> lmdb.Transaction[bytes]:
        for _ in range(_RESIZE_ATTEMPTS):
            try:
                return self._environment.begin()
            except lmdb.MapResizedError:
                self._environment.set_mapsize(0)
        raise DiskError(f"{self.directory}: the map keeps growing")
