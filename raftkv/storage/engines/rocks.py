"""The engine on RocksDB, a log-structured merge tree: write-ahead log, memtable, sorted immutable files.

Every batch is one write with a synced write-ahead log, so a commit costs one fdatasync however many rows it has. The
one place that imports rocksdict; its errors leave as ``DiskError`` of one line.

Rules for what a crash leaves in the log: everything acknowledged was synced, so only the record still being written may
be torn, and nothing follows it. ``tolerate_corrupted_tail_records`` drops an incomplete record at the end and refuses
to open when anything before it, or a complete record, does not match its checksum: an acknowledged batch is never
dropped in silence. (``point_in_time``, RocksDB's default, would drop everything after a damaged record;
``absolute_consistency`` would refuse to open after every crash in the middle of a write.)

When the disk is full RocksDB refuses writes, goes on reading, and takes writes again some seconds after there is
room for a memtable of ``MEMTABLE_BYTES``;
after any other failed write it takes none until it is opened again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    ColumnFamily,
    DBRecoveryMode,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from raftkv.storage.disk import DiskError, RealDisk
from raftkv.storage.engines.port import Batch, Row

MEMTABLES_BYTES: Final = 64 << 20
"""What the memtables of all tables take together before the largest is written to a file, in the background, while the
next one fills: so 128 MiB is the most."""

MEMTABLE_BYTES: Final = 16 << 20
"""What one of them takes before it is written to a file."""

BLOCK_CACHE_BYTES: Final = 32 << 20
"""Blocks of files, their indexes and filters included."""

LOG_BYTES: Final = 128 << 20
"""The most that is read again at a start: tables that are seldom written are flushed so that older logs can go."""

BLOOM_BITS: Final = 10
OPEN_FILES: Final = 256
BACKGROUND_JOBS: Final = 2
INFO_LOG_BYTES: Final = 1 << 20

# How RocksDB says that room is lacking; everything else speaks for itself.
FULL_REASONS: Final = ("No space left on device", "Disk quota exceeded", "Space limit reached")


class _RocksTables:
    """The reading half of an opened database."""

    _directory: Path
    _tables: dict[bytes, Rdict]

    def get(self, table: bytes, key: bytes) -> bytes | None:
        """See ``TableReader``."""
        try:
            found: bytes | None = self._tables[table].get(key)
        except Exception as error:
            raise self._disk_error(error) from error
        return found

    def scan(self, table: bytes, start: bytes, end: bytes | None) -> Iterator[Row]:
        """See ``TableReader``."""
        try:
            options = ReadOptions()
            if end is not None:
                options.set_iterate_upper_bound(end)
            rows = self._tables[table].iter(options)
            rows.seek(start)
        except Exception as error:
            raise self._disk_error(error) from error
        return self._rest(rows, options, end)

    def _rest(self, rows: RdictIter, options: ReadOptions, end: bytes | None) -> Iterator[Row]:
        # RocksDB reads its bound from memory that ``options`` owns: it must live as long as the iterator. The bound is
        # checked here all the same, since an iterator that outlived it was seen to run on beyond its end.
        try:
            while rows.valid():
                key = rows.key()
                if end is not None and key >= end:
                    break
                yield key, rows.value()
                rows.next()
            del options
            rows.status()
        except Exception as error:
            raise self._disk_error(error) from error

    def _disk_error(self, error: Exception) -> DiskError:
        """What rocksdict raised, a bare ``Exception`` with RocksDB's status as its text, as one line."""
        if isinstance(error, KeyError):
            return DiskError(f"{self._directory}: the engine is closed")
        text = " ".join(str(error).split())
        return DiskError(f"{self._directory}: {text}", full=any(reason in text for reason in FULL_REASONS))


class RocksEngine(_RocksTables):
    """Implements ``Engine`` in one directory, made if it is missing; raises ``DiskError`` when it cannot be opened."""

    is_durable = True
    keeps_scans = True
    longest_key_bytes = 1 << 16

    def __init__(self, directory: Path, tables: Iterable[bytes]) -> None:
        self._directory = directory
        RealDisk().make_directory(directory)
        cache = Cache(BLOCK_CACHE_BYTES)
        names = {table: table.decode() for table in tables}
        try:
            self._db = Rdict(
                str(directory),
                options=_options(cache),
                column_families={name: _options(cache) for name in names.values()},
                access_type=AccessType.read_write(),
            )
            self._tables = {table: self._db.get_column_family(name) for table, name in names.items()}
            self._handles: dict[bytes, ColumnFamily] = {
                table: self._db.get_column_family_handle(name) for table, name in names.items()
            }
        except Exception as error:
            raise self._disk_error(error) from error
        self._durably = WriteOptions()
        self._durably.sync = True

    def commit(self, batch: Batch) -> None:
        """See ``StorageEngine``."""
        rows, handles = WriteBatch(raw_mode=True), self._handles
        if not handles:
            raise DiskError(f"{self._directory}: the engine is closed")
        for table, key, value in batch:
            if value is None:
                rows.delete(key, handles[table])
            else:
                rows.put(key, value, handles[table])
        try:
            self._db.write(rows, self._durably)
        except Exception as error:
            raise self._disk_error(error) from error

    def close(self) -> None:
        """See ``StorageEngine``."""
        try:
            self._tables.clear()
            self._handles.clear()
            self._db.close()
        except Exception as error:
            raise self._disk_error(error) from error


class RocksReader(_RocksTables):
    """A ``TableReader`` of what another process writes: all that was durable when it was made, for as long as it lasts.

    ``scratch`` is a new directory for what RocksDB says of itself. Raises ``DiskError``, also where a file went while
    it was opened; then it may be tried again.
    """

    def __init__(self, directory: Path, tables: Iterable[bytes], scratch: Path) -> None:
        self._directory = directory
        cache = Cache(BLOCK_CACHE_BYTES)
        names = {table: table.decode() for table in tables}
        try:
            self._db = Rdict(
                str(directory),
                options=_reading_options(cache),
                column_families={name: _reading_options(cache) for name in names.values()},
                access_type=AccessType.secondary(str(scratch)),
            )
            self._tables = {table: self._db.get_column_family(name) for table, name in names.items()}
        except Exception as error:
            raise self._disk_error(error) from error

    def close(self) -> None:
        """Let go of the files."""
        self._tables.clear()
        self._db.close()


def _reading_options(cache: Cache) -> Options:
    options = _options(cache)
    options.set_max_open_files(-1)  # all at once: what is open stays readable when its writer removes it
    return options


def _options(cache: Cache) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)  # noqa: FBT003  RocksDB's own setters
    options.create_missing_column_families(True)  # noqa: FBT003
    options.set_write_buffer_size(MEMTABLE_BYTES)
    options.set_db_write_buffer_size(MEMTABLES_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_max_total_wal_size(LOG_BYTES)
    options.set_max_background_jobs(BACKGROUND_JOBS)
    options.set_max_open_files(OPEN_FILES)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(INFO_LOG_BYTES)
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    blocks = BlockBasedOptions()
    blocks.set_block_cache(cache)
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
    blocks.set_bloom_filter(BLOOM_BITS, block_based=False)
    options.set_block_based_table_factory(blocks)
    return options
