"""Who takes part, as messages: comparing states, ceasing to serve, repairing, and coming back after a loss of data.

What follows from what was heard is decided by ``Readmission`` and ``Divergence``; here it is asked, told and done.

One node at a time throws its data away: two that did so at once might be a majority, and each might have counted on the
other. So a node that is to repair itself first tells all others that it has no say any more, and asks them something;
messages arrive in order, so whoever answers knows that. By then either it has heard of no other that has none, and any
that wants to begin later hears of it, or it does not begin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from raftkv.core.errors import Code, Refused
from raftkv.core.replicator import Pending
from raftkv.core.results import Repaired
from raftkv.formats.raft_messages import (
    AskReadmission,
    AskTerm,
    Message,
    PreVote,
    ReadmissionAnswer,
    StateHash,
    TermAnswer,
)
from raftkv.raft.electorate import Electorate
from raftkv.raft.ports import Handlers, Leading, Outgoing
from raftkv.raft.reading.rounds import ReadRounds
from raftkv.raft.settings import NOTHING_TO_REPAIR, SHUTTING_DOWN, out_of_service
from raftkv.raft.standing.divergence import Divergence
from raftkv.raft.standing.readmission import Readmission

NONCES: Final = 1 << 62
"""So many there are."""


class _Repairing(msgspec.Struct):
    """A repair that is to begin once ``unheard`` have answered to ``nonce``."""

    nonce: int
    pending: Pending
    deadline_s: float
    unheard: set[str]


class Standpoint(Leading, Protocol):
    """Where the engine stands, and what it may have to forget of others or to follow."""

    leader_id: str | None
    applied_index: int

    def adopt_term(self, peer: str, term: int) -> None:
        """Learn of a newer ``term`` from ``peer``, and follow."""

    def forget_match(self, peer: str) -> None:
        """As leader, know nothing of the disk of ``peer`` any more."""


@dataclass(kw_only=True, eq=False, repr=False)
class Participation:
    """One node's standing among its peers, put into practice. ``discards``: the data here is to be thrown away."""

    electorate: Electorate
    core: Standpoint
    outgoing: Outgoing
    rounds: ReadRounds
    readmission: Readmission
    divergence: Divergence
    turn_away: Callable[[Refused], None]
    """Refuses everybody who waits at this node."""

    discards: bool = field(default=False, init=False)
    _repairing: _Repairing | None = field(default=None, init=False)
    _repairs_count: int = field(default=0, init=False)

    def handlers(self) -> Handlers:
        """See ``Part``."""
        return {
            AskTerm: self._on_ask_term,
            TermAnswer: self._on_term_answer,
            AskReadmission: self._on_ask_readmission,
            ReadmissionAnswer: self._on_readmission_answer,
            StateHash: self._on_state_hash,
        }

    def overhear(self, message: Message) -> None:
        """A message for whomever tells in which term others are; that of a pre-vote is one that nobody is in yet."""
        if self.readmission.counts:
            return
        if not isinstance(message, PreVote) and getattr(message, "term", 0) > 0:
            self.readmission.heard_of_term()

    def contradicted(self, peer: str, index: int) -> None:
        """``peer`` has another entry at ``index``, which this node has committed."""
        self.divergence.contradicted(peer, index)

    def work(self, now_s: float) -> None:
        """Go on with what is due."""
        if not self.readmission.counts:
            self._seek_readmission(now_s)
        if now_s >= self.divergence.due_s:
            self._compare(now_s)
        repairing = self._repairing
        if repairing is not None and now_s >= repairing.deadline_s:
            self._end_repair(_not_now(f"{', '.join(sorted(repairing.unheard))} did not answer in time"))

    def repair(self, pending: Pending, deadline_s: float) -> None:
        """Throw the state of this node away, if it is wrong: all others must be there to give it another."""
        refusal = self._cannot_repair() if self._repairing is None else _not_now("a repair of this node has begun")
        if refusal is not None:
            pending.resolve(refusal)
            return
        self._repairs_count += 1
        nonce, peers = (self.readmission.nonce + self._repairs_count) % NONCES, self.electorate.others
        self._repairing = _Repairing(nonce, pending, deadline_s, set(peers))
        for peer in peers:
            self._tell_state(peer)
            self.outgoing.post(peer, AskTerm(nonce=nonce))

    def abandon(self) -> None:
        """The node ends, and with it a repair that has not begun."""
        if self._repairing is not None:
            self._end_repair(SHUTTING_DOWN)

    def _end_repair(self, outcome: Repaired | Refused) -> None:
        repairing, self._repairing = self._repairing, None
        assert repairing is not None
        repairing.pending.resolve(outcome)

    def _allowed(self, peer: str) -> None:
        """``peer`` knows that this node has no say; begin to repair if it was the last that had to."""
        assert self._repairing is not None
        self._repairing.unheard.discard(peer)
        if self._repairing.unheard:
            return
        refusal = self._cannot_repair()
        if refusal is not None:
            self._end_repair(refusal)
            return
        self.readmission.discard()
        self.discards = True
        peers = self.electorate.others
        self._end_repair(Repaired(peers=peers, unreachable=(), ranges=0, differing=0, received=0, sent=0))

    def _cannot_repair(self) -> Refused | None:
        peers = self.electorate.others
        away = [peer for peer in peers if not self.outgoing.is_up(peer)]
        lacking = self.divergence.without_say()
        needs = "a repair throws the data of this node away, and"
        if not self.readmission.is_stopped:
            return NOTHING_TO_REPAIR
        if away:
            return _not_now(f"{needs} needs every other one: {', '.join(away)} is away")
        if lacking:
            return _not_now(f"{needs} {', '.join(lacking)} may not have all of its own yet")
        return None

    def _seek_readmission(self, now_s: float) -> None:
        """Ask for what a node whose disk was emptied must know before it counts; all applied entries are flushed."""
        readmission, core = self.readmission, self.core
        readmission.found(now_s)
        highest = readmission.all_told()
        if highest is not None and highest > core.term and self.electorate.others:
            core.adopt_term(self.electorate.others[0], highest)
        if readmission.caught_up(core.applied_index) or not readmission.due(now_s):
            return
        for peer in readmission.unheard:
            self.outgoing.post(peer, AskTerm(nonce=readmission.nonce))
        leader = core.leader_id
        if readmission.awaits_index and leader in self.electorate.others:
            self.outgoing.post(leader, AskReadmission(nonce=readmission.nonce, term=core.term))

    def _compare(self, now_s: float) -> None:
        """Tell the others what this node's state is, and stop serving if it is wrong by what they have told."""
        readmission = self.readmission
        for peer in self.electorate.others:
            if self.outgoing.is_up(peer):
                self._tell_state(peer)
        judgement = self.divergence.judge(now_s)
        if judgement is not None:
            readmission.judged(judgement)
        if readmission.is_stopped:
            self._stop_serving()

    def _tell_state(self, peer: str) -> None:
        """Tell ``peer`` the state of this node, or that it has no say, if that is news to it."""
        has_say = self.readmission.has_say and self._repairing is None and not self.discards
        news = self.divergence.news_for(peer, has_say=has_say)
        if news is not None:
            index, state_hash = news
            self.outgoing.post(peer, StateHash(index=index, state_hash=state_hash))

    def _stop_serving(self) -> None:
        """Turn away whoever waits, and lead no more; the log goes on, so that what is applied can still be compared."""
        core = self.core
        if core.is_leader:
            core.adopt_term(self.electorate.others[0], core.term + 1)
        self.turn_away(out_of_service(self.readmission.reason))

    def _on_ask_term(self, peer: str, ask: AskTerm, _now_s: float) -> None:
        self.outgoing.post(peer, TermAnswer(nonce=ask.nonce, term=self.core.term))

    def _on_term_answer(self, peer: str, answer: TermAnswer, _now_s: float) -> None:
        if self._repairing is not None and answer.nonce == self._repairing.nonce:
            self._allowed(peer)
            return
        highest = self.readmission.told_term(peer, answer.nonce, answer.term)
        if highest is not None and highest > self.core.term:
            self.core.adopt_term(peer, highest)

    def _on_ask_readmission(self, peer: str, ask: AskReadmission, _now_s: float) -> None:
        """What ``peer`` acknowledged is forgotten before the round begins, so that no later commit rests on it."""

        def answer(index: int) -> None:
            self.outgoing.post(peer, ReadmissionAnswer(nonce=ask.nonce, index=index))

        if self.core.is_leader and ask.term == self.core.term:
            self.core.forget_match(peer)
            self.rounds.ask(answer)
        else:
            answer(0)

    def _on_readmission_answer(self, _peer: str, answer: ReadmissionAnswer, _now_s: float) -> None:
        self.readmission.told_index(answer.nonce, answer.index)

    def _on_state_hash(self, peer: str, said: StateHash, _now_s: float) -> None:
        self.divergence.told(peer, said.index, said.state_hash)


def _not_now(detail: str) -> Refused:
    return Refused(code=Code.QUORUM_UNREACHABLE, detail=detail, retry_after_s=1.0)
