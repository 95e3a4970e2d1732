"""The gate that linearizable and lease reads of this node pass: from "asked" to "this node's state is new enough".

On the leader a reader joins a read-index round or rests on the lease; on a follower all readers that wait share one
question to the leader. With an index in hand, a reader waits until this node has applied it. Readers that arrive
while a question is out wait for the next one: its answer may be older than their beginning.

Rules: every reader has a deadline; a question without an answer is asked again; nothing is written anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from raftkv.core.errors import Code, Refused
from raftkv.core.replicator import Pending
from raftkv.core.requests import Barrier, Consistency, Read
from raftkv.core.results import Outcome
from raftkv.formats.raft_messages import AskReadIndex
from raftkv.raft.reading.rounds import ReadRounds

ASK_AGAIN_S: Final = 0.5
"""How long a question to the leader may stay without an answer."""

TOO_LATE = Refused(
    code=Code.QUORUM_UNREACHABLE, detail="no majority confirmed the read before its deadline", retry_after_s=1.0
)


class _Reader(msgspec.Struct, kw_only=True):
    request: Read | Barrier
    deadline_s: float
    pending: Pending


class _Question(msgspec.Struct, kw_only=True):
    """One question to the leader, and everyone who shares its answer."""

    leader: str
    term: int
    asked_at_s: float
    readers: list[_Reader]


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Where this node stands, as far as reads care. ``leads``: it leads and has committed an entry of its term."""

    term: int
    is_leader: bool
    leads: bool
    leader: str | None
    commit_index: int
    applied_index: int


class ReadGate:
    """All readers of this node that have no outcome yet.

    ``ready`` gathers those that may be answered from the applied state now, ``refused`` those that are turned away.
    """

    def __init__(
        self, rounds: ReadRounds, *, first_number: int, max_waiting: int, ask: Callable[[str, AskReadIndex], None]
    ) -> None:
        """``first_number`` differs in each life of this node: an answer to an earlier one is older than its readers."""
        self._rounds = rounds
        self._max_waiting = max_waiting
        self._ask = ask
        self._fresh: list[_Reader] = []
        self._indexed: list[tuple[int, _Reader]] = []
        self._questions: dict[int, _Question] = {}
        self._in_rounds: dict[int, list[_Reader]] = {}
        self._refused_term = 0
        self._number = first_number
        self._earliest_s = float("inf")
        self.ready: list[tuple[Pending, Read | Barrier]] = []
        self.refused: list[tuple[Pending, Outcome]] = []

    def add(self, request: Read | Barrier, deadline_s: float, pending: Pending) -> bool:
        """Queue a reader; false when too many wait already."""
        if len(self._fresh) + len(self._indexed) + sum(map(len, self._away())) >= self._max_waiting:
            return False
        self._fresh.append(_Reader(request=request, deadline_s=deadline_s, pending=pending))
        self._earliest_s = min(self._earliest_s, deadline_s)
        return True

    def answered(self, number: int, index: int) -> None:
        """The leader answered question ``number``; 0: it does not lead."""
        question = self._questions.pop(number, None)
        if question is not None:
            if not index:
                self._refused_term = question.term  # who has stepped down never leads that term again
            self._with_index(question.readers, index)

    def step(self, position: Position, now_s: float) -> None:
        """Move every reader as far as it can go now."""
        self._take_back(position, now_s)
        if self._fresh:
            if position.is_leader:
                if position.leads:
                    self._serve(position, now_s)
            elif position.leader is not None and not self._questions and position.term != self._refused_term:
                self._question(position.leader, position.term, now_s)
        self._pass_applied(position.applied_index)
        if now_s >= self._earliest_s:
            self._expire(now_s)

    def refuse_fresh(self, reason: Refused) -> None:
        """Turn away everyone who has asked nobody yet."""
        self.refused += [(reader.pending, reason) for reader in self._fresh]
        self._fresh = []

    def abandon(self, reason: Refused, *, but_ready: bool = True) -> None:
        """The node ends, or stops serving: turn away who was not answered, except perhaps those who are ready to be."""
        self._rounds.abandon()
        for question in self._questions.values():
            self._fresh += question.readers
        self._fresh += [reader for _, reader in self._indexed]
        self._questions, self._indexed = {}, []
        self.refuse_fresh(reason)
        if not but_ready:
            ready, self.ready = self.ready, []
            self.refused += [(pending, reason) for pending, _ in ready]

    def _serve(self, position: Position, now_s: float) -> None:
        """As leader: readers who accept the lease may have the commit index at once, the others join a round."""
        readers, self._fresh = self._fresh, []
        if self._rounds.holds_lease(position.term, now_s):
            leased = [reader for reader in readers if reader.request.consistency is Consistency.LEASE]
            self._with_index(leased, position.commit_index)
            readers = [reader for reader in readers if reader.request.consistency is not Consistency.LEASE]
        if readers:
            self._number += 1
            number = self._number
            self._in_rounds[number] = readers
            self._rounds.ask(lambda index: self._with_index(self._in_rounds.pop(number), index))

    def _question(self, leader: str, term: int, now_s: float) -> None:
        readers, self._fresh = self._fresh, []
        leased = all(reader.request.consistency is Consistency.LEASE for reader in readers)
        self._number += 1
        self._questions[self._number] = _Question(leader=leader, term=term, asked_at_s=now_s, readers=readers)
        self._ask(leader, AskReadIndex(request=self._number, lease=leased))

    def _with_index(self, readers: list[_Reader], index: int) -> None:
        if index:
            self._indexed += [(index, reader) for reader in readers]
        else:
            self._fresh = readers + self._fresh

    def _take_back(self, position: Position, now_s: float) -> None:
        """Readers whose question went to someone who leads no more, or stays unanswered, ask anew."""
        for number, question in list(self._questions.items()):
            if question.leader != position.leader or now_s - question.asked_at_s > ASK_AGAIN_S:
                del self._questions[number]
                self._fresh = question.readers + self._fresh

    def _pass_applied(self, applied_index: int) -> None:
        if not self._indexed:
            return
        waiting = []
        for index, reader in self._indexed:
            if index <= applied_index:
                self.ready.append((reader.pending, reader.request))
            else:
                waiting.append((index, reader))
        self._indexed = waiting

    def _away(self) -> list[list[_Reader]]:
        """Those who wait for the leader's answer, or for a round of this node."""
        return [question.readers for question in self._questions.values()] + list(self._in_rounds.values())

    def _expire(self, now_s: float) -> None:
        """Refuse the late, wherever they wait: a round takes as long as the network does."""
        late = [reader for reader in self._fresh if reader.deadline_s <= now_s]
        late += [reader for _, reader in self._indexed if reader.deadline_s <= now_s]
        self._fresh = [reader for reader in self._fresh if reader.deadline_s > now_s]
        self._indexed = [(index, reader) for index, reader in self._indexed if reader.deadline_s > now_s]
        away = self._away()
        for readers in away:
            late += [reader for reader in readers if reader.deadline_s <= now_s]
            readers[:] = [reader for reader in readers if reader.deadline_s > now_s]
        self.refused += [(reader.pending, TOO_LATE) for reader in late]
        remaining = [reader.deadline_s for reader in self._fresh]
        remaining += [reader.deadline_s for _, reader in self._indexed]
        remaining += [reader.deadline_s for readers in away for reader in readers]
        self._earliest_s = min(remaining, default=float("inf"))
