"""The applied state as the machine changes it: rows that prove themselves, and over them what is not committed yet.

Whoever has the ``StateTables`` reads his own changes at once; other readers of the engine see them after ``commit``.
The rows lie in the engine as ``raftkv.formats.seals`` says.

This module imports nothing but the standard library, ``raftkv.formats`` and its neighbours in ``storage``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Final

from raftkv.formats.seals import part_of, sealed
from raftkv.storage.engines.overlay import Overlay
from raftkv.storage.engines.port import Batch, CountedEngine, Row
from raftkv.storage.state.sealed import SealedRows, removed

Summed = tuple[bytes, int | None]
"""A value and the row's part in the sum of rows, if somebody has asked for it yet."""

_value_of: Final = itemgetter(0)


class StateTables:
    """``tables`` over ``engine``. One thread owns it. Any method may raise ``DiskError``, of ``directory``.

    ``commit`` is atomic. What was staged stays so when it raises; what was not committed is lost with the process.
    """

    def __init__(self, engine: CountedEngine, tables: Iterable[bytes], directory: Path) -> None:
        self.engine = engine
        self._committed = SealedRows(engine, directory)
        self._staged: dict[bytes, Overlay[Summed]] = {table: Overlay() for table in tables}
        self._rows = {table: staged.rows for table, staged in self._staged.items()}

    def get(self, table: bytes, key: bytes) -> bytes | None:
        """See ``TableReader``."""
        return self.find(table, key)[0]

    def find(self, table: bytes, key: bytes) -> tuple[bytes | None, int]:
        """The value under ``key`` and the row's part in the sum of rows: none and 0 if there is no row."""
        rows = self._rows[table]
        found = rows[key] if key in rows else self._committed.find(table, key)
        if found is None:
            return None, 0
        value, part = found
        return value, part_of(table, key, value) if part is None else part

    def scan(self, table: bytes, start: bytes, end: bytes | None) -> Iterator[Row]:
        """See ``TableReader``; nothing may be changed before it is at its end, or given up."""
        return self._staged[table].over(self._committed.scan(table, start, end), start, end, _value_of)

    def row_count(self, table: bytes) -> int:
        """See ``CountedEngine``."""
        return self.engine.row_count(table)

    def staged(self, table: bytes) -> Mapping[bytes, Summed | None]:
        """What is not committed yet, by key; ``None`` where a row is to go."""
        return self._rows[table]

    def put(self, table: bytes, key: bytes, value: bytes, part: int | None = None) -> None:
        """Store ``value`` under ``key``; ``part`` is that of the row, if it is known."""
        assert key
        self._staged[table].put(key, (value, part))

    def delete(self, table: bytes, key: bytes) -> None:
        """Remove ``key`` if it is there."""
        self._staged[table].put(key, None)

    def commit(self) -> None:
        """Make everything changed since the last commit visible to other readers, atomically."""
        self.engine.commit(self._changes())
        for staged in self._staged.values():
            if staged.rows:
                staged.clear()

    def _changes(self) -> Batch:
        for table, rows in self._rows.items():
            for key, row in rows.items():
                if row is None:
                    yield removed(table, key)
                else:
                    value, part = row
                    yield sealed(table, key, value, part_of(table, key, value) if part is None else part)
