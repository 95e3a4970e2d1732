"""The requests that this node coordinates: begun here, found by id when an answer comes, ended at their deadline.

Any node coordinates any key. The operations of write requests are gathered until the turn begins them: writes with the
same replicas go out together, under one id, so that a single write is a batch of one. Rules: an operation ends at its
deadline at the latest; a replica that is silent for ``replica_timeout_s`` is not counted on any more and a fallback
asked, and once too few can be counted on the operation ends, so that one that hangs blocks nobody; the client is told
as soon as W or R have answered, and what the rest says is still used, for hints and read repair.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import inf
from typing import Final, NamedTuple

from raftkv.core.errors import Refused, Unknown
from raftkv.core.replicator import Pending
from raftkv.core.requests import AS_CONFIGURED, Consistency, Delete, Get, List, Placing, Put, Read, Write
from raftkv.core.results import Answer, KeyRecord, Missing, Siblings, StampedAnswer
from raftkv.core.rights import Caller
from raftkv.formats import quorum_messages
from raftkv.formats.quorum_messages import ROWS_PER_STORE, Unsettled
from raftkv.quorum.coordination.examining import RunningExamination
from raftkv.quorum.coordination.operations import Dispatch, Group
from raftkv.quorum.coordination.running_reads import RunningPage, RunningRead
from raftkv.quorum.coordination.running_writes import FIRST, RunningEvent, RunningWrites, Wanted, WriteAttempt
from raftkv.quorum.membership.placement import Replicas
from raftkv.quorum.settings import PAGE_BYTES

READS_AT_ONCE: Final = 32
"""Of one request: so many values, from each of their replicas, are on the way at a time."""


class _Kind(NamedTuple):
    """What writes have in common that travel together."""

    replicas: Replicas
    n: int
    w: int
    sloppy: bool
    makes_room: bool
    """A full disk takes deletions, and what else travels with them must not keep it from that."""

    attempt: WriteAttempt
    caller: Caller | None


class Coordination:
    """Everything under way at this node as a coordinator."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._gathered: list[tuple[Group, int, WriteAttempt]] = []

    @property
    def size(self) -> int:
        """How much is under way: reads, writes that travel together, and operations that wait for the turn."""
        return len(self._dispatch.running) + len(self._gathered)

    @property
    def has_gathered(self) -> bool:
        """Are there operations that wait for the turn?"""
        return bool(self._gathered)

    def write(self, write: Write, deadline_s: float, pending: Pending, *, n: int, r: int, w: int) -> None:
        """Take the operations of ``write``; those of one key follow each other."""
        sloppy = self._sloppy(write.placing)
        tally = self._dispatch.sampling.tally
        group = Group(write, deadline_s, pending, n=n, r=r, w=w, sloppy=sloppy, settled=self._settled, tally=tally)
        keys: set[bytes] = set()
        for position, operation in enumerate(group.operations):
            if operation.key in keys:
                group.later.setdefault(operation.key, deque()).append(position)
            else:
                keys.add(operation.key)
                self._gathered.append((group, position, FIRST))

    def read(self, read: Read, deadline_s: float, pending: Pending, *, n: int, r: int) -> None:
        """Begin ``read``."""
        dispatch, query = self._dispatch, read.query
        if isinstance(query, List):
            self._begin(RunningPage(dispatch, query, deadline_s, pending, n=n, r=r))
            return
        sloppy = self._sloppy(read.placing)
        assert isinstance(query, Get)  # all others were refused
        targets = dispatch.placement.read_targets(query.key, n, sloppy=sloppy)
        self._begin(RunningRead(dispatch, query, targets, deadline_s, pending, needed=r))

    def examine(self, key: bytes, deadline_s: float, pending: Pending, *, n: int, speaks: Callable[[str], int]) -> None:
        """Begin to look at what each node holds of ``key``; ``speaks`` tells which protocol a peer speaks."""
        self._begin(RunningExamination(self._dispatch, key, deadline_s, pending, n=n, speaks=speaks))

    def _sloppy(self, placing: Placing | None) -> bool:
        chosen = (placing or AS_CONFIGURED).sloppy
        return self._dispatch.settings.sloppy if chosen is None else chosen

    def begin(self) -> None:
        """Begin what was gathered."""
        while self._gathered:
            gathered, self._gathered = self._gathered, []
            together: dict[_Kind, list[Wanted]] = {}
            for group, position, attempt in gathered:
                operation = group.operations[position]
                if isinstance(operation, Get):
                    self._begin_read(group, position)
                elif self._dispatch.settings.conflicts == "siblings":
                    self._begin_with_siblings(Wanted(operation, group, position))
                else:
                    replicas = self._dispatch.placement.replicas(operation.key, group.n)
                    is_delete, caller = isinstance(operation, Delete), group.write.caller
                    kind = _Kind(replicas, group.n, group.w, group.sloppy, is_delete, attempt, caller)
                    together.setdefault(kind, []).append(Wanted(operation, group, position))
            for kind, writes in together.items():
                for some in _portions(writes):
                    self._begin_writes(kind, some)

    def answered(self, node: str, answer: quorum_messages.Answer) -> None:
        """A replica answered; an operation that is over does not care. Raises ``MalformedMessageError``."""
        running = self._dispatch.running.get(answer.id)
        if running is None:
            return
        if isinstance(answer, Unsettled):
            running.lost(node)
        else:
            running.answered(node, answer)

    def lost(self, node: str) -> None:
        """The connection to ``node`` is gone."""
        for running in list(self._dispatch.running.values()):
            running.lost(node)

    def close(self) -> None:
        """End everything, as if every deadline had come."""
        self.begin()
        while ending := [running for running in self._dispatch.running.values() if running.deadline_s < inf]:
            for running in ending:
                running.expire()
            self.begin()

    def _begin_read(self, group: Group, position: int) -> None:
        if group.reading_count >= READS_AT_ONCE:
            group.unread.append(position)
        else:
            group.reading_count += 1
            if group.is_full:  # what could not be told is not asked for: its values would bury the replicas' links
                group.withhold(position)
                return
            self._read_for(group, position, partial(_tell_read, group, position))

    def _settled(self, group: Group, position: int) -> None:
        operation = group.operations[position]
        if isinstance(operation, Get):
            group.reading_count -= 1
            if group.unread:
                self._gathered.append((group, group.unread.popleft(), FIRST))
        following = group.later.get(operation.key)
        if following:
            self._gathered.append((group, following.popleft(), FIRST))

    def _try_again(self, wanted: Wanted, attempt: WriteAttempt) -> None:
        self._gathered.append((wanted.group, wanted.position, attempt))

    def _begin_writes(self, kind: _Kind, writes: list[Wanted]) -> None:
        dispatch, attempt = self._dispatch, kind.attempt
        targets = dispatch.placement.targets(
            writes[0].operation.key, kind.n, sloppy=kind.sloppy, without=attempt.without
        )
        self._begin(RunningWrites(dispatch, writes, targets, needed=kind.w, attempt=attempt, try_again=self._try_again))

    def _begin_with_siblings(self, wanted: Wanted) -> None:
        context = (wanted.group.write.placing or AS_CONFIGURED).context
        if context or isinstance(wanted.operation, Put):
            self._begin_event(wanted, context)
        else:
            # A tombstone that has seen nothing would delete nothing: as Riak does, delete what a read sees.
            self._read_for(wanted.group, wanted.position, partial(self._delete_what_was_read, wanted))

    def _delete_what_was_read(self, wanted: Wanted, answer: Answer) -> None:
        if isinstance(answer.content, Missing):
            wanted.group.read(wanted.position, answer.content)
        else:
            assert isinstance(answer, StampedAnswer)
            self._begin_event(wanted, answer.context)

    def _begin_event(self, wanted: Wanted, context: bytes) -> None:
        dispatch, group = self._dispatch, wanted.group
        targets = dispatch.placement.targets(wanted.operation.key, group.n, sloppy=group.sloppy)
        self._begin(RunningEvent(dispatch, wanted, targets, needed=group.w, context=context))

    def _read_for(self, group: Group, position: int, take: Callable[[Answer], None]) -> None:
        """Read the key of the operation at ``position`` for ``take``; without an answer, the operation has failed."""

        def done(outcome: object) -> None:
            if isinstance(outcome, Answer):
                take(outcome)
            else:
                assert isinstance(outcome, Refused | Unknown)
                group.failed(position, outcome)

        one = Pending()
        one.when_done(done)
        query = Get(key=group.operations[position].key)
        read = Read(query=query, consistency=Consistency.EVENTUAL, placing=Placing(sloppy=group.sloppy))
        self.read(read, group.deadline_s, one, n=group.n, r=group.r)

    def _begin(self, running: RunningWrites | RunningEvent | RunningRead | RunningPage | RunningExamination) -> None:
        operation_id = self._dispatch.start(running)
        running.begin(operation_id)
        self._dispatch.watch(operation_id)


def _portions(writes: Iterable[Wanted]) -> Iterator[list[Wanted]]:
    """``writes`` in parts that make messages of bounded size."""
    portion: list[Wanted] = []
    portion_bytes = 0
    for wanted in writes:
        operation = wanted.operation
        size_bytes = len(operation.key) + (len(operation.value) if isinstance(operation, Put) else 0)
        if portion and (portion_bytes + size_bytes > PAGE_BYTES or len(portion) == ROWS_PER_STORE):
            yield portion
            portion, portion_bytes = [], 0
        portion.append(wanted)
        portion_bytes += size_bytes
    yield portion


def _tell_read(group: Group, position: int, answer: Answer) -> None:
    """The operation at ``position`` is a read: several values cannot be told in one place, so the newest is."""
    content = answer.content
    if isinstance(content, Siblings):
        content = content.records[-1]
    assert isinstance(content, KeyRecord | Missing)
    group.read(position, content)
