"""The front-end's own view of the applied state, which the replica shares as a memory map. Read-only.

Must not import ``raft`` or ``http``.
"""

from __future__ import annotations

from pathlib import Path

from raftkv.core.requests import LaterQuery, Query
from raftkv.core.results import Found
from raftkv.machine import reading
from raftkv.storage.engines.lmdb import LmdbReader
from raftkv.storage.state.sealed import SealedRows


class AppliedState:
    """Answers queries from the state in one directory, each from a fresh view (see ``readers.StateReader``)."""

    def __init__(self, path: str) -> None:
        """Raises ``DiskError`` when there is no state at ``path``, or not yet."""
        self._reader = LmdbReader(Path(path))
        self._rows = SealedRows(self._reader, self._reader.directory)

    def read(self, query: Query | LaterQuery) -> tuple[Found, int]:
        """The answer of ``query`` in a fresh view, and the store's revision there."""
        with self._reader:
            return reading.answer(self._rows, query), reading.revision(self._rows)

    def close(self) -> None:
        """Let go of the map."""
        self._reader.close()
