"""Who leads, as far as this node can tell, and since when nobody does.

PySyncObj goes on naming a leader that it has not heard for long; here such a leader is none. Time enters as a value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from raftkv.process.loggers import get_logger
from raftkv.raft.leadership.elections import Elections
from raftkv.raft.measures import RaftMeasures
from raftkv.raft.ports import Leading, Outgoing
from raftkv.raft.settings import LEADERLESS_TIMEOUTS

log_line = get_logger("raftkv.raft")


class Leader(Leading, Protocol):
    """Whom the engine takes for the leader."""

    role: str
    leader_id: str | None


class Following:
    """What one node knows of its leader. ``leader_takes_writes`` is what that said last, until another leads."""

    def __init__(
        self,
        *,
        core: Leader,
        elections: Elections,
        outgoing: Outgoing,
        election_timeout_s: float,
        started_at_s: float,
        on_change: Sequence[Callable[[], None]],
        measures: RaftMeasures,
    ) -> None:
        """``on_change``, in this order, is done when another leads, or in another term."""
        self._core = core
        self._elections = elections
        self._outgoing = outgoing
        self._on_change = on_change
        self._measures = measures
        self.leader_takes_writes = True
        self._patience_s = LEADERLESS_TIMEOUTS * election_timeout_s
        self._followed: tuple[int, str | None] = (0, None)
        self._last = ""
        self._leaderless_since_s: float | None = started_at_s

    def leader(self, now_s: float) -> str | None:
        """The leader, this node or another, unless it was not heard for long."""
        core = self._core
        if not core.is_leader and now_s - self._elections.heard_at_s > self._patience_s:
            return None
        return core.leader_id

    def reachable_leader(self, now_s: float) -> str | None:
        """The leader, if messages can be sent to it."""
        leader = self.leader(now_s)
        if leader is None or self._core.is_leader or self._outgoing.is_up(leader):
            return leader
        return None

    def work(self, now_s: float) -> None:
        """Look who leads, and do what has to be done when it is another than last time, or another term."""
        leader = self.leader(now_s)
        if leader is not None:
            self._leaderless_since_s = None
        elif self._leaderless_since_s is None:
            self._leaderless_since_s = now_s
        before, self._followed = self._followed, (self._core.term, leader)
        if before == self._followed:
            return
        for act in self._on_change:
            act()
        self.leader_takes_writes = True
        if leader is None:
            log_line.info("no leader is known", term=self._core.term, role=self._core.role)
        else:
            self._measures.leader_changes_count += leader != self._last
            self._last = leader
            log_line.info("leader", term=self._core.term, leader=leader, role=self._core.role)

    def leaderless_too_long(self, now_s: float) -> bool:
        """Has there been no leader for so long that requests should not wait for one?"""
        since_s = self._leaderless_since_s
        return since_s is not None and now_s - since_s > self._patience_s
