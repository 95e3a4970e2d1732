"""What time it is, as far as a cluster can agree: the source of the stamps that decide when keys and outcomes expire.

The machine's clock is the maximum of the stamps in the log, so one stamp from a clock that is hours ahead would move it
ahead for good. Therefore no single clock is believed. **It is as late as a majority of all members say that it is**:
the latest time that a majority of clocks has reached, as the commit index is the highest index that a majority of logs
has reached. While less than half of the clocks are ahead, agreed time is not ahead of every correct clock, whichever
nodes are down; the same idea, for intervals, is Marzullo's ("Maintaining the Time in a Distributed System", 1984).

Votes and the answers to the leader's pings tell it the voters' clocks, so a leader knows a majority from its first
moment. Between them, and while the clocks that it knows are behind, time goes on with its monotonic clock, at
``SLOWEST_RATE`` at least: it never stands still and never goes back. So what is asked to live for a second lives for
``1 / SLOWEST_RATE`` seconds at most, and a machine's clock that is ahead falls back to the agreed time at that rate.

Pure arithmetic; wall clocks are in milliseconds since 1970, the monotonic clock in seconds.
"""

from __future__ import annotations

from typing import Final

from raftkv.raft.electorate import Electorate

SLOWEST_RATE: Final = 0.9
"""How fast time passes at least, by the leader's monotonic clock, while it is ahead of what a majority says."""


class AgreedTime:
    """One node's knowledge of its peers' clocks, and the time it stamps with when it leads."""

    def __init__(self, electorate: Electorate) -> None:
        self._electorate = electorate
        self._term = 0
        self._ahead_ms: dict[str, float] = {}
        self._time_ms = 0.0
        self._read_at_s = 0.0

    def told(self, *, term: int, peer: str, wall_ms: int, now_s: float) -> None:
        """``peer`` said in ``term`` what its wall clock shows; 0 says nothing."""
        if wall_ms and term >= self._term:
            self._enter(term, now_s)
            self._ahead_ms[peer] = wall_ms - now_s * 1000

    def ahead_s(self, peer: str, wall_ms: int, now_s: float) -> float | None:
        """How much later the clock of ``peer`` is than this node's, give or take a ping; ``None`` if nobody knows."""
        ahead_ms = self._ahead_ms.get(peer)
        return None if ahead_ms is None else (ahead_ms + now_s * 1000 - wall_ms) / 1000

    def read(self, *, term: int, wall_ms: int, machine_ms: int, now_s: float) -> int:
        """What the leader of ``term`` stamps with now; its own wall clock counts as one of the members'."""
        self._enter(term, now_s)
        passed_ms = (now_s - self._read_at_s) * 1000
        clocks = {peer: ahead_ms + now_s * 1000 for peer, ahead_ms in self._ahead_ms.items()}
        clocks[self._electorate.node_id] = wall_ms
        agreed_ms = self._electorate.voters.reached(clocks) or 0.0
        self._time_ms = max(self._time_ms + passed_ms * SLOWEST_RATE, agreed_ms, float(machine_ms))
        self._read_at_s = now_s
        return int(self._time_ms)

    def _enter(self, term: int, now_s: float) -> None:
        """What was known in an earlier term may be old: begin anew, from the machine's clock."""
        if term != self._term:
            self._term = term
            self._ahead_ms.clear()
            self._time_ms, self._read_at_s = 0.0, now_s
