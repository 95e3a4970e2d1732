"""The real raft replica in the simulator, with what invariants, clients and operators look at from outside."""

from __future__ import annotations

from collections.abc import Callable

from raftkv.core.results import KeyRecord
from raftkv.formats import layout
from raftkv.formats.raft_messages import Message
from raftkv.instruments.sim.network import FLOOD_COUNT
from raftkv.instruments.sim.snapshots import ShownTables
from raftkv.instruments.sim.watched_log import WatchedLog
from raftkv.machine.machine import Machine as KeyValueMachine
from raftkv.raft.engine import internals
from raftkv.raft.replica import RaftReplica


class SimulatedReplica(RaftReplica):
    """The real replica, and what the invariants look at."""

    log: WatchedLog
    name: str
    moment_s = float("-inf")
    posted_count = 0
    on_flush: Callable[[], None] = staticmethod(lambda: None)

    @property
    def core(self) -> internals.Core:
        """PySyncObj and what it knows."""
        return self.parts.core

    @property
    def store(self) -> KeyValueMachine:
        """The state machine."""
        return self.parts.applied.machine

    @property
    def tables(self) -> ShownTables:
        """The applied state."""
        assert isinstance(self.parts.applied.state.tables, ShownTables)
        return self.parts.applied.state.tables

    def shown(self, key: bytes) -> KeyRecord | None:
        """What a front-end that reads the applied state itself finds under ``key``."""
        row = self.tables.shown.get(key)
        return None if row is None else layout.unpack_record(key, row)

    @property
    def level_at_s(self) -> float:
        """Since when local reads of this node may miss something, as it says, by its own clock."""
        return self.parts.freshness.level_at_s

    @property
    def counts(self) -> bool:
        """Is it a member that votes and acknowledges?"""
        return self.parts.readmission.counts

    @property
    def is_stopped(self) -> bool:
        """Does it serve nobody, because its state differs from that of others?"""
        return self.parts.readmission.is_stopped

    @property
    def holds_lease(self) -> bool:
        """Would this node answer a lease read alone?"""
        return self.parts.core.is_leader and self.parts.rounds.holds_lease(self.parts.core.term, self._clock())

    @property
    def patience_s(self) -> float:
        """The election timeout."""
        return self._settings.election_timeout_s

    @property
    def committed_tables(self) -> ShownTables | None:
        """The applied state, if all of it is committed."""
        return self.tables if self.parts.applied.uncommitted_since_s is None else None

    def _flush(self) -> None:
        super()._flush()
        if self.parts.electorate.is_alone:
            self.on_flush()  # it may do more in this turn, and commit what was flushed

    def bound_outboxes(self) -> None:
        """On a clock that stands still, PySyncObj's sending can go round for ever; end it before memory does."""
        post: Callable[[str, Message], None] = self.parts.transport.post
        clock = self._clock

        def counting(peer: str, message: Message) -> None:
            now_s = clock()
            if now_s != self.moment_s:
                self.moment_s, self.posted_count = now_s, 0
            self.posted_count += 1
            assert self.posted_count < FLOOD_COUNT, f"{self._settings.node_id} floods {peer}"
            post(peer, message)

        self.parts.transport.post = counting  # type: ignore[method-assign]
