"""The replica of the leaderless mode behind the ``Replicator`` interface: the order of a turn, and nothing else.

A turn has two halves. ``begin_work`` sends what needs no disk: questions to other replicas, answers to reads, gossip.
``finish_work`` commits what the turn staged, in one synced batch, and only then says so to those who asked. So all
disks work at once, and nothing is acknowledged that a power loss could take back.

The replica is driven: it never waits, owns no thread and no socket. Any exception out of its methods is a broken
invariant or a failed disk, and whoever drives it must end the node. Which parts it has is told in
``raftkv.quorum.assembly``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from raftkv.core.measures import Durations
from raftkv.core.replicator import Hear, Pending, Shown, Subscribers, Subscription
from raftkv.core.requests import Request
from raftkv.core.rights import Rights
from raftkv.core.sights import WorkSeen
from raftkv.core.status import QuorumStatus
from raftkv.formats.gossip import MemberEntry
from raftkv.process.loggers import get_logger
from raftkv.quorum.assembly import QuorumWorld, wire_quorum
from raftkv.quorum.settings import SHUTTING_DOWN, QuorumSettings
from raftkv.quorum.status import status_of
from raftkv.storage.disk import DiskError

UPKEEP_S: Final = 0.25
"""How often hints, the free disk and the purge of old tombstones are looked after."""

ROUNDS_COUNT: Final = 8
"""Rounds of answering oneself in one turn; what is left then waits for the next."""

log_line = get_logger("raftkv.quorum")


class QuorumReplica:
    """One member of a leaderless cluster; implements ``Replicator``. ``conversation`` takes the link's events."""

    def __init__(
        self,
        settings: QuorumSettings,
        own: MemberEntry,
        configured: Iterable[MemberEntry],
        world: QuorumWorld,
        *,
        misfits: Mapping[str, str] | None = None,
    ) -> None:
        """``configured`` are the members of the configuration; what this node remembers of them counts for more.

        ``misfits`` are the nodes that may not take part, with the reason, as ``raftkv.peers.greeting`` tells.

        Raises ``StartupError`` when the data here is too old to be let back.
        """
        self._settings = settings
        self._misfits = {} if misfits is None else misfits
        self._store = world.store
        self._clock = world.clock
        self._closed = False
        self._link = world.link
        self._store_commit = Durations()
        self.sent_ahead = False

        self.parts = wire_quorum(settings, own, configured, world, status=self.status)
        self.conversation = self.parts.conversation
        self._upkeep_s = self._clock()
        self._subscribers = Subscribers()
        self._tell_subscribers()
        self._disk_was_full = False

    # -- Replicator

    def submit(self, request: Request, deadline_s: float) -> Pending:
        """See ``Replicator``."""
        pending = Pending()
        if self._closed:
            pending.resolve(SHUTTING_DOWN)
        else:
            self.parts.requests.submit(request, deadline_s, pending)
        return pending

    def work(self, now_s: float) -> float:
        """See ``Replicator``. Raises ``DiskError`` when the disk failed; the node must then stop."""
        self.begin_work(now_s)
        return self.finish_work(now_s)

    def begin_work(self, now_s: float) -> None:
        """The first half of a turn: what needs no disk leaves."""
        parts = self.parts
        parts.timers.run(now_s)
        parts.speculation.run(now_s)
        if now_s >= self._upkeep_s:
            self._upkeep_s = now_s + UPKEEP_S
            parts.time.work(now_s)
            parts.upkeep.work(now_s)
            parts.timeliness.look(now_s)
            self._look_at_disk("less is free than quorum.disk_reserve_bytes")
            parts.members.work(now_s)
            parts.rights.work(now_s)
            parts.changes.work(now_s)
        if parts.upkeep.is_in_service(now_s):
            parts.handoff.work(now_s)
            parts.anti_entropy.work(now_s)
        parts.coordination.begin()
        parts.delivery.answer_own()
        sent = parts.outbox.flush()
        self.sent_ahead = sent and self._store.has_staged

    def finish_work(self, now_s: float) -> float:
        """The second half: what was staged becomes durable and is acknowledged; returns when to be called again."""
        parts = self.parts
        self.sent_ahead = False
        for _ in range(ROUNDS_COUNT):
            if not self._store.has_staged and not parts.outbox.own:
                break
            self._commit()
            parts.delivery.answer_own()
        parts.members.speak()
        if parts.rights.speak():
            parts.changes.speak()
            parts.rights.speak()
        parts.outbox.flush()
        if self._store.has_staged or parts.outbox.own or parts.coordination.has_gathered:
            return now_s
        exchange_s = parts.anti_entropy.next_s(now_s) if parts.upkeep.is_in_service(now_s) else self._upkeep_s
        return min(parts.timers.next_s, parts.speculation.next_s(), self._upkeep_s, exchange_s)

    def _commit(self) -> None:
        parts = self.parts
        waiting = (parts.serving, parts.local, parts.anti_entropy, parts.upkeep, parts.rights)
        begun_s = self._clock()
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
            self._store_commit.observe(self._clock() - begun_s)
            self._tell_subscribers()

    def _tell_subscribers(self) -> None:
        self._subscribers.tell(Shown(revision=self.parts.stamps.last, applied_index=0))

    def _look_at_disk(self, reason: str) -> None:
        """Log it when the disk has become full, for ``reason``, and when it has room again."""
        is_full = self.parts.upkeep.is_full
        if is_full and not self._disk_was_full:
            log_line.warning("disk full: writes are declined", reason=reason)
        elif self._disk_was_full and not is_full:
            log_line.warning("disk has room again")
        self._disk_was_full = is_full

    @property
    def state_path(self) -> str:
        """Empty: the state is the replica's alone."""
        return ""

    @property
    def rights(self) -> bytes:
        """See ``SharedReplicator``."""
        return self.parts.rights.encoded

    @property
    def current_rights(self) -> Rights:
        """See ``OpenReplicator``."""
        return self.parts.rights.rights

    def counted(self) -> Mapping[str, int]:
        """See ``OpenReplicator``: what there is is not counted here."""
        return {}

    def position(self) -> tuple[str, str | None, int, str]:
        """What the front-end must hear of at once: role, leader, term and place of the applied state."""
        return "replica", None, 0, self.state_path

    def subscribe(self, hear: Hear) -> Subscription:
        """See ``Replicator``."""
        return self._subscribers.add(hear)

    def status(self) -> QuorumStatus:
        """See ``Replicator``."""
        return status_of(
            self._settings,
            self.parts,
            self._misfits,
            hints_pending=self._store.hints_pending,
            changes_path=self._store.changes_path,
            now_s=self._clock(),
            outstanding_bytes=self._link.outstanding_bytes,
            durations={"store_commit_duration_seconds": self._store_commit.so_far},
        )

    def show_work(self, after: int) -> WorkSeen:
        """What it does, for who knows the samples up to ``after``; samples are taken for a while from now on."""
        parts = self.parts
        parts.sampling.tally.hints_kept = self._store.hints_kept_count
        return parts.sampling.shown(after, parts.anti_entropy.exchange)

    def make_way(self, _now_s: float) -> bool:
        """See ``DrivenReplica``: all others do already what this node does."""
        return True

    def close(self) -> None:
        """See ``Replicator``."""
        parts = self.parts
        self._closed = True
        parts.coordination.close()
        parts.rights.close()
        parts.changes.close()
        parts.anti_entropy.close()
        self._store.close()
