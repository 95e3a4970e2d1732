"""The rows of the machine, with their running sum: the one way in which a row comes, changes or goes.

Whoever changes a row says what was there before, which the machine has read anyway; so keeping the sum costs no read,
and no hash but those that the rows' seals need (``raftkv.storage.state.sums``). ``meta`` is not summed: what it says
enters ``Machine.state_hash``.
"""

from __future__ import annotations

from raftkv.machine import layout
from raftkv.storage.state.sums import SUM_KEY, SUM_MASK, pack_sum, stored_sum, sum_of
from raftkv.storage.state.tables import Tables


class SummedRows:
    """Changes rows of ``tables`` and keeps ``total``, which is taken up where it was left."""

    def __init__(self, tables: Tables) -> None:
        """Reads every row of a state that a version wrote which kept no sum."""
        self._tables = tables
        stored = stored_sum(tables)
        self.total = sum_of(tables, layout.TABLES) if stored is None else stored

    def put(self, table: bytes, key: bytes, before: bytes | None, value: bytes) -> None:
        """Store ``value`` in place of ``before``."""
        if before is not None:
            self.total -= self._tables.part(table, key, before)
        self.total += self._tables.put(table, key, value)

    def remove(self, table: bytes, key: bytes, before: bytes | None) -> None:
        """Remove the row, which holds ``before``."""
        if before is not None:
            self.total -= self._tables.part(table, key, before)
            self._tables.delete(table, key)

    def store_sum(self) -> None:
        """Let the sum be committed with the rows."""
        self.total &= SUM_MASK
        self._tables.put(layout.META, SUM_KEY, pack_sum(self.total))
