"""Applied state and snapshots of a simulated raft replica, in memory.

What was published outlives the process and the loss of power: how snapshot files survive crashes is tested where they
are written (``raftkv.storage.snapshots.files``). Writing and loading take a while, because other processes do them. The
applied state outlives a ``kill -9`` if it was committed, as LMDB's does, and never the loss of power.
"""

from __future__ import annotations

import random as random_module
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from raftkv.core.keys import SYSTEM
from raftkv.formats import layout
from raftkv.formats.configurations import Configuration
from raftkv.formats.snapshots import Manifest
from raftkv.storage.engines.memory import MemoryEngine
from raftkv.storage.engines.port import DamagedState, Row, RowChange, TableReader
from raftkv.storage.snapshots.files import SnapshotFailedError, WrittenBody
from raftkv.storage.state.tables import StateTables

STRAY: Final = SYSTEM + b"stray"
"""The key of a row that one replica has and no command wrote; no client reads it."""

_encode = msgspec.msgpack.Encoder().encode
_decode_rows = msgspec.msgpack.Decoder(list[tuple[bytes, bytes, bytes]]).decode


class ShownTables(StateTables):
    """Tables that remember what other readers see: the records as they were at the last commit, up to which index.

    Once damage was found the tables are ``distrusted``.
    """

    def __init__(self) -> None:
        super().__init__(MemoryEngine(layout.TABLES), layout.TABLES, Path("state"))
        self.shown: dict[bytes, bytes] = {}
        self.shown_index = self.shown_revision = 0
        self.distrusted = False

    def damage(self, table: bytes, key: bytes) -> None:
        """Let one bit of what is at rest under ``key`` be another, if something is."""
        row = self.engine.get(table, key)
        if row is not None:
            self.engine.commit([(table, key, row[:-1] + bytes([row[-1] ^ 1]))])

    def keys(self, table: bytes) -> list[bytes]:
        """The keys in ``table``; no row is opened."""
        staged = self.staged(table)
        kept = [key for key, _ in self.engine.scan(table, b"", None) if key not in staged]
        return sorted([*kept, *(key for key, row in staged.items() if row is not None)])

    def find(self, table: bytes, key: bytes) -> tuple[bytes | None, int]:
        """See ``StateTables``."""
        with self._noticing():
            return super().find(table, key)

    def scan(self, table: bytes, start: bytes, end: bytes | None) -> Iterator[Row]:
        """See ``TableReader``."""
        with self._noticing():
            return iter(list(super().scan(table, start, end)))

    def commit(self) -> None:
        """See ``StateTables``."""
        super().commit()
        self.shown = dict(self.scan(layout.KEYS, b"", None))
        self.shown_index = layout.unpack_number(self.get(layout.META, layout.APPLIED_INDEX))
        self.shown_revision = layout.unpack_number(self.get(layout.META, layout.REVISION))

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except DamagedState:
            self.distrusted = True
            raise


def rows_of(tables: TableReader) -> list[RowChange]:
    """Everything the tables hold."""
    return [(table, key, value) for table in layout.TABLES for key, value in tables.scan(table, b"", None)]


class MemoryState:
    """``StatePort`` in memory."""

    def __init__(self, store: MemorySnapshots, tables: ShownTables) -> None:
        self.tables = tables
        self.directory = Path("1")
        self._store = store
        store.generations[self.directory] = tables

    def fresh_directory(self) -> Path:
        """See ``StatePort``."""
        return Path(str(int(self.directory.name) + 1))

    def switch(self, directory: Path) -> None:
        """See ``StatePort``."""
        self._store.generations.pop(self.directory, None)
        self.tables, self.directory = self._store.generations[directory], directory

    def discard(self, directory: Path) -> None:
        """See ``StatePort``."""
        self._store.generations.pop(directory, None)

    def close(self) -> None:
        """See ``StatePort``."""


