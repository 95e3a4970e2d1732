"""Requests on their way to the replica, until each has its outcome.

Rules: everything sent in one turn of the event loop leaves in one write; every request has an outcome by its deadline,
give or take ``SWEEP_S``, whatever the replica does; when the replica is gone, what was never written to the socket is
refused, what was written is refused if it is a read and *unknown* if it is a write; nothing is ever sent twice. Must
not import ``raft`` or ``http``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.replicator import Pending
from raftkv.core.requests import Request, is_read
from raftkv.frontend import wire
from raftkv.frontend.deadlines import SWEEP_S, Bucket, Deadlines
from raftkv.frontend.replica import KnownReplica

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


class _Waiting:
    """A request without an outcome; ``sent`` once its bytes were handed to the socket."""

    __slots__ = ("due", "is_write", "pending", "sent")

    def __init__(self, pending: Pending, due: Bucket, *, is_write: bool) -> None:
        self.pending = pending
        self.due = due
        self.is_write = is_write
        self.sent = False


class Outstanding:
    """Everything that waits for the replica."""

    def __init__(self, replica: KnownReplica) -> None:
        self._replica = replica
        self.gather: Callable[[], None] = lambda: None
        """Called before each write: sends what was to join it."""

        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._next_id = 1
        self._waiting: dict[int, _Waiting] = {}
        self._outgoing: list[tuple[int, bytes]] = []
        self._flushing = False
        self.deadlines = Deadlines()
        """Also of those who wait for something that was sent; who adds one calls ``expect``."""

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Everything happens on ``loop`` from now on."""
        self._loop = loop

    def send(self, request: Request, deadline_s: float, pending: Pending) -> None:
        """Send ``request`` at the end of this turn."""
        request_id = self._next_id
        self._next_id += 1
        is_write = not is_read(request)
        due = self.deadlines.add(deadline_s, pending, is_write=is_write, request_id=request_id)
        self._waiting[request_id] = _Waiting(pending, due, is_write=is_write)
        self._outgoing.append((request_id, wire.encode_item(wire.Submission(request_id, deadline_s, request))))
        self.expect()

    def expect(self) -> None:
        """Write at the end of this turn, and look at the deadlines from now on."""
        if not self._flushing:
            assert self._loop is not None
            self._flushing = True
            self._loop.call_soon(self._flush)
        if self._sweeper is None:
            assert self._loop is not None
            self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    def _flush(self) -> None:
        self.gather()  # what it sends joins this very write
        self._flushing = False
        # What has an outcome already, because this process was held up past its deadline, must not happen any more.
        outgoing = [(request_id, item) for request_id, item in self._outgoing if request_id in self._waiting]
        self._outgoing.clear()
        if self._replica.connection is None or not outgoing:
            return
        for request_id, _ in outgoing:
            self._waiting[request_id].sent = True
        self._replica.connection.write(wire.submission_frames([item for _, item in outgoing]))

    def answered(self, replies: tuple[wire.Reply, ...]) -> None:
        """The replica gave these outcomes."""
        for reply in replies:
            waiting = self._waiting.pop(reply.id, None)
            if waiting is None:
                continue
            waiting.due.pop(waiting.pending, None)
            if waiting.pending.outcome is None:
                waiting.pending.resolve(reply.outcome)

    def _sweep(self) -> None:
        self._sweeper = None
        self.expire(time.monotonic())
        if self.deadlines and self._sweeper is None:
            assert self._loop is not None
            self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    def expire(self, now_s: float) -> None:
        """Give what is due its outcome."""
        for pending, is_write, request_id in self.deadlines.due(now_s):
            if pending.outcome is not None:
                continue  # resolved by an entry before it in this very sweep
            waiting = self._waiting.pop(request_id, None)
            if not is_write:
                pending.resolve(LATE_READ)
            else:
                pending.resolve(_UNSENT_WRITE if waiting is not None and not waiting.sent else _LATE_WRITE)

    def lose(self, reason: Refused | None) -> None:
        """Nobody will answer any more, for ``reason`` if this side ends it."""
        self._outgoing.clear()
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            if one.pending.outcome is not None:
                continue
            if one.sent:
                one.pending.resolve(_LOST_WRITE if one.is_write else (reason or _LOST_READ))
            else:
                one.pending.resolve(reason or self._replica.absent)

    def close(self) -> None:
        """No timer stays."""
        if self._sweeper is not None:
            self._sweeper.cancel()
