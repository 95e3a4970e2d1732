"""Since when this node's applied state may be behind: what a local read says about its own age, as an upper bound.

A message may take any time to arrive, so the moment at which one comes in says nothing about how old its content is.
Therefore a follower's own clock is asked twice, and no other: with every pong it sends a reading of its clock; the
leader keeps the latest of each follower, and when a majority has confirmed a round of pings (Raft thesis, section 6.4)
it returns to each follower the reading that it had *before that round began*, with its commit index of that moment.

Why that is a bound: whatever was committed anywhere before the follower took the reading was committed before the round
began. The round proves that no later term had a leader before it began, so all of it is within the leader's commit
index of that moment. Once the follower shows that index, it shows all that had been committed when it took the reading.
Delays, pauses and losses make the reading older, never younger; clocks of different nodes are never compared; a leader
that was deposed confirms nothing. A leader's own reading is the beginning of its round.

A reading names the life of the process that took it: a monotonic clock begins anew when its machine does, and an echo
of an earlier life's reading must mean nothing. It says how long that life had lasted, rounded down, in microseconds.

Pure arithmetic; time enters as a value, monotonic seconds of this node.
"""

from __future__ import annotations

from typing import Final

from raftkv.formats.raft_messages import ClockReading, Level
from raftkv.raft.ports import Handlers

MICROSECONDS: Final = 1_000_000


class Freshness:
    """``level_at_s``: all that was committed anywhere by then is shown here; minus infinity when nothing is known."""

    def __init__(self, *, life: int, started_at_s: float, shown_index: int) -> None:
        """``life`` is drawn at random for each life of this process."""
        self.level_at_s = float("-inf")
        self._life = life
        self._started_at_s = started_at_s
        self._shown_index = shown_index
        self._awaited: list[tuple[int, float]] = []

    def handlers(self) -> Handlers:
        """See ``Part``."""
        return {Level: lambda _peer, level, now_s: self.echoed(level, now_s)}

    def reading(self, now_s: float) -> ClockReading:
        """Read the clock, for the leader to return."""
        return ClockReading(life=self._life, elapsed_us=int((now_s - self._started_at_s) * MICROSECONDS))

    def echoed(self, level: Level, now_s: float) -> None:
        """A leader returned a reading; one that this life did not take says nothing."""
        taken_at_s = self._started_at_s + level.reading.elapsed_us / MICROSECONDS
        if level.reading.life == self._life and taken_at_s <= now_s:
            self.level(level.index, taken_at_s)

    def level(self, index: int, at_s: float) -> None:
        """All that was committed anywhere by ``at_s`` is within ``index``."""
        if index <= self._shown_index:
            self.level_at_s = max(self.level_at_s, at_s)
        else:
            # The oldest is reached first, and the newest tells most: what lies between them need not be kept.
            self._awaited = [*self._awaited[:1], (index, at_s)]

    def shown(self, index: int) -> None:
        """Readers of this node see everything up to ``index``."""
        self._shown_index = index
        while self._awaited and self._awaited[0][0] <= index:
            self.level_at_s = max(self.level_at_s, self._awaited.pop(0)[1])


class Vouching:
    """A leader's side: whom to tell what after a confirmed round, and not oftener than the news is worth."""

    def __init__(self, *, heartbeat_s: float) -> None:
        self._every_s = heartbeat_s / 2
        self._told_at_s = float("-inf")

    def due(self, now_s: float) -> bool:
        """Is it time to tell the followers again? Rounds for readers follow each other closely."""
        if now_s - self._told_at_s < self._every_s:
            return False
        self._told_at_s = now_s
        return True
