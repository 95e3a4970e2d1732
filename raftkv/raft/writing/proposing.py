"""Writes as messages: this node's commands on their way to the leader, and, as leader, those of its peers.

What becomes of a command is known by ``Proposals``; what the leader does with one, by ``Appends``. The leader's own
empty commands, which only move the machine's clock, begin here too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from raftkv.formats import entries
from raftkv.formats.commands import HISTORY_FORMAT, AdoptCommand
from raftkv.formats.peers import MalformedMessageError, refusal_of, refused_by
from raftkv.formats.raft_messages import ProposalDeclined, Propose, Replicated
from raftkv.machine.machine import Machine
from raftkv.raft.electorate import Electorate
from raftkv.raft.leadership.following import Following
from raftkv.raft.leadership.handover import Handover
from raftkv.raft.ports import Handlers, Leading, Outgoing
from raftkv.raft.room import DiskRoom
from raftkv.raft.settings import DISK_FULL, NO_LEADER, NO_ROOM_HERE, TOO_LATE, ReplicaSettings, overloaded
from raftkv.raft.writing.appends import Appends
from raftkv.raft.writing.proposals import BATCH_OVERHEAD_BYTES, Proposals
from raftkv.raft.writing.stamping import LEADER_ORIGIN
from raftkv.raft.writing.visibility import Visibility

TICK_MS: Final = 1_000
"""Where there are leases, time stands in the log as often: what passed since is lost when all nodes end."""


class AppendableLog(Leading, Protocol):
    """The engine's log, for a leader's own entries."""

    leader_id: str | None
    applied_index: int
    last_index: int

    def append(self, *command: bytes) -> tuple[int, int]:
        """As leader, put the parts of a command into the log; returns its (index, term)."""


@dataclass(kw_only=True, eq=False, repr=False)
class Proposing:
    """One node's part in bringing commands into the log."""

    settings: ReplicaSettings
    electorate: Electorate
    core: AppendableLog
    outgoing: Outgoing
    proposals: Proposals
    appends: Appends
    visibility: Visibility
    following: Following
    handover: Handover
    room: DiskRoom
    machine: Callable[[], Machine]
    stamp_ms: Callable[[], int]
    """The time that this node, as leader, stamps commands with."""

    adoption: AdoptCommand
    """By which bounds this node, as leader, lets history be kept."""

    reads: Callable[[str], int]
    """Tells the newest format of commands that a peer is known to read."""

    expiry_checked_at_s: float

    _declined_term: int = field(default=0, init=False)
    _expiry_index: int = field(default=0, init=False)
    _adopt_index: int = field(default=0, init=False)

    def handlers(self) -> Handlers:
        """See ``Part``."""
        return {Propose: self._on_propose, ProposalDeclined: self._on_declined, Replicated: self._on_replicated}

    def lost(self, peer: str) -> None:
        """The connection to ``peer`` is gone."""
        if peer == self.core.leader_id:
            self.proposals.release()

    def work(self, now_s: float) -> None:
        """Propose what waits, tell who waits for how many hold it, and refuse what is too late."""
        core, proposals, following = self.core, self.proposals, self.following
        proposals.release(proposed_before_s=now_s - self.settings.election_timeout_s)
        if following.leaderless_too_long(now_s):
            proposals.refuse_queued(NO_LEADER)
        if self.room.is_full:
            self._refuse_for_want_of_room()
        while proposals.queued and not self.handover.under_way:
            leader = following.reachable_leader(now_s)
            if leader is None or (not core.is_leader and self._declined_term == core.term):
                break
            self._propose_next(leader, now_s)
        self.appends.settle()
        news = self.visibility.news()
        if news is not None:
            self.outgoing.post(*news)
        proposals.expire(now_s, NO_LEADER if following.reachable_leader(now_s) is None else TOO_LATE)

    def take_up_held(self, now_s: float) -> None:
        """Take up the proposals of peers that were held while this node handed over."""
        for peer, proposal in self.handover.release():
            self._on_propose(peer, proposal, now_s)

    def expire_keys(self, now_s: float) -> None:
        """As leader, move the machine's clock by an empty command once something is due, or leases have waited."""
        core = self.core
        if (
            now_s - self.expiry_checked_at_s < self.settings.heartbeat_s
            or not core.is_leader
            or self.handover.under_way
        ):
            return
        self.expiry_checked_at_s = now_s
        if core.applied_index < self._expiry_index <= core.last_index:
            return
        machine, now_ms = self.machine(), self.stamp_ms()
        due_ms = machine.next_expiry_ms()
        if due_ms is None:
            return
        if due_ms <= now_ms or (machine.clock_ms + TICK_MS <= now_ms and machine.has_leases):
            self._expiry_index, _ = core.append(entries.encode(now_ms, LEADER_ORIGIN, 0))

    def adopt_history(self) -> None:
        """As leader, let history be kept as this node is told to, once every member is known to read such entries."""
        core, wanted = self.core, self.adoption
        if not core.is_leader or self.handover.under_way or self.machine().adopted == wanted:
            return
        if core.applied_index < self._adopt_index <= core.last_index or not self.room.takes(makes_room=False):
            return
        if all(self.reads(peer) >= HISTORY_FORMAT for peer in self.electorate.other_voters):
            self._adopt_index, _ = core.append(entries.encode(self.stamp_ms(), LEADER_ORIGIN, 0, wanted))

    def _propose_next(self, leader: str, now_s: float) -> None:
        batch = self.proposals.next_batch(self.core.term, now_s)
        if not self.core.is_leader:
            proposal = Propose(
                term=batch.term,
                sequence=batch.sequence,
                command_format=batch.command_format,
                body=b"".join(batch.parts),
                acks=batch.acks,
                makes_room=batch.makes_room,
            )
            self.outgoing.post(leader, proposal)
            return
        refusal = self.appends.too_few(batch.acks)
        if refusal is None:
            self.appends.append(batch.command_format, batch.parts, batch.acks, None, batch.sequence)
        else:
            self.proposals.declined(batch.sequence, refusal)

    def _refuse_for_want_of_room(self) -> None:
        room, is_leader = self.room, self.core.is_leader
        if room.is_gone and not is_leader:
            self.proposals.refuse_queued(NO_ROOM_HERE)
        if is_leader and not self.handover.takes_writes:
            self.proposals.refuse_queued(DISK_FULL, but_deletions=not room.is_low)

    def _on_propose(self, peer: str, proposal: Propose, _now_s: float) -> None:
        refusal = None
        if not self.core.is_leader or self.core.term != proposal.term:
            self.outgoing.post(peer, ProposalDeclined(sequence=proposal.sequence, refusal=None))
            return
        if self.handover.under_way:
            if self.handover.hold(peer, proposal):
                return
            refusal = overloaded("writes")
        elif not self.room.takes(makes_room=proposal.makes_room):
            refusal = DISK_FULL
        elif len(proposal.body) > self.settings.largest_command_bytes - BATCH_OVERHEAD_BYTES:
            raise MalformedMessageError("a proposal beyond the size limit")
        else:
            refusal = self.appends.too_few(proposal.acks)
        if refusal is None:
            self.appends.append(proposal.command_format, (proposal.body,), proposal.acks, peer, proposal.sequence)
        else:
            self.outgoing.post(peer, ProposalDeclined(sequence=proposal.sequence, refusal=refusal_of(refusal)))

    def _on_declined(self, _peer: str, declined: ProposalDeclined, _now_s: float) -> None:
        refusal = declined.refusal
        term = self.proposals.declined(declined.sequence, None if refusal is None else refused_by(refusal))
        if refusal is None:
            self._declined_term = max(self._declined_term, term)  # who has stepped down never leads that term again

    def _on_replicated(self, _peer: str, replicated: Replicated, _now_s: float) -> None:
        self.proposals.replicated(replicated.sequence)