class MemorySnapshots:
    """``Snapshots`` in memory. Writing and loading take up to ``busy_s``, at random; some writes fail.

    ``kept_state`` is the applied state of an earlier life, if it was left whole.
    """

    def __init__(
        self,
        random: random_module.Random,
        clock: Callable[[], float],
        *,
        busy_s: float = 0.05,
        failure_rate: float = 0.0,
    ) -> None:
        self.newest: Manifest | None = None
        self.bodies: dict[int, bytes] = {}
        self.generations: dict[Path, ShownTables] = {}
        self.kept_state: ShownTables | None = None
        self.published_count = self.received_count = 0
        self.busy_until_s = 0.0
        self._busy_s = busy_s
        self._random = random
        self._clock = clock
        self._failure_rate = failure_rate
        self._opened: set[int] = set()
        self._written: tuple[WrittenBody, bytes] | None = None
        self._load: tuple[Manifest, Path] | None = None

    def copied(self) -> MemorySnapshots:
        """A copy of what was published."""
        copy = MemorySnapshots(self._random, self._clock, busy_s=self._busy_s, failure_rate=self._failure_rate)
        copy.newest, copy.bodies = self.newest, dict(self.bodies)
        return copy

    def holds(self, key: bytes) -> bool:
        """Does a snapshot, or the state that was left, have ``key``, or anything that looks like it?"""
        is_kept = self.kept_state is not None and key in self.kept_state.keys(layout.KEYS)
        return is_kept or any(key in body for body in self.bodies.values())

    def begin_life(self) -> None:
        """The helpers of the process before are gone, and so is what they had not finished."""
        self.generations.clear()
        self._opened.clear()
        self._written = self._load = None

    def _begin_work(self) -> None:
        self.busy_until_s = self._clock() + self._random.random() * self._busy_s

    def start_write(self, state_directory: Path) -> None:
        """See ``Snapshots``."""
        tables = self.generations[state_directory]
        body = _encode(rows_of(tables))
        written = WrittenBody(
            index=layout.unpack_number(tables.get(layout.META, layout.APPLIED_INDEX)),
            term=layout.unpack_number(tables.get(layout.META, layout.APPLIED_TERM)),
            rows=0,
            body_bytes=len(body),
            body_crc=zlib.crc32(body),
            path=Path("body"),
        )
        self._written = (written, body)
        self._begin_work()

    def poll_write(self) -> WrittenBody | None:
        """See ``Snapshots``."""
        if self._clock() < self.busy_until_s:
            return None
        if self._failure_rate and self._random.random() < self._failure_rate:
            raise SnapshotFailedError("the simulator wants it so")
        assert self._written is not None
        return self._written[0]

    def publish(
        self,
        written: WrittenBody,
        *,
        previous_term: int,
        last_command: bytes,
        members: tuple[str, ...],
        configured: tuple[int, Configuration] | None = None,
    ) -> Manifest:
        """See ``Snapshots``."""
        assert self._written is not None
        manifest = written.manifest(
            previous_term=previous_term, last_command=last_command, members=members, configured=configured
        )
        self.published_count += 1
        self._publish(manifest, self._written[1])
        return manifest

    def _publish(self, manifest: Manifest, body: bytes) -> None:
        self.bodies[manifest.index] = body
        self.newest = manifest

    def read_body(self, manifest: Manifest, offset: int, size: int) -> bytes:
        """See ``Snapshots``; one that was replaced can be read on only if it was opened before."""
        if manifest != self.newest and manifest.index not in self._opened:
            raise SnapshotFailedError("replaced by a newer one")
        self._opened.add(manifest.index)
        return self.bodies[manifest.index][offset : offset + size]

    def keep_open(self, manifests: Collection[Manifest]) -> None:
        """See ``Snapshots``."""
        self._opened &= {manifest.index for manifest in manifests}

    def begin_receive(self, manifest: Manifest) -> _Receiver:
        """See ``Snapshots``."""
        return _Receiver(self, manifest)

    def received(self, manifest: Manifest, body: bytes) -> None:
        """A body came in whole: it is the newest from now on."""
        if len(body) != manifest.body_bytes or zlib.crc32(body) != manifest.body_crc:
            raise SnapshotFailedError("the body is not the one that was announced")
        if STRAY in body:  # of three nodes that differ two would hold it, and who is wrong is told by most of them
            raise SnapshotFailedError("a wrong state stays where it is, so that most are right")
        self.received_count += 1
        self._publish(manifest, body)

    def start_load(self, manifest: Manifest, state_directory: Path) -> None:
        """See ``Snapshots``."""
        self._load = (manifest, state_directory)
        self._begin_work()

    def poll_load(self) -> bool:
        """See ``Snapshots``."""
        if self._clock() < self.busy_until_s:
            return False
        assert self._load is not None
        manifest, directory = self._load
        self.generations[directory] = self.load(manifest)
        return True

    def load(self, manifest: Manifest) -> ShownTables:
        """The state in a snapshot, at once."""
        tables = ShownTables()
        for table, key, value in _decode_rows(self.bodies[manifest.index]):
            tables.put(table, key, value)
        tables.commit()
        return tables

    def close(self) -> None:
        """See ``Snapshots``."""


class _Receiver:
    def __init__(self, store: MemorySnapshots, manifest: Manifest) -> None:
        self._store, self._manifest, self._body = store, manifest, b""

    def write(self, offset: int, data: bytes) -> None:
        """See ``Receiving``."""
        assert offset == len(self._body)
        self._body += data

    def finish(self) -> None:
        """See ``Receiving``."""
        self._store.received(self._manifest, self._body)

    def abort(self) -> None:
        """See ``Receiving``."""
