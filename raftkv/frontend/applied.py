"""The front-end's own view of the applied state, which the replica shares as a memory map. Read-only.

Must not import ``raft`` or ``http``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from raftkv.core.errors import Refused
from raftkv.core.judgement import of_query
from raftkv.core.requests import LaterQuery, Query
from raftkv.core.results import Found
from raftkv.core.rights import Caller, Rights
from raftkv.formats import layout
from raftkv.machine import reading
from raftkv.machine.judging import stored_rights
from raftkv.storage.engines.lmdb import LmdbReader
from raftkv.storage.state.sealed import SealedRows


class AppliedState:
    """Answers queries from the state in one directory, in views of it (see ``readers.StateReader``).

    As long as nothing is committed, every view shows the same rights and the same revision. What keys have is read, and
    so held against its checksum, each time.
    """

    def __init__(self, path: str) -> None:
        """Raises ``DiskError`` when there is no state at ``path``, or not yet."""
        self._reader = LmdbReader(Path(path))
        self._rows = SealedRows(self._reader, self._reader.directory)
        self._rights_mark: bytes | None = None
        self._commit = -1
        self.rights = Rights()
        self.revision = 0

        with self:
            pass

    def __enter__(self) -> Self:
        self._reader.__enter__()
        try:
            commit = self._reader.commit_shown
            if commit != self._commit:
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
        found = reading.answer(self._rows, query)
        refusal = None if caller is None else of_query(self.rights, caller, query, found)
        return found if refusal is None else refusal

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
