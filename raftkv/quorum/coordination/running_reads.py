"""Reads under way: the read and the list coordinator joined to messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from raftkv.core.pages import page_of
from raftkv.core.replicator import Pending
from raftkv.core.requests import Consistency, Get, List
from raftkv.core.results import Answer, Missing, Siblings, StampedAnswer, StampedRecord
from raftkv.core.sights import SampleKind
from raftkv.formats import quorum_messages
from raftkv.formats.peers import MalformedMessageError
from raftkv.formats.quorum_messages import Fetch, Fetched, FetchedPage, FetchPage
from raftkv.formats.versions import KeyState, Version, decode_state, encode_context, encode_state
from raftkv.quorum.coordination.operations import LATE, LOST, Dispatch
from raftkv.quorum.coordination.pages import PageCoordinator
from raftkv.quorum.coordination.reads import ReadCoordinator
from raftkv.quorum.coordination.targets import Target, Targets
from raftkv.quorum.data.versions import visible


def record_of(key: bytes, version: Version, *, with_value: bool = True) -> StampedRecord:
    """A version as clients see it: its counter is its version and its revision."""
    assert version.value is not None
    return StampedRecord(
        key=key,
        value=version.value if with_value else b"",
        version=version.counter,
        create_revision=version.counter,
        mod_revision=version.counter,
        expires_at_ms=version.expires_at_ms,
        node=version.node,
    )


def shown_of(rows: Iterable[tuple[bytes, KeyState]], now_ms: int, *, keys_only: bool) -> Iterator[StampedRecord]:
    """What a list shows of ``rows``: of each key the newest value that is visible."""
    for key, state in rows:
        versions = visible(state, now_ms)
        if versions:
            yield record_of(key, versions[-1], with_value=not keys_only)


def answer_of(
    key: bytes, state: KeyState | None, now_ms: int, *, consistency: Consistency, replicas: tuple[str, ...]
) -> Answer:
    """What a client is told of ``state``."""
    if state is None:
        return Answer(content=Missing(key=key), consistency=consistency, revision=0, replicas=replicas)
    records = tuple(record_of(key, version) for version in visible(state, now_ms))
    content: StampedRecord | Missing | Siblings
    if not records:
        content = Missing(key=key)
    else:
        content = records[0] if len(records) == 1 else Siblings(key=key, records=records)
    stamp = state.newest
    return StampedAnswer(
        content=content,
        consistency=consistency,
        revision=stamp.counter,
        replicas=replicas,
        node=stamp.node,
        context=encode_context(state),
    )


class RunningRead:
    """A read of one key; it stays, after the client was told, until all have answered or were given up."""

    def __init__(
        self, dispatch: Dispatch, query: Get, targets: Targets, deadline_s: float, pending: Pending, *, needed: int
    ) -> None:
        self.deadline_s = deadline_s
        self._dispatch = dispatch
        self._key = query.key
        self._pending = pending
        self._targets = targets
        self._coordinator = ReadCoordinator(targets, needed=needed, join=dispatch.conflicts.join)
        self._id = 0
        self._begun_s = 0.0
        self._asked_first: tuple[Target, ...] = ()
        self._encoded: bytes | None = None
        """The first state that came: most others are equal to it, and need not be decoded."""
        self._decoded: KeyState | None = None

    def begin(self, operation_id: int) -> None:
        """Ask as many replicas as must answer, this node first, or refuse if there are too few."""
        self._id = operation_id
        if self._coordinator.is_hopeless:
            self._finish(LOST)
            return
        dispatch = self._dispatch
        self._begun_s = dispatch.now_s()
        self._asked_first = self._coordinator.begin(None if dispatch.speculation.asks_all() else self._comes_last)
        self._ask(self._asked_first)
        if self.is_short:
            dispatch.speculation.watch(self, self._begun_s)

    @property
    def is_short(self) -> bool:
        """See ``LateRead``."""
        return self._pending.outcome is None and self._coordinator.lacking_count > 0

    def ask_others(self) -> None:
        """See ``LateRead``."""
        coordinator = self._coordinator
        self._dispatch.speculation.late(coordinator.waiting)
        self._ask(coordinator.ask_others(coordinator.lacking_count))

    def answered(self, node: str, answer: quorum_messages.Answer) -> None:
        """See ``Running``."""
        if not isinstance(answer, Fetched):
            self.lost(node)
            return
        if any(node == target.node for target in self._asked_first):
            self._dispatch.speculation.answered(node, self._dispatch.now_s() - self._begun_s)
        self._add(node, answer.state)

    def lost(self, node: str) -> None:
        """See ``Running``."""
        self._ask_instead(self._coordinator.lost(node))
        done = self._pending.outcome is not None
        if self._coordinator.is_complete if done else self._coordinator.is_hopeless:
            self._finish(LOST)

    def silent(self) -> None:
        """See ``Running``."""
        fresh = self._targets.take_fresh()
        late = [node for node in self._coordinator.waiting if node not in fresh]
        for node in late:
            self._dispatch.unanswered(node)
        if self._pending.outcome is not None:
            self._finish(LATE)
            return
        for node in late:
            self._ask_instead(self._coordinator.silent(node))
        if self._coordinator.is_hopeless:
            self._finish(LOST)

    def expire(self) -> None:
        """See ``Running``."""
        self._finish(LATE)

    def _comes_last(self, node: str) -> tuple[bool, bool, bool, str]:
        """The copy of this node costs nothing; who was late is asked when nobody else is left.

        The others follow by id, from this node's on and around: so what is read in one turn is asked of the same peer,
        and its answers come together, and each node has another one that it asks first.
        """
        here = self._dispatch.settings.node_id
        return node != here, self._dispatch.speculation.is_late(node), node < here, node

    def _fetch(self, target: Target) -> Fetch:
        return Fetch(self._id, self._key, bool(target.stands_for))

    def _ask(self, targets: tuple[Target, ...]) -> None:
        dispatch, here = self._dispatch, self._dispatch.settings.node_id
        own: Target | None = None
        for target in targets:
            if target.node == here:
                own = target
            else:
                dispatch.post(target.node, self._fetch(target))
        if own is None:
            return
        if dispatch.can_fetch_own():
            self._add(here, dispatch.fetch_own(self._key, bool(own.stands_for)))
        else:
            self.lost(here)

    def _ask_instead(self, target: Target | None) -> None:
        if target is not None:
            self._ask((target,))

    def _add(self, node: str, encoded: bytes | None) -> None:
        coordinator = self._coordinator
        state = None
        if encoded is not None:
            if encoded == self._encoded:
                state = self._decoded
            else:
                state = decode_state(encoded)
                if self._encoded is None:
                    self._encoded, self._decoded = encoded, state
        if coordinator.add(node, state):
            self._tell()
            if coordinator.differ:  # the others may lack it as well
                self._ask(coordinator.ask_others(len(self._dispatch.placement.nodes)))
        if coordinator.is_complete and self._pending.outcome is not None:
            self._finish(LATE)

    def _tell(self) -> None:
        coordinator, dispatch = self._coordinator, self._dispatch
        dispatch.sampling.tally.reads += 1
        self._pending.resolve(
            answer_of(
                self._key,
                coordinator.joined,
                dispatch.now_ms(),
                consistency=Consistency.EVENTUAL,
                replicas=tuple(coordinator.answers),
            )
        )

    def _finish(self, reason: str) -> None:
        """The end: whoever answered with less than the others is told what they hold."""
        dispatch, coordinator = self._dispatch, self._coordinator
        is_done = self._pending.outcome is not None
        if not is_done:
            dispatch.sampling.tally.reads_failed += 1
            self._pending.resolve(coordinator.failure(reason))
        if dispatch.end(self._id) and dispatch.sampling.is_watched:
            dispatch.sampling.take(
                SampleKind.READ, coordinator.told(), done=is_done, key=self._key, needed=coordinator.needed
            )
        behind = coordinator.repairs()
        if behind:
            assert coordinator.joined is not None
            dispatch.repair(behind, self._key, encode_state(coordinator.joined))


class RunningPage:
    """A list: one page of the whole store."""

    def __init__(self, dispatch: Dispatch, query: List, deadline_s: float, pending: Pending, *, n: int, r: int) -> None:
        self.deadline_s = deadline_s
        self._dispatch = dispatch
        self._query = query
        self._pending = pending
        self._nodes = dispatch.placement.nodes
        allowed = max(0, min(n, len(self._nodes)) - r)
        self._coordinator = PageCoordinator(self._nodes, allowed=allowed, join=dispatch.conflicts.join)
        self._id = 0

    def begin(self, operation_id: int) -> None:
        """Ask every node of the ring that can be reached."""
        self._id = operation_id
        query = self._query
        question = FetchPage(operation_id, query.start, query.end, query.limit)
        usable = [node for node in self._nodes if self._dispatch.placement.is_usable(node)]
        for node in self._nodes:
            if node not in usable:
                self._coordinator.lost(node)
        if self._coordinator.is_hopeless:
            self._finish(LOST)
            return
        self._dispatch.ask(tuple(Target(node) for node in usable), lambda _target: question)

    def answered(self, node: str, answer: quorum_messages.Answer) -> None:
        """See ``Running``."""
        if not isinstance(answer, FetchedPage):
            self.lost(node)
            return
        rows = [(key, decode_state(state)) for key, state in answer.rows]
        end = self._query.end
        if rows and (rows[0][0] < self._query.start or (end is not None and rows[-1][0] >= end)):
            raise MalformedMessageError("a page with keys that were not asked for")
        if self._coordinator.add(node, rows, complete=answer.complete):
            self._tell()

    def lost(self, node: str) -> None:
        """See ``Running``."""
        self._coordinator.lost(node)
        if self._coordinator.is_hopeless:
            self._finish(LOST)

    def silent(self) -> None:
        """See ``Running``: nobody stands in for a node of a list."""
        for node in self._coordinator.waiting:
            self._dispatch.unanswered(node)
            self._coordinator.lost(node)
        if self._coordinator.is_hopeless:
            self._finish(LOST)

    def expire(self) -> None:
        """See ``Running``."""
        self._finish(LATE)

    def _tell(self) -> None:
        now_ms, query = self._dispatch.now_ms(), self._query
        page = page_of(query, shown_of(self._coordinator.rows(), now_ms, keys_only=query.keys_only))
        if page.next_start is None and self._coordinator.horizon is not None:
            page = msgspec.structs.replace(page, next_start=self._coordinator.horizon + b"\0")
        self._pending.resolve(
            Answer(
                content=page,
                consistency=Consistency.EVENTUAL,
                revision=max((record.mod_revision for record in page.records), default=0),
                replicas=tuple(sorted(self._coordinator.answered)),
            )
        )
        self._dispatch.end(self._id)

    def _finish(self, reason: str) -> None:
        self._dispatch.end(self._id)
        if self._pending.outcome is None:
            self._pending.resolve(self._coordinator.failure(reason))
