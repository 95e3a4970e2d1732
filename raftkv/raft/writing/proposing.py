"""Writes as messages: this node's commands on their way to the leader, and, as leader, those of its peers.

What becomes of a command is known by ``Proposals``; what the leader does with one, by ``Appends``. The leader's own
empty commands, which only move the machine's clock, begin here too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from raftkv.formats import entries
from raftkv.formats.peers import MalformedMessageError, refusal_of, refused_by
from raftkv.formats.raft_messages import Declined, Propose, Replicated
from raftkv.machine.machine import Machine
from raftkv.raft.electorate import Electorate
from raftkv.raft.leadership.following import Following
from raftkv.raft.leadership.handover import Handover
from raftkv.raft.ports import Handlers, Leading, Outgoing
from raftkv.raft.room import Room
from raftkv.raft.settings import DISK_FULL, NO_LEADER, NO_ROOM_HERE, TOO_LATE, ReplicaSettings, overloaded
from raftkv.raft.writing.appends import Appends
from raftkv.raft.writing.proposals import BATCH_OVERHEAD_BYTES, Proposals
from raftkv.raft.writing.visibility import Visibility

EXPIRY_ORIGIN: Final = 0
"""Origin of the leader's own empty commands, which only move the machine's clock."""


class AppendableLog(Leading, Protocol):
    """The engine's log, for a leader's own entries."""

    leader_id: str | None
    applied_index: int
    last_index: int

    def append(self, *command: bytes) -> tuple[int, int]:
        """As leader, put the parts of a command into the log; returns its (index, term)."""


class Proposing:
    """One node's part in bringing commands into the log."""

    def __init__(
        self,
        settings: ReplicaSettings,
        electorate: Electorate,
        *,
        core: AppendableLog,
        outgoing: Outgoing,
        proposals: Proposals,
        appends: Appends,
        visibility: Visibility,
        following: Following,
        handover: Handover,
        room: Room,
        machine: Callable[[], Machine],
        stamp_ms: Callable[[], int],
        started_at_s: float,
    ) -> None:
        """``stamp_ms`` is the time that this node, as leader, stamps commands with."""
        self._electorate = electorate
        self._heartbeat_s = settings.heartbeat_s
        self._patience_s = settings.election_timeout_s
        self._limit_bytes = settings.largest_command_bytes - BATCH_OVERHEAD_BYTES
        self._core = core
        self._outgoing = outgoing
        self._proposals = proposals
        self._appends = appends
        self._visibility = visibility
        self._following = following
        self._handover = handover
        self._room = room
        self._machine = machine
        self._stamp_ms = stamp_ms
        self._declined_term = 0
        self._expiry_checked_at_s = started_at_s
        self._expiry_index = 0

    def handlers(self) -> Handlers:
        """See ``Part``."""
        return {Propose: self._on_propose, Declined: self._on_declined, Replicated: self._on_replicated}

    def lost(self, peer: str) -> None:
        """The connection to ``peer`` is gone."""
        if peer == self._core.leader_id:
            self._proposals.release()

    def work(self, now_s: float) -> None:
        """Propose what waits, tell who waits for how many hold it, and refuse what is too late."""
        core, proposals, following = self._core, self._proposals, self._following
        proposals.release(proposed_before_s=now_s - self._patience_s)
        if following.leaderless_too_long(now_s):
            proposals.refuse_queued(NO_LEADER)
        if self._room.is_full:
            self._refuse_for_want_of_room()
        while proposals.queued and not self._handover.under_way:
            leader = following.reachable_leader(now_s)
            if leader is None or (not core.is_leader and self._declined_term == core.term):
                break
            self._propose_next(leader, now_s)
        self._appends.settle()
        news = self._visibility.news()
        if news is not None:
            self._outgoing.post(*news)
        proposals.expire(now_s, NO_LEADER if following.reachable_leader(now_s) is None else TOO_LATE)

    def take_up_held(self, now_s: float) -> None:
        """Take up the proposals of peers that were held while this node handed over."""
        for peer, proposal in self._handover.release():
            self._on_propose(peer, proposal, now_s)

    def expire_keys(self, now_s: float) -> None:
        """As leader, move the machine's clock with an empty command once a key is due to expire."""
        core = self._core
        if now_s - self._expiry_checked_at_s < self._heartbeat_s or not core.is_leader or self._handover.under_way:
            return
        self._expiry_checked_at_s = now_s
        if core.applied_index < self._expiry_index <= core.last_index:
            return
        due_ms, now_ms = self._machine().next_expiry_ms(), self._stamp_ms()
        if due_ms is not None and due_ms <= now_ms:
            self._expiry_index, _ = core.append(entries.encode(now_ms, EXPIRY_ORIGIN, 0))

    def _propose_next(self, leader: str, now_s: float) -> None:
        batch = self._proposals.next_batch(self._core.term, now_s)
        if not self._core.is_leader:
            proposal = Propose(
                term=batch.term,
                sequence=batch.sequence,
                command_format=batch.command_format,
                body=b"".join(batch.parts),
                acks=batch.acks,
                makes_room=batch.makes_room,
            )
            self._outgoing.post(leader, proposal)
            return
        refusal = self._appends.too_few(batch.acks)
        if refusal is None:
            self._appends.append(batch.command_format, batch.parts, batch.acks, None, batch.sequence)
        else:
            self._proposals.declined(batch.sequence, refusal)

    def _refuse_for_want_of_room(self) -> None:
        room, is_leader = self._room, self._core.is_leader
        if room.is_gone and not is_leader:
            self._proposals.refuse_queued(NO_ROOM_HERE)
        if is_leader and not self._handover.takes_writes:
            self._proposals.refuse_queued(DISK_FULL, but_deletions=not room.is_low)

    def _on_propose(self, peer: str, proposal: Propose, _now_s: float) -> None:
        refusal = None
        if not self._core.is_leader or self._core.term != proposal.term:
            self._outgoing.post(peer, Declined(sequence=proposal.sequence, refusal=None))
            return
        if self._handover.under_way:
            if self._handover.hold(peer, proposal):
                return
            refusal = overloaded("writes")
        elif not self._room.takes(makes_room=proposal.makes_room):
            refusal = DISK_FULL
        elif not 0 <= proposal.acks <= self._electorate.size:
            raise MalformedMessageError("a proposal for more replicas than there are")
        elif len(proposal.body) > self._limit_bytes:
            raise MalformedMessageError("a proposal beyond the size limit")
        else:
            refusal = self._appends.too_few(proposal.acks)
        if refusal is None:
            self._appends.append(proposal.command_format, (proposal.body,), proposal.acks, peer, proposal.sequence)
        else:
            self._outgoing.post(peer, Declined(sequence=proposal.sequence, refusal=refusal_of(refusal)))

    def _on_declined(self, _peer: str, declined: Declined, _now_s: float) -> None:
        refusal = declined.refusal
        term = self._proposals.declined(declined.sequence, None if refusal is None else refused_by(refusal))
        if refusal is None:
            self._declined_term = max(self._declined_term, term)  # who has stepped down never leads that term again

    def _on_replicated(self, _peer: str, replicated: Replicated, _now_s: float) -> None:
        self._proposals.replicated(replicated.sequence)
