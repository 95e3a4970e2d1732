"""How much room this node's disk has, and what is not done any more when it runs out.

The reserve keeps a node alive: votes, terms and what the others have committed must go on being written while clients'
writes are refused. So it is given away in steps, each for what matters more than the one before:

====================  ==========================================================================================
free is below         what is not done
====================  ==========================================================================================
the reserve           as a leader, take writes that need room: it hands over to a member that has some, if there is one
half of it            take deletions, which make room; make or receive a snapshot, after which the log may be cut
a quarter of it       as a follower, take entries: they come again; terms and votes are written still
====================  ==========================================================================================

There is room again when an eighth more than the reserve is free, so that nothing flickers at the edge. Time enters as a
value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raftkv.process.loggers import get_logger

CHECK_S: Final = 1.0
CHECK_FULL_S: Final = 0.1
"""How often the disk is looked at, and how often while it is full."""

log_line = get_logger("raftkv.raft")


def spared_by_upkeep(reserve_bytes: int) -> int:
    """What work that can be put off leaves free of the reserve, so that the log itself can be written."""
    return reserve_bytes // 2


class DiskRoom:
    """``is_full``, ``is_low`` and ``is_gone`` are the steps of the table above, as of the last look."""

    def __init__(self, free_bytes: Callable[[], int], *, reserve_bytes: int) -> None:
        self.is_full = self.is_low = self.is_gone = False
        self._look = free_bytes
        self.free_bytes = 0
        """At the last look."""

        self.reserve_bytes = reserve_bytes
        self.due_s = float("-inf")
        """When it is time to look again."""

    def check(self, now_s: float) -> None:
        """Look at the disk."""
        self.free_bytes = free_bytes = self._look()
        reserve_bytes, was_full = self.reserve_bytes, self.is_full
        self.is_full = free_bytes < reserve_bytes + (reserve_bytes // 8 if was_full else 0)
        self.is_low = free_bytes < spared_by_upkeep(reserve_bytes)
        self.is_gone = free_bytes < reserve_bytes // 4
        self.due_s = now_s + (CHECK_FULL_S if self.is_full else CHECK_S)
        if self.is_full != was_full:
            log_line.warning(
                "disk full: as a leader, this node hands over or refuses writes"
                if self.is_full
                else "disk has room again",
                free_bytes=free_bytes,
                reserve_bytes=reserve_bytes,
            )

    def spares(self, size_bytes: int) -> bool:
        """May work that can be put off take ``size_bytes``?"""
        return self.free_bytes - size_bytes >= spared_by_upkeep(self.reserve_bytes)

    def takes(self, *, makes_room: bool) -> bool:
        """May a leader take a write, one that ``makes_room`` or one that needs it?"""
        return not (self.is_low if makes_room else self.is_full)
