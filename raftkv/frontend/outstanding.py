"""Requests on their way to the replica, until each has its outcome.

Rules: everything sent in one turn of the event loop leaves in one write; every request has an outcome by its deadline,
give or take ``GRACE_S``, whatever the replica does; when the replica is gone, what was never written to the socket is
refused, what was written is refused if it is a read and *unknown* if it is a write; nothing is ever sent twice. Must
not import ``raft`` or ``http``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.replicator import Pending
from raftkv.core.requests import Request, is_read
from raftkv.core.results import Outcome
from raftkv.frontend import wire
from raftkv.frontend.replica import KnownReplica

SWEEP_S: Final = 0.05
"""How often deadlines are looked at: all of them by one timer. The replica knows them too and is to answer first."""

GRACE_S: Final = 2 * SWEEP_S
"""How long the replica's own verdict, which knows more, is waited for beyond the deadline."""

LATE_READ: Final = Refused(
    code=Code.QUORUM_UNREACHABLE,
    detail="nothing confirmed by the deadline that this node's state is new enough; no quorum may be reachable",
    retry_after_s=1.0,
)
_UNSENT_WRITE: Final = Refused(
    code=Code.OVERLOADED, detail="the deadline passed before the replica was asked", retry_after_s=1.0
)
_LATE_WRITE: Final = Unknown(detail="the deadline passed before the outcome was known; it may have been applied")
_LOST: Final = "the replica of this node stopped while it worked on this request"
_LOST_READ: Final = Refused(code=Code.NO_LEADER, detail=_LOST, retry_after_s=1.0)
_LOST_WRITE: Final = Unknown(detail=f"{_LOST}; it may have been applied")


class Waiting(Pending):
    """A request without an outcome; ``is_sent`` once it, or the barrier it waits for, was handed to the socket."""

    __slots__ = ("change_count", "deadline_s", "id", "is_sent", "request")

    def __init__(self, request: Request, deadline_s: float) -> None:
        super().__init__()
        self.request = request
        self.deadline_s = deadline_s
        self.id = 0
        self.is_sent = False
        self.change_count: int | None = None
        """The count to remember the answer by (``remembered``), if it is to be."""


class Outstanding:
    """Everything that waits for the replica."""

    def __init__(self, replica: KnownReplica) -> None:
        self._replica = replica
        self.gather: Callable[[], None] = lambda: None
        """Called before each write: sends what was to join it."""

        self.remember: Callable[[int, Outcome], None] = lambda _count, _outcome: None
        """Told what the replica answers to those with a ``change_count``."""

        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._next_id = 1
        self._waiting: dict[int, Waiting] = {}
        self._outgoing: list[tuple[Waiting, bytes]] = []
        self._flushing = False

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Everything happens on ``loop`` from now on."""
        self._loop = loop

    def add(self, waiting: Waiting) -> None:
        """Watch over ``waiting`` from now on; at the end of this turn there is a write, which it may join."""
        waiting.id = self._next_id
        self._next_id += 1
        self._waiting[waiting.id] = waiting
        if not self._flushing:
            self.expect()

    def send(self, waiting: Waiting) -> None:
        """Send the request at the end of this turn."""
        item = wire.encode_item(wire.Submission(waiting.id, waiting.deadline_s, waiting.request))
        self._outgoing.append((waiting, item))

    def expect(self) -> None:
        """Write at the end of this turn, and look at the deadlines from now on."""
        assert self._loop is not None
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    def _flush(self) -> None:
        self.gather()  # what it sends joins this very write
        self._flushing = False
        outgoing, self._outgoing = self._outgoing, []
        if self._replica.connection is None or not outgoing:
            return
        items = []
        for waiting, item in outgoing:
            # What has an outcome already, because this process was held up past its deadline, must not happen any more.
            if waiting.outcome is None:
                waiting.is_sent = True
                items.append(item)
        if items:
            self._replica.connection.write(wire.submission_frames(items))

    def answered(self, replies: Iterable[wire.Reply]) -> None:
        """The replica gave these outcomes."""
        for reply in replies:
            waiting = self._waiting.pop(reply.id, None)
            if waiting is None:
                continue
            if waiting.change_count is not None:
                self.remember(waiting.change_count, reply.outcome)
            waiting.resolve(reply.outcome)

    def settle(self, waiting: Waiting, outcome: Outcome) -> None:
        """``waiting``, which has no outcome yet, has this one, without an answer."""
        self._waiting.pop(waiting.id, None)
        waiting.resolve(outcome)

    def _sweep(self) -> None:
        self._sweeper = None
        self.expire(time.monotonic())
        if self._waiting and self._sweeper is None:
            assert self._loop is not None
            self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    def expire(self, now_s: float) -> None:
        """Give what is due its outcome."""
        due_s = now_s - GRACE_S
        for one in [waiting for waiting in self._waiting.values() if waiting.deadline_s <= due_s]:
            if one.outcome is not None:
                continue  # resolved by one before it in this very sweep
            if is_read(one.request):
                self.settle(one, LATE_READ)
            else:
                self.settle(one, _LATE_WRITE if one.is_sent else _UNSENT_WRITE)

    def lose(self, reason: Refused | None) -> None:
        """Nobody will answer any more, for ``reason`` if this side ends it."""
        self._outgoing.clear()
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            if one.outcome is not None:
                continue  # as above
            if not one.is_sent:
                one.resolve(reason or self._replica.absent)
            else:
                one.resolve((reason or _LOST_READ) if is_read(one.request) else _LOST_WRITE)

    def close(self) -> None:
        """No timer stays."""
        if self._sweeper is not None:
            self._sweeper.cancel()
