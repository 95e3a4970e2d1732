"""The front-end's own view of the applied state, which the replica shares as a memory map. Read-only.

Must not import ``raft`` or ``http``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from raftkv.core.errors import Refused
from raftkv.core.judgement import of_query
from raftkv.core.requests import Get, LaterQuery, Query, is_of_past
from raftkv.core.results import Found, KeyRecord
from raftkv.core.rights import Caller, Rights
from raftkv.formats import layout
from raftkv.machine import reading
from raftkv.machine.judging import stored_rights
from raftkv.storage.engines.lmdb import LmdbReader
from raftkv.storage.state.sealed import SealedRows

KNOWN_BYTES: Final = 4 << 20
"""What was found under keys and is still so, together; where it is more, all of it is forgotten."""

LARGE_BYTES: Final = 64 << 10
"""A value that is larger is read each time: what it costs is not the looking."""

FOUND_OVERHEAD_BYTES: Final = 300
"""What Python takes for what was found, beside key and value."""


class AppliedState:
    """Answers queries from the state in one directory, in views of it (see ``readers.StateReader``).

    As long as nothing is committed, every view shows the same: what was found in one is not looked for in the next.
    """

    def __init__(self, path: str) -> None:
        """Raises ``DiskError`` when there is no state at ``path``, or not yet."""
        self._reader = LmdbReader(Path(path))
        self._rows = SealedRows(self._reader, self._reader.directory)
        self._rights_mark: bytes | None = None
        self._commit = -1
        self._known: dict[bytes, Found] = {}
        """What is under keys in all views of that commit."""

        self._known_bytes = 0
        self.rights = Rights()
        self.revision = 0

        with self:
            pass

    def __enter__(self) -> Self:
        self._reader.__enter__()
        try:
            commit = self._reader.commit_shown
            if commit != self._commit:
                self._forget()
                self._look()
                self._commit = commit
        except BaseException:
            self._reader.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__(None, None, None)

    def read(self, query: Query | LaterQuery, caller: Caller | None) -> Found | Refused:
        """See ``StateReader``."""
        if isinstance(query, Get) and not is_of_past(query):
            found = self._known.get(query.key) or self._learned(query)
        else:
            found = reading.answer(self._rows, query)
        refusal = None if caller is None else of_query(self.rights, caller, query, found)
        return found if refusal is None else refusal

    def _learned(self, query: Get) -> Found:
        found = reading.answer(self._rows, query)
        size_bytes = FOUND_OVERHEAD_BYTES + len(query.key)
        if isinstance(found, KeyRecord):
            size_bytes += len(found.value)
        if size_bytes <= LARGE_BYTES:
            if self._known_bytes + size_bytes > KNOWN_BYTES:
                self._forget()
            self._known[query.key] = found
            self._known_bytes += size_bytes
        return found

    def _forget(self) -> None:
        self._known.clear()
        self._known_bytes = 0

    def counted(self) -> Mapping[str, int]:
        """See ``StateReader``."""
        return {name: self._reader.row_count(table) for name, table in layout.COUNTED.items()}

    def _look(self) -> None:
        self.revision = reading.revision(self._rows)
        mark = self._rows.get(layout.META, layout.RIGHTS)
        if mark != self._rights_mark:
            self.rights = stored_rights(self._rows)
            self._rights_mark = mark

    def close(self) -> None:
        """Let go of the map."""
        self._reader.close()
