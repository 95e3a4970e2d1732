"""What this node answers from its own copy alone: local reads, and single-replica writes of the reference systems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.pages import page_of
from raftkv.core.replicator import Pending
from raftkv.core.requests import Consistency, Get, List, Read, StoreHere
from raftkv.core.results import Answer, StoredVersion
from raftkv.formats.versions import Stamp, Version
from raftkv.quorum.coordination.running_reads import answer_of, shown_of
from raftkv.quorum.data.intake import Intake
from raftkv.quorum.data.store import Store
from raftkv.quorum.data.versions import Conflicts, HybridClock

AHEAD: Final = Refused(
    code=Code.BAD_REQUEST, detail="timestamp: further ahead of the agreed time than quorum.clock_ahead_s allows"
)


class Local:
    """The copy of this node, asked directly."""

    def __init__(
        self,
        node_id: str,
        *,
        store: Store,
        intake: Intake,
        clock: HybridClock,
        conflicts: Conflicts,
        now_ms: Callable[[], int],
    ) -> None:
        self._node_id = node_id
        self._store = store
        self._intake = intake
        self._clock = clock
        self._conflicts = conflicts
        self._now_ms = now_ms
        self._waiting: list[tuple[Pending, StoredVersion]] = []

    def read(self, read: Read) -> Answer:
        """What this node holds."""
        query, now_ms = read.query, self._now_ms()
        if isinstance(query, Get):
            return answer_of(
                query.key, self._store.read(query.key), now_ms, consistency=Consistency.LOCAL, replicas=(self._node_id,)
            )
        assert isinstance(query, List)  # all others were refused
        return self._page(query, now_ms)

    def store(self, request: StoreHere, pending: Pending) -> None:
        """Take a version as if a coordinator had sent it; the answer comes with ``committed``."""
        if request.counter:
            stamp = Stamp(request.counter, request.node or self._node_id)
            if self._clock.is_too_far_ahead(stamp.counter):
                pending.resolve(AHEAD)
                return
        else:
            stamp = Stamp(self._clock.next(), self._node_id)
        version = Version(stamp.counter, stamp.node, request.value, 0)
        taken = self._intake.take(request.key, self._conflicts.write(None, version, ()))
        if isinstance(taken, Refused):
            pending.resolve(taken)
            return
        standing = taken[1].newest
        stored = StoredVersion(counter=standing.counter, node=standing.node, taken=standing == stamp)
        self._waiting.append((pending, stored))

    def committed(self) -> None:
        """Everything staged is durable."""
        waiting, self._waiting = self._waiting, []
        for pending, stored in waiting:
            pending.resolve(stored)

    def commit_failed(self) -> None:
        """There was no room for what was staged; the next start may find it all the same."""
        waiting, self._waiting = self._waiting, []
        for pending, _ in waiting:
            pending.resolve(Unknown(detail="the disk became full before the version was on it"))

    def _page(self, query: List, now_ms: int) -> Answer:
        shown = shown_of(self._store.scan(query.start, query.end), now_ms, keys_only=query.keys_only)
        page = page_of(query, shown)
        return Answer(
            content=page,
            consistency=Consistency.LOCAL,
            revision=max((record.mod_revision for record in page.records), default=0),
            replicas=(self._node_id,),
        )
