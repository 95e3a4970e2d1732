"""The body of a snapshot: all rows of all tables, in checksummed chunks, independent of how the tables are stored.

Its bytes are those of ``raftkv.formats.snapshots``. Rules: rows stand in key order, and the table ``meta`` stands last:
as long as a load is not finished, the loaded state says that it has applied nothing. What does not check out is
``CorruptBody``.

The sum of the rows is checked against the one in ``meta``, if there is one (``raftkv.storage.state.sums``).

This module imports nothing but the standard library, msgspec, ``raftkv.formats`` and its neighbours in ``storage``.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from raftkv.core.errors import StartupError
from raftkv.formats.landmarks import APPLIED_INDEX, APPLIED_TERM, META, SUM, pack_number
from raftkv.formats.seals import SUM_MASK, part_of, sealed
from raftkv.formats.snapshots import HEAD_BYTES, MAGIC, decode_chunk, encode_chunk, payload_bytes
from raftkv.storage.disk import RealDisk, check_room, translated
from raftkv.storage.engines.port import Batch, StorageEngine, TableScanner

SYNC_BYTES: Final = 8 << 20
"""Whoever writes a body makes so much durable at a time: gigabytes that are flushed at the end would hold up the log,
which is on the same disk, for seconds.
"""

_CHUNK_BYTES: Final = 1 << 20
# Rows are committed in portions of this size, far below what one transaction may hold.
_COMMIT_BYTES: Final = 32 << 20


class CorruptBody(StartupError):  # noqa: N818  the name says what is wrong; it is an error by its base
    """A snapshot's body is damaged; the message names the file."""


class BodySummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a body covers (the applied index and its term) and how it can be checked."""

    index: int
    term: int
    rows: int
    body_bytes: int
    body_crc: int
    sum: int


class OutgoingBody:
    """All rows of ``tables`` as ``view`` shows them, as the bytes of a body: gone through once, then summed up."""

    def __init__(self, view: TableScanner, tables: Iterable[bytes]) -> None:
        self._view = view
        self._landmarks: dict[bytes, bytes] = {}
        self._names = sorted(tables, key=lambda name: (name == META, name))
        self._size = self._checksum = self._total = 0
        self.rows: dict[bytes, int] = dict.fromkeys(self._names, 0)
        """How many rows of each table have gone out."""

    def __iter__(self) -> Iterator[bytes]:
        yield self._passed(MAGIC)
        for table, flat in _chunks(self._view, self._names):
            if table:
                self.rows[table] += len(flat) // 2
                self._total += _sum_of(table, flat)
            if table == META:
                self._landmarks.update(zip(flat[::2], flat[1::2], strict=True))
            for part in encode_chunk(table, flat):
                yield self._passed(part)

    def _passed(self, part: bytes) -> bytes:
        self._checksum = zlib.crc32(part, self._checksum)
        self._size += len(part)
        return part

    def summary(self) -> BodySummary:
        """What has gone out."""
        numbers = [_number(self._landmarks.get(key)) for key in (APPLIED_INDEX, APPLIED_TERM)]
        return BodySummary(
            index=numbers[0],
            term=numbers[1],
            rows=sum(self.rows.values()),
            body_bytes=self._size,
            body_crc=self._checksum,
            sum=self._total & SUM_MASK,
        )


def write_body(view: TableScanner, tables: Iterable[bytes], path: Path, *, spared_bytes: int = 0) -> BodySummary:
    """Write all rows of ``tables`` as ``view`` shows them to a new file at ``path``, durably.

    Raises ``DiskError`` before less than ``spared_bytes`` of the disk would be free.
    """
    body, disk = OutgoingBody(view, tables), RealDisk()
    unsynced_bytes = 0
    with translated(path), path.open("xb") as file:
        for part in body:
            check_room(disk, path, len(part), spared_bytes=spared_bytes)
            file.write(part)
            unsynced_bytes += len(part)
            if unsynced_bytes >= SYNC_BYTES:
                unsynced_bytes = 0
                file.flush()
                os.fdatasync(file.fileno())
        file.flush()
        os.fsync(file.fileno())
    return body.summary()


def chunks_of(path: Path, file: BinaryIO, end: int) -> Iterator[tuple[bytes, list[bytes]]]:
    """Each chunk of the body in ``file``, which ends at ``end``: its table and flat rows, the names of tables first."""
    if file.read(len(MAGIC)) != MAGIC:
        raise CorruptBody(f"{path}: this is not a snapshot body")
    while file.tell() < end:
        table, flat, _ = _read_chunk(path, file, file.read(HEAD_BYTES))
        yield table, flat
    if file.tell() != end:
        raise CorruptBody(f"{path}: the body does not end where it says")


def read_table_names(path: Path) -> tuple[bytes, ...]:
    """The names of the tables in the body at ``path``."""
    with translated(path), path.open("rb") as file:
        return _read_names(path, file)


def load_body(path: Path, engine: StorageEngine, settle: Callable[[], None] = lambda: None) -> int:
    """Put all rows of the body at ``path`` into an empty ``engine``, sealed; returns how many there were.

    ``settle`` is called after each portion.
    """
    with translated(path), path.open("rb") as file:
        _read_names(path, file)
        loading = _Loading(path, file)
        while not loading.is_done:
            engine.commit(loading.portion())
            settle()
    return loading.rows


class _Loading:
    """The rows of a body on their way into an engine, checked against the sum that they bring."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.rows = 0
        self.is_done = False
        self._path = path
        self._file = file
        self._total = 0
        self._said: bytes | None = None

    def portion(self) -> Batch:
        """The rows of the next chunks, about as many as one transaction is to hold."""
        size = 0
        while size < _COMMIT_BYTES:
            head = self._file.read(HEAD_BYTES)
            if not head:
                self._check_sum()
                self.is_done = True
                return
            table, flat, chunk_bytes = _read_chunk(self._path, self._file, head)
            if len(flat) % 2:
                raise CorruptBody(f"{self._path}: the chunk before offset {self._file.tell()} ends with half a row")
            size += chunk_bytes
            yield from self._sealed(table, flat)

    def _sealed(self, table: bytes, flat: list[bytes]) -> Batch:
        pairs = iter(flat)
        for key, value in zip(pairs, pairs, strict=True):
            part = part_of(table, key, value)
            if table != META:
                self._total += part
            elif key == SUM:
                self._said = value
            yield sealed(table, key, value, part)
        self.rows += len(flat) // 2

    def _check_sum(self) -> None:
        if self._said not in (None, pack_number(self._total & SUM_MASK)):
            raise CorruptBody(f"{self._path}: the rows do not add up to the sum that it says")


