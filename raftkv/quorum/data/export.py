"""The process that writes a backup of a leaderless node's store: ``STORE CLUSTER NODE VERSION CONFLICTS``.

What the node holds of each key, for itself and for others (hints), is joined and written in the order of keys,
tombstones included: so backups of several nodes can be merged. Users and roles follow, if there are any. The store is
opened as a second instance, which sees all that was durable when it was opened and costs its replica nothing.
``raftkv.storage.backups.exporting`` has the rules.
"""

from __future__ import annotations

import heapq
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final

from raftkv.formats.backups import BackupManifest
from raftkv.formats.rights import decode_document, encode_document, stamp_of
from raftkv.formats.rows import DATA, HINTS, META, RIGHTS, TABLES
from raftkv.formats.versions import KeyState, encode_state
from raftkv.quorum.data.staged import state_in
from raftkv.quorum.data.versions import CONFLICTS, Conflicts
from raftkv.storage.backups.exporting import run, send
from raftkv.storage.backups.writing import blank_manifest, write_backup
from raftkv.storage.disk import DiskError
from raftkv.storage.engines.port import Row, TableReader
from raftkv.storage.engines.rocks import RocksReader

OPEN_ATTEMPTS: Final = 20
_PAUSE_S: Final = 0.05

StateRow = tuple[bytes, KeyState]


class JoinedStates:
    """A view of two tables: ``data``, the states of ``sources``, each in the order of keys, joined; and ``meta``.

    Of what sources have in ``meta`` it has users and roles, as the latest of ``rights``. ``newest`` is the highest
    counter of a stamp that was read so far.
    """

    tables = (DATA, META)

    def __init__(
        self, sources: Iterable[Iterator[StateRow]], conflicts: Conflicts, rights: Iterable[bytes] = ()
    ) -> None:
        self._sources = sources
        self._conflicts = conflicts
        self._rights = max([decode_document(one) for one in rights], key=stamp_of, default=())
        self.newest = 0

    def scan(self, table: bytes, start: bytes, end: bytes | None) -> Iterator[Row]:
        """See ``TableScanner``: all there is, once."""
        assert (start, end) == (b"", None)
        if table == META:
            yield from [(RIGHTS, encode_document(self._rights))] if self._rights else []
            return
        for key, rows in groupby(heapq.merge(*self._sources, key=itemgetter(0)), key=itemgetter(0)):
            state: KeyState | None = None
            for _, one in rows:
                state = one if state is None else self._conflicts.join(state, one)
            assert state is not None
            self.newest = max(self.newest, state.newest.counter)
            yield key, encode_state(state)


def sources_of(store: TableReader) -> list[Iterator[StateRow]]:
    """What ``store`` holds for its node, and for each other node, in the order of keys."""
    found = [_states(store.scan(DATA, b"", None), 0)]
    after = b""
    while (first := next(store.scan(HINTS, after, None), None)) is not None:
        target = first[0].partition(b"\0")[0] + b"\0"
        after = target[:-1] + b"\1"
        found.append(_states(store.scan(HINTS, target, after), len(target)))
    return found


def _states(rows: Iterator[Row], prefix_bytes: int) -> Iterator[StateRow]:
    for row, held in rows:
        yield row[prefix_bytes:], state_in(held)


def _opened(store: Path, scratch: Path) -> RocksReader:
    """A file may be gone between what the store says of itself and its being opened: then say it anew."""
    for attempt in range(OPEN_ATTEMPTS):
        try:
            return RocksReader(store, TABLES, scratch / str(attempt))
        except DiskError:
            if attempt + 1 == OPEN_ATTEMPTS:
                raise
        time.sleep(_PAUSE_S)
    raise AssertionError


def export(store: Path, cluster: str, node: str, version: str, conflicts: str) -> None:
    """Write all that ``store`` holds."""
    with tempfile.TemporaryDirectory(prefix="raftkv-export-") as scratch:
        reader = _opened(store, Path(scratch))
        rights = reader.get(META, RIGHTS)
        joined = JoinedStates(sources_of(reader), CONFLICTS[conflicts], [] if rights is None else [rights])

        def head() -> BackupManifest:
            return blank_manifest(
                cluster=cluster,
                mode="quorum",
                nodes=(node,),
                revision=joined.newest,
                made_ms=time.time_ns() // 1_000_000,
                version=version,
                conflicts=conflicts,
            )

        write_backup(joined, joined.tables, head, send)
        reader.close()


def main(arguments: list[str]) -> int:
    """See the module."""
    store, cluster, node, version, conflicts = arguments
    return run(lambda: export(Path(store), cluster, node, version, conflicts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
