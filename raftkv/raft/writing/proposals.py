"""Group commit: the writes of one node on their way into the log and back as outcomes.

Writes that wait together become one command; one command of a node is on its way at a time, the others gather, unless
their clients asked for the leader alone. Whoever applies a command that carries this node's origin settles its writes:
outcomes come from the state machine alone, never from PySyncObj's callbacks, which can be lost, early, or another
command's (13, 14).

A command is proposed for one term, and only that term's leader may append it. So once this node applies an entry of a
later term, a command it has not applied can never be: terms do not decrease along the log (Raft, section 5.3), and
everything before that entry is applied. Its writes are proposed again. A failover thus costs a client time, not
certainty; a write is unknown only when its deadline passes first.

Pure bookkeeping: the replica moves commands and supplies time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.pages import size_of
from raftkv.core.replicator import Pending
from raftkv.core.results import AnyResult, KeyPage, KeyRecord, Outcome, Transacted, Written
from raftkv.formats.commands import batch_parts
from raftkv.machine.conversion import Proposal
from raftkv.machine.machine import CommandOutcome
from raftkv.machine.reading import RECORD_BYTES
from raftkv.raft.electorate import Electorate
from raftkv.raft.measures import RaftMeasures
from raftkv.raft.settings import SHUTTING_DOWN
from raftkv.raft.writing.visibility import shown_from

BATCH_OPERATIONS: Final = 256
"""Operations in one command at most; beyond it batches only add latency (measured: no more throughput)."""

BATCHES_MAX: Final = 256
"""Commands without an outcome at most. Only those that the leader alone acknowledged, or a leader lost, are so many."""

BATCH_OVERHEAD_BYTES: Final = 4096
"""What an entry and its message add to the body, generously."""

BATCH_BYTES: Final = 1 << 20
"""Size at which a command is full; a single larger write travels alone."""

ANSWERS_BYTES: Final = 64 << 20
"""What applied commands have read for their clients at most, until it is handed out; beyond, records are withheld."""

SEQUENCE_MASK: Final = 0xFFFF_FFFF
"""Sequences begin at the origin's last bits, which is less to write than all of them."""

_READING: Final = frozenset({KeyRecord, KeyPage, Transacted})
"""Results that tell what was read; in this mode records have no other type."""

DEADLINE_PASSED = Unknown(detail="the deadline passed while the write was being replicated")


class _Waiting(msgspec.Struct, kw_only=True):
    """One client's write, its deadline (monotonic seconds), and whoever waits for its outcome."""

    proposal: Proposal
    acks: int
    deadline_s: float
    pending: Pending
    settled: bool = False


class ProposedBatch(msgspec.Struct, kw_only=True):
    """The writes of one entry, in the order of its outcomes, proposed to the leader of ``term``.

    ``parts`` make its body: a leader joins its own straight into the entry, and copies the values once.
    """

    sequence: int
    command_format: int
    parts: tuple[bytes, ...]
    acks: int
    term: int
    proposed_at_s: float
    writes: tuple[_Waiting, ...]
    makes_room: bool
    outcomes: tuple[CommandOutcome, ...] = ()
    answers_bytes: int = 0
    replicated: bool = False


def answers_bytes(outcomes: Iterable[CommandOutcome]) -> int:
    """How much of what a command read is in its outcomes."""
    return sum([_read_bytes(outcome.results) for outcome in outcomes if isinstance(outcome, Written)])


def _read_bytes(results: Iterable[AnyResult]) -> int:
    total = 0
    for result in results:
        if type(result) not in _READING:
            continue
        if isinstance(result, KeyRecord):
            total += RECORD_BYTES + size_of(result)
        elif isinstance(result, KeyPage):
            total += sum([RECORD_BYTES + size_of(record) for record in result.records])
        elif isinstance(result, Transacted):
            total += _read_bytes(result.results)
    return total