def verify_body(path: Path, body_bytes: int, body_crc: int) -> None:
    """Raise ``CorruptBody`` unless the file at ``path`` has this size and checksum."""
    size = checksum = 0
    with translated(path), path.open("rb") as file:
        while block := file.read(_CHUNK_BYTES):
            size += len(block)
            checksum = zlib.crc32(block, checksum)
    if size != body_bytes:
        raise CorruptBody(f"{path}: has {size} bytes instead of {body_bytes}")
    if checksum != body_crc:
        raise CorruptBody(f"{path}: the checksum is wrong")


def _chunks(view: TableScanner, tables: list[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
    yield b"", tables
    for table in tables:
        for flat in _portions(view.scan(table, b"", None)):
            yield table, flat


def _sum_of(table: bytes, flat: list[bytes]) -> int:
    if table == META:
        return 0
    return sum([part_of(table, key, value) for key, value in zip(flat[::2], flat[1::2], strict=True)])


def _portions(rows: Iterator[tuple[bytes, bytes]]) -> Iterator[list[bytes]]:
    """Keys and values in turn, about one chunk at a time."""
    flat: list[bytes] = []
    size = 0
    for key, value in rows:
        flat.append(key)
        flat.append(value)
        size += len(key) + len(value)
        if size >= _CHUNK_BYTES:
            yield flat
            flat, size = [], 0
    if flat:
        yield flat


def _read_chunk(path: Path, file: BinaryIO, head: bytes) -> tuple[bytes, list[bytes], int]:
    if len(head) != HEAD_BYTES:
        raise CorruptBody(f"{path}: cut short")
    payload = file.read(payload_bytes(head))
    try:
        table, flat = decode_chunk(head, payload)
    except ValueError as error:
        raise CorruptBody(f"{path}: the chunk before offset {file.tell()} {error}") from None
    return table, flat, len(payload)


def _read_names(path: Path, file: BinaryIO) -> tuple[bytes, ...]:
    if file.read(len(MAGIC)) != MAGIC:
        raise CorruptBody(f"{path}: this is not a snapshot body")
    table, names, _ = _read_chunk(path, file, file.read(HEAD_BYTES))
    if table:
        raise CorruptBody(f"{path}: the names of the tables are missing")
    return tuple(names)


def _number(packed: bytes | None) -> int:
    return int.from_bytes(packed or b"", "big")
