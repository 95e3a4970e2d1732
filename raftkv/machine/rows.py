"""The rows of the machine, with their running sum: the one way in which a row comes, changes or goes.

Whoever changes a row says what the row there before counted, which the machine has read anyway; so keeping the sum
costs no read, and no hash but those that the rows' seals need (``raftkv.storage.state.sums``). ``meta`` is not summed:
what it says enters ``Machine.state_hash``.
"""

from __future__ import annotations

import msgspec

from raftkv.formats import layout
from raftkv.formats.seals import SUM_MASK, part_of
from raftkv.storage.state.sums import stored_sum, sum_of
from raftkv.storage.state.tables import StateTables


class StandingRow(msgspec.Struct, frozen=True, gc=False):
    """The row of a key as it was found, its part in the sum, and what stands before its value.

    ``is_over``: its time is over, so that it counts as none.
    """

    row: bytes
    part: int
    is_over: bool
    version: int
    create_revision: int
    mod_revision: int
    expires_at_ms: int
    lease: int


class SummedRows:
    """Changes rows of ``tables`` and keeps ``total``, which is taken up where it was left."""

    def __init__(self, tables: StateTables) -> None:
        """Reads every row of a state that a version wrote which kept no sum."""
        self._tables = tables
        stored = stored_sum(tables)
        self.total = sum_of(tables, layout.TABLES) if stored is None else stored

    def put(self, table: bytes, key: bytes, value: bytes, *, replaced: int = 0) -> None:
        """Store ``value``; ``replaced`` is the part of the row that is there, 0 if there is none."""
        part = part_of(table, key, value)
        self.total += part - replaced
        self._tables.put(table, key, value, part)

    def remove(self, table: bytes, key: bytes, part: int) -> None:
        """Remove the row, which is there and counts ``part``."""
        self.total -= part
        self._tables.delete(table, key)

    def drop(self, table: bytes, key: bytes) -> None:
        """Remove the row, if there is one."""
        row, part = self._tables.find(table, key)
        if row is not None:
            self.remove(table, key, part)

    def remove_empty(self, table: bytes, key: bytes) -> None:
        """Remove the row, which is there and has no value."""
        self.remove(table, key, part_of(table, key, b""))

    def store_sum(self) -> None:
        """Let the sum be committed with the rows."""
        self.total &= SUM_MASK
        self._tables.put(layout.META, layout.SUM, layout.pack_number(self.total))
