"""Leases as they lie in the state: their times, and which keys are attached to them.

A lease is kept alive far more often than it ends. So its row alone says when it ends, and the row by which it comes due
(in ``expiry``) is moved only when that is reached: once a ttl, however often the lease is kept alive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from raftkv.core.results import LeaseRecord
from raftkv.formats import layout
from raftkv.machine.rows import SummedRows
from raftkv.storage.engines.port import TableReader
from raftkv.storage.state.tables import StateTables

LEASE_KEYS_MAX: Final = 10_000
"""Keys of one lease: they all go in one command."""

_pack = layout.pack_number


class LeaseRow(msgspec.Struct, frozen=True, gc=False):
    """A lease: its ttl, when it ends by lease time, where it comes due in ``expiry``, and how many keys it has."""

    ttl_ms: int
    ends_at_ms: int
    queued_at_ms: int
    key_count: int


def lease_row(reader: TableReader, lease: int) -> LeaseRow | None:
    """The lease of this number."""
    row = reader.get(layout.LEASES, _pack(lease))
    return None if row is None else LeaseRow(*layout.unpack_lease(row))


def attached(reader: TableReader, lease: int) -> Iterator[bytes]:
    """The keys that are attached to it, in order."""
    for row, _ in reader.scan(layout.LEASE_KEYS, _pack(lease), _pack(lease + 1)):
        yield row[layout.NUMBER_BYTES :]


def leapt_ms(reader: TableReader) -> int:
    """How much further the machine's clock has come than lease time, by leaps."""
    return layout.unpack_number(reader.get(layout.META, layout.LEASE_LEAPT))


def lease_record(lease: int, row: LeaseRow, leapt_ms: int, keys: tuple[bytes, ...] | None = None) -> LeaseRecord:
    """The lease as clients see it, who go by the machine's clock."""
    expires_at_ms = row.ends_at_ms + leapt_ms
    return LeaseRecord(lease=lease, ttl_ms=row.ttl_ms, expires_at_ms=expires_at_ms, key_count=row.key_count, keys=keys)


class LeaseRows:
    """Changes the rows of leases. ``next_lease`` is the number of the next that has none."""

    def __init__(self, tables: StateTables, rows: SummedRows) -> None:
        self._tables = tables
        self._rows = rows
        self.next_lease = max(1, layout.unpack_number(tables.get(layout.META, layout.LEASE_NEXT)))

    def find(self, lease: int) -> tuple[LeaseRow, int] | None:
        """The lease and its row's part in the sum."""
        row, part = self._tables.find(layout.LEASES, _pack(lease))
        return None if row is None else (LeaseRow(*layout.unpack_lease(row)), part)

    def free_number(self) -> int:
        """A number that no lease has."""
        while self.find(self.next_lease) is not None:
            self.next_lease += 1
        found, self.next_lease = self.next_lease, self.next_lease + 1
        self._tables.put(layout.META, layout.LEASE_NEXT, _pack(self.next_lease))
        return found

    def put(self, lease: int, row: LeaseRow, *, replaced: int = 0) -> None:
        """Store the lease."""
        packed = layout.pack_lease(row.ttl_ms, row.ends_at_ms, row.queued_at_ms, row.key_count)
        self._rows.put(layout.LEASES, _pack(lease), packed, replaced=replaced)

    def queue(self, lease: int, at_ms: int) -> None:
        """Let the lease come due then."""
        self._rows.put(layout.EXPIRY, _pack(at_ms) + layout.LEASE_MARK + _pack(lease), b"")

    def unqueue(self, lease: int, at_ms: int) -> None:
        """Let it come due no more, as it was to."""
        self._rows.remove_empty(layout.EXPIRY, _pack(at_ms) + layout.LEASE_MARK + _pack(lease))

    def remove(self, lease: int, row: LeaseRow, part: int) -> None:
        """The lease has ended; its keys are gone."""
        self.unqueue(lease, row.queued_at_ms)
        self._rows.remove(layout.LEASES, _pack(lease), part)

    def attach(self, lease: int, key: bytes) -> None:
        """``key`` goes when the lease ends."""
        self._rows.put(layout.LEASE_KEYS, _pack(lease) + key, b"")
        self._count(lease, 1)

    def detach(self, lease: int, key: bytes) -> None:
        """``key`` belongs to it no more."""
        self._rows.remove_empty(layout.LEASE_KEYS, _pack(lease) + key)
        self._count(lease, -1)

    def _count(self, lease: int, more: int) -> None:
        found = self.find(lease)
        assert found is not None
        row, part = found
        self.put(lease, msgspec.structs.replace(row, key_count=row.key_count + more), replaced=part)
