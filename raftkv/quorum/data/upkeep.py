"""What a replica does for its own data now and then: room on the disk, marks of time, and old tombstones.

A tombstone is kept for the grace, so that a replica which missed the deletion hears of it before it is forgotten. Two
rules follow: hints older than the grace are dropped, and data that was out of service for longer than the grace is not
let back, for others may have forgotten deletions that it has never heard of. Both go by agreed time, so the data of a
node that starts stays out until a majority's clocks say how long it was away, and is shown to nobody before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raftkv.core.errors import StartupError
from raftkv.quorum.cluster_time import ClusterTime
from raftkv.quorum.data.store import Store
from raftkv.quorum.data.versions import HybridClock
from raftkv.quorum.settings import QuorumSettings

PURGE_KEYS: Final = 500
"""How many keys are looked at in one go, a few times a second."""

PARTS: Final = 20
"""The mark of being in service is renewed after this part of the grace. A purge begins as often, and all nodes begin
theirs at the same time and drop the same: otherwise those that still have a tombstone would show it to the others."""

ALIVE_LIMIT_S: Final = 60.0


class Upkeep:
    """Looks after one replica's data."""

    def __init__(
        self,
        settings: QuorumSettings,
        *,
        store: Store,
        stamps: HybridClock,
        time: ClusterTime,
        free_bytes: Callable[[], int],
    ) -> None:
        self._is_full = self._is_low = self._has_failed = False
        self._settings = settings
        self._store = store
        self._stamps = stamps
        self._time = time
        self._free_bytes = free_bytes
        self._grace_ms = int(settings.tombstone_grace_s * 1000)
        self._every_s = settings.tombstone_grace_s / PARTS
        self._marked_s = float("-inf")
        self._purged_us = 0
        self._purging: bytes | None = None
        self._purging_hints: bytes | None = None
        self._is_let_in = False
        self.free_bytes = 0
        """At the last look at the disk."""

    @property
    def is_full(self) -> bool:
        """Is there no room for more on the disk? The reserve that is left then is for deletions, which make room."""
        return self._is_full or self._has_failed

    def takes(self, *, makes_room: bool) -> bool:
        """May a state be taken, one that ``makes_room`` or one that needs it?"""
        return not (self._is_low or self._has_failed if makes_room else self.is_full)

    def committed(self) -> None:
        """A commit has found room."""
        self._has_failed = False

    def commit_failed(self) -> None:
        """A commit has found no room."""
        self._has_failed = True

    def is_in_service(self, now_s: float) -> bool:
        """May this data be shown to others? A process that stood still for the grace was away as well."""
        return self._is_let_in and now_s - self._marked_s <= self._settings.tombstone_grace_s

    def let_in(self, now_s: float) -> None:
        """Decide whether this data is young enough, once that is certain. Raises ``StartupError`` if it is not."""
        if self._is_let_in:
            if not self.is_in_service(now_s):
                raise self._too_old(now_s - self._marked_s)
            return
        if not self._time.is_known:
            return
        alive_ms = self._store.alive_ms
        if alive_ms is not None:
            earlier_ms, later_ms = self._away_ms(alive_ms)
            if earlier_ms > self._grace_ms:
                raise self._too_old(earlier_ms / 1000)
            if later_ms > self._grace_ms:
                return  # the clocks that were heard differ about it, and the others will tell
        self._is_let_in = True
        self._marked_s = now_s
        self._store.keep_alive(self._time.now_ms())

    def _away_ms(self, alive_ms: int) -> tuple[int, int]:
        """Bounds of how long data was out of service that was last in it at ``alive_ms``."""
        return self._time.now_ms() - alive_ms, self._time.later_us() // 1000 - alive_ms

    def _too_old(self, away_s: float) -> StartupError:
        grace_s = self._settings.tombstone_grace_s
        return StartupError(
            f"this data was out of service for {away_s:.0f} s, longer than quorum.tombstone_grace_s ({grace_s:g}), by "
            "the clocks of a majority: deleted keys would come back; start with an empty data directory"
        )

    def work(self, now_s: float) -> None:
        """Do what is due at ``now_s``. Raises ``StartupError`` as ``let_in`` does."""
        self.let_in(now_s)
        self.free_bytes = free_bytes = self._free_bytes()
        reserve_bytes = self._settings.disk_reserve_bytes
        self._is_full = free_bytes < reserve_bytes
        self._is_low = free_bytes < reserve_bytes // 2
        self._store.keep_clock_mark(self._stamps.last)
        # After a commit that found no room, one that matters to nobody tries whether there is some again.
        if not self._is_let_in:
            return
        if self._has_failed or now_s - self._marked_s >= min(self._every_s, ALIVE_LIMIT_S):
            self._marked_s = now_s
            self._store.keep_alive(self._time.now_ms())
        self._purge(self._time.now_ms())

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
