"""Who may stand for election, and when votes are withheld (Raft thesis, sections 4.2.3 and 9.6).

PySyncObj stands for election whenever its deadline passes, and votes for anyone with a good log: a node that was cut
off returns with a high term and deposes a healthy leader (21). Here a node first asks whether a majority would vote for
it, and votes, its own included, are withheld within one election timeout of hearing from a leader. That promise is also
what lease reads rest on (22); a node that just started keeps it for one election timeout: it may have given it before.

Pure arithmetic over values: no clock, no I/O; ``Elections`` says what to do and the replica does it.
"""

from __future__ import annotations

import random as random_module
from typing import Final, Protocol

from raftkv.formats.raft_messages import PreVote, PreVoteAnswer
from raftkv.raft.electorate import Electorate

YIELDING_TIMEOUTS: Final = 4
"""Election timeouts without a leader for which a node without room stands back: two pass before anybody stands."""


class Candidacy(Protocol):
    """Where the engine stands, as far as elections care."""

    term: int
    last_index: int
    last_term: int
    is_leader: bool
    election_deadline_s: float


def up_to_date(log_index: int, log_term: int, *, last_index: int, last_term: int) -> bool:
    """Is a log that ends at (``log_index``, ``log_term``) at least as up to date as ours (Raft, section 5.4.1)?"""
    return (log_term, log_index) >= (last_term, last_index)


class Elections:
    """Pre-vote rounds and vote withholding of one node."""

    def __init__(
        self, *, electorate: Electorate, election_timeout_s: float, started_at_s: float, random: random_module.Random
    ) -> None:
        self._electorate = electorate
        self._timeout_s = election_timeout_s
        self._random = random
        self._round = 0
        self._round_term = 0
        self._granted: set[str] | None = None
        self._refused: set[str] = set()
        # A node that restarts may have promised a leader not to vote.
        self.heard_at_s = started_at_s if not electorate.is_alone else started_at_s - election_timeout_s

    def heard(self, now_s: float) -> None:
        """The leader of the current term was heard from."""
        self.heard_at_s = now_s
        self._granted = None

    def withholds(self, now_s: float) -> bool:
        """Must this node refuse its vote, to others and to itself?"""
        return now_s - self.heard_at_s < self._timeout_s

    def yields(self, now_s: float) -> bool:
        """Should a node whose disk is full leave it to others to stand? Whoever can has done so after this time."""
        return now_s - self.heard_at_s < YIELDING_TIMEOUTS * self._timeout_s

    def due(self, position: Candidacy, now_s: float) -> bool:
        """Would PySyncObj stand for election now?"""
        return not position.is_leader and position.election_deadline_s < now_s

    def open_round(self, position: Candidacy) -> PreVote:
        """Begin to ask the others; replaces any round before."""
        self._round += 1
        self._round_term = position.term
        self._granted, self._refused = set(), set()
        return PreVote(
            term=position.term + 1,
            last_log_index=position.last_index,
            last_log_term=position.last_term,
            round=self._round,
        )

    def next_deadline_s(self, now_s: float) -> float:
        """When to ask again if this round comes to nothing."""
        return now_s + self._timeout_s * (0.5 + self._random.random())

    def add(self, peer: str, answer: PreVoteAnswer) -> None:
        """Count one answer; those to earlier rounds do not count. A round that is lost is over."""
        if self._granted is None or answer.round != self._round:
            return
        (self._granted if answer.granted else self._refused).add(peer)
        if self._electorate.voters.lost(self._refused):
            self.close_round()

    def won(self, position: Candidacy) -> bool:
        """Would a majority, this node included, vote for it in the term after the current one?"""
        if self._granted is None or position.term != self._round_term:
            return False
        return self._electorate.agree(self._granted)

    def close_round(self) -> None:
        """The round did its work."""
        self._granted = None

    def consider(self, position: Candidacy, request: PreVote, now_s: float) -> PreVoteAnswer:
        """Answer another node's pre-vote."""
        granted = (
            request.term > position.term
            and not self.withholds(now_s)
            and not position.is_leader
            and up_to_date(
                request.last_log_index,
                request.last_log_term,
                last_index=position.last_index,
                last_term=position.last_term,
            )
        )
        return PreVoteAnswer(term=position.term, round=request.round, granted=granted)
