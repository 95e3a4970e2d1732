"""What this node makes of its peers' messages: one handler for each kind.

Handlers run between rounds of work. They change PySyncObj's and our bookkeeping and post answers to the transport,
whose outboxes leave after the next flush; nothing is sent, flushed or answered to clients from here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from raftkv.peers.notices import Notices
from raftkv.raft import messages
from raftkv.raft.delays import Delays
from raftkv.raft.electorate import Electorate
from raftkv.raft.engine.internals import Core
from raftkv.raft.engine.journal import holds
from raftkv.raft.engine.transport import GuardedTransport
from raftkv.raft.leadership.agreed_time import AgreedTime
from raftkv.raft.leadership.elections import Elections, Standing
from raftkv.raft.leadership.handover import Handover
from raftkv.raft.ports import PeerPort
from raftkv.raft.reading.eventual import EventualReads
from raftkv.raft.reading.freshness import Freshness
from raftkv.raft.reading.gate import ReadGate
from raftkv.raft.reading.readers import Readers
from raftkv.raft.reading.rounds import ReadRounds
from raftkv.raft.room import Room
from raftkv.raft.settings import DISK_FULL, ReplicaSettings, overloaded
from raftkv.raft.snapshots.transfer import Transfers
from raftkv.raft.standing.divergence import Divergence
from raftkv.raft.standing.readmission import Readmission
from raftkv.raft.writing.appends import Appends
from raftkv.raft.writing.proposals import BATCH_OVERHEAD_BYTES, Proposals
from raftkv.raft.writing.visibility import Visibility
from raftkv.storage.log.log import Log
from raftkv.storage.snapshots.files import Manifest

TERM_JUMP_MAX: Final = 1 << 32
"""No cluster holds as many elections while a node is away; taken over, such a term would use up the numbers."""


def standing(core: Core) -> Standing:
    """Where ``core`` stands, as far as elections care."""
    return Standing(
        term=core.term,
        last_index=core.last_index,
        last_term=core.last_term,
        is_leader=core.is_leader,
        election_deadline_s=core.election_deadline_s,
    )


class Conversation:
    """One node's side of all conversations with its peers; its public methods are the link's events."""

    def __init__(
        self,
        settings: ReplicaSettings,
        *,
        core: Core,
        electorate: Electorate,
        transport: GuardedTransport,
        elections: Elections,
        freshness: Freshness,
        readmission: Readmission,
        divergence: Divergence,
        agreed_time: AgreedTime,
        rounds: ReadRounds,
        gate: ReadGate,
        proposals: Proposals,
        appends: Appends,
        transfers: Transfers,
        visibility: Visibility,
        eventual: EventualReads,
        readers: Readers,
        delays: Delays,
        handover: Handover,
        room: Room,
        log: Log,
        link: PeerPort,
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._core = core
        self._electorate = electorate
        self._transport = transport
        self._elections = elections
        self._freshness = freshness
        self._readmission = readmission
        self._divergence = divergence
        self._agreed_time = agreed_time
        self._rounds = rounds
        self._gate = gate
        self._proposals = proposals
        self._appends = appends
        self._transfers = transfers
        self._visibility = visibility
        self._eventual = eventual
        self._readers = readers
        self._delays = delays
        self._handover = handover
        self._room = room
        self._log = log
        self._link = link
        self._clock = clock
        self._wall_ms = wall_ms
        self._notices = Notices()
        self.declined_term = 0
        self.leader_takes_writes = True
        self._handlers = self._handler_table()

    def link_up(self, peer: str) -> None:
        """A connection to ``peer`` stands."""
        self._transport.link_up(peer)

    def link_down(self, peer: str) -> None:
        """The connection to ``peer`` is gone, with everything on it."""
        self._transport.link_down(peer)
        self._transfers.link_down(peer, self._clock())
        self._visibility.lost(peer)
        self._delays.link_down(peer)
        self._handover.lost(peer)
        self._divergence.lost(peer)
        if peer == self._core.leader_id:
            self._proposals.release()

    def received(self, peer: str, payload: bytes) -> None:
        """One message of ``peer``; a malformed one costs it its connection."""
        try:
            message = messages.decode(payload)
            self._check_term(message)
            if not self._readmission.counts:
                self._hear_of_term(message)
            self._handlers[type(message)](peer, message)
        except messages.MalformedMessageError as error:
            self._drop(peer, error)

    def _hear_of_term(self, message: messages.Message) -> None:
        """The term of a pre-vote is one that nobody is in yet."""
        if not isinstance(message, messages.PreVote) and getattr(message, "term", 0) > 0:
            self._readmission.heard_of_term()

    def _check_term(self, message: messages.Message) -> None:
        if getattr(message, "term", 0) > self._core.term + TERM_JUMP_MAX:
            raise messages.MalformedMessageError("a term beyond what elections can reach")

    def _handler_table(self) -> dict[type[messages.Message], Callable[[str, Any], None]]:
        return {
            messages.Append: self._on_append,
            messages.AppendAnswer: self._transport.take_answer,
            messages.RequestVote: self._on_request_vote,
            messages.Vote: self._on_vote,
            messages.PreVote: self._on_pre_vote,
            messages.PreVoteAnswer: self._on_pre_vote_answer,
            messages.NewerTerm: self._on_newer_term,
            messages.Ping: self._on_ping,
            messages.Pong: self._on_pong,
            messages.AskReadIndex: self._on_ask_read_index,
            messages.ReadIndexAnswer: self._on_read_index_answer,
            messages.Propose: self._on_propose,
            messages.Declined: self._on_declined,
            messages.Replicated: self._on_replicated,
            messages.SnapshotOffer: self._on_snapshot_offer,
            messages.SnapshotChunk: self._on_snapshot_chunk,
            messages.SnapshotProgress: self._on_snapshot_progress,
            messages.AskApplied: self._on_ask_applied,
            messages.Applied: self._on_applied,
            messages.AskRecord: self._readers.asked,
            messages.RecordAnswer: self._on_record_answer,
            messages.Level: self._on_level,
            messages.HandOver: self._on_hand_over,
            messages.AskTerm: self._on_ask_term,
            messages.TermAnswer: self._on_term_answer,
            messages.AskReadmission: self._on_ask_readmission,
            messages.ReadmissionAnswer: self._on_readmission_answer,
            messages.StateHash: self._on_state_hash,
        }

    def take_late(self, now_s: float) -> None:
        """Take in the appends that artificial delays have held until now."""
        for peer in self._electorate.others:
            try:
                for append in self._delays.arriving(peer).due(now_s):
                    self._take_append(peer, append, now_s)
            except messages.MalformedMessageError as error:
                self._drop(peer, error)

    def _drop(self, peer: str, error: messages.MalformedMessageError) -> None:
        reason = "malformed message"
        if isinstance(error, messages.ContradictionError):
            self._divergence.contradicted(peer, error.index)
        self._notices.warn("peer_link_closed", reason=reason, peer=peer, now_s=self._clock(), detail=str(error))
        self._link.close_peer(peer)

    def _on_append(self, peer: str, append: messages.Append) -> None:
        now_s = self._clock()
        self._take_append(peer, self._delays.arriving(peer).put(append, now_s), now_s)

    def _take_append(self, peer: str, append: messages.Append, now_s: float) -> None:
        if self._room.is_gone and append.entries:  # they come again, once what follows them does not fit our log
            append = messages.Append(term=append.term, commit_index=append.commit_index, sequence=append.sequence)
        if not self._transport.take_append(peer, append, now_s):
            return
        self._elections.heard(now_s)

    def _on_request_vote(self, peer: str, request: messages.RequestVote) -> None:
        """A vote within an election timeout of hearing from a leader, or of leading a majority, is withheld (21).

        Not from whom the leader of this very term has handed over to: it gave back what was promised to it.
        """
        if not self._readmission.may_vote_in(request.term):
            return
        now_s = self._clock()
        core = self._core
        led_s = now_s - self._rounds.confirmed_at_s(core.term)
        withheld = self._elections.withholds(now_s) or (core.is_leader and led_s < self._settings.election_timeout_s)
        if withheld and not (request.handed_over and request.term == core.term + 1):
            return
        self._transport.take_vote_request(peer, request)

    def _on_vote(self, peer: str, vote: messages.Vote) -> None:
        if vote.term == self._core.term:
            self._agreed_time.told(term=vote.term, peer=peer, wall_ms=vote.wall_ms, now_s=self._clock())
            self._transport.take_vote(peer, vote)

    def _on_pre_vote(self, peer: str, request: messages.PreVote) -> None:
        answer = self._elections.consider(standing(self._core), request, self._clock())
        if not self._readmission.may_vote_in(request.term):
            answer = msgspec.structs.replace(answer, granted=False)
        self._transport.post(peer, answer)

    def _on_pre_vote_answer(self, peer: str, answer: messages.PreVoteAnswer) -> None:
        if answer.term > self._core.term:
            self._core.adopt_term(peer, answer.term)
        else:
            self._elections.add(peer, answer)

    def _on_newer_term(self, peer: str, newer: messages.NewerTerm) -> None:
        if newer.term > self._core.term:
            self._core.adopt_term(peer, newer.term)

    def _on_ping(self, peer: str, ping: messages.Ping) -> None:
        core = self._core
        if ping.term == core.term and not core.is_leader:
            now_s = self._clock()
            self._elections.heard(now_s)
            self.leader_takes_writes = ping.takes_writes
            if not self._readmission.counts:
                return
            pong = messages.Pong(
                term=ping.term,
                round=ping.round,
                wall_ms=self._wall_ms(),
                reading=self._freshness.reading(now_s),
                has_room=not self._room.is_full,
            )
            self._transport.post(peer, pong)
        elif ping.term < core.term:
            self._transport.post(peer, messages.NewerTerm(term=core.term))

    def _on_pong(self, peer: str, pong: messages.Pong) -> None:
        if self._core.is_leader and pong.term == self._core.term:
            self._agreed_time.told(term=pong.term, peer=peer, wall_ms=pong.wall_ms, now_s=self._clock())
            self._handover.told(peer, has_room=pong.has_room)
            self._rounds.add(peer, pong)

    def _on_level(self, _peer: str, level: messages.Level) -> None:
        self._freshness.echoed(level, self._clock())

    def _on_hand_over(self, peer: str, word: messages.HandOver) -> None:
        """Stand for election in the next round of work, if it is the leader of this term that says so."""
        core = self._core
        if word.term == core.term and peer == core.leader_id and self._readmission.counts and not self._room.is_full:
            self._transport.handed_over_term = word.term

    def propose_held(self) -> None:
        """Take up the proposals of peers that were held while this node handed over."""
        for peer, proposal in self._handover.release():
            self._on_propose(peer, proposal)

    def _on_ask_term(self, peer: str, ask: messages.AskTerm) -> None:
        self._transport.post(peer, messages.TermAnswer(nonce=ask.nonce, term=self._core.term))

    def _on_term_answer(self, peer: str, answer: messages.TermAnswer) -> None:
        highest = self._readmission.told_term(peer, answer.nonce, answer.term)
        if highest is not None and highest > self._core.term:
            self._core.adopt_term(peer, highest)

    def _on_ask_readmission(self, peer: str, ask: messages.AskReadmission) -> None:
        """What ``peer`` acknowledged is forgotten before the round begins, so that no later commit rests on it."""
        if not self._core.is_leader or ask.term != self._core.term:
            self._transport.post(peer, messages.ReadmissionAnswer(nonce=ask.nonce, index=0))
            return
        self._core.forget_match(peer)
        self._rounds.ask(
            lambda index: self._transport.post(peer, messages.ReadmissionAnswer(nonce=ask.nonce, index=index))
        )

    def _on_readmission_answer(self, _peer: str, answer: messages.ReadmissionAnswer) -> None:
        self._readmission.told_index(answer.nonce, answer.index)

    def _on_state_hash(self, peer: str, said: messages.StateHash) -> None:
        self._divergence.told(peer, said.index, said.state_hash)

    def _on_ask_read_index(self, peer: str, ask: messages.AskReadIndex) -> None:
        core, number = self._core, ask.request
        if not core.is_leader:
            self._answer_read_index(peer, number, 0)
        elif ask.lease and core.leads_committed_term and self._rounds.holds_lease(core.term, self._clock()):
            self._answer_read_index(peer, number, core.commit_index)
        else:
            self._rounds.ask(lambda index: self._answer_read_index(peer, number, index))

    def _answer_read_index(self, peer: str, number: int, index: int) -> None:
        self._transport.await_commit(peer, index)
        self._transport.post(peer, messages.ReadIndexAnswer(request=number, index=index))

    def _on_read_index_answer(self, _peer: str, answer: messages.ReadIndexAnswer) -> None:
        self._gate.answered(answer.request, answer.index)

    def _on_propose(self, peer: str, proposal: messages.Propose) -> None:
        if not self._core.is_leader or self._core.term != proposal.term:
            self._transport.post(peer, messages.Declined(sequence=proposal.sequence, refusal=None))
        elif self._handover.under_way:
            if not self._handover.hold(peer, proposal):
                refusal = overloaded("writes")
                self._transport.post(peer, messages.Declined(sequence=proposal.sequence, refusal=refusal))
        elif not self._room.takes(makes_room=proposal.makes_room):
            self._transport.post(peer, messages.Declined(sequence=proposal.sequence, refusal=DISK_FULL))
        elif not 0 <= proposal.acks <= len(self._settings.members):
            raise messages.MalformedMessageError("a proposal for more replicas than there are")
        elif len(proposal.body) > self._settings.largest_command_bytes - BATCH_OVERHEAD_BYTES:
            raise messages.MalformedMessageError("a proposal beyond the size limit")
        else:
            lack = self._appends.too_few(proposal.acks)
            if lack is None:
                self._appends.append(proposal.command_format, proposal.body, proposal.acks, peer, proposal.sequence)
            else:
                self._transport.post(peer, messages.Declined(sequence=proposal.sequence, refusal=lack))

    def _on_declined(self, _peer: str, declined: messages.Declined) -> None:
        term = self._proposals.declined(declined.sequence, declined.refusal)
        if declined.refusal is None:
            self.declined_term = max(self.declined_term, term)  # who has stepped down never leads that term again

    def _on_replicated(self, _peer: str, replicated: messages.Replicated) -> None:
        self._proposals.replicated(replicated.sequence)

    def _on_snapshot_offer(self, peer: str, offer: messages.SnapshotOffer) -> None:
        if offer.term != self._core.term or self._core.leader_id != peer:
            return
        manifest = offer.manifest
        if manifest.members != self._settings.members:
            raise messages.MalformedMessageError("a snapshot of another membership")
        common = self.common_with(manifest)
        if manifest.index <= common:
            answer = messages.AppendAnswer(
                term=offer.term, sequence=0, next_index=common + 1, success=True, reset=False
            )
            self._transport.post(peer, answer)
        else:
            self._transfers.offered(peer, offer)

    def common_with(self, manifest: Manifest) -> int:
        """Up to which index our log is known to equal that of whoever made the snapshot (Raft, sections 5.3, 5.4)."""
        if holds(self._log, manifest.index, manifest.term):
            return max(self._core.commit_index, manifest.index)
        return self._core.commit_index

    def _on_snapshot_chunk(self, peer: str, chunk: messages.SnapshotChunk) -> None:
        if chunk.term == self._core.term:
            self._transfers.received(peer, chunk)

    def _on_snapshot_progress(self, peer: str, progress: messages.SnapshotProgress) -> None:
        if self._core.is_leader and progress.term == self._core.term:
            self._transfers.progressed(peer, progress, self._clock())

    def _on_ask_applied(self, peer: str, ask: messages.AskApplied) -> None:
        if ask.term == self._core.term and not self._core.is_leader and not self._readmission.is_stopped:
            self._visibility.asked(peer, ask)

    def _on_applied(self, peer: str, applied: messages.Applied) -> None:
        if self._core.is_leader and applied.term == self._core.term:
            self._visibility.told(peer, applied.index)

    def _on_record_answer(self, peer: str, answer: messages.RecordAnswer) -> None:
        self._eventual.answered(answer.request, peer, answer.view)
