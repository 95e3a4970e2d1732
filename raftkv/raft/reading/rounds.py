"""Read index and lease: when may a node answer a linearizable read from its own state (Raft thesis, section 6.4)?

The leader, once it has committed an entry of its own term, notes its commit index, asks its peers whether its term is
still theirs, and with a majority of yes may serve every read that was waiting when the round began, at that index. No
log entry, no disk. Reads that arrive during a round wait for the next one. A round that a majority answered also renews
the lease: until one election timeout after the round *began*, less the drift bound, no other leader can have been
elected, because every node that answered withholds its vote (``raftkv.raft.leadership.elections``). And it vouches for
the followers' clock readings that were known when it began (``raftkv.raft.reading.freshness``).

The coordinator is arithmetic: begin, add, enough, what to answer. Time enters as a value.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raftkv.formats.raft_messages import ClockReading, Ping, Pong
from raftkv.raft.electorate import Electorate

OnIndex = Callable[[int], None]
"""Called with the read index, or with 0: this node does not lead (any more)."""


class Confirmed(msgspec.Struct, frozen=True, kw_only=True):
    """What a confirmed round proves: nothing beyond ``index`` had been committed anywhere when it began.

    ``readings`` are the followers' clocks as far as they were known then.
    """

    index: int
    began_at_s: float
    readings: dict[str, ClockReading]


class _Round(msgspec.Struct, kw_only=True):
    number: int
    term: int
    index: int
    began_at_s: float
    asked_at_s: float
    yes: set[str]
    readers: list[OnIndex]
    readings: dict[str, ClockReading]


class ReadRounds:
    """The leader's side: one round in flight at a time, shared by all who waited for it."""

    def __init__(
        self, electorate: Electorate, *, election_timeout_s: float, drift_bound: float, heartbeat_s: float
    ) -> None:
        self._electorate = electorate
        self._lease_s = election_timeout_s * (1 - drift_bound)
        self._heartbeat_s = heartbeat_s
        self._number = 0
        self._round: _Round | None = None
        self._waiting: list[OnIndex] = []
        self._lease_term = 0
        self._forsworn_term = 0
        self._confirmed_at_s = float("-inf")
        self._readings: dict[str, ClockReading] = {}
        self.confirmed: Confirmed | None = None
        """The last round that was confirmed, until it is taken."""

    def ask(self, reader: OnIndex) -> None:
        """Queue a reader for the next round."""
        self._waiting.append(reader)

    def confirmed_at_s(self, term: int) -> float:
        """When the last round that a majority answered in ``term`` began; minus infinity when none did."""
        return self._confirmed_at_s if term == self._lease_term else float("-inf")

    def take_confirmed(self) -> Confirmed | None:
        """The last round that was confirmed, if one was since this was asked last."""
        confirmed, self.confirmed = self.confirmed, None
        return confirmed

    def holds_lease(self, term: int, now_s: float) -> bool:
        """May the leader of ``term`` trust that nobody else leads, as long as clocks keep to the drift bound?"""
        return term != self._forsworn_term and now_s < self.confirmed_at_s(term) + self._lease_s

    def forswear(self, term: int) -> None:
        """Hold no lease in ``term`` any more: its leader has told another to stand (``leadership.handover``)."""
        self._forsworn_term = term

    def advance(
        self, *, term: int, leads: bool, commit_index: int, now_s: float, takes_writes: bool = True
    ) -> Ping | None:
        """Begin, repeat or abandon a round; returns the ping to send to every peer, if any.

        ``leads``: this node leads ``term`` and has committed an entry of it.
        """
        if self._round is not None and (not leads or self._round.term != term):
            self.abandon()
        if not leads:
            return None
        if self._round is None:
            if not self._waiting and now_s - self.confirmed_at_s(term) < self._heartbeat_s:
                return None
            return self._begin(term, commit_index, now_s, takes_writes=takes_writes)
        if now_s - self._round.asked_at_s >= self._heartbeat_s:
            self._round.asked_at_s = now_s
            return Ping(term=term, round=self._round.number, takes_writes=takes_writes)
        return None

    def abandon(self) -> None:
        """Turn away everyone: this node does not lead, or no longer in the term they asked in."""
        readers, self._waiting = self._waiting, []
        if self._round is not None:
            readers = self._round.readers + readers
            self._round = None
        for reader in readers:
            reader(0)

    def add(self, peer: str, pong: Pong) -> None:
        """Count one yes of the current round, and keep the reading, whichever round it answers."""
        if pong.reading is not None:
            self._readings[peer] = pong.reading
        if self._round is None or pong.round != self._round.number or pong.term != self._round.term:
            return
        self._round.yes.add(peer)
        self._finish_if_enough()

    def _begin(self, term: int, commit_index: int, now_s: float, *, takes_writes: bool) -> Ping | None:
        self._number += 1
        self._round = _Round(
            number=self._number,
            term=term,
            index=commit_index,
            began_at_s=now_s,
            asked_at_s=now_s,
            yes=set(),
            readers=self._waiting,
            readings=dict(self._readings),
        )
        self._waiting = []
        self._finish_if_enough()
        return None if self._round is None else Ping(term=term, round=self._number, takes_writes=takes_writes)

    def _finish_if_enough(self) -> None:
        finished = self._round
        if finished is None or not self._electorate.agree(finished.yes):
            return
        self._round = None
        self._lease_term = finished.term
        self._confirmed_at_s = finished.began_at_s
        self.confirmed = Confirmed(index=finished.index, began_at_s=finished.began_at_s, readings=finished.readings)
        for reader in finished.readers:
            reader(finished.index)
