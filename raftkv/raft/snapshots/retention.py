"""How much of the log stays behind the newest snapshot, for followers that are not yet there.

A follower a little behind should need no snapshot, so some entries are always kept. And a follower that is receiving or
loading a snapshot, or catching up after it, must find the log still reaching back to where it stands when it is done;
otherwise writes that never pause would outrun it again and again. So the leader keeps the log from the lowest index
that any follower needs, up to a bound: entries held in memory count with what Python adds to them, and together they
take no more than ``HELD_LOGS`` times ``snapshot_log_bytes``, plus what is appended while one snapshot is written. A
follower that needs more than that is given up for a later snapshot, on which it may have better luck.

Pure arithmetic over the log: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from raftkv.storage.log.log import Log

HELD_LOGS: Final = 4
"""How many times ``snapshot_log_bytes`` the log may grow to for the sake of followers that are behind."""

ENTRY_OVERHEAD_BYTES: Final = 150
"""What an entry takes in memory beside its command: tuple, number, head of a bytes object, place in the list."""


class Retention:
    """Decides where the log may be cut."""

    def __init__(self, log: Log, *, trailing_entries: int, snapshot_log_bytes: int) -> None:
        self._log = log
        self._trailing_entries = trailing_entries
        self._trailing_bytes = snapshot_log_bytes // 4
        self._held_bytes = snapshot_log_bytes * HELD_LOGS

    def keep_from(self, snapshot_index: int, needed: Collection[int]) -> int:
        """The first index to keep behind the snapshot at ``snapshot_index``.

        ``needed`` holds, for each follower that counts, the index it has reached, or will have with its snapshot.
        """
        for index in sorted(needed):
            if self._log.first_index <= index < snapshot_index and self._bytes_from(index) <= self._held_bytes:
                return min(index, self._trailing_from(snapshot_index))
        return self._trailing_from(snapshot_index)

    def _trailing_from(self, snapshot_index: int) -> int:
        kept_bytes, keep_from = 0, snapshot_index
        lowest = max(self._log.first_index, snapshot_index - self._trailing_entries)
        while keep_from > lowest and kept_bytes < self._trailing_bytes:
            keep_from -= 1
            kept_bytes += len(self._log.entry(keep_from)[0])
        return keep_from

    def _bytes_from(self, index: int) -> int:
        """What the log takes in memory from ``index`` on, or any bound that is small enough already."""
        log = self._log
        total = log.size_bytes + len(log) * ENTRY_OVERHEAD_BYTES
        if total <= self._held_bytes:
            return total
        before = index - log.first_index
        return total - sum([len(entry[0]) + ENTRY_OVERHEAD_BYTES for entry in log.slice(0, before)])
