"""Who leads, as far as this node can tell, and since when nobody does.

PySyncObj goes on naming a leader that it has not heard for long; here such a leader is none. Time enters as a value.
"""

from __future__ import annotations

from raftkv.raft.engine.internals import Core
from raftkv.raft.engine.transport import GuardedTransport
from raftkv.raft.leadership.elections import Elections
from raftkv.raft.settings import LEADERLESS_TIMEOUTS


class Following:
    """What one node knows of its leader."""

    def __init__(
        self,
        *,
        core: Core,
        elections: Elections,
        transport: GuardedTransport,
        election_timeout_s: float,
        started_at_s: float,
    ) -> None:
        self._core = core
        self._elections = elections
        self._transport = transport
        self._patience_s = LEADERLESS_TIMEOUTS * election_timeout_s
        self._followed: tuple[int, str | None] = (0, None)
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
        if leader is None or self._core.is_leader or self._transport.is_up(leader):
            return leader
        return None

    def changed(self, now_s: float) -> bool:
        """Look who leads; is it another than last time, or another term?"""
        leader = self.leader(now_s)
        if leader is not None:
            self._leaderless_since_s = None
        elif self._leaderless_since_s is None:
            self._leaderless_since_s = now_s
        before, self._followed = self._followed, (self._core.term, leader)
        return before != self._followed

    def leaderless_too_long(self, now_s: float) -> bool:
        """Has there been no leader for so long that requests should not wait for one?"""
        since_s = self._leaderless_since_s
        return since_s is not None and now_s - since_s > self._patience_s
