"""Elections as messages: asking before standing, standing, and giving or withholding votes.

What to do is decided by ``Elections``; the engine counts the votes. Numbers are those of ``docs/pysyncobj.rst``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgspec

from raftkv.formats.raft_messages import HandOver, PreVote, PreVoteAnswer, RequestVote, Vote
from raftkv.raft.electorate import Electorate
from raftkv.raft.leadership.agreed_time import AgreedTime
from raftkv.raft.leadership.elections import Candidacy, Elections
from raftkv.raft.ports import Handlers, Outgoing
from raftkv.raft.reading.rounds import ReadRounds
from raftkv.raft.room import DiskRoom
from raftkv.raft.standing.readmission import Readmission


class Voter(Candidacy, Protocol):
    """Where the engine stands in elections, and the term it may be told of."""

    leader_id: str | None

    def adopt_term(self, peer: str, term: int) -> None:
        """Learn of a newer ``term`` from ``peer``, and follow."""


class BallotBox(Protocol):
    """The engine's own voting. ``handed_over_term`` is the term whose leader told this node to stand."""

    handed_over_term: int | None

    def take_vote_request(self, peer: str, request: RequestVote) -> None:
        """Vote for ``peer``, or do not."""

    def take_vote(self, peer: str, vote: Vote) -> None:
        """Count a vote, once for each voter and term."""


@dataclass(kw_only=True, eq=False, repr=False)
class Voting:
    """One node's part in elections."""

    electorate: Electorate
    core: Voter
    ballots: BallotBox
    outgoing: Outgoing
    elections: Elections
    rounds: ReadRounds
    agreed_time: AgreedTime
    readmission: Readmission
    room: DiskRoom
    election_timeout_s: float

    def handlers(self) -> Handlers:
        """See ``Part``."""
        return {
            RequestVote: self._on_request_vote,
            Vote: self._on_vote,
            PreVote: self._on_pre_vote,
            PreVoteAnswer: self._on_pre_vote_answer,
            HandOver: self._on_hand_over,
        }

    def work(self, now_s: float) -> None:
        """Ask the others before standing for election; stand when a majority would vote for this node."""
        core, elections = self.core, self.elections
        # A node that does not count, or not any more: whoever would have voted for it knows nothing of that. And none
        # that is no voter by its own log stands, though it votes: others may have the entry that makes it one.
        if not self.readmission.counts or not self.electorate.votes:
            elections.close_round()
            core.election_deadline_s = elections.next_deadline_s(now_s)
            return
        if self.ballots.handed_over_term == core.term and not core.is_leader:
            self._stand()
            return
        if elections.due(core, now_s):
            core.election_deadline_s = elections.next_deadline_s(now_s)
            yields = self.room.is_full and elections.yields(now_s)
            if not yields and not elections.withholds(now_s):
                request = elections.open_round(core)
                for peer in self.electorate.others:
                    self.outgoing.post(peer, request)
        if elections.won(core):
            self._stand()

    def _stand(self) -> None:
        """Let the engine stand in this very turn."""
        self.elections.close_round()
        self.core.election_deadline_s = float("-inf")

    def _on_request_vote(self, peer: str, request: RequestVote, now_s: float) -> None:
        """A vote within an election timeout of hearing from a leader, or of leading a majority, is withheld (21).

        Not from whom the leader of this very term has handed over to: it gave back what was promised to it.
        """
        if not self.readmission.may_vote_in(request.term):
            return
        core = self.core
        led_s = now_s - self.rounds.confirmed_at_s(core.term)
        withheld = self.elections.withholds(now_s) or (core.is_leader and led_s < self.election_timeout_s)
        if withheld and not (request.handed_over and request.term == core.term + 1):
            return
        self.ballots.take_vote_request(peer, request)

    def _on_vote(self, peer: str, vote: Vote, now_s: float) -> None:
        if vote.term == self.core.term and self.readmission.counts and peer in self.electorate.other_voters:
            self.agreed_time.told(term=vote.term, peer=peer, wall_ms=vote.wall_ms, now_s=now_s)
            self.ballots.take_vote(peer, vote)

    def _on_pre_vote(self, peer: str, request: PreVote, now_s: float) -> None:
        answer = self.elections.consider(self.core, request, now_s)
        if not self.readmission.may_vote_in(request.term):
            answer = msgspec.structs.replace(answer, granted=False)
        self.outgoing.post(peer, answer)

    def _on_pre_vote_answer(self, peer: str, answer: PreVoteAnswer, _now_s: float) -> None:
        if answer.term > self.core.term:
            self.core.adopt_term(peer, answer.term)
        else:
            self.elections.add(peer, answer)

    def _on_hand_over(self, peer: str, word: HandOver, _now_s: float) -> None:
        """Stand for election in the next round of work, if it is the leader of this term that says so."""
        core = self.core
        if word.term == core.term and peer == core.leader_id and self.readmission.counts and not self.room.is_full:
            self.ballots.handed_over_term = word.term
