"""How a read that reaches this node gets its answer: at once, through the gate, or from several replicas.

Rules: what raft mode cannot give is refused, never approximated; every answer is taken from the applied state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from raftkv.core.errors import Code, Refused
from raftkv.core.judgement import of_query
from raftkv.core.replicator import Pending
from raftkv.core.requests import DEFAULT, Barrier, Consistency, Get, Read, Write, is_of_past
from raftkv.core.results import Answer, KeyRecord, Missing, Outcome, Ready, Written
from raftkv.core.rights import Caller, Rights
from raftkv.formats.raft_messages import (
    AppliedView,
    AskRecord,
    AskRecordFor,
    RecordAnswer,
    RecordForbidden,
    SeenLeasedRecord,
    SeenRecord,
)
from raftkv.machine import reading
from raftkv.raft.delays import Delays
from raftkv.raft.electorate import Electorate
from raftkv.raft.ports import Handlers, Leading, Outgoing, StatePort
from raftkv.raft.reading.eventual import EventualReads, too_few
from raftkv.raft.reading.freshness import Freshness
from raftkv.raft.reading.gate import ReadGate
from raftkv.raft.settings import (
    HELD_TOO_LONG,
    NOT_OF_RAFT,
    ONE_KEY_ONLY,
    R_IS_EVENTUAL,
    SHUTTING_DOWN,
    ReplicaSettings,
    out_of_service,
    overloaded,
)
from raftkv.raft.standing.readmission import Readmission


class ReadLog(Leading, Protocol):
    """Where the engine stands, for whoever reads what is applied."""

    applied_index: int


@dataclass(kw_only=True, eq=False, repr=False)
class Readers:
    """Every read of this node, from the request to the answer."""

    settings: ReplicaSettings
    electorate: Electorate
    core: ReadLog
    outgoing: Outgoing
    gate: ReadGate
    eventual: EventualReads
    delays: Delays
    freshness: Freshness
    readmission: Readmission
    state: StatePort
    usual_r: Callable[[], int]
    """Tells the R of eventual reads that name none; 0 stands for a majority."""

    rights: Callable[[], Rights]
    """Who may do what in the applied state."""

    clock: Callable[[], float]

    def handlers(self) -> Handlers:
        """See ``Part``."""
        return {
            AskRecord: self._on_ask_record,
            AskRecordFor: self._on_ask_record,
            RecordAnswer: self._on_record_answer,
            RecordForbidden: self._on_record_forbidden,
        }

    def submit(self, request: Read | Barrier, deadline_s: float, pending: Pending) -> None:
        """Take a request in; its outcome may be there at once, or come through the gate or the eventual reads."""
        needed = self._needed(request)
        if isinstance(needed, Refused):
            pending.resolve(needed)
        elif isinstance(request, Barrier):
            self._pass_on(request, deadline_s, pending)
        elif needed > 1:
            assert isinstance(request.query, Get)
            self._ask_replicas(request.query.key, request.caller, needed, deadline_s, pending)
        else:
            self._begin(request, deadline_s, pending)

    def submit_several(self, write: Write, deadline_s: float, pending: Pending) -> None:
        """Take in a batch that changes nothing: a linearizable read of all its keys at once, which no log has to hold.

        It is answered in the form of a write's outcome, as the same gets beside a put would be.
        """
        reached = Pending()

        def answer(outcome: Outcome) -> None:
            if not isinstance(outcome, Ready):
                pending.resolve(outcome)
                return
            refusal = self._refusal_of_each(write)
            if refusal is not None:
                pending.resolve(refusal)
                return
            tables = self.state.tables
            results = reading.several(tables, write.operations)
            pending.resolve(Written(results=results, revision=reading.revision(tables), acks=self.electorate.majority))

        reached.when_done(answer)
        self._begin(Barrier(), deadline_s, reached)

    def _on_ask_record(self, peer: str, ask: AskRecord | AskRecordFor, _now_s: float) -> None:
        """``peer`` wants to know what is here: nothing, as long as what was here is lost or wrong."""
        if self.readmission.is_recovering or self.readmission.is_stopped:
            return
        caller = Caller(ask.user, ask.generation) if isinstance(ask, AskRecordFor) else None

        def tell() -> None:
            view = self._view(ask.request, ask.key, caller)
            self.outgoing.post(
                peer, view if isinstance(view, RecordForbidden) else RecordAnswer(request=ask.request, view=view)
            )

        self._after_delay(tell)

    def _on_record_answer(self, peer: str, answer: RecordAnswer, _now_s: float) -> None:
        self.eventual.answered(answer.request, peer, answer.view)

    def _on_record_forbidden(self, peer: str, forbidden: RecordForbidden, _now_s: float) -> None:
        self.eventual.answered(forbidden.request, peer, forbidden)

    def answer(self, pending: Pending, request: Read | Barrier) -> None:
        """Answer from the applied state, as it is now."""
        if isinstance(request, Barrier):
            pending.resolve(Ready(applied_index=self.core.applied_index))
            return
        tables = self.state.tables
        level_at_s = self.freshness.level_at_s
        content = reading.answer(tables, request.query)
        caller = request.caller
        refusal = None if caller is None else of_query(self.rights(), caller, request.query, content)
        if refusal is not None:
            pending.resolve(refusal)
            return
        pending.resolve(
            Answer(
                content=content,
                consistency=request.consistency,
                revision=reading.revision(tables),
                level_at_s=None if level_at_s == float("-inf") else level_at_s,
            )
        )

    def release(self, now_s: float) -> None:
        """Go on with the reads that were held for long enough."""
        for action in self.delays.due_reads(now_s):
            action()

    def abandon(self) -> None:
        """The node ends: turn everyone away."""
        self.release(float("inf"))
        self.gate.abandon(SHUTTING_DOWN)
        self.eventual.abandon(SHUTTING_DOWN)

    def _needed(self, request: Read | Barrier) -> int | Refused:
        """How many replicas must be read, or why they cannot be."""
        if isinstance(request, Barrier):
            return 1 if request.consistency is not Consistency.EVENTUAL else NOT_OF_RAFT
        if request.placing is not None:
            return NOT_OF_RAFT
        if request.consistency is Consistency.EVENTUAL and self.readmission.is_recovering:
            return Refused(code=Code.QUORUM_UNREACHABLE, detail=self.readmission.reason)
        if request.consistency is not Consistency.EVENTUAL:
            return 1 if request.r == DEFAULT else R_IS_EVENTUAL
        needed = request.r or self.usual_r() or self.electorate.majority
        size = self.electorate.size
        if not 0 < needed <= size:
            return Refused(code=Code.BAD_REQUEST, detail=f"r={request.r}, but the cluster has {size} nodes")
        is_of_one_key = isinstance(request.query, Get) and not is_of_past(request.query)
        return needed if needed == 1 or is_of_one_key else ONE_KEY_ONLY

    def _begin(self, request: Read | Barrier, deadline_s: float, pending: Pending) -> None:
        """Pass ``request`` on, on a follower after the artificial delay of reads."""
        if not self.delays.read_s or self.core.is_leader:
            self._pass_on(request, deadline_s, pending)
        elif self.clock() + self.delays.read_s > deadline_s:
            pending.resolve(HELD_TOO_LONG)
        elif not self._after_delay(lambda: self._pass_on(request, deadline_s, pending)):
            pending.resolve(overloaded("reads"))

    def _pass_on(self, request: Read | Barrier, deadline_s: float, pending: Pending) -> None:
        if self.readmission.is_stopped:
            pending.resolve(out_of_service(self.readmission.reason))
        elif request.consistency in (Consistency.LOCAL, Consistency.EVENTUAL):
            self.answer(pending, request)
        elif not self.gate.add(request, deadline_s, pending):
            pending.resolve(overloaded("reads"))

    def _ask_replicas(
        self, key: bytes, caller: Caller | None, needed: int, deadline_s: float, pending: Pending
    ) -> None:
        reachable = [peer for peer in self.electorate.other_voters if self.outgoing.is_up(peer)]
        if len(reachable) + 1 < needed:
            pending.resolve(too_few(len(reachable) + 1, needed))
            return
        number = self.eventual.add(key, needed, deadline_s, pending)
        if number is None:
            pending.resolve(overloaded("reads"))
            return
        ask: AskRecord | AskRecordFor = AskRecord(request=number, key=key)
        if caller is not None:
            ask = AskRecordFor(request=number, key=key, user=caller.user, generation=caller.generation)
        for peer in reachable:
            self.outgoing.post(peer, ask)
        own = self.settings.node_id
        self._after_delay(lambda: self.eventual.answered(number, own, self._view(number, key, caller)))

    def _after_delay(self, action: Callable[[], None]) -> bool:
        """Do ``action`` now, or once a follower's artificial delay has passed; false when too many wait."""
        if self.core.is_leader:
            action()
            return True
        return self.delays.before_read(action, self.clock())

    def _refusal_of_each(self, write: Write) -> Refused | None:
        """Why the gets of ``write`` may not be answered, if they may not."""
        if write.caller is None:
            return None
        for one in write.operations:
            assert isinstance(one, Get)
            refusal = of_query(self.rights(), write.caller, one, Missing(key=one.key))
            if refusal is not None:
                return refusal
        return None

    def _view(self, number: int, key: bytes, caller: Caller | None) -> AppliedView | RecordForbidden:
        """What the applied state holds under ``key``, if ``caller`` may read it."""
        tables = self.state.tables
        content = reading.answer(tables, Get(key=key))
        if caller is not None and of_query(self.rights(), caller, Get(key=key), content) is not None:
            return RecordForbidden(request=number, applied_index=self.core.applied_index)
        return AppliedView(
            applied_index=self.core.applied_index,
            revision=reading.revision(tables),
            record=_seen(content) if isinstance(content, KeyRecord) else None,
        )


def _seen(record: KeyRecord) -> SeenRecord | SeenLeasedRecord:
    shown = SeenRecord(
        key=record.key,
        value=record.value,
        version=record.version,
        create_revision=record.create_revision,
        mod_revision=record.mod_revision,
        expires_at_ms=record.expires_at_ms,
    )
    return SeenLeasedRecord(**msgspec.structs.asdict(shown), lease=record.lease) if record.lease else shown