class Proposals:
    """Every write of this node that has no outcome yet.

    ``settled`` gathers outcomes; the replica hands them out once what they rest on is durable and visible.
    """

    def __init__(self, electorate: Electorate, *, origin: int, max_waiting: int, measures: RaftMeasures) -> None:
        """``origin`` is random: news of an earlier life's commands, by their sequence, must not meet this one's."""
        self.origin = origin
        self._electorate = electorate
        self._max_waiting = max_waiting
        self._measures = measures
        self._queue: deque[_Waiting] = deque()
        self._batches: dict[int, ProposedBatch] = {}
        self._current: ProposedBatch | None = None
        self._sequence = origin & SEQUENCE_MASK
        self.waiting_count = 0
        """Writes without an outcome."""

        self._earliest_s = float("inf")
        self._applied_term = 0
        self._sorts = False
        self._answers_bytes = 0
        self.settled: list[tuple[Pending, Outcome]] = []

    @property
    def queued(self) -> bool:
        """Are there writes that could be proposed now?"""
        return self._current is None and bool(self._queue) and len(self._batches) < BATCHES_MAX

    @property
    def answers_room_bytes(self) -> int:
        """How much the next command may read for its client."""
        return ANSWERS_BYTES - self._answers_bytes

    def take_settled(self) -> list[tuple[Pending, Outcome]]:
        """The outcomes to hand out now."""
        settled, self.settled = self.settled, []
        self._answers_bytes = (
            sum([batch.answers_bytes for batch in self._batches.values()]) if self._answers_bytes else 0
        )
        return settled

    def add(self, proposal: Proposal, *, acks: int, deadline_s: float, pending: Pending) -> bool:
        """Queue a write; false when too many wait already."""
        if self.waiting_count >= self._max_waiting:
            return False
        self.waiting_count += 1
        self._earliest_s = min(self._earliest_s, deadline_s)
        self._queue.append(_Waiting(proposal=proposal, acks=acks, deadline_s=deadline_s, pending=pending))
        return True

    def next_batch(self, term: int, now_s: float) -> ProposedBatch:
        """Make an entry of what waits, for the leader of ``term``."""
        assert self.queued
        first = self._queue.popleft()
        makes_room = first.proposal.makes_room
        taken, operations, total_bytes = [first], first.proposal.operation_count, first.proposal.size_bytes
        while self._queue:
            waiting = self._queue[0]
            proposal = waiting.proposal
            operations += proposal.operation_count
            total_bytes += len(proposal.command)
            if waiting.acks != first.acks or operations > BATCH_OPERATIONS or total_bytes > BATCH_BYTES:
                break
            if self._sorts and proposal.makes_room != first.proposal.makes_room:
                break
            makes_room = makes_room and proposal.makes_room
            taken.append(self._queue.popleft())
        self._sequence += 1
        batch = ProposedBatch(
            sequence=self._sequence,
            command_format=max([waiting.proposal.least_format for waiting in taken]),
            parts=batch_parts(self.origin, self._sequence, [waiting.proposal.command for waiting in taken]),
            acks=first.acks,
            term=term,
            proposed_at_s=now_s,
            writes=tuple(taken),
            makes_room=makes_room,
        )
        self._batches[batch.sequence] = self._current = batch
        return batch

    def declined(self, sequence: int, reason: Refused | None) -> int:
        """The command is in no log; without a ``reason`` its writes are proposed again.

        Deletions that shared it with writes that found no room are proposed by themselves, as long as there is none.
        Returns the term it was proposed in, 0 when that is forgotten: another may have begun since.
        """
        batch = self._batches.get(sequence)
        if batch is None:
            return 0
        if reason is None:
            self._requeue(batch)
        elif reason.code is Code.DISK_FULL and not batch.makes_room:
            self._sorts = True
            self._fail((waiting for waiting in batch.writes if not waiting.proposal.makes_room), reason)
            self._requeue(batch)
        else:
            self._fail(batch.writes, reason)
            self._forget(batch)
        return batch.term

    def replicated(self, sequence: int) -> None:
        """As many replicas as the batch asked for have it."""
        batch = self._batches.get(sequence)
        if batch is None:
            return
        batch.replicated = True
        if batch.acks < self._electorate.majority:
            accepted = Written(results=(), revision=0, acks=batch.acks, committed=False)
            self._settle(batch, [accepted] * len(batch.writes))
            if batch is self._current:
                self._current = None  # its clients go on, so later writes must not wait for its commit
        self._settle_if_complete(batch)

    def applied(self, origin: int, sequence: int, outcomes: tuple[CommandOutcome, ...]) -> float | None:
        """A command was applied; if it is this node's, its writes have outcomes. Returns when it was proposed then."""
        batch = self._batches.get(sequence) if origin == self.origin else None
        if batch is not None:
            assert len(outcomes) == len(batch.writes)
            batch.outcomes = outcomes
            self._sorts = self._sorts and batch.makes_room
            batch.answers_bytes = answers_bytes(outcomes)
            self._answers_bytes += batch.answers_bytes
            if batch is self._current:
                self._current = None
            self._settle_if_complete(batch)
        return None if batch is None else batch.proposed_at_s

    def entered_term(self, term: int) -> None:
        """An entry of ``term`` was applied: unapplied commands for earlier terms are in no log that counts."""
        if term > self._applied_term:
            self._applied_term = term
            for batch in sorted(self._batches.values(), key=lambda batch: -batch.sequence):
                if batch.term < term and not batch.outcomes:
                    self._requeue(batch)

    def overtaken(self) -> None:
        """A snapshot was installed: what it holds of this node's commands cannot be told any more."""
        for batch in list(self._batches.values()):
            if not batch.outcomes:
                self._fail(batch.writes, Unknown(detail="a snapshot overtook the write"))
                self._forget(batch)

    def release(self, *, proposed_before_s: float = float("inf")) -> None:
        """The leader may be gone: let later writes go on; the fate of the current command stays open."""
        if self._current is not None and self._current.proposed_at_s < proposed_before_s:
            self._current = None

    def expire(self, now_s: float, reason: Refused) -> None:
        """Settle what is past its deadline: refused for ``reason`` if it is in no log, else unknown."""
        if now_s < self._earliest_s:
            return
        late = [waiting for waiting in self._queue if waiting.deadline_s <= now_s]
        if late:
            self._queue = deque(waiting for waiting in self._queue if waiting.deadline_s > now_s)
            self._fail(late, reason)
        for batch in list(self._batches.values()):
            overdue = [waiting for waiting in batch.writes if waiting.deadline_s <= now_s]
            self._fail(overdue, DEADLINE_PASSED)
            if all(waiting.settled for waiting in batch.writes) and len(overdue) == len(batch.writes):
                self._forget(batch)
        remaining = [waiting.deadline_s for waiting in self._queue]
        for batch in self._batches.values():
            remaining += [waiting.deadline_s for waiting in batch.writes if waiting.deadline_s > now_s]
        self._earliest_s = min(remaining, default=float("inf"))

    def refuse_queued(self, reason: Refused, *, but_deletions: bool = False) -> None:
        """Turn away every write that was not proposed yet, except perhaps those that only delete."""
        late = [waiting for waiting in self._queue if not (but_deletions and waiting.proposal.makes_room)]
        self._queue = deque(waiting for waiting in self._queue if but_deletions and waiting.proposal.makes_room)
        self._fail(late, reason)

    def abandon(self, reason: Refused = SHUTTING_DOWN) -> None:
        """The node ends, or stops serving: what was not proposed is refused, the rest is unknown."""
        self.refuse_queued(reason)
        for batch in list(self._batches.values()):
            self._fail(batch.writes, Unknown(detail=f"while it was replicated: {reason.detail}"))
            self._forget(batch)

    def _requeue(self, batch: ProposedBatch) -> None:
        self._forget(batch)
        again = [waiting for waiting in batch.writes if not waiting.settled]
        self._queue.extendleft(reversed(again))
        self.waiting_count += len(again)

    def _settle_if_complete(self, batch: ProposedBatch) -> None:
        if not batch.outcomes:
            return
        electorate = self._electorate
        if batch.acks >= shown_from(electorate) and not batch.replicated:
            return
        acks = max(batch.acks, electorate.majority)
        outcomes: list[Outcome] = [
            msgspec.structs.replace(outcome, acks=acks) if isinstance(outcome, Written) else outcome
            for outcome in batch.outcomes
        ]
        self._settle(batch, outcomes)
        self._forget(batch)

    def _settle(self, batch: ProposedBatch, outcomes: Iterable[Outcome]) -> None:
        self._settle_each(zip(batch.writes, outcomes, strict=True))

    def _fail(self, writes: Iterable[_Waiting], outcome: Refused | Unknown) -> None:
        """Replication has failed ``writes``, as far as this node can tell."""
        failed = [waiting for waiting in writes if not waiting.settled]
        self._measures.failed_writes_count += len(failed)
        self._settle_each((waiting, outcome) for waiting in failed)

    def _settle_each(self, pairs: Iterable[tuple[_Waiting, Outcome]]) -> None:
        for waiting, outcome in pairs:
            if not waiting.settled:
                waiting.settled = True
                self.waiting_count -= 1
                self.settled.append((waiting.pending, outcome))

    def _forget(self, batch: ProposedBatch) -> None:
        """``batch`` needs no more attention; writes of it without an outcome are the caller's again."""
        self.waiting_count -= sum(1 for waiting in batch.writes if not waiting.settled)
        del self._batches[batch.sequence]
        if batch is self._current:
            self._current = None
