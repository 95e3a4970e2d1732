"""The front-end's ``Replicator``: speaks to the replica process of this node, and reads the applied state itself.

Everything submitted in one turn of the event loop leaves in one write. Rules: every request has an outcome by its
deadline, give or take ``SWEEP_S``, whatever the replica does; a replica that fell silent, or reads nothing, is asked
nothing more; a replica of another build (``wire.Build``) is asked nothing at all; when the replica is gone, what was
never written to the socket is refused, what was written is refused if it is a read and *unknown* if it is a write;
nothing is ever sent twice. The connection is made anew, with growing pauses, for as long as this object is open.
Subscribers hear every pulse besides what the replica announces, ``None`` when it is gone, and what the next one shows
when it is there. This module must not import ``raft`` or ``http``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from raftkv.core.errors import Code, DefiniteError, Refused, StartupError, Unknown
from raftkv.core.pages import size_of
from raftkv.core.replicator import Hear, Pending, Shown, Subscribers, Subscription
from raftkv.core.requests import DEFAULT, Barrier, Consistency, Read, Request, is_read
from raftkv.core.results import Answer, KeyPage, KeyRecord, ModeStatus, Outcome, RaftStatus, Ready
from raftkv.frontend import wire
from raftkv.frontend.deadlines import SWEEP_S, Bucket, Deadlines
from raftkv.frontend.readers import BarrierRounds, Reader, StateReader

SILENCE_S: Final = 3.0
"""A replica whose pulse is older than this is stuck: thirty pulses are missing."""

MAX_UNSENT_BYTES: Final = 64 << 20
"""A replica that leaves this much unread has more to do than it can."""

TURN_BYTES: Final = 4 << 20
"""What readers of one barrier are given in one turn of the loop: their answers leave before more are read."""

_RECONNECT_FIRST_S: Final = 0.02
_RECONNECT_LIMIT_S: Final = 0.5

NOT_RUNNING: Final = Refused(code=Code.NO_LEADER, detail="the replica of this node is not running", retry_after_s=1.0)
_STUCK: Final = Refused(code=Code.NO_LEADER, detail="the replica of this node does not answer", retry_after_s=1.0)
_LOST = "the replica of this node stopped while it worked on this request"
_LOST_READ: Final = Refused(code=Code.NO_LEADER, detail=_LOST, retry_after_s=1.0)
_LOST_WRITE: Final = Unknown(detail=f"{_LOST}; it may have been applied")
_LATE_READ: Final = Refused(
    code=Code.QUORUM_UNREACHABLE,
    detail="nothing confirmed by the deadline that this node's state is new enough; no quorum may be reachable",
    retry_after_s=1.0,
)
_UNSENT_WRITE: Final = Refused(
    code=Code.OVERLOADED, detail="the deadline passed before the replica was asked", retry_after_s=1.0
)
_LATE_WRITE: Final = Unknown(detail="the deadline passed before the outcome was known; it may have been applied")
_CLOSED: Final = Refused(code=Code.NO_LEADER, detail="the front-end is shutting down", retry_after_s=1.0)


class _Waiting:
    """A request without an outcome; ``sent`` once its bytes were handed to the socket."""

    __slots__ = ("due", "is_write", "pending", "sent")

    def __init__(self, pending: Pending, due: Bucket, *, is_write: bool) -> None:
        self.pending = pending
        self.due = due
        self.is_write = is_write
        self.sent = False


class RemoteReplicator:
    """The ``Replicator`` of a front-end worker, for the replica that listens at the Unix socket ``path``.

    ``open_state`` opens the applied state at the path that a pulse names. Call ``start`` on the worker's running event
    loop before the first ``submit``; everything happens on that loop.
    """

    def __init__(self, path: str, *, open_state: Callable[[str], StateReader], max_pending: int) -> None:
        self._path = path
        self._open_state = open_state
        self._max_pending = max_pending
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._absent = NOT_RUNNING
        """What is said while there is no connection."""

        self._next_id = 1
        self._waiting: dict[int, _Waiting] = {}
        self._deadlines = Deadlines()
        self._outgoing: list[tuple[int, bytes]] = []
        self._flushing = False
        self._rounds = {level: BarrierRounds(level) for level in (Consistency.LINEARIZABLE, Consistency.LEASE)}
        self._status: ModeStatus | None = None
        self._status_at_s = 0.0
        self._state: StateReader | None = None
        self._subscribers = Subscribers(self._wish)

    async def start(self) -> None:
        """Begin to connect, and wait a moment for the first pulse; without one the requests are refused meanwhile."""
        self._loop = asyncio.get_running_loop()
        self._connecting = self._loop.create_task(self._keep_connecting())
        for _ in range(50):
            if self.pulse is not None:
                return
            await asyncio.sleep(0.01)

    @property
    def pulse(self) -> ModeStatus | None:
        """The status of the replica, ``None`` while it is not running, not yet connected, or stuck.

        While somebody subscribed, its revision is the one that was announced last.
        """
        if self._connection is None or time.monotonic() - self._status_at_s > SILENCE_S:
            return None
        return self._status

    @property
    def silence(self) -> str:
        """Why there is no pulse, for a person."""
        return (_STUCK if self._connection is not None else self._absent).detail

    @property
    def last_pulse(self) -> ModeStatus | None:
        """The last status that was ever heard: what is known of the applied state that local reads are served from."""
        return self._status

    def status(self) -> ModeStatus:
        """See ``Replicator``; raises ``DefiniteError`` while there is none to tell."""
        status = self.pulse
        if status is None:
            raise DefiniteError(Code.NO_LEADER, self.silence, retry_after_s=1.0)
        return status

    def subscribe(self, hear: Hear) -> Subscription:
        """See ``Replicator``."""
        return self._subscribers.add(hear)

    def _wish(self, to_hear: bool) -> None:  # noqa: FBT001  see ``Subscribers``
        if self._connection is not None:
            self._connection.write(wire.wish_frame(to_hear=to_hear))
        if not to_hear:
            self._subscribers.latest = None  # which nobody keeps up to date from now on

    def submit(self, request: Request, deadline_s: float) -> Pending:
        """See ``Replicator``."""
        pending = Pending()
        if self._closed:
            pending.resolve(_CLOSED)
            return pending
        if isinstance(request, Read):
            if self._status is not None and request.consistency not in self._status.offers:
                detail = f"this node cannot give {request.consistency} reads now"
                pending.resolve(Refused(code=Code.NOT_SUPPORTED, detail=detail))
                return pending
            if self._state is not None and self._read_here(request, deadline_s, pending):
                return pending
        if self._connection is None:
            pending.resolve(self._absent)
        elif self._is_stuck:
            pending.resolve(_STUCK)
        elif self._is_full:
            detail = "too many requests are waiting already; try again later"
            pending.resolve(Refused(code=Code.OVERLOADED, detail=detail, retry_after_s=1.0))
        else:
            self._send(request, deadline_s, pending)
        return pending

    def work(self, now_s: float) -> float:
        """See ``Replicator``; the front-end's own timer calls it."""
        for pending, is_write, request_id in self._deadlines.due(now_s):
            if pending.outcome is not None:
                continue  # resolved by an entry before it in this very sweep
            waiting = self._waiting.pop(request_id, None)
            if not is_write:
                pending.resolve(_LATE_READ)
            else:
                pending.resolve(_UNSENT_WRITE if waiting is not None and not waiting.sent else _LATE_WRITE)
        return now_s + SWEEP_S

    def close(self) -> None:
        """See ``Replicator``."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._connection is not None:
            self._connection.abort()
        self._lose_all(_CLOSED)
        self._close_state()

    @property
    def _is_full(self) -> bool:
        if self._connection is not None and self._connection.unsent_bytes >= MAX_UNSENT_BYTES:
            return True
        return len(self._waiting) + sum(rounds.size for rounds in self._rounds.values()) >= self._max_pending

    @property
    def _is_stuck(self) -> bool:
        """Did the replica fall silent? What it was not asked it cannot do, so a refusal is definite, and at once."""
        return self._status is not None and time.monotonic() - self._status_at_s > SILENCE_S

    # -- requests out ---------------------------------------------------------------------------------------------

    def _send(self, request: Request, deadline_s: float, pending: Pending) -> None:
        request_id = self._next_id
        self._next_id += 1
        is_write = not is_read(request)
        due = self._deadlines.add(deadline_s, pending, is_write=is_write, request_id=request_id)
        self._waiting[request_id] = _Waiting(pending, due, is_write=is_write)
        self._sweep_soon()
        self._outgoing.append((request_id, wire.encode_item(wire.Submission(request_id, deadline_s, request))))
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushing:
            assert self._loop is not None
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._send_rounds()  # what it sends joins this very flush
        self._flushing = False
        # What has an outcome already, because this process was held up past its deadline, must not happen any more.
        outgoing = [(request_id, item) for request_id, item in self._outgoing if request_id in self._waiting]
        self._outgoing.clear()
        if self._connection is None or not outgoing:
            return
        for request_id, _ in outgoing:
            self._waiting[request_id].sent = True
        self._connection.write(wire.submission_frames([item for _, item in outgoing]))

    def _sweep_soon(self) -> None:
        if self._sweeper is None:
            assert self._loop is not None
            self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        self.work(time.monotonic())
        if self._deadlines:
            self._sweep_soon()

    # -- reads from the applied state -----------------------------------------------------------------------------

    def _read_here(self, read: Read, deadline_s: float, pending: Pending) -> bool:
        """Serve ``read`` from the applied state, now or after a barrier; false when only the replica can."""
        if read.r != DEFAULT:
            return False
        if read.consistency is Consistency.LOCAL:
            return self._answer(read, pending)
        rounds = self._rounds.get(read.consistency)
        if rounds is None or self._connection is None or self._is_stuck or self._is_full:
            return False
        rounds.add(Reader(read, deadline_s, pending, self._deadlines.add(deadline_s, pending, is_write=False)))
        self._sweep_soon()
        self._flush_soon()
        return True

    def _answer(self, read: Read, pending: Pending) -> bool:
        """Read the applied state; false when it cannot be read, which the next pulse may mend.

        Its age is what was known before it was read: a pulse that comes in later speaks of a newer state.
        """
        assert self._state is not None
        level_at_s = None if self._status is None else self._status.level_at_s
        try:
            content, revision = self._state.read(read.query)
        except (OSError, StartupError):
            self._close_state()
            return False
        answer = Answer(content=content, consistency=read.consistency, revision=revision, level_at_s=level_at_s)
        pending.resolve(answer)
        return True

    def _send_rounds(self) -> None:
        for rounds in self._rounds.values():
            readers = rounds.next_round()
            if not readers:
                continue
            barrier = Pending()
            deadline_s = max(reader.deadline_s for reader in readers)
            barrier.when_done(partial(self._round_done, rounds, readers))
            self._send(Barrier(consistency=rounds.consistency), deadline_s, barrier)

    def _round_done(self, rounds: BarrierRounds, readers: list[Reader], outcome: Outcome) -> None:
        """A barrier has its outcome: its readers read, or share its failure."""
        rounds.finished(readers)
        self._serve_readers(readers, outcome)
        if self._connection is not None:
            self._flush_soon()

    def _serve_readers(self, readers: list[Reader], outcome: Outcome, start: int = 0) -> None:
        """Serve ``readers`` from ``start`` on; after ``TURN_BYTES`` the rest wait until those answers are sent."""
        read_bytes = 0
        for position in range(start, len(readers)):
            if read_bytes > TURN_BYTES and self._loop is not None:
                self._loop.call_soon(self._serve_readers, readers, outcome, position)
                return
            reader = readers[position]
            if reader.pending.outcome is not None:
                continue
            reader.due.pop(reader.pending, None)
            if not isinstance(outcome, Ready):
                reader.pending.resolve(outcome if isinstance(outcome, Refused) else _LATE_READ)
            elif self._state is None or not self._answer(reader.read, reader.pending):
                self._send(reader.read, reader.deadline_s, reader.pending)
            read_bytes += _held_bytes(reader.pending.outcome)

    # -- the connection -------------------------------------------------------------------------------------------

    async def _keep_connecting(self) -> None:
        assert self._loop is not None
        pause_s = _RECONNECT_FIRST_S
        while True:
            connection = _Connection(self)
            try:
                await self._loop.create_unix_connection(lambda made=connection: made, self._path)  # type: ignore[misc]
            except OSError:
                self._absent = NOT_RUNNING
            else:
                await connection.lost.wait()
                if connection.is_known:
                    pause_s = _RECONNECT_FIRST_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _RECONNECT_LIMIT_S)

    def connected(self, connection: _Connection) -> None:
        """The replica is there, and of this build; its pulse follows at once."""
        self._connection = connection
        self._absent = NOT_RUNNING
        if self._subscribers:
            self._wish(True)  # noqa: FBT003

    def mismatched(self, other: wire.Build | None) -> None:
        """The replica is of another build, which may mean other things by its state, too."""
        own = wire.build().version
        if other is not None and other.version == own:
            found = f"the front-end and the replica are different builds of version {own}"
        else:
            found = f"the front-end is version {own}, the replica {'older' if other is None else other.version}"
        self._absent = Refused(code=Code.NO_LEADER, detail=f"{found}: restart the node", retry_after_s=1.0)
        self._close_state()

    def disconnected(self, connection: _Connection) -> None:
        """The replica is gone. The applied state stays open for local reads, until a new replica names its own."""
        if self._connection is connection:
            self._connection = None
            self._lose_all(None)
            self._subscribers.tell(None)

    def received(self, message: wire.Replies | wire.Pulse | wire.Announcement) -> None:
        """Outcomes, a pulse, or what is shown."""
        if isinstance(message, wire.Pulse):
            self._heard(message.status)
            self._subscribers.tell(self._subscribers.latest)
            return
        if isinstance(message, wire.Announcement):
            if self._status is not None and self._status.revision < message.revision:
                news = {"revision": message.revision}
                if isinstance(self._status, RaftStatus):
                    news["applied_index"] = message.applied_index
                self._status = msgspec.structs.replace(self._status, **news)
            self._subscribers.tell(Shown(revision=message.revision, applied_index=message.applied_index))
            return
        for reply in message.replies:
            waiting = self._waiting.pop(reply.id, None)
            if waiting is None:
                continue
            waiting.due.pop(waiting.pending, None)
            if waiting.pending.outcome is None:
                waiting.pending.resolve(reply.outcome)

    def _heard(self, status: ModeStatus) -> None:
        previous, self._status = self._status, status
        self._status_at_s = time.monotonic()
        fresh = self._connection is not None and not self._connection.heard
        if self._connection is not None:
            self._connection.heard = True
        moved = previous is None or previous.state_path != status.state_path
        if self._state is not None and not fresh and not moved:
            return
        # A replica that started anew may have rebuilt its state at the same path, so what is open may be a ghost.
        self._close_state()
        if status.state_path:
            with contextlib.suppress(OSError, StartupError):
                self._state = self._open_state(status.state_path)

    def _lose_all(self, outcome: Refused | None) -> None:
        """Give everything that waits its outcome, because nobody will answer it any more."""
        self._outgoing.clear()
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            if one.pending.outcome is not None:
                continue
            if one.sent:
                one.pending.resolve(_LOST_WRITE if one.is_write else (outcome or _LOST_READ))
            else:
                one.pending.resolve(outcome or self._absent)
        for rounds in self._rounds.values():
            for reader in rounds.abandon():
                if reader.pending.outcome is None:
                    reader.pending.resolve(outcome or self._absent)
        self._deadlines.clear()

    def _close_state(self) -> None:
        state, self._state = self._state, None
        if state is not None:
            state.close()


def _held_bytes(outcome: Outcome | None) -> int:
    """How large a page or a value is; other outcomes are small."""
    content = outcome.content if isinstance(outcome, Answer) else None
    if isinstance(content, KeyRecord):
        return size_of(content)
    return sum(map(size_of, content.records)) if isinstance(content, KeyPage) else 0


class _Connection(asyncio.Protocol):
    """One connection to the replica; ``lost`` is set when it is over."""

    def __init__(self, replicator: RemoteReplicator) -> None:
        self._replicator = replicator
        self._frames = wire.FrameReader()
        self._transport: asyncio.Transport | None = None
        self.lost = asyncio.Event()
        self.is_known = False
        """Has it told its build, and is that ours?"""

        self.heard = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's transports are not asyncio.Transport
        self.write(wire.build_frame())

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        self._transport = None
        self.lost.set()
        self._replicator.disconnected(self)

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._frames.feed(data):
                if not self.is_known:
                    other = wire.decode_build(body)
                    if other != wire.build():
                        self._replicator.mismatched(other)
                        self.abort()
                        return
                    self.is_known = True
                    self._replicator.connected(self)
                    continue
                self._replicator.received(wire.decode_message(body))
        except wire.WireError:
            self.abort()

    @property
    def unsent_bytes(self) -> int:
        """What the replica has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send ``data``."""
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()
