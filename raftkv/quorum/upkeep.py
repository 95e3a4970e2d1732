"""What a replica does for its own data now and then: room on the disk, marks of time, and old tombstones.

A tombstone is kept for the grace, so that a replica which missed the deletion hears of it before it is forgotten. Two
rules follow: hints older than the grace are dropped, and data that was out of service for longer than the grace is not
let back, for others may have forgotten deletions that it has never heard of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raftkv.core.errors import StartupError
from raftkv.quorum.settings import QuorumSettings
from raftkv.quorum.store import Store
from raftkv.quorum.versions import HybridClock

PURGE_KEYS: Final = 500
"""How many keys are looked at in one go, a few times a second."""

PARTS: Final = 20
"""The mark of being in service is renewed after this part of the grace. A purge begins as often, and all nodes begin
theirs at the same time and drop the same: otherwise those that still have a tombstone would show it to the others."""

ALIVE_LIMIT_S: Final = 60.0


class Upkeep:
    """Looks after one replica's data. Raises ``StartupError`` for data that is too old."""

    def __init__(
        self,
        settings: QuorumSettings,
        *,
        store: Store,
        stamps: HybridClock,
        wall_ms: Callable[[], int],
        free_bytes: Callable[[], int],
    ) -> None:
        self._is_low = self._has_failed = False
        self._settings = settings
        self._store = store
        self._stamps = stamps
        self._wall_ms = wall_ms
        self._free_bytes = free_bytes
        self._grace_ms = int(settings.tombstone_grace_s * 1000)
        self._every_s = settings.tombstone_grace_s / PARTS
        self._marked_s = float("-inf")
        self._purged_us = 0
        self._purging: bytes | None = None
        self._purging_hints: bytes | None = None
        alive_ms = store.alive_ms
        if alive_ms is not None and wall_ms() - alive_ms > self._grace_ms:
            away_s = (wall_ms() - alive_ms) / 1000
            raise StartupError(
                f"this data was out of service for {away_s:.0f} s, longer than quorum.tombstone_grace_s "
                f"({settings.tombstone_grace_s:g}): deleted keys would come back; start with an empty data directory"
            )

    @property
    def is_full(self) -> bool:
        """Is there no room for more on the disk?"""
        return self._is_low or self._has_failed

    def committed(self) -> None:
        """A commit has found room."""
        self._has_failed = False

    def commit_failed(self) -> None:
        """A commit has found no room."""
        self._has_failed = True

    def work(self, now_s: float) -> None:
        """Do what is due at ``now_s``."""
        self._is_low = self._free_bytes() < self._settings.disk_reserve_bytes
        self._store.keep_clock_mark(self._stamps.last)
        # After a commit that found no room, one that matters to nobody tries whether there is some again.
        if self._has_failed or now_s - self._marked_s >= min(self._every_s, ALIVE_LIMIT_S):
            self._marked_s = now_s
            self._store.keep_alive(self._wall_ms())
        self._purge(self._wall_ms())

    def _purge(self, now_ms: int) -> None:
        before_us = (now_ms - self._grace_ms) * 1000
        before_us -= before_us % max(1, int(self._every_s * 1_000_000))
        if before_us > self._purged_us and self._purging is None and self._purging_hints is None:
            self._purged_us = before_us
            self._purging = self._purging_hints = b""
        if self._purging_hints is not None:
            self._purging_hints = self._store.purge_hints(before_us, self._purging_hints, PURGE_KEYS) or None
        if self._purging is not None:
            self._purging = self._store.purge(before_us, now_ms, self._purging, PURGE_KEYS) or None
