"""The applied state of this node: entries go into it in log order, and readers see it once it is committed.

Every commit writes whole pages, and their way to the disk is shared with the log's flushes. So what nobody waits for is
committed a little later, and more at a time. Imports nothing of the engine but what marks its own entries.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from raftkv.core.replicator import Shown, Subscribers
from raftkv.formats.entries import REGULAR
from raftkv.machine.machine import Machine
from raftkv.raft.measures import RaftMeasures
from raftkv.raft.ports import StatePort
from raftkv.raft.reading.freshness import Freshness
from raftkv.raft.standing.divergence import Divergence
from raftkv.raft.writing.proposals import Proposals
from raftkv.raft.writing.visibility import Visibility

COMMIT_DELAY_S: Final = 0.01
"""How long applied entries may wait to be seen by local reads of this node when no client of it waits for them."""

HEARD_DELAY_S: Final = 0.002
"""The same while somebody wants to hear of what is shown, as those who watch do."""


class AppliedMachine:
    """The state machine, and since when it holds more than what readers see; ``subscribers`` hear what they see."""

    def __init__(
        self,
        state: StatePort,
        machine: Machine,
        *,
        divergence: Divergence,
        visibility: Visibility,
        freshness: Freshness,
        proposals: Proposals,
        stamped: Callable[[int], None],
        clock: Callable[[], float],
        measures: RaftMeasures,
    ) -> None:
        """``stamped`` is called with its term when the state has come to another stamp."""
        self.state = state
        self.machine = machine
        self.uncommitted_since_s: float | None = None
        self._divergence = divergence
        self._visibility = visibility
        self._freshness = freshness
        self._proposals = proposals
        self._stamped = stamped
        self._clock = clock
        self._measures = measures
        self.subscribers = Subscribers()
        self._announce(machine.applied_index)

    def apply(self, index: int, term: int, entry: bytes) -> None:
        """Apply one committed entry; called by the engine, in log order."""
        begun_s = self._clock()
        if self.uncommitted_since_s is None:
            self.uncommitted_since_s = begun_s
        machine, proposals = self.machine, self._proposals
        proposals.entered_term(term)
        if entry[:1] != REGULAR:  # of the engine, or of the members: nothing for the store
            machine.skip(index, term)
            self._divergence.applied(index, machine.state_hash)
            return
        applied = machine.apply(
            index, term, memoryview(entry)[1:], told=proposals.origin, room_bytes=proposals.answers_room_bytes
        )
        self._stamped(term)
        self._divergence.applied(index, machine.state_hash)
        now_s, measures = self._clock(), self._measures
        measures.apply.observe(now_s - begun_s)
        if applied is not None:
            proposed_at_s = proposals.applied(applied.origin, applied.sequence, applied.outcomes)
            if proposed_at_s is not None:
                measures.proposal.observe(now_s - proposed_at_s)

    def commit(self, now_s: float, *, at_once: bool) -> bool:
        """Commit what was applied, ``at_once`` if somebody is about to be told of it; returns whether a peer waits."""
        if self.uncommitted_since_s is None:
            return False
        is_awaited = self._visibility.awaited
        if is_awaited or at_once or now_s >= self.due_s:
            begun_s = self._clock()
            self.state.tables.commit()
            self._measures.state_commit.observe(self._clock() - begun_s)
            self.uncommitted_since_s = None
            self._show(self.machine.applied_index)
        return is_awaited

    @property
    def due_s(self) -> float:
        """When to commit at the latest; infinite when there is nothing to."""
        if self.uncommitted_since_s is None:
            return float("inf")
        return self.uncommitted_since_s + (HEARD_DELAY_S if self.subscribers else COMMIT_DELAY_S)

    def take_over(self, directory: Path, index: int) -> None:
        """Go on with the state of a snapshot at ``index``, loaded into ``directory``."""
        self.state.switch(directory)
        self.machine = self.machine.over(self.state.tables)
        assert self.machine.applied_index == index
        self._stamped(self.machine.applied_term)
        self._divergence.applied(index, self.machine.state_hash)
        self._show(index)

    def _show(self, index: int) -> None:
        """Readers of the applied state see everything up to ``index`` now."""
        self._visibility.committed(index)
        self._freshness.shown(index)
        self._announce(index)

    def _announce(self, index: int) -> None:
        self.subscribers.tell(Shown(revision=self.machine.revision, applied_index=index))
