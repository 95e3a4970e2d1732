"""How late it is for leases: as stamps say, but without their leaps.

Stamps leap: agreed time does when a clock that was behind is set right, or a node with a right clock comes back. A
lease must not end by a leap: its holder counts on all of its time, by a monotonic clock, having no other (Gray and
Cheriton, "Leases", 1989). So no stamp may bring lease time further than the monotonic clock has gone since the last
one; where it would, the leader says in the log how far lease time has come instead. Whoever leads next goes on from the
newest entry that it applied, from when on it did.

It is late rather than early: by how long an entry was on its way to who leads next, and by all the time in which nobody
counted, since what passed while no node ran is told by no monotonic clock.

Pure arithmetic; lease time is in milliseconds, the monotonic clock in seconds.
"""

from __future__ import annotations

from typing import Final

LEAP_MS: Final = 100
"""A stamp that is further ahead than this has leapt. In each term lease time may be so much early in all, no more."""


class LeaseTime:
    """One node's knowledge of lease time."""

    def __init__(self, lease_ms: int, now_s: float) -> None:
        """``lease_ms`` is what the state says that the node starts with, 0 where there was no stamp yet."""
        self._known_ms, self._known_at_s = lease_ms, now_s

    def followed(self, lease_ms: int, now_s: float) -> None:
        """The newest entry that this node applied, while another leads, was stamped at ``lease_ms``."""
        self._known_ms, self._known_at_s = lease_ms, now_s

    def inherited(self, lease_ms: int, now_s: float) -> None:
        """As leader, this node applied an entry of an earlier term, stamped at ``lease_ms``: it is that late at least.

        After a start the state may be older than what the log has from before it, by any time that nobody wrote.
        """
        if lease_ms > self._reached_ms(now_s):
            self.followed(lease_ms, now_s)

    def led(self, lease_ms: int, now_s: float) -> int | None:
        """As leader, about to stamp: is lease time another than ``lease_ms``, to which that leads?"""
        reached_ms = self._reached_ms(now_s)
        if self._known_ms and lease_ms > reached_ms + LEAP_MS:
            return reached_ms
        if lease_ms < reached_ms or not self._known_ms:
            self._known_ms, self._known_at_s = lease_ms, now_s
        return None

    def _reached_ms(self, now_s: float) -> int:
        return self._known_ms + int((now_s - self._known_at_s) * 1000)
