"""The raft replica behind the ``Replicator`` interface: the order of a round of work, and nothing else.

One rule orders each round, and covers all that Raft asks of persistence: whatever the round did is first flushed to the
log; then messages leave, the state is committed, and clients get outcomes. Nothing that rests on a log entry, a vote or
a term is seen by anyone before it is on disk. The one exception is the leader's appends, which leave while its own
flush is still to come, so that all disks work at once (Raft thesis, section 10.2.1): its term is on disk since it stood
for election, and its own copy counts towards no majority before the next round, which begins after the flush.

The replica is driven: it never waits, owns no thread and no socket. Any exception out of its methods is a broken
invariant or a failed disk, and whoever drives it must end the node. Which parts it has is told in
``raftkv.raft.assembly``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from raftkv.core.errors import DataDiscarded, StartupError
from raftkv.core.replicator import Hear, Pending, Subscription
from raftkv.core.requests import Request
from raftkv.core.rights import Rights
from raftkv.core.status import RaftStatus
from raftkv.formats import layout
from raftkv.formats import raft_messages as messages
from raftkv.formats.rights import document_of, encode_document
from raftkv.raft.assembly import RaftWorld, wire_raft
from raftkv.raft.settings import SHUTTING_DOWN, ReplicaSettings
from raftkv.raft.standing.readmission import Memory
from raftkv.raft.status import state_path, status_of

FAREWELL_S: Final = 0.5
"""How long a node that was removed goes on: somebody may wait at it for that very answer."""


class RaftReplica:
    """One member of a raft cluster; implements ``Replicator``. Its ``conversation`` takes the link's events."""

    def __init__(
        self,
        settings: ReplicaSettings,
        world: RaftWorld,
        *,
        misfits: Mapping[str, str] | None = None,
        memory: Memory | None = None,
        save: Callable[[Memory], None] | None = None,
    ) -> None:
        """``misfits`` are the nodes that may not take part, with the reason, as ``raftkv.peers.greeting`` tells.

        ``memory`` is the standing that this node has among its peers, ``save`` keeps it; without it is a member.
        """
        self._settings = settings
        self._misfits = {} if misfits is None else misfits
        self._world = world
        self._log, self._link, self._clock = world.log, world.link, world.clock
        self.parts = wire_raft(settings, world, memory=memory or Memory(), save=save or (lambda _memory: None))
        self.conversation = self.parts.conversation
        self._closed = self.sent_ahead = False
        self._rights: Rights | None = None
        self._encoded_rights: bytes | None = None

    # --- Replicator

    def submit(self, request: Request, deadline_s: float) -> Pending:
        """See ``Replicator``."""
        pending = Pending()
        if self._closed:
            pending.resolve(SHUTTING_DOWN)
        else:
            self.parts.requests.submit(request, deadline_s, pending, self.status)
        return pending

    def work(self, now_s: float) -> float:
        """See ``Replicator``. Raises ``DiskError`` when the disk failed; the node must then stop."""
        self.begin_work(now_s)
        return self.finish_work(now_s)

    def begin_work(self, now_s: float) -> None:
        """The first half of ``work``: everything but the disk.

        Raises ``DataDiscarded`` after a repair was asked for, and ``StartupError`` when the node was removed.

        ``sent_ahead`` says whether appends were sent that the network should take before ``finish_work`` waits for the
        disk. Between the halves peers' messages may come in, and requests be submitted; no other work may be done.
        """
        parts = self.parts
        if parts.participation.discards:
            raise DataDiscarded("the data of this node is thrown away and fetched anew, as it was told to repair")
        core, transport, changes = parts.core, parts.transport, parts.changes
        if changes.removed_at_s is not None and now_s - changes.removed_at_s > FAREWELL_S:
            raise StartupError("this node was removed from the cluster; its data directory is of no use any more")
        if parts.delays.active:
            parts.arrivals.take_late(now_s, self.conversation.refuse)
            parts.readers.release(now_s)
        transport.resume_peers()
        parts.participation.work(now_s)
        parts.voting.work(now_s)
        self._flush_if_alone()
        core.tick()
        self._flush_if_alone()
        transport.handed_over_term = None  # the word counts once
        parts.following.work(now_s)
        if now_s >= parts.room.due_s:
            parts.room.check(now_s)
        parts.preference.work(now_s)
        if parts.handover.is_due:
            parts.handover.work(now_s)
            parts.proposing.take_up_held(now_s)
        if changes.is_due:
            changes.work(now_s)
        parts.proposing.work(now_s)
        parts.confirming.work(now_s)
        parts.proposing.expire_keys(now_s)
        parts.proposing.adopt_history()
        parts.installing.work(now_s)
        transport.send_appends(now_s)
        self.sent_ahead = core.is_leader and self._log.dirty and self._send(transport.drain_appends())

    def finish_work(self, now_s: float) -> float:
        """The second half of ``work``: flush, send, commit, answer, in this order; returns as ``work`` does."""
        parts = self.parts
        self._flush()
        if parts.delays.active:
            self._send_late(now_s)
        parts.transport.send_appends(now_s)  # what came in between the halves is flushed now, too
        self._send(parts.transport.drain())
        is_awaited = bool(parts.proposals.settled or parts.gate.ready or self._closed)
        moved = parts.applied.commit(now_s, at_once=is_awaited)
        self._hand_out()
        core = parts.core
        if parts.electorate.is_alone and core.is_leader and core.commit_index < core.last_index:
            return now_s  # alone, the next round commits what this one appended
        if moved:
            return now_s  # the next round tells who waits for what can be read here now
        due_s = parts.transport.notice_due_s() or now_s + self._settings.heartbeat_s / 2
        if parts.delays.active:
            due_s = min(due_s, parts.delays.next_s)
        return min(due_s, parts.applied.due_s)

    def subscribe(self, hear: Hear) -> Subscription:
        """See ``Replicator``."""
        return self.parts.applied.subscribers.add(hear)

    def status(self) -> RaftStatus:
        """See ``Replicator``."""
        return status_of(self._settings, self.parts, self._misfits, self._world)

    @property
    def state_path(self) -> str:
        """Where the front-end finds the applied state; empty while it must not read it."""
        return state_path(self.parts)

    @property
    def rights(self) -> bytes | None:
        """See ``SharedReplicator``: the state that is shared says so itself."""
        if self.state_path:
            return None
        rights = self.parts.applied.machine.rights
        if rights is not self._rights:
            self._rights, self._encoded_rights = rights, encode_document(document_of(rights))
        return self._encoded_rights

    @property
    def current_rights(self) -> Rights:
        """See ``OpenReplicator``."""
        return self.parts.applied.machine.rights

    def counted(self) -> Mapping[str, int]:
        """See ``OpenReplicator``."""
        tables = self.parts.applied.state.tables
        return {name: tables.row_count(table) for name, table in layout.COUNTED.items()}

    def position(self) -> tuple[str, str | None, int, str]:
        """Role, leader, term and where the state lies: what the front-end must learn without delay when it changes."""
        core, leader = self.parts.core, self.parts.following.leader(self._clock())
        return core.role, leader, core.term, self.state_path

    def make_way(self, now_s: float) -> bool:
        """See ``DrivenReplica``: a leader hands over, if there is anybody who could lead."""
        handover = self.parts.handover
        return not (self.parts.core.is_leader and (handover.under_way or handover.hand_over(None, now_s)))

    def close(self) -> None:
        """See ``Replicator``; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self.parts.proposals.abandon()
        self.parts.changes.abandon()
        self.parts.readers.abandon()
        self.parts.participation.abandon()
        self.finish_work(self._clock())
        self.parts.transfers.close()
        self._log.close()
        self.parts.applied.state.close()

    # --- Newcomers

    @property
    def is_blank(self) -> bool:
        """See ``Newcomers``: a node that has never been in any term has neither voted nor held an entry."""
        return self.parts.core.term == 0 and not self.parts.readmission.is_recovering

    def met(self, peer: str, *, is_blank: bool, knew_another_disk: bool) -> None:
        """See ``Newcomers``."""
        self.parts.readmission.met(peer, is_blank=is_blank, knew_another_disk=knew_another_disk)

    # --- what leaves

    def _flush_if_alone(self) -> None:
        """Before and after the engine counts: where this node alone decides, its own copy counts in this very turn.

        There may be something to flush before only if there are learners, which send proposals between the turns; and
        after only if it came to lead, when its first entry is committed at once, which learners must not hear sooner.
        """
        if self.parts.electorate.is_alone:
            self._flush()

    def _flush(self) -> None:
        if self._log.dirty:
            begun_s = self._clock()
            self._log.flush()
            self.parts.measures.log_flush.observe(self._clock() - begun_s)

    def _send(self, outboxes: Iterator[tuple[str, list[messages.Message]]]) -> bool:
        """Send what the outboxes hold; was there anything?"""
        delays, anything = self.parts.delays, False
        for peer, outgoing in outboxes:
            anything = True
            for message in outgoing:
                if delays.active and isinstance(message, messages.Append):
                    message = delays.leaving(peer).put(message, self._clock())  # noqa: PLW2901
                self._link.send(peer, messages.encode(message))
        if anything:
            self._link.flush()
        return anything

    def _send_late(self, now_s: float) -> None:
        """Send the appends that artificial delays have held until now."""
        for peer in self.parts.delays.peers:
            for append in self.parts.delays.leaving(peer).due(now_s):
                self._link.send(peer, messages.encode(append))

    def _hand_out(self) -> None:
        """Give outcomes to those who wait: all that they rest on is durable and visible."""
        parts = self.parts
        settled = parts.proposals.take_settled()
        refused, parts.gate.refused = parts.gate.refused, []
        ready, parts.gate.ready = parts.gate.ready, []
        polled, parts.eventual.settled = parts.eventual.settled, []
        for pending, outcome in settled + refused + polled:
            pending.resolve(outcome)
        for pending, request in ready:
            parts.readers.answer(pending, request)
