"""The replica of the leaderless mode: everything of this package put together behind the ``Replicator`` interface.

A turn has two halves. ``begin_work`` sends what needs no disk: questions to other replicas, answers to reads, gossip.
``finish_work`` commits what the turn staged, in one synced batch, and only then says so to those who asked. So all
disks work at once, and nothing is acknowledged that a power loss could take back.

The replica is driven: it never waits, owns no thread and no socket. Any exception out of its methods is a broken
invariant or a failed disk, and whoever drives it must end the node.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog

from raftkv.core.errors import Code, Refused
from raftkv.core.replicator import Hear, Pending, Shown, Subscribers, Subscription
from raftkv.core.requests import (
    AddMember,
    Barrier,
    Configure,
    Consistency,
    Delete,
    Inspect,
    Put,
    Read,
    RemoveMember,
    Repair,
    Request,
    StoreHere,
    Write,
)
from raftkv.core.results import Configured, QuorumStatus, Status
from raftkv.quorum import messages
from raftkv.quorum.cluster_time import ClusterTime
from raftkv.quorum.conversation import Conversation
from raftkv.quorum.coordination.coordination import Coordination
from raftkv.quorum.coordination.operations import Dispatch
from raftkv.quorum.data.intake import Intake
from raftkv.quorum.data.store import Store
from raftkv.quorum.data.upkeep import Upkeep
from raftkv.quorum.data.versions import CONFLICTS, HybridClock, MalformedStateError, decode_context
from raftkv.quorum.membership.gossip import Entry
from raftkv.quorum.membership.members import Members
from raftkv.quorum.membership.placement import Placement
from raftkv.quorum.outbox import Outbox, PeerPort
from raftkv.quorum.repair.anti_entropy import AntiEntropy
from raftkv.quorum.repair.handoff import Handoff
from raftkv.quorum.serving.local import Local
from raftkv.quorum.serving.serving import Serving
from raftkv.quorum.settings import (
    NO_BARRIER,
    NO_IDEMPOTENCY,
    NO_LEVEL,
    NO_MATCH,
    NOT_KEPT,
    NOT_KEPT_ALONE,
    SHUTTING_DOWN,
    QuorumSettings,
    overloaded,
    untimely,
)
from raftkv.quorum.timers import Timers
from raftkv.storage.disk import DiskError

OFFERS: Final = (Consistency.EVENTUAL, Consistency.LOCAL)
UPKEEP_S: Final = 0.25
"""How often hints, the free disk and the purge of old tombstones are looked after."""

UNTIMELY_S: Final = 1.0
"""How long nothing is stamped before it is logged: a node that starts needs a moment to hear the others' clocks."""

ROUNDS_COUNT: Final = 8
"""Rounds of answering oneself in one turn; what is left then waits for the next."""

log_line = structlog.get_logger("raftkv.quorum")


