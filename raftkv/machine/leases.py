"""Leases: granted, kept alive, and ended with all keys that are attached to them, by lease time alone.

That is the machine's clock without its leaps (``raftkv.raft.leadership.lease_time``). It stands in the log, so a change
of the leader neither prolongs a lease nor cuts it short.
"""

from __future__ import annotations

import msgspec

from raftkv.core.errors import Code
from raftkv.core.results import Granted, LeaseRecord, NoLease
from raftkv.formats import layout
from raftkv.machine.changes import Changes
from raftkv.machine.lease_rows import LEASE_KEYS_MAX, LeaseRow, LeaseRows, attached, leapt_ms, lease_record
from raftkv.storage.state.tables import StateTables


class Leases:
    """The leases of one state."""

    def __init__(self, tables: StateTables, rows: LeaseRows, changes: Changes) -> None:
        self._tables = tables
        self._rows = rows
        self._changes = changes
        self.leapt_ms = leapt_ms(tables)
        """How much further the machine's clock has come than lease time, by leaps."""

    @property
    def now_ms(self) -> int:
        """Lease time."""
        return self._changes.clock_ms - self.leapt_ms

    def leap(self, before_ms: int, lease_ms: int) -> None:
        """The machine's clock has leapt, and lease time, at ``before_ms`` so far, comes to ``lease_ms`` at most."""
        self.leapt_ms = self._changes.clock_ms - max(before_ms, min(lease_ms, self.now_ms))
        self._tables.put(layout.META, layout.LEASE_LEAPT, layout.pack_number(self.leapt_ms))

    def is_there(self, lease: int) -> bool:
        """Does the lease live?"""
        return self._rows.find(lease) is not None

    def key_count(self, lease: int) -> int:
        """How many keys go with it."""
        found = self._rows.find(lease)
        return 0 if found is None else found[0].key_count

    def cannot_attach(self, lease: int, more: int) -> Code | None:
        """Why not so many ``more`` keys can be attached to it, if they cannot."""
        found = self._rows.find(lease)
        if found is None:
            return Code.LEASE_NOT_FOUND
        return Code.TOO_MANY_CHANGES if found[0].key_count + more > LEASE_KEYS_MAX else None

    def grant(self, lease: int, ttl_ms: int) -> Granted:
        """Let there be a lease of that number, which is free; 0 stands for any."""
        number = lease or self._rows.free_number()
        expires_at_ms = self._changes.clock_ms + ttl_ms
        self._rows.put(number, LeaseRow(ttl_ms, self.now_ms + ttl_ms, expires_at_ms, 0))
        self._queue(number, expires_at_ms)
        return Granted(lease=number, ttl_ms=ttl_ms, expires_at_ms=expires_at_ms)

    def keep_alive(self, lease: int) -> LeaseRecord | NoLease:
        """Let the lease live for its whole time again."""
        found = self._rows.find(lease)
        if found is None:
            return NoLease(lease=lease)
        row, part = found
        row = msgspec.structs.replace(row, ends_at_ms=self.now_ms + row.ttl_ms)
        self._rows.put(lease, row, replaced=part)
        return lease_record(lease, row, self.leapt_ms)

    def due(self, lease: int) -> int:
        """The lease comes due: end it, or let it come due when it will end. Returns how many keys went."""
        found = self._rows.find(lease)
        assert found is not None
        row, part = found
        if row.ends_at_ms <= self.now_ms:
            return self.end(lease, expired=True)
        self._rows.unqueue(lease, row.queued_at_ms)
        queued_at_ms = row.ends_at_ms + self.leapt_ms
        self._rows.put(lease, msgspec.structs.replace(row, queued_at_ms=queued_at_ms), replaced=part)
        self._queue(lease, queued_at_ms)
        return 0

    def end(self, lease: int, *, expired: bool) -> int:
        """End the lease, which is there, and remove its keys in order; returns how many there were."""
        keys = list(attached(self._tables, lease))
        for key in keys:
            standing = self._changes.find(key)
            assert standing is not None
            self._changes.remove(key, standing, expired=expired)
        found = self._rows.find(lease)
        assert found is not None
        self._rows.remove(lease, *found)
        return len(keys)

    def _queue(self, lease: int, at_ms: int) -> None:
        self._rows.queue(lease, at_ms)
        self._changes.due_from_ms = min(self._changes.due_from_ms, at_ms)


def lease_of(row: bytes) -> int | None:
    """The lease that a row of ``expiry`` is about, or ``None`` if that is a key."""
    name = row[layout.NUMBER_BYTES :]
    return layout.unpack_number(name[1:]) if name.startswith(layout.LEASE_MARK) else None
