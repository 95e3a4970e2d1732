"""Confirmed reads as messages: a leader's pings and their pongs, and followers' questions for a read index.

Who may read what is decided by ``ReadRounds`` and ``ReadGate``. Pings and pongs carry the news of other parts as well:
whether the leader takes writes, clocks, room. Time enters as a value, wall clocks by a function that is handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from raftkv.formats.raft_messages import AskReadIndex, Level, NewerTerm, Ping, Pong, ReadIndexAnswer
from raftkv.raft.electorate import Electorate
from raftkv.raft.leadership.agreed_time import AgreedTime
from raftkv.raft.leadership.elections import Elections
from raftkv.raft.leadership.following import Following
from raftkv.raft.leadership.handover import Handover
from raftkv.raft.ports import Handlers, Leading, Outgoing
from raftkv.raft.reading.eventual import EventualReads
from raftkv.raft.reading.freshness import Freshness, Vouching
from raftkv.raft.reading.gate import Position, ReadGate
from raftkv.raft.reading.rounds import ReadRounds
from raftkv.raft.room import DiskRoom
from raftkv.raft.settings import NO_LEADER, NO_ROOM_HERE
from raftkv.raft.standing.readmission import Readmission


class ReadableLog(Leading, Protocol):
    """Where the engine stands, as far as reads care."""

    leads_committed_term: bool
    commit_index: int
    applied_index: int


@dataclass(kw_only=True, eq=False, repr=False)
class Confirming:
    """One node's part in confirming reads, its own and others'."""

    electorate: Electorate
    core: ReadableLog
    outgoing: Outgoing
    rounds: ReadRounds
    gate: ReadGate
    eventual: EventualReads
    freshness: Freshness
    vouching: Vouching
    elections: Elections
    following: Following
    handover: Handover
    agreed_time: AgreedTime
    readmission: Readmission
    room: DiskRoom
    wall_ms: Callable[[], int]

    def handlers(self) -> Handlers:
        """See ``Part``."""
        return {
            Ping: self._on_ping,
            Pong: self._on_pong,
            AskReadIndex: self._on_ask_read_index,
            ReadIndexAnswer: self._on_read_index_answer,
        }

    def work(self, now_s: float) -> None:
        """Move all readers as far as they can go, and ask the peers for whoever waits."""
        core, gate = self.core, self.gate
        is_leader, leads = core.is_leader, core.leads_committed_term
        if self.following.leaderless_too_long(now_s):
            gate.refuse_fresh(NO_LEADER)
        if self.room.is_gone and not is_leader:
            gate.refuse_fresh(NO_ROOM_HERE)
        position = Position(
            term=core.term,
            is_leader=is_leader,
            leads=leads,
            leader=self.following.leader(now_s),
            commit_index=core.commit_index,
            applied_index=core.applied_index,
        )
        gate.step(position, now_s)
        self.eventual.expire(now_s)
        if not is_leader:
            self.rounds.abandon()
        ping = self.rounds.advance(
            term=core.term,
            leads=leads,
            commit_index=core.commit_index,
            now_s=now_s,
            takes_writes=self.handover.takes_writes,
        )
        peers = self.electorate.others
        if ping is not None:
            for peer in peers:
                self.outgoing.post(peer, ping)
        elif self.electorate.is_alone:
            gate.step(position, now_s)
        if self.rounds.confirmed is not None:
            self._vouch(now_s)

    def _vouch(self, now_s: float) -> None:
        """Pass on what a confirmed round proves about how fresh this node and its followers are."""
        confirmed = self.rounds.take_confirmed()
        if confirmed is None:
            return
        self.freshness.level(confirmed.index, confirmed.began_at_s)
        if self.vouching.due(now_s):
            for peer, reading in confirmed.readings.items():
                self.outgoing.post(peer, Level(index=confirmed.index, reading=reading))

    def _on_ping(self, peer: str, ping: Ping, now_s: float) -> None:
        core = self.core
        if ping.term == core.term and not core.is_leader:
            self.elections.heard(now_s)
            self.following.leader_takes_writes = ping.takes_writes
            if not self.readmission.counts:
                return
            pong = Pong(
                term=ping.term,
                round=ping.round,
                wall_ms=self.wall_ms(),
                reading=self.freshness.reading(now_s),
                has_room=not self.room.is_full,
            )
            self.outgoing.post(peer, pong)
        elif ping.term < core.term:
            self.outgoing.post(peer, NewerTerm(term=core.term))

    def _on_pong(self, peer: str, pong: Pong, now_s: float) -> None:
        if self.core.is_leader and pong.term == self.core.term:
            self.agreed_time.told(term=pong.term, peer=peer, wall_ms=pong.wall_ms, now_s=now_s)
            self.handover.told(peer, has_room=pong.has_room)
            self.rounds.add(peer, pong)

    def _on_ask_read_index(self, peer: str, ask: AskReadIndex, now_s: float) -> None:
        core = self.core

        def answer(index: int) -> None:
            self.outgoing.await_commit(peer, index)
            self.outgoing.post(peer, ReadIndexAnswer(request=ask.request, index=index))

        if not core.is_leader:
            answer(0)
        elif ask.lease and core.leads_committed_term and self.rounds.holds_lease(core.term, now_s):
            answer(core.commit_index)
        else:
            self.rounds.ask(answer)

    def _on_read_index_answer(self, _peer: str, answer: ReadIndexAnswer, _now_s: float) -> None:
        self.gate.answered(answer.request, answer.index)
