"""The raft replica: everything of this package put together behind the ``Replicator`` interface.

One rule orders each round of work, and covers all that Raft asks of persistence: whatever the round did is first
flushed to the log; then messages leave, the state is committed, and clients get outcomes. Nothing that rests on a log
entry, a vote or a term is seen by anyone before it is on disk. The one exception is the leader's appends, which leave
while its own flush is still to come, so that all disks work at once (Raft thesis, section 10.2.1): its term is on disk
since it stood for election, and its own copy counts towards no majority before the next round, which begins after the
flush.

The replica is driven: it never waits, owns no thread and no socket. Any exception out of its methods is a broken
invariant or a failed disk, and whoever drives it must end the node.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec
import structlog

from raftkv.core.errors import Code, DataDiscarded, Refused
from raftkv.core.replicator import Hear, Pending, Shown, Subscribers, Subscription
from raftkv.core.requests import (
    DEFAULT,
    MAJORITY,
    Barrier,
    Configure,
    Consistency,
    Inspect,
    Read,
    Repair,
    Request,
    Write,
    is_read,
)
from raftkv.core.results import Configured, PeerStatus, Repaired, Status
from raftkv.core.voters import Voters
from raftkv.formats import entries
from raftkv.machine.conversion import Change, proposal_of
from raftkv.machine.machine import Machine
from raftkv.raft import messages
from raftkv.raft.conversation import Conversation, standing
from raftkv.raft.delays import Delays
from raftkv.raft.electorate import Electorate
from raftkv.raft.engine.internals import NO_OP, Core, StableNode
from raftkv.raft.engine.journal import LogJournal
from raftkv.raft.engine.transport import GuardedTransport
from raftkv.raft.leadership.agreed_time import AgreedTime
from raftkv.raft.leadership.elections import Elections
from raftkv.raft.leadership.following import Following
from raftkv.raft.leadership.handover import Handover
from raftkv.raft.ports import PeerPort, Snapshots, StatePort
from raftkv.raft.reading.eventual import EventualReads
from raftkv.raft.reading.freshness import Freshness, Vouching
from raftkv.raft.reading.gate import Position, ReadGate
from raftkv.raft.reading.readers import Readers
from raftkv.raft.reading.rounds import ReadRounds
from raftkv.raft.room import Room
from raftkv.raft.settings import (
    DISK_FULL,
    NO_LEADER,
    NO_ROOM_HERE,
    NOT_OF_RAFT,
    NOTHING_TO_REPAIR,
    SHUTTING_DOWN,
    TOO_LATE,
    ReplicaSettings,
    out_of_service,
    overloaded,
)
from raftkv.raft.snapshots.transfer import Transfers, base_entries
from raftkv.raft.standing.divergence import Divergence
from raftkv.raft.standing.readmission import Memory, Readmission
from raftkv.raft.writing import proposals
from raftkv.raft.writing.appends import Appends
from raftkv.raft.writing.visibility import Visibility
from raftkv.storage.log.log import Log

COMMIT_DELAY_S: Final = 0.01
"""How long applied entries may wait to be seen by local reads of this node when no client of it waits for them."""

OFFERS: Final = (Consistency.LINEARIZABLE, Consistency.LEASE, Consistency.LOCAL, Consistency.EVENTUAL)
EXPIRY_ORIGIN: Final = 0
"""Origin of the leader's own empty commands, which only move the machine's clock."""

log_line = structlog.get_logger("raftkv.raft")


class RaftReplica:
    """One member of a raft cluster; implements ``Replicator``. Its ``conversation`` takes the link's events."""

    def __init__(
        self,
        settings: ReplicaSettings,
        *,
        log: Log,
        state: StatePort,
        snapshots: Snapshots,
        link: PeerPort,
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
        free_bytes: Callable[[], int],
        random: random_module.Random,
        misfits: Mapping[str, str] | None = None,
        memory: Memory | None = None,
        save: Callable[[Memory], None] | None = None,
    ) -> None:
        """``misfits`` are the nodes that may not take part, with the reason, as ``raftkv.peers.greeting`` tells.

        ``memory`` is the standing that this node has among its peers, ``save`` keeps it; without it is a member.
        """
        self._settings = settings
        self._misfits = {} if misfits is None else misfits
        self._log = log
        self._state = state
        self._link = link
        self._clock = clock
        self._wall_ms = wall_ms
        self._room = Room(free_bytes, reserve_bytes=settings.disk_reserve_bytes)
        self._electorate = Electorate(settings.node_id, Voters.of(settings.members))
        now_s = clock()
        self._machine = Machine(state.tables, settings.limits)
        self._readmission = Readmission(
            self._electorate,
            Memory() if memory is None else memory,
            nonce=random.getrandbits(62),
            heartbeat_s=settings.heartbeat_s,
            save=save or (lambda _memory: None),
        )
        self._divergence = Divergence(self._electorate, heartbeat_s=settings.heartbeat_s)
        self._divergence.applied(self._machine.applied_index, self._machine.state_hash)
        nodes = {peer: StableNode(peer) for peer in self._electorate.others}
        self._transport = GuardedTransport(
            nodes,
            readmission=self._readmission,
            has_room=self._has_room,
            needs_snapshot=self._offer_snapshot,
            heartbeat_s=settings.heartbeat_s,
            clock=clock,
            wall_ms=wall_ms,
        )
        self._core = Core(
            node_id=settings.node_id,
            peers=nodes,
            journal=LogJournal(log),
            transport=self._transport,
            election_timeout_s=settings.election_timeout_s,
            heartbeat_s=settings.heartbeat_s,
            largest_command_bytes=settings.largest_command_bytes,
            apply=self._apply,
        )
        self._transport.core = self._core
        self._core.resume(self._machine.applied_index)
        if not nodes:
            self._core.election_deadline_s = now_s
        self._elections = Elections(
            electorate=self._electorate,
            election_timeout_s=settings.election_timeout_s,
            started_at_s=now_s,
            random=random,
        )
        self._rounds = ReadRounds(
            self._electorate,
            election_timeout_s=settings.election_timeout_s,
            drift_bound=settings.clock_drift_bound,
            heartbeat_s=settings.heartbeat_s,
        )
        self._handover = Handover(
            election_timeout_s=settings.election_timeout_s,
            held_bytes=settings.largest_command_bytes,
            forswear=self._rounds.forswear,
        )
        self._gate = ReadGate(
            self._rounds,
            first_number=random.getrandbits(32),
            max_waiting=settings.max_waiting,
            ask=self._transport.post,
        )
        self._proposals = proposals.Proposals(
            self._electorate, origin=random.getrandbits(63) + 1, max_waiting=settings.max_waiting
        )
        self._eventual = EventualReads(first_number=random.getrandbits(32), max_waiting=settings.max_waiting)
        self._delays = Delays(
            settings.delays,
            peers=self._electorate.others,
            limit_bytes=settings.window_bytes,
            max_waiting=settings.max_waiting,
        )
        self._freshness = Freshness(
            life=random.getrandbits(62), started_at_s=now_s, shown_index=self._machine.applied_index
        )
        self._vouching = Vouching(heartbeat_s=settings.heartbeat_s)
        self._readers = Readers(
            settings,
            self._electorate,
            core=self._core,
            transport=self._transport,
            gate=self._gate,
            eventual=self._eventual,
            delays=self._delays,
            freshness=self._freshness,
            readmission=self._readmission,
            state=state,
            usual_r=lambda: self._machine.sizes[0],
            clock=clock,
        )
        self._transfers = Transfers(
            snapshots=snapshots,
            log=log,
            members=settings.members,
            entries_between=settings.snapshot_entries,
            log_bytes=settings.snapshot_log_bytes,
            trailing_entries=settings.trailing_entries,
            match_indexes=self._match_indexes,
            post=self._transport.post,
            state_directory=lambda: state.directory,
            fresh_directory=state.fresh_directory,
        )
        self._following = Following(
            core=self._core,
            elections=self._elections,
            transport=self._transport,
            election_timeout_s=settings.election_timeout_s,
            started_at_s=now_s,
        )
        self._closed = self._discards = False
        self.sent_ahead = False
        self._uncommitted_since_s: float | None = None
        self._expiry_checked_at_s = now_s
        self._expiry_index = 0
        self._agreed_time = AgreedTime(self._electorate)
        self._visibility = Visibility(self._machine.applied_index)
        self._subscribers = Subscribers()
        self._tell_subscribers(self._machine.applied_index)
        self._appends = Appends(
            self._electorate,
            core=self._core,
            proposals=self._proposals,
            transport=self._transport,
            visibility=self._visibility,
            clock=clock,
            stamp_ms=self._stamp_ms,
        )
        self.conversation = Conversation(
            settings,
            core=self._core,
            electorate=self._electorate,
            transport=self._transport,
            elections=self._elections,
            freshness=self._freshness,
            readmission=self._readmission,
            divergence=self._divergence,
            agreed_time=self._agreed_time,
            rounds=self._rounds,
            gate=self._gate,
            proposals=self._proposals,
            appends=self._appends,
            transfers=self._transfers,
            visibility=self._visibility,
            eventual=self._eventual,
            readers=self._readers,
            delays=self._delays,
            handover=self._handover,
            room=self._room,
            log=log,
            link=link,
            clock=clock,
            wall_ms=wall_ms,
        )

    # --- Replicator

    def submit(self, request: Request, deadline_s: float) -> Pending:
        """See ``Replicator``."""
        pending = Pending()
        if self._closed:
            pending.resolve(SHUTTING_DOWN)
        elif isinstance(request, Inspect):
            pending.resolve(self.status())
        elif isinstance(request, Repair):
            self._repair(pending)
        elif self._readmission.is_stopped:
            pending.resolve(out_of_service(self._readmission.reason))
        elif isinstance(request, Write):
            self._submit_write(request, deadline_s, pending)
        elif isinstance(request, Read | Barrier):
            self._readers.submit(request, deadline_s, pending)
        elif isinstance(request, Configure):
            self._configure(request, deadline_s, pending)
        else:
            pending.resolve(NOT_OF_RAFT)
        return pending

    def _configure(self, request: Configure, deadline_s: float, pending: Pending) -> None:
        """Set R and W of requests that name none, through the log, so that every node has the same."""
        _, r, w = self.status().sizes
        r, w = request.r or r, request.w or w
        size = self._electorate.size
        if request.n not in (DEFAULT, size):
            reason = f"n: every node of a raft cluster has every key, so n is {size}; leave it out"
            pending.resolve(Refused(code=Code.BAD_REQUEST, detail=reason))
            return
        for name, number in (("r", r), ("w", w)):
            if not 1 <= number <= size:
                reason = f"{name}: {number} is not between 1 and {size}"
                pending.resolve(Refused(code=Code.BAD_REQUEST, detail=reason))
                return
        changed = Pending()
        changed.when_done(
            lambda outcome: pending.resolve(
                msgspec.structs.replace(outcome, n=size) if isinstance(outcome, Configured) else outcome
            )
        )
        self._propose_change(Configure(r=r, w=w), self._electorate.majority, deadline_s, changed)

    def _submit_write(self, write: Write, deadline_s: float, pending: Pending) -> None:
        electorate, usual_w = self._electorate, self._machine.sizes[1]
        acks = usual_w if write.acks == MAJORITY and usual_w != electorate.majority else write.acks
        if not 0 <= acks <= electorate.size:
            detail = f"w={acks}, but the cluster has {electorate.size} nodes"
            pending.resolve(Refused(code=Code.BAD_REQUEST, detail=detail))
        elif write.n != DEFAULT or write.sloppy is not None or write.context:
            pending.resolve(NOT_OF_RAFT)
        elif is_read(write):
            self._readers.submit_several(write, deadline_s, pending)
        else:
            self._propose_change(write, acks, deadline_s, pending)

    def _propose_change(self, change: Change, acks: int, deadline_s: float, pending: Pending) -> None:
        """Queue ``change`` for the log; its outcome comes when it is applied, held by ``acks`` replicas."""
        proposal = proposal_of(change)
        limit_bytes = self._settings.largest_command_bytes - proposals.BATCH_OVERHEAD_BYTES
        if isinstance(proposal, Refused):
            pending.resolve(proposal)
        elif proposal.size_bytes > limit_bytes:
            detail = f"one request may carry {limit_bytes} bytes"
            pending.resolve(Refused(code=Code.VALUE_TOO_LARGE, detail=detail))
        elif not self._proposals.add(proposal, acks=acks, deadline_s=deadline_s, pending=pending):
            pending.resolve(overloaded("writes"))

    def work(self, now_s: float) -> float:
        """See ``Replicator``. Raises ``DiskError`` when the disk failed; the node must then stop."""
        self.begin_work(now_s)
        return self.finish_work(now_s)

    def _repair(self, pending: Pending) -> None:
        """Throw the state of this node away, if it is wrong: all others must be there to give it another."""
        peers = self._electorate.others
        away = [peer for peer in peers if not self._transport.is_up(peer)]
        lacking = self._divergence.without_say()
        if not self._readmission.is_stopped:
            pending.resolve(NOTHING_TO_REPAIR)
        elif away:
            detail = f"a repair throws the data of this node away, and needs every other one: {', '.join(away)} is away"
            pending.resolve(Refused(code=Code.QUORUM_UNREACHABLE, detail=detail, retry_after_s=1.0))
        elif lacking:
            detail = (
                f"a repair throws the data of this node away, and {', '.join(lacking)} may not have all of its own yet"
            )
            pending.resolve(Refused(code=Code.QUORUM_UNREACHABLE, detail=detail, retry_after_s=1.0))
        else:
            self._readmission.discard()
            self._discards = True
            nothing = Repaired(peers=peers, unreachable=(), ranges=0, differing=0, received=0, sent=0)
            pending.resolve(nothing)

    def begin_work(self, now_s: float) -> None:
        """The first half of ``work``: everything but the disk. Raises ``DataDiscarded`` after a repair was asked for.

        ``sent_ahead`` says whether appends were sent that the network should take before ``finish_work`` waits for the
        disk. Between the halves peers' messages may come in, and requests be submitted; no other work may be done.
        """
        if self._discards:
            raise DataDiscarded("the data of this node is thrown away and fetched anew, as it was told to repair")
        if self._delays.active:
            self.conversation.take_late(now_s)
            self._readers.release(now_s)
        self._transport.resume_peers()
        if not self._readmission.counts:
            self._seek_readmission(now_s)
        if now_s >= self._divergence.due_s:
            self._compare(now_s)
        self._stand(now_s)
        self._core.tick()
        self._transport.handed_over_term = None  # the word counts once
        self._send_notices(now_s)
        self._follow(now_s)
        if now_s >= self._room.due_s:
            self._room.check(now_s)
        if self._room.is_full or not self._handover.is_idle:
            self._hand_over(now_s)
        self._propose(now_s)
        self._serve_reads(now_s)
        self._expire_keys(now_s)
        self._move_snapshots(now_s)
        self.sent_ahead = self._core.is_leader and self._log.dirty and self._send(self._transport.drain_appends())

    def finish_work(self, now_s: float) -> float:
        """The second half of ``work``: flush, send, commit, answer, in this order; returns as ``work`` does."""
        self._log.flush()
        if self._delays.active:
            self._send_late(now_s)
        self._send(self._transport.drain())
        moved = self._commit(now_s)
        self._hand_out()
        if not self._electorate.others and self._core.is_leader and self._core.commit_index < self._core.last_index:
            return now_s  # alone, the next round commits what this one appended
        if moved:
            return now_s  # the next round tells who waits for what can be read here now
        due_s = self._transport.notice_due_s() or now_s + self._settings.heartbeat_s / 2
        if self._delays.active:
            due_s = min(due_s, self._delays.next_s)
        return due_s if self._uncommitted_since_s is None else min(due_s, self._uncommitted_since_s + COMMIT_DELAY_S)

    def subscribe(self, hear: Hear) -> Subscription:
        """See ``Replicator``."""
        return self._subscribers.add(hear)

    def status(self) -> Status:
        """See ``Replicator``."""
        core = self._core
        leading = core.is_leader
        level_at_s = self._freshness.level_at_s
        return Status(
            node=self._settings.node_id,
            mode="raft",
            role=core.role,
            leader=self._following.leader(self._clock()),
            term=core.term,
            commit_index=core.commit_index,
            applied_index=core.applied_index,
            revision=self._machine.revision,
            peers=tuple(
                PeerStatus(
                    id=peer,
                    reachable=self._transport.is_up(peer),
                    match_index=core.match_index(peer) if leading else None,
                    misfit=self._misfits.get(peer, ""),
                )
                for peer in self._electorate.others
            ),
            offers=OFFERS,
            cluster_size=self._electorate.size,
            level_at_s=None if level_at_s == float("-inf") else level_at_s,
            can_write=self._takes_writes if leading else self._forwards_writes,
            has_room=not self._room.is_full,
            state_path=self._state_path(),
            n=self._electorate.size,
            r=self._machine.sizes[0],
            w=self._machine.sizes[1],
            misfit=self._misfits.get(self._settings.node_id, "") or self._readmission.reason,
            diverged=self._readmission.is_stopped,
        )

    def position(self) -> tuple[str, str | None, int, str]:
        """Role, leader, term and where the state lies: what the front-end must learn without delay when it changes."""
        leader = self._following.leader(self._clock())
        return self._core.role, leader, self._core.term, self._state_path()

    def _state_path(self) -> str:
        """Where the front-end may read the applied state itself: nowhere, when reads are to be delayed or refused."""
        return "" if self._delays.read_s or self._readmission.is_stopped else str(self._state.directory)

    def close(self) -> None:
        """See ``Replicator``; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._proposals.abandon()
        self._readers.abandon()
        self.finish_work(self._clock())
        self._transfers.close()
        self._log.close()
        self._state.close()

    # --- rounds of work

    def _seek_readmission(self, now_s: float) -> None:
        """Ask for what a node whose disk was emptied must know before it counts; all applied entries are flushed."""
        readmission, core = self._readmission, self._core
        readmission.found(now_s)
        if readmission.caught_up(core.applied_index) or not readmission.due(now_s):
            return
        for peer in readmission.unheard:
            self._transport.post(peer, messages.AskTerm(nonce=readmission.nonce))
        leader = core.leader_id
        if readmission.awaits_index and leader in self._electorate.others:
            self._transport.post(leader, messages.AskReadmission(nonce=readmission.nonce, term=core.term))

    def _compare(self, now_s: float) -> None:
        """Tell the others what this node's state is, and stop serving if it is wrong by what they have told."""
        readmission = self._readmission
        for peer in self._electorate.others:
            if not self._transport.is_up(peer):
                continue
            news = self._divergence.news_for(peer, has_say=readmission.has_say)
            if news is not None:
                index, state_hash = news
                self._transport.post(peer, messages.StateHash(index=index, state_hash=state_hash))
        judgement = self._divergence.judge(now_s)
        if judgement is not None:
            readmission.judged(judgement)
        if readmission.is_stopped:
            self._stop_serving(out_of_service(readmission.reason))

    def _stop_serving(self, refusal: Refused) -> None:
        """Turn away whoever waits, and lead no more; the log goes on, so that what is applied can still be compared."""
        core = self._core
        if core.is_leader:
            core.adopt_term(self._electorate.others[0], core.term + 1)
        self._proposals.abandon(refusal)
        self._gate.abandon(refusal)
        ready, self._gate.ready = self._gate.ready, []
        self._gate.refused += [(pending, refusal) for pending, _ in ready]
        self._eventual.abandon(refusal)

    @property
    def is_blank(self) -> bool:
        """See ``Newcomers``: a node that has never been in any term has neither voted nor held an entry."""
        return self._core.term == 0 and not self._readmission.is_recovering

    def met(self, peer: str, *, is_blank: bool, knew_another_disk: bool) -> None:
        """See ``Newcomers``."""
        self._readmission.met(peer, is_blank=is_blank, knew_another_disk=knew_another_disk)

    def _stand(self, now_s: float) -> None:
        """Ask the others before standing for election; stand when a majority would vote for this node."""
        position = standing(self._core)
        if self._transport.handed_over_term == position.term and not position.is_leader:
            self._elections.close_round()
            self._core.election_deadline_s = float("-inf")
            return
        if not self._readmission.counts:
            self._core.election_deadline_s = self._elections.next_deadline_s(now_s)
        elif self._elections.due(position, now_s):
            self._core.election_deadline_s = self._elections.next_deadline_s(now_s)
            yields = self._room.is_full and self._elections.yields(now_s)
            if not yields and not self._elections.withholds(now_s):
                request = self._elections.open_round(position)
                for peer in self._electorate.others:
                    self._transport.post(peer, request)
        if self._elections.won(position):
            self._elections.close_round()
            self._core.election_deadline_s = float("-inf")

    def _follow(self, now_s: float) -> None:
        """Notice who leads."""
        core = self._core
        if self._following.changed(now_s):
            self._proposals.release()
            self._appends.forget()
            self._visibility.forget()
            self._transport.forget_notices()
            self._transfers.stop_sending()
            self.conversation.leader_takes_writes = True  # until it says otherwise
            leader = self._following.leader(now_s)
            if leader is None:
                log_line.info("no leader is known", term=core.term, role=core.role)
            else:
                log_line.info("leader", term=core.term, leader=leader, role=core.role)

    def _send_notices(self, now_s: float) -> None:
        """News of the commit index that found no entries to travel with goes on its own."""
        due_s = self._transport.notice_due_s()
        if due_s is None or (self._core.is_leader and now_s < due_s):
            return
        self._transport.forget_notices()
        if self._core.is_leader:
            self._core.send_appends()

    @property
    def _forwards_writes(self) -> bool:
        """As follower: does the leader take writes, as it said last, and can their outcomes be learned here?"""
        return self.conversation.leader_takes_writes and not self._room.is_gone

    def hand_over(self, target: str | None, now_s: float) -> bool:
        """As leader, begin to hand over to ``target``, or to whoever has room and lacks least; did it begin?"""
        core = self._core
        if not core.leads_committed_term:
            return False
        matches = self._match_indexes()
        target = self._handover.choose(matches) if target is None else target
        if target not in matches or not self._handover.begin(target, term=core.term, now_s=now_s):
            return False
        log_line.info("handing over", to=target, term=core.term)
        return True

    def _hand_over(self, now_s: float) -> None:
        """A leader whose disk is full makes way for a member that has room."""
        core = self._core
        if self._room.is_full:
            self.hand_over(None, now_s)
        word = self._handover.step(
            led_term=core.term if core.is_leader else None,
            match_index=core.match_index,
            last_index=core.last_index,
            now_s=now_s,
        )
        if word is not None:
            self._transport.post(*word)
        self.conversation.propose_held()

    @property
    def _follows_without_room(self) -> bool:
        """Does this node take no entries? Then it learns no outcomes of writes, and confirms no reads."""
        return self._room.is_gone and not self._core.is_leader

    @property
    def _takes_writes(self) -> bool:
        """As leader: are writes taken, or held until another leader takes them?"""
        return not self._room.is_full or self._handover.under_way

    def _propose(self, now_s: float) -> None:
        core = self._core
        self._proposals.release(proposed_before_s=now_s - self._settings.election_timeout_s)
        if self._following.leaderless_too_long(now_s):
            self._proposals.refuse_queued(NO_LEADER)
        if self._room.is_full:
            self._refuse_for_want_of_room()
        while self._proposals.queued and not self._handover.under_way:
            leader = self._following.reachable_leader(now_s)
            if leader is None or (not core.is_leader and self.conversation.declined_term == core.term):
                break
            batch = self._proposals.next_batch(core.term, now_s)
            if core.is_leader:
                refusal = self._appends.too_few(batch.acks)
                if refusal is None:
                    self._appends.append(batch.command_format, batch.body, batch.acks, None, batch.sequence)
                else:
                    self._proposals.declined(batch.sequence, refusal)
            else:
                proposal = messages.Propose(
                    term=core.term,
                    sequence=batch.sequence,
                    command_format=batch.command_format,
                    body=batch.body,
                    acks=batch.acks,
                    makes_room=batch.makes_room,
                )
                self._transport.post(leader, proposal)
        self._appends.settle()
        news = self._visibility.news()
        if news is not None:
            self._transport.post(*news)
        self._proposals.expire(now_s, NO_LEADER if self._following.reachable_leader(now_s) is None else TOO_LATE)

    def _refuse_for_want_of_room(self) -> None:
        if self._follows_without_room:
            self._proposals.refuse_queued(NO_ROOM_HERE)
        if self._core.is_leader and not self._takes_writes:
            self._proposals.refuse_queued(DISK_FULL, but_deletions=not self._room.is_low)

    def _serve_reads(self, now_s: float) -> None:
        core = self._core
        is_leader, leads = core.is_leader, core.leads_committed_term
        if self._following.leaderless_too_long(now_s):
            self._gate.refuse_fresh(NO_LEADER)
        if self._room.is_full and self._follows_without_room:
            self._gate.refuse_fresh(NO_ROOM_HERE)
        position = Position(
            term=core.term,
            is_leader=is_leader,
            leads=leads,
            leader=self._following.leader(now_s),
            commit_index=core.commit_index,
            applied_index=core.applied_index,
        )
        self._gate.step(position, now_s)
        self._eventual.expire(now_s)
        if not is_leader:
            self._rounds.abandon()
        ping = self._rounds.advance(
            term=core.term,
            leads=leads,
            commit_index=core.commit_index,
            now_s=now_s,
            takes_writes=not self._room.is_full or self._takes_writes,
        )
        if ping is not None:
            for peer in self._electorate.others:
                self._transport.post(peer, ping)
        elif not self._electorate.others:
            self._gate.step(position, now_s)
        if self._rounds.confirmed is not None:
            self._vouch(now_s)

    def _vouch(self, now_s: float) -> None:
        """Pass on what a confirmed round proves about how fresh this node and its followers are."""
        confirmed = self._rounds.take_confirmed()
        if confirmed is None:
            return
        self._freshness.level(confirmed.index, confirmed.began_at_s)
        if self._vouching.due(now_s):
            for peer, reading in confirmed.readings.items():
                self._transport.post(peer, messages.Level(index=confirmed.index, reading=reading))

    def _expire_keys(self, now_s: float) -> None:
        """As leader, move the machine's clock with an empty command once a key is due to expire."""
        if now_s - self._expiry_checked_at_s < self._settings.heartbeat_s or not self._core.is_leader:
            return
        if self._handover.under_way:
            return
        self._expiry_checked_at_s = now_s
        if self._expiry_index > self._core.applied_index and self._expiry_index <= self._core.last_index:
            return
        due_ms = self._machine.next_expiry_ms()
        now_ms = self._stamp_ms()
        if due_ms is not None and due_ms <= now_ms:
            self._expiry_index, _ = self._core.append(entries.encode(now_ms, EXPIRY_ORIGIN, 0))

    def _stamp_ms(self) -> int:
        """The time that this leader stamps commands with."""
        return self._agreed_time.read(
            term=self._core.term, wall_ms=self._wall_ms(), machine_ms=self._machine.clock_ms, now_s=self._clock()
        )

    def _move_snapshots(self, now_s: float) -> None:
        loaded = self._transfers.step(self._core.applied_index, now_s)
        if loaded is None:
            return
        manifest, directory = loaded
        if manifest.index <= self.conversation.common_with(manifest):
            self._state.discard(directory)
            return
        previous, last = base_entries(manifest)
        self._log.reset(previous, last)
        self._transfers.recount()
        self._state.switch(directory)
        self._machine = Machine(self._state.tables, self._settings.limits)
        assert self._machine.applied_index == manifest.index
        self._core.jump(manifest.index)
        self._divergence.applied(manifest.index, self._machine.state_hash)
        self._show(manifest.index)
        self._proposals.overtaken()
        log_line.info("snapshot installed", index=manifest.index, rows=manifest.rows)
        leader = self._core.leader_id
        if leader is not None and not self._core.is_leader:
            answer = messages.AppendAnswer(
                term=self._core.term, sequence=0, next_index=manifest.index + 1, success=True, reset=False
            )
            self._transport.post(leader, answer)

    def _send(self, outboxes: Iterator[tuple[str, list[messages.Message]]]) -> bool:
        """Send what the outboxes hold; was there anything?"""
        anything = False
        for peer, outgoing in outboxes:
            anything = True
            for message in outgoing:
                if self._delays.active and isinstance(message, messages.Append):
                    message = self._delays.leaving(peer).put(message, self._clock())  # noqa: PLW2901
                self._link.send(peer, messages.encode(message))
        if anything:
            self._link.flush()
        return anything

    def _send_late(self, now_s: float) -> None:
        """Send the appends that artificial delays have held until now."""
        for peer in self._electorate.others:
            for append in self._delays.leaving(peer).due(now_s):
                self._link.send(peer, messages.encode(append))

    def _commit(self, now_s: float) -> bool:
        """Commit the state before anyone is told of it; when nobody waits, a little later and more at a time.

        Every commit writes whole pages, and their way to the disk is shared with the log's flushes. Returns whether
        somebody waited for this node to show more.
        """
        if self._uncommitted_since_s is None:
            return False
        shown = self._visibility.awaited
        awaited = shown or self._proposals.settled or self._gate.ready
        if awaited or self._closed or now_s >= self._uncommitted_since_s + COMMIT_DELAY_S:
            self._state.tables.commit()
            self._uncommitted_since_s = None
            self._show(self._machine.applied_index)
        return shown

    def _show(self, index: int) -> None:
        """Readers of the applied state see everything up to ``index`` now."""
        self._visibility.committed(index)
        self._freshness.shown(index)
        self._tell_subscribers(index)

    def _tell_subscribers(self, index: int) -> None:
        self._subscribers.tell(Shown(revision=self._machine.revision, applied_index=index))

    def _hand_out(self) -> None:
        settled = self._proposals.take_settled()
        refused, self._gate.refused = self._gate.refused, []
        ready, self._gate.ready = self._gate.ready, []
        polled, self._eventual.settled = self._eventual.settled, []
        for pending, outcome in settled + refused + polled:
            pending.resolve(outcome)
        for pending, request in ready:
            self._readers.answer(pending, request)

    def _apply(self, index: int, term: int, entry: bytes) -> None:
        """Apply one committed entry; called by PySyncObj, in log order."""
        if self._uncommitted_since_s is None:
            self._uncommitted_since_s = self._clock()
        self._proposals.entered_term(term)
        if entry[:1] == NO_OP:
            self._machine.skip(index, term)
            self._divergence.applied(index, self._machine.state_hash)
            return
        proposals = self._proposals
        applied = self._machine.apply(
            index, term, memoryview(entry)[1:], told=proposals.origin, room_bytes=proposals.answers_room_bytes
        )
        self._divergence.applied(index, self._machine.state_hash)
        if applied is not None:
            proposals.applied(applied.origin, applied.sequence, applied.outcomes)

    def _match_indexes(self) -> dict[str, int]:
        """Up to where each connected follower is known to match; only a leader knows."""
        core, is_up = self._core, self._transport.is_up
        if not core.is_leader:
            return {}
        return {peer: core.match_index(peer) for peer in self._electorate.others if is_up(peer)}

    def _has_room(self, peer: str, queued_bytes: int) -> bool:
        queued_bytes += self._delays.leaving(peer).waiting_bytes
        return self._link.outstanding_bytes(peer) + queued_bytes < self._settings.window_bytes

    def _offer_snapshot(self, peer: str) -> None:
        self._transfers.offer(peer, self._core.term, self._clock())
