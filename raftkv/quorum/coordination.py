"""The requests that this node coordinates: begun here, found by id when an answer comes, ended at their deadline.

Any node coordinates any key. Every operation of a request has a coordinator of its own and one id, under which its
replicas answer. Rules: an operation ends at its deadline at the latest; a replica that is silent for
``replica_timeout_s`` is given up and a fallback asked, so that one that hangs blocks nobody; the client is told as soon
as W or R have answered, and what the rest says is still used, for hints and read repair.
"""

from __future__ import annotations

from collections import deque

from raftkv.core.errors import Refused, Unknown
from raftkv.core.replicator import Pending
from raftkv.core.requests import Consistency, Get, List, Read, Write
from raftkv.core.results import Answer, Missing, Record, Siblings
from raftkv.quorum import messages
from raftkv.quorum.messages import Unsettled
from raftkv.quorum.operations import Dispatch, Group, Running
from raftkv.quorum.running_reads import RunningPage, RunningRead
from raftkv.quorum.running_writes import RunningEvent, RunningWrite


class Coordination:
    """Everything under way at this node as a coordinator."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        settings = dispatch.settings
        self._silence_s = (
            settings.replica_timeout_s
            + settings.n * settings.after_message_s
            + settings.before_update_s
            + settings.before_read_s
        )

    @property
    def size(self) -> int:
        """How many operations are under way."""
        return len(self._dispatch.running)

    def write(self, write: Write, deadline_s: float, pending: Pending, *, n: int, r: int, w: int) -> None:
        """Begin the operations of ``write``; those of one key follow each other."""
        chains: dict[bytes, deque[int]] = {}
        for position, operation in enumerate(write.operations):
            chains.setdefault(operation.key, deque()).append(position)

        def begin_next(key: bytes) -> None:
            if chains[key]:
                self._begin_one(write, chains[key].popleft(), group, deadline_s, n=n, r=r, w=w)

        group = Group(pending, write.operations, settled=begin_next)
        for key in chains:
            begin_next(key)

    def _begin_one(
        self, write: Write, position: int, group: Group, deadline_s: float, *, n: int, r: int, w: int
    ) -> None:
        dispatch, operation = self._dispatch, write.operations[position]
        sloppy = dispatch.settings.sloppy if write.sloppy is None else write.sloppy
        if isinstance(operation, Get):
            one = Pending()
            one.when_done(_ReadOfGroup(group, position))
            read = Read(query=operation, consistency=Consistency.EVENTUAL, sloppy=sloppy)
            self.read(read, deadline_s, one, n=n, r=r)
            return
        targets = dispatch.placement.targets(operation.key, n, sloppy=sloppy)
        if dispatch.settings.conflicts == "siblings":
            event = RunningEvent(dispatch, operation, targets, group, position, needed=w, context=write.context)
            self._begin(event, deadline_s)
        else:
            self._begin(RunningWrite(dispatch, operation, targets, group, position, needed=w), deadline_s)

    def read(self, read: Read, deadline_s: float, pending: Pending, *, n: int, r: int) -> None:
        """Begin ``read``."""
        dispatch, query = self._dispatch, read.query
        if isinstance(query, List):
            self._begin(RunningPage(dispatch, query, pending, n=n, r=r), deadline_s)
            return
        sloppy = dispatch.settings.sloppy if read.sloppy is None else read.sloppy
        targets = dispatch.placement.read_targets(query.key, n, sloppy=sloppy)
        self._begin(RunningRead(dispatch, query, targets, pending, needed=r), deadline_s)

    def answered(self, node: str, answer: messages.Answer) -> None:
        """A replica answered; an operation that is over does not care."""
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
        for running in list(self._dispatch.running.values()):
            running.expire()

    def _begin(self, running: RunningWrite | RunningEvent | RunningRead | RunningPage, deadline_s: float) -> None:
        dispatch = self._dispatch
        operation_id = dispatch.start(running)
        running.begin(operation_id)
        if operation_id in dispatch.running:
            dispatch.later(self._silence_s, _Silent(dispatch.running, operation_id))
            dispatch.at(deadline_s, _Expire(dispatch.running, operation_id))


class _Silent:
    __slots__ = ("_id", "_running")

    def __init__(self, running: dict[int, Running], operation_id: int) -> None:
        self._running, self._id = running, operation_id

    def __call__(self) -> None:
        running = self._running.get(self._id)
        if running is not None:
            running.silent()


class _Expire(_Silent):
    __slots__ = ()

    def __call__(self) -> None:
        running = self._running.get(self._id)
        if running is not None:
            running.expire()


class _ReadOfGroup:
    """Hands a read's outcome to the group of operations it belongs to."""

    __slots__ = ("_group", "_position")

    def __init__(self, group: Group, position: int) -> None:
        self._group, self._position = group, position

    def __call__(self, outcome: object) -> None:
        if isinstance(outcome, Answer):
            content = outcome.content
            if isinstance(content, Siblings):
                content = content.records[-1]
            assert isinstance(content, Record | Missing)
            self._group.read(self._position, content)
        else:
            assert isinstance(outcome, Refused | Unknown)
            self._group.failed(self._position, outcome)
