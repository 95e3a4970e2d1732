"""A ``Replicator`` of one, in process: the machine over tables in memory, no log, no peers.

It shows what the interface asks for, and carries the tests of the HTTP layer. ``work`` carries out what was submitted;
``held`` keeps it from doing so, for tests of waiting.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.judgement import of_query
from raftkv.core.replicator import Hear, Pending, Shown, Subscribers, Subscription
from raftkv.core.requests import Barrier, Compact, Consistency, Inspect, KeepAlive, Read, Request, ShowSights, Write
from raftkv.core.results import Answer, Outcome, Ready, Written
from raftkv.core.rights import Rights
from raftkv.core.sights import SightsShown
from raftkv.core.status import RaftStatus
from raftkv.formats import entries, layout
from raftkv.formats.commands import AdoptCommand, Command
from raftkv.formats.rights import encode_document
from raftkv.machine import reading
from raftkv.machine.conversion import command_of
from raftkv.machine.machine import AppliedCommand, Machine
from raftkv.machine.repeats import RepeatLimits
from raftkv.peers.sights import sight_of
from raftkv.storage.engines.memory import MemoryEngine
from raftkv.storage.state.tables import StateTables

ALL_LEVELS = (Consistency.LINEARIZABLE, Consistency.LEASE, Consistency.LOCAL)


class SoloReplicator:
    """See the module; ``offers``, ``leader`` and ``state_path`` are what its status claims."""

    def __init__(
        self,
        *,
        max_pending: int = 1_000,
        offers: tuple[Consistency, ...] = ALL_LEVELS,
        node: str = "n1",
        now_ms: int = 1_000,
        keeps_history: bool = True,
    ) -> None:
        self.tables = StateTables(MemoryEngine(layout.TABLES), layout.TABLES, Path("state"))
        self.machine = Machine(self.tables, RepeatLimits())
        self.offers = offers
        self.node = node
        self.leader: str | None = node
        self.cluster_size = 1
        self.state_path = ""
        self.rights = encode_document(())
        self.level_at_s: float | None = 0.0
        self.now_ms = now_ms
        self.held = False
        self.submitted: list[Request] = []
        self._max_pending = max_pending
        self._queue: list[tuple[Request, float, Pending]] = []
        self._closed = False
        self.subscribers = Subscribers()
        if keeps_history:
            self._apply(AdoptCommand(100_000, 3_600_000, 16 << 20))
        self._show()

    def _show(self) -> None:
        self.subscribers.tell(Shown(revision=self.machine.revision, applied_index=self.machine.applied_index))

    @property
    def current_rights(self) -> Rights:
        return self.machine.rights

    def counted(self) -> Mapping[str, int]:
        return {name: self.tables.row_count(table) for name, table in layout.COUNTED.items()}

    def subscribe(self, hear: Hear) -> Subscription:
        return self.subscribers.add(hear)

    def submit(self, request: Request, deadline_s: float) -> Pending:
        pending = Pending()
        self.submitted.append(request)
        if self._closed:
            pending.resolve(Refused(code=Code.NO_LEADER, detail="closed"))
        elif len(self._queue) >= self._max_pending:
            pending.resolve(Refused(code=Code.OVERLOADED, detail="too many requests wait", retry_after_s=1.0))
        elif isinstance(request, Read | Barrier) and request.consistency not in self.offers:
            pending.resolve(Refused(code=Code.NOT_SUPPORTED, detail=f"{request.consistency} is not offered"))
        else:
            self._queue.append((request, deadline_s, pending))
        return pending

    def work(self, now_s: float) -> float:
        kept = []
        queue, self._queue = self._queue, []
        for request, deadline_s, pending in queue:
            if deadline_s <= now_s:
                pending.resolve(self._late(request))
            elif self.held:
                kept.append((request, deadline_s, pending))
            else:
                pending.resolve(self._carry_out(request))
        self._queue = kept + self._queue
        return now_s + 0.05

    def status(self) -> RaftStatus:
        return RaftStatus(
            node=self.node,
            mode="raft",
            role="leader" if self.leader == self.node else "follower",
            leader=self.leader,
            term=1,
            commit_index=self.machine.applied_index,
            applied_index=self.machine.applied_index,
            revision=self.machine.revision,
            peers=(),
            offers=self.offers,
            cluster_size=self.cluster_size,
            level_at_s=self.level_at_s,
            state_path=self.state_path,
        )

    def close(self) -> None:
        self._closed = True
        queue, self._queue = self._queue, []
        for request, _, pending in queue:
            if isinstance(request, Write):
                pending.resolve(Unknown(detail="closed"))
            else:
                pending.resolve(Refused(code=Code.NO_LEADER, detail="closed"))

    def _late(self, request: Request) -> Outcome:
        if isinstance(request, Write):
            return Unknown(detail="the deadline passed")
        return Refused(code=Code.QUORUM_UNREACHABLE, detail="the deadline passed")

    def _carry_out(self, request: Request) -> Outcome:
        if isinstance(request, Write | KeepAlive | Compact):
            return self._propose(request)
        if isinstance(request, Read):
            content = reading.answer(self.tables, request.query)
            revision = reading.revision(self.tables)
            caller = request.caller
            refusal = None if caller is None else of_query(self.machine.rights, caller, request.query, content)
            if refusal is not None:
                return refusal
            return Answer(
                content=content, consistency=request.consistency, revision=revision, level_at_s=self.level_at_s
            )
        if isinstance(request, Barrier):
            return Ready(applied_index=self.machine.applied_index)
        if isinstance(request, Inspect | ShowSights):
            return self._shown(request)
        return Refused(code=Code.NOT_SUPPORTED, detail="one replica by itself does not offer this")

    def _shown(self, request: Inspect | ShowSights) -> Outcome:
        if isinstance(request, ShowSights):
            return SightsShown(sights=(sight_of(self.status(), life="1-a", at_ms=self.now_ms, happenings=()),))
        return self.status()

    def _propose(self, request: Write | KeepAlive | Compact) -> Outcome:
        if self.leader is None:
            return Refused(code=Code.NO_LEADER, detail="there is no leader", retry_after_s=1.0)
        command = command_of(request)
        if isinstance(command, Refused):
            return command
        (outcome,) = self._apply(command).outcomes
        self._show()
        if not isinstance(outcome, Written):
            return outcome
        assert isinstance(request, Write)
        return msgspec.structs.replace(outcome, acks=request.acks)

    def _apply(self, command: Command) -> AppliedCommand:
        self.now_ms += 1
        index = self.machine.applied_index + 1
        applied = self.machine.apply(index, 1, entries.encode(self.now_ms, 1, index, command))
        assert applied is not None
        return applied