class QuorumReplica:
    """One member of a leaderless cluster; implements ``Replicator``. ``conversation`` takes the link's events."""

    def __init__(
        self,
        settings: QuorumSettings,
        own: Entry,
        configured: Iterable[Entry],
        *,
        store: Store,
        link: PeerPort,
        clock: Callable[[], float],
        wall_us: Callable[[], int],
        free_bytes: Callable[[], int],
        random: random_module.Random,
        misfits: Mapping[str, str] | None = None,
    ) -> None:
        """``configured`` are the members of the configuration; what this node remembers of them counts for more.

        ``misfits`` are the nodes that may not take part, with the reason, as ``raftkv.peers.greeting`` tells.

        Raises ``StartupError`` when the data here is too old to be let back.
        """
        self._settings = settings
        self._misfits = {} if misfits is None else misfits
        self._store = store
        self._link = link
        self._clock = clock
        self._closed = False
        self.sent_ahead = False

        now_s = clock()
        conflicts = CONFLICTS[settings.conflicts]
        self._timers = Timers()
        self._outbox = Outbox(settings.node_id, link)
        self._placement = Placement(settings.vnodes, is_usable=self._is_usable)
        self.conversation = Conversation(
            link, take=self.take, changed=self.link_changed, now_s=clock, silence_s=settings.silence_s
        )
        self._time = ClusterTime(
            settings,
            members=lambda: self._members.ids,
            outbox=self._outbox,
            now_s=clock,
            wall_us=wall_us,
            is_up=self.conversation.is_up,
        )
        now_ms = self._time.now_ms
        self._stamps = HybridClock(store.clock_mark, self._time.now_us, limit_us=self._time.limit_us)
        self._upkeep = Upkeep(settings, store=store, stamps=self._stamps, time=self._time, free_bytes=free_bytes)
        self._members = Members(
            settings,
            own,
            tuple(configured),
            placement=self._placement,
            store=store,
            outbox=self._outbox,
            link=link,
            is_up=self.conversation.is_up,
            now_s=now_s,
            random=random,
        )
        actor = store.actor(settings.node_id, lambda: f"{random.getrandbits(64):016x}")
        intake = Intake(settings, store=store, clock=self._stamps, room=self._upkeep)
        self._serving = Serving(
            settings,
            store=store,
            intake=intake,
            clock=self._stamps,
            conflicts=conflicts,
            outbox=self._outbox,
            timers=self._timers,
            now_s=clock,
            now_ms=now_ms,
            actor=actor,
            can_read=lambda: self._members.can_read,
        )
        dispatch = Dispatch(
            settings,
            placement=self._placement,
            outbox=self._outbox,
            timers=self._timers,
            clock=self._stamps,
            conflicts=conflicts,
            now_s=clock,
            now_ms=now_ms,
            first_id=random.getrandbits(62) + 1,
            unanswered=self.conversation.unanswered,
        )
        self._coordination = Coordination(dispatch)
        self._handoff = Handoff(dispatch, store)
        self._local = Local(
            settings.node_id, store=store, intake=intake, clock=self._stamps, conflicts=conflicts, now_ms=now_ms
        )
        self._anti_entropy = AntiEntropy(
            settings,
            placement=self._placement,
            members=self._members,
            store=store,
            intake=intake,
            outbox=self._outbox,
            new_id=dispatch.new_id,
            is_up=self.conversation.is_up,
            now_s=now_s,
        )
        self._upkeep_s = now_s
        self._subscribers = Subscribers()
        self._tell_subscribers()
        self._disk_was_full = False
        self._clock_fault = "", now_s, False
        # Who is alone has heard a majority of the clocks before anybody can ask.
        self._time.work(now_s)
        self._upkeep.let_in(now_s)

    # -- Replicator

    def submit(self, request: Request, deadline_s: float) -> Pending:
        """See ``Replicator``."""
        pending = Pending()
        refusal = self._refusal(request)
        if refusal is not None:
            pending.resolve(refusal)
        else:
            self._begin(request, deadline_s, pending)
        return pending

    def _begin(self, request: Request, deadline_s: float, pending: Pending) -> None:
        match request:
            case Write():
                n, r, w = self._sizes(request.n, 0, request.acks)
                self._coordination.write(request, deadline_s, pending, n=n, r=r, w=w)
            case Read() if request.consistency is Consistency.LOCAL:
                pending.resolve(self._local.read(request))
            case Read():
                n, r, _ = self._sizes(request.n, request.r, 0)
                self._coordination.read(request, deadline_s, pending, n=n, r=r)
            case StoreHere():
                self._local.store(request, pending)
            case Configure():
                self._configure(request, pending)
            case Repair():
                self._anti_entropy.repair(pending, deadline_s)
            case AddMember() | RemoveMember():
                pending.resolve(self._members.change(request, self._clock()))
            case Inspect():
                pending.resolve(self.status())

    def work(self, now_s: float) -> float:
        """See ``Replicator``. Raises ``DiskError`` when the disk failed; the node must then stop."""
        self.begin_work(now_s)
        return self.finish_work(now_s)

    def begin_work(self, now_s: float) -> None:
        """The first half of a turn: what needs no disk leaves."""
        self._timers.run(now_s)
        if now_s >= self._upkeep_s:
            self._upkeep_s = now_s + UPKEEP_S
            self._time.work(now_s)
            self._upkeep.work(now_s)
            self._look_at_time(now_s)
            self._look_at_disk("less is free than quorum.disk_reserve_bytes")
            self._members.work(now_s)
        if self._upkeep.is_in_service(now_s):
            self._handoff.work(now_s)
            self._anti_entropy.work(now_s)
        self._coordination.begin()
        self._answer_own()
        sent = self._outbox.flush()
        self.sent_ahead = sent and self._store.has_staged

    def finish_work(self, now_s: float) -> float:
        """The second half: what was staged becomes durable and is acknowledged; returns when to be called again."""
        self.sent_ahead = False
        for _ in range(ROUNDS_COUNT):
            if not self._store.has_staged and not self._outbox.own:
                break
            self._commit()
            self._answer_own()
        self._members.speak()
        self._outbox.flush()
        if self._store.has_staged or self._outbox.own or self._coordination.has_gathered:
            return now_s
        exchange_s = self._anti_entropy.next_s(now_s) if self._upkeep.is_in_service(now_s) else self._upkeep_s
        return min(self._timers.next_s, self._upkeep_s, exchange_s)

    def _commit(self) -> None:
        waiting = (self._serving, self._local, self._anti_entropy, self._upkeep)
        try:
            self._store.commit()
        except DiskError as error:
            if not error.full:
                raise
            for one in waiting:
                one.commit_failed()
            self._look_at_disk(str(error))
        else:
            for one in waiting:
                one.committed()
            self._tell_subscribers()

    def _tell_subscribers(self) -> None:
        self._subscribers.tell(Shown(revision=self._stamps.last, applied_index=0))

    def _look_at_disk(self, reason: str) -> None:
        """Log it when the disk has become full, for ``reason``, and when it has room again."""
        is_full = self._upkeep.is_full
        if is_full and not self._disk_was_full:
            log_line.warning("disk full: writes are declined", reason=reason)
        elif self._disk_was_full and not is_full:
            log_line.warning("disk has room again")
        self._disk_was_full = is_full

    def _look_at_time(self, now_s: float) -> None:
        """Log it when nothing has been stamped for a while, and why, and when it is again."""
        fault = self._fault_of_time()
        # How far ahead stamps are changes all the time; that they are is what is told, once.
        kind, (known, since_s, is_told) = fault.partition(":")[0], self._clock_fault
        if kind != known:
            self._clock_fault = kind, now_s, False
            if is_told and not kind:
                log_line.warning("writes are stamped again")
        elif kind and not is_told and now_s - since_s >= UNTIMELY_S:
            self._clock_fault = kind, since_s, True
            log_line.warning("nothing is stamped", reason=fault)

    def _fault_of_time(self) -> str:
        """Why this node may not stamp now; empty when it may."""
        if self._time.fault:
            return self._time.fault
        if not self._upkeep.is_in_service(self._clock()):
            return "no agreed time: whether the data here is too old depends on clocks that were not heard yet"
        if self._has_run_ahead:
            lead_s, limit_s = self._time.lead_s(self._stamps.last), self._settings.clock_ahead_s
            return (
                f"stamps ahead of the agreed time: by {lead_s:.0f} s, which is more than quorum.clock_ahead_s "
                f"({limit_s:g}), since a majority of clocks was wrong; set it higher on all nodes until that time has "
                "passed, or wait"
            )
        return ""

    @property
    def _has_run_ahead(self) -> bool:
        """Would what is stamped here be further ahead of agreed time than others take?"""
        return self._time.lead_s(self._stamps.last) > self._settings.clock_ahead_s

    def position(self) -> tuple[str, str | None, int, str]:
        """What the front-end must hear of at once: role, leader, term and place of the applied state."""
        return "replica", None, 0, ""

    def subscribe(self, hear: Hear) -> Subscription:
        """See ``Replicator``."""
        return self._subscribers.add(hear)

    def status(self) -> Status:
        """See ``Replicator``."""
        n, r, w = self._members.sizes
        return Status(
            node=self._settings.node_id,
            mode="quorum",
            role="replica",
            leader=None,
            term=0,
            commit_index=0,
            applied_index=0,
            revision=self._stamps.last,
            peers=self._members.peers(self._misfits),
            offers=OFFERS,
            cluster_size=len(self._placement.nodes),
            can_read=self._members.can_read,
            can_write=not self._upkeep.is_full,
            has_room=not self._upkeep.is_full,
            n=n,
            r=r,
            w=w,
            quorum=QuorumStatus(
                ring=self._placement.view,
                vnodes=self._settings.vnodes,
                conflicts=self._settings.conflicts,
                hints_pending=self._store.hints_pending,
                members=self._members.statuses(self._clock()),
                transfer=self._anti_entropy.transfer,
                repaired_keys=self._anti_entropy.repaired_count + self._serving.repaired_count,
                short_share=self._placement.short_share(n, r, w, sloppy=self._settings.sloppy),
            ),
            misfit=self._misfits.get(self._settings.node_id, ""),
            clock_fault=self._fault_of_time(),
        )

    def close(self) -> None:
        """See ``Replicator``."""
        self._closed = True
        self._coordination.close()
        self._anti_entropy.close()
        self._store.close()

    # -- requests

    def _refusal(self, request: Request) -> Refused | None:
        """Why ``request`` cannot be done here at all, or not now."""
        refusal: Refused | None = None
        if self._closed:
            refusal = SHUTTING_DOWN
        elif isinstance(request, Write | Read) and self._coordination.size >= self._settings.max_waiting:
            refusal = overloaded()
        elif self._needs_time(request) and not self._upkeep.is_in_service(self._clock()):
            refusal = untimely(self._fault_of_time())
        elif isinstance(request, Read):
            refusal = self._bad_read(request)
        elif isinstance(request, Write):
            refusal = self._bad_write(request)
        elif isinstance(request, StoreHere):
            refusal = NOT_KEPT_ALONE if self._keeps_siblings else None
        elif isinstance(request, Barrier):
            refusal = NO_BARRIER
        return refusal

    def _needs_time(self, request: Request) -> bool:
        """All that is written, or compared; a local read shows what is there, and nothing of it as expired."""
        if isinstance(request, Read):
            return request.consistency is not Consistency.LOCAL
        return isinstance(request, Write | StoreHere | Configure | Repair)

    @property
    def _keeps_siblings(self) -> bool:
        return self._settings.conflicts == "siblings"

    def _bad_read(self, read: Read) -> Refused | None:
        if read.consistency not in OFFERS:
            return NO_LEVEL
        return self._too_many("r", read.r, read.n)

    def _bad_write(self, write: Write) -> Refused | None:
        fault = self._fault_of_time()
        if fault:
            return untimely(fault)
        if write.idempotency_key is not None:
            return NO_IDEMPOTENCY
        if any(isinstance(one, Put | Delete) and one.match is not None for one in write.operations):
            return NO_MATCH
        if write.context:
            if not self._keeps_siblings:
                return NOT_KEPT
            try:
                decode_context(write.context)
            except MalformedStateError:
                return Refused(code=Code.BAD_REQUEST, detail="the causal context is not one that a read has given")
        return self._too_many("w", write.acks, write.n)

    def _too_many(self, name: str, asked: int, n: int) -> Refused | None:
        n = n or self._members.sizes[0]
        if asked > n:
            return Refused(code=Code.BAD_REQUEST, detail=f"{name}: {asked} is more than n, which is {n}")
        return None

    def _sizes(self, n: int, r: int, w: int) -> tuple[int, int, int]:
        """What is asked for, and the cluster's own numbers for the rest."""
        usual_n, usual_r, usual_w = self._members.sizes
        n = n or usual_n
        return n, r or min(usual_r, n), w or min(usual_w, n)

    def _configure(self, request: Configure, pending: Pending) -> None:
        usual_n, usual_r, usual_w = self._members.sizes
        n, r, w = request.n or usual_n, request.r or usual_r, request.w or usual_w
        size = len(self._placement.nodes)
        for name, number, limit in (("n", n, size), ("r", r, n), ("w", w, n)):
            if not 1 <= number <= limit:
                detail = f"{name}: {number} is not between 1 and {limit}"
                pending.resolve(Refused(code=Code.BAD_REQUEST, detail=detail))
                return
        self._members.set_sizes(n, r, w, self._stamps.next())
        pending.resolve(Configured(n=n, r=r, w=w))

    # -- the turn

    def _answer_own(self) -> None:
        """What this node asks of itself, and answers itself, until nothing is left but what waits for the disk."""
        own, here = self._outbox.own, self._settings.node_id
        for _ in range(len(own) + self._settings.max_waiting):
            if not own:
                return
            self.take(here, own.popleft())

    def take(self, node: str, message: messages.Message) -> None:
        """``node`` sent ``message``."""
        if isinstance(message, messages.Question):
            if self._upkeep.is_in_service(self._clock()):
                self._serving.take(node, message)
            elif message.id != messages.NO_ANSWER:
                self._outbox.post(node, messages.Declined(message.id, untimely(self._fault_of_time())))
        elif isinstance(message, messages.Answer):
            self._coordination.answered(node, message)
            if isinstance(message, messages.Declined):
                self._anti_entropy.take(node, message, self._clock())
        elif isinstance(message, messages.Gossip):
            self._members.heard(node, message.message, self._clock())
        elif isinstance(message, messages.ClockMessage):
            self._time.take(node, message, self._clock())
            self._upkeep.let_in(self._clock())
        elif self._upkeep.is_in_service(self._clock()):
            self._anti_entropy.take(node, message, self._clock())
        elif isinstance(message, messages.Compare | messages.OfferPage):
            self._outbox.post(node, messages.Declined(message.id, untimely(self._fault_of_time())))

    def _is_usable(self, node: str) -> bool:
        """Can ``node`` be asked now? A peer that leaves too much unread or unanswered is as good as unreachable."""
        if node == self._settings.node_id:
            return True
        if not self.conversation.is_answering(node):
            return False
        return self._link.outstanding_bytes(node) < self._settings.window_bytes

    def link_changed(self, peer: str, *, up: bool) -> None:
        """The connection to ``peer`` came up or went down."""
        if up:
            self._time.ask(peer, self._clock())
            self._members.link_up(peer, self._clock())
        else:
            self._time.lost(peer)
            self._coordination.lost(peer)
            self._handoff.lost(peer)
            self._anti_entropy.lost(peer)
