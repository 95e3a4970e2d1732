"""Changes of keys: each has its revision, its rows and, where history is kept, its event. They are made here only.

A request that changes anything has one revision, and its changes stand in order at that. No key changes twice at
one revision, so that a revision names one value of a key for ever: a request that changes a key again goes on at the
next. States that keep no history are of an older rule, by which every change has a revision of its own.
"""

from __future__ import annotations

from raftkv.formats import layout
from raftkv.formats.rights import AUTH, AUTH_END
from raftkv.machine.history import ChangeHistory
from raftkv.machine.lease_rows import LeaseRows
from raftkv.machine.rows import StandingRow, SummedRows
from raftkv.storage.state.tables import StateTables

_pack = layout.pack_number


class Changes:
    """The keys of one state. ``revision`` is the store's, ``clock_ms`` the machine's time, which its owner moves on."""

    def __init__(self, tables: StateTables, rows: SummedRows, history: ChangeHistory, leases: LeaseRows) -> None:
        self._tables = tables
        self._rows = rows
        self._history = history
        self._leases = leases
        self.revision = layout.unpack_number(tables.get(layout.META, layout.REVISION))
        self.clock_ms = layout.unpack_number(tables.get(layout.META, layout.CLOCK_MS))
        self.due_from_ms = 0
        """No key expires before."""

        self._found: tuple[bytes, StandingRow | None] | None = None
        """What was found last, until anything changes: what an operation hangs on is mostly what it then changes."""

        self.has_changed_rights = False
        """Have users or roles changed since somebody set this back?"""

        self._changed: set[bytes] = set()
        self._has_begun = False

    def begin(self) -> None:
        """Another request: what it changes first has a revision of its own."""
        self._has_begun = False
        self._found = None
        if self._changed:
            self._changed.clear()

    def find(self, key: bytes) -> StandingRow | None:
        """What stands under ``key``; a key whose time is over may be there still, and counts as none.

        Where no history is kept, it is removed as it is found.
        """
        if self._found is not None and self._found[0] == key:
            return self._found[1]
        standing = self.standing(key)
        if standing is not None and standing.is_over and not self._history.is_kept:
            self.remove(key, standing, expired=True)
            return None
        self._found = (key, standing)
        return standing

    def standing(self, key: bytes) -> StandingRow | None:
        """What stands under ``key``, as it is."""
        row, part = self._tables.find(layout.KEYS, key)
        if row is None:
            return None
        header = layout.unpack_header(row)
        return StandingRow(row, part, 0 < header[3] <= self.clock_ms, *header)

    def put(
        self, key: bytes, standing: StandingRow | None, value: bytes, expires_at_ms: int, lease: int
    ) -> tuple[int, int]:
        """Store ``value``; returns the key's version and revision now."""
        self._found = None
        revision = self._next(key)
        version, create_revision, replaced = 1, revision, 0
        if standing is not None:
            replaced = standing.part
            if standing.expires_at_ms or standing.lease:
                self._let_go(key, standing, kept_lease=lease)
            if not standing.is_over:
                version, create_revision = standing.version + 1, standing.create_revision
        if lease and (standing is None or standing.lease != lease):
            self._leases.attach(lease, key)
        row = layout.pack_record(version, create_revision, revision, expires_at_ms, lease, value)
        if expires_at_ms:
            self._expire_at(key, expires_at_ms)
        self._rows.put(layout.KEYS, key, row, replaced=replaced)
        if self._history.is_kept:
            self._history.record(key, revision, standing, row, self.clock_ms)
        return version, revision

    def remove(self, key: bytes, standing: StandingRow, *, expired: bool = False) -> int:
        """Remove the key; ``expired``: because its time is over, or its lease's. Returns the revision."""
        self._found = None
        revision = self._next(key)
        self._let_go(key, standing)
        self._rows.remove(layout.KEYS, key, standing.part)
        if self._history.is_kept:
            self._history.record(key, revision, standing, b"", self.clock_ms, expired=expired)
        return revision

    def touch(self, key: bytes, standing: StandingRow, expires_at_ms: int) -> None:
        """Let the key expire then, 0 for never, and belong to no lease: no change that has a revision."""
        self._found = None
        self._let_go(key, standing)
        row = layout.pack_record(
            standing.version,
            standing.create_revision,
            standing.mod_revision,
            expires_at_ms,
            0,
            layout.value_of(standing.row),
        )
        if expires_at_ms:
            self._expire_at(key, expires_at_ms)
        self._rows.put(layout.KEYS, key, row, replaced=standing.part)
        self._history.numbers.key_bytes += len(row) - len(standing.row)

    def _next(self, key: bytes) -> int:
        """The revision of a change of ``key``."""
        if not self._has_begun or key in self._changed or not self._history.is_kept:
            self.revision += 1
            self._has_begun = True
            self._changed.clear()
        self._changed.add(key)
        if key >= AUTH:  # no client's key is
            self.has_changed_rights = self.has_changed_rights or key < AUTH_END
        return self.revision

    def _expire_at(self, key: bytes, expires_at_ms: int) -> None:
        self._rows.put(layout.EXPIRY, _pack(expires_at_ms) + key, b"")
        self.due_from_ms = min(self.due_from_ms, expires_at_ms)

    def _let_go(self, key: bytes, standing: StandingRow, *, kept_lease: int = 0) -> None:
        """What was there no longer expires, nor belongs to its lease."""
        if standing.expires_at_ms:
            self._rows.remove_empty(layout.EXPIRY, _pack(standing.expires_at_ms) + key)
        if standing.lease and standing.lease != kept_lease:
            self._leases.detach(standing.lease, key)
