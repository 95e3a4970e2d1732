"""The replica's end of the Unix socket: requests of front-end workers in, outcomes and pulses out.

It runs on the asyncio loop of the replica's one thread. Requests go to the ``Replicator``; outcomes that come due in
one turn of the loop leave in one write for each connection. Rules: at most ``max_pending`` requests are unanswered,
more are refused at once; a worker that disappears or does not read its answers loses its connection and leaves nothing
behind (what it asked runs on to its outcome, which nobody hears); a worker of another build is told this one's and
nothing more (``wire.Build``); a worker never learns of an outcome that rests on
applied state it has not been told the place of. What readers are shown is announced to the workers that asked for it,
in a few bytes and once a turn at most; of what a worker is too slow to take only the newest is kept. This module must
not import ``raft`` or ``http``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Protocol

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.pages import TOO_LARGE
from raftkv.core.replicator import Replicator, Shown, Subscription
from raftkv.core.requests import is_read
from raftkv.core.results import Outcome, Ready
from raftkv.core.rights import Rights
from raftkv.core.status import ModeStatus
from raftkv.frontend import wire
from raftkv.frontend.connection import WireConnection

MAX_UNREAD_BYTES: Final = 128 << 20
"""A worker that lets this much pile up unread has stopped working."""

SLOW_BYTES: Final = 32 << 20
"""While a worker has this much left to read, its large answers become refusals, so that it never comes to the above."""

LARGE_BYTES: Final = 64 << 10
"""An outcome that is smaller is always told."""

BEHIND: Final = Refused(
    code=Code.OVERLOADED, detail="the front-end is behind with large answers; try again later", retry_after_s=1.0
)

_BACKLOG: Final = 64


class SharedReplicator(Replicator, Protocol):
    """A replicator whose applied state others read."""

    @property
    def state_path(self) -> str:
        """``status().state_path`` without the rest, for who asks before every answer."""

    @property
    def rights(self) -> bytes | None:
        """Who may do what, as a document of ``formats.rights``: another object once it is another.

        ``None`` where the applied state says so.
        """


class OpenReplicator(SharedReplicator, Protocol):
    """A replicator whose own process answers clients, too."""

    @property
    def current_rights(self) -> Rights:
        """Who may do what, by what is applied here: another object once it is another."""

    def counted(self) -> Mapping[str, int]:
        """How many keys, leases and events of the past there are; nothing where that is not known."""


class FrontendServer:
    """Serves ``replicator`` to front-end workers at the Unix socket ``path``.

    ``wake`` is called after requests were submitted that wait for the replica, so that it works soon rather than at its
    next timer.
    """

    def __init__(self, replicator: SharedReplicator, *, path: str, wake: Callable[[], None], max_pending: int) -> None:
        self._replicator = replicator
        self.path = path
        self._wake = wake
        self._max_pending = max_pending
        self._pending = 0
        self._connections: set[_WorkerConnection] = set()
        self._server: asyncio.Server | None = None
        self._pushed: ModeStatus | None = None
        self._told_rights: bytes | None = None
        self._hearing: set[_WorkerConnection] = set()
        self._subscription: Subscription | None = None
        self._shown: Shown | None = None
        self._announcing = False

    async def start(self) -> None:
        """Listen; a socket file left by a replica that crashed is replaced. Raises ``OSError``."""
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(self.path).st_mode):
                os.unlink(self.path)  # noqa: PTH108  the path is a socket's, and may have to be relative
        previous = os.umask(0o177)  # only this user's front-ends may ask
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(lambda: _WorkerConnection(self), self.path, backlog=_BACKLOG)
        finally:
            os.umask(previous)

    async def stop(self) -> None:
        """Send what is answered already, close every connection and remove the socket."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for connection in tuple(self._connections):
            connection.finish()
        await server.wait_closed()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)  # noqa: PTH108

    def push(self, status: ModeStatus) -> None:
        """Tell every worker the status."""
        self._pushed = status
        self._tell_all(wire.pulse_frame(status))

    def tell_rights(self) -> None:
        """Tell every worker who may do what, if that has changed: before any answer that rests on it."""
        rights = self._replicator.rights
        if rights is not None and rights is not self._told_rights:
            self._told_rights = rights
            self._tell_all(wire.rights_frame(rights))

    def _tell_all(self, frame: bytes) -> None:
        for connection in tuple(self._connections):
            if connection.is_known:
                connection.write(frame)

    def joined(self, connection: _WorkerConnection) -> None:
        """A worker connected."""
        self._connections.add(connection)

    def known(self, connection: _WorkerConnection) -> None:
        """A worker turned out to be of this build: it learns the status at once."""
        connection.write(wire.pulse_frame(self._replicator.status()))
        rights = self._replicator.rights
        if rights is not None:
            connection.write(wire.rights_frame(rights))

    def left(self, connection: _WorkerConnection) -> None:
        """A worker is gone."""
        self._connections.discard(connection)
        self.wished(connection, to_hear=False)

    def submit(self, connection: _WorkerConnection, submissions: tuple[wire.Submission, ...]) -> None:
        """Hand requests to the replicator, and wake it unless all are reads that it has answered already."""
        is_awaited = False
        for submission in submissions:
            if self._pending >= self._max_pending:
                detail = f"{self._max_pending} requests are waiting already; try again later"
                refused = Refused(code=Code.OVERLOADED, detail=detail, retry_after_s=1.0)
                connection.reply(submission.id, refused, is_read=True)
                continue
            self._pending += 1
            reads = is_read(submission.request)
            pending = self._replicator.submit(submission.request, submission.deadline_s)
            is_awaited |= pending.outcome is None or not reads
            pending.when_done(partial(self._answered, connection, submission.id, reads))
        if is_awaited:
            self._wake()

    def _answered(self, connection: _WorkerConnection, request_id: int, is_read: bool, outcome: Outcome) -> None:  # noqa: FBT001
        """An outcome came due."""
        self._pending -= 1
        connection.reply(request_id, outcome, is_read=is_read)

    def wished(self, connection: _WorkerConnection, *, to_hear: bool) -> None:
        """A worker wants to hear what is shown, or no more of it; nobody is told anything while no worker does."""
        if to_hear:
            self._hearing.add(connection)
            if self._subscription is None:
                self._subscription = self._replicator.subscribe(self._hear)
            self.announce((connection,))
            return
        self._hearing.discard(connection)
        if not self._hearing and self._subscription is not None:
            self._subscription.end()
            self._subscription = self._shown = None

    def _hear(self, shown: Shown | None) -> None:
        """Tell the workers at the end of this turn; ``work`` is not held up by how many there are."""
        self._shown = shown
        if not self._announcing:
            self._announcing = True
            asyncio.get_running_loop().call_soon(self._announce)

    def _announce(self) -> None:
        self._announcing = False
        self.announce(tuple(self._hearing))

    def announce(self, connections: tuple[_WorkerConnection, ...]) -> None:
        """Tell ``connections`` what is shown now."""
        if self._shown is None or not connections:
            return
        self.before_reading()
        frame = wire.announcement_frame(self._shown)
        for connection in connections:
            connection.announce(frame)

    def before_reading(self) -> None:
        """Tell of a new place of the applied state before anything that lets a worker read what rests on it.

        A worker reads the applied state itself once a barrier is passed, or when it hears what is shown; after a
        snapshot was installed, the state it has open ends at an older revision than it was promised.
        """
        if self._pushed is None or self._replicator.state_path != self._pushed.state_path:
            self.push(self._replicator.status())


class _WorkerConnection(WireConnection[wire.ToReplica]):
    """One front-end worker."""

    def __init__(self, server: FrontendServer) -> None:
        super().__init__(wire.decode_submissions)
        self._server = server
        self._replies: list[bytes] = []
        self._reply_bytes = 0
        self._holds_ready = False
        self._is_behind = False
        self._owes_announcement = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._replies.clear()
        self._server.left(self)

    def known(self) -> None:
        self._server.known(self)

    def mismatched(self, other: wire.Build | None) -> None:  # noqa: ARG002  it says why itself
        self.finish()

    def received(self, message: wire.ToReplica) -> None:
        if isinstance(message, bool):
            self._server.wished(self, to_hear=message)
        else:
            self._server.submit(self, message)

    def pause_writing(self) -> None:
        """See asyncio: more is on its way than the worker has taken lately."""
        self._is_behind = True

    def resume_writing(self) -> None:
        """See asyncio."""
        self._is_behind = False
        if self._owes_announcement:
            self._server.announce((self,))

    def announce(self, frame: bytes) -> None:
        """Send what is shown; later, and only what is the newest then, while the worker is behind."""
        self._owes_announcement = self._is_behind
        if not self._is_behind:
            self.write(frame)

    def reply(self, request_id: int, outcome: Outcome, *, is_read: bool) -> None:
        """Send ``outcome`` at the end of this turn of the loop."""
        if self.transport is None:
            return
        item = wire.encode_item(wire.Reply(request_id, outcome))
        if len(item) > wire.MAX_OUTCOME_BYTES:
            failure = TOO_LARGE if is_read else Unknown(detail=f"it was carried out, but {TOO_LARGE.detail}")
            item = wire.encode_item(wire.Reply(request_id, failure))
        elif len(item) > LARGE_BYTES and self._reply_bytes + self.unsent_bytes + len(item) > SLOW_BYTES:
            behind = BEHIND if is_read else Unknown(detail=f"it was carried out, but {BEHIND.detail}")
            item = wire.encode_item(wire.Reply(request_id, behind))
        if not self._replies:
            asyncio.get_running_loop().call_soon(self._flush)
        self._replies.append(item)
        self._reply_bytes += len(item)
        self._holds_ready |= isinstance(outcome, Ready)

    def write(self, data: bytes) -> None:
        """Send ``data`` now; who leaves too much unread loses the connection."""
        super().write(data)
        if self.unsent_bytes > MAX_UNREAD_BYTES:
            self.abort()

    def finish(self) -> None:
        """Send what is answered and close."""
        self._flush()
        if self.transport is not None:
            self.transport.close()

    def _flush(self) -> None:
        if not self._replies:
            return
        replies, self._replies = self._replies, []
        self._reply_bytes = 0
        if self._holds_ready:
            self._holds_ready = False
            self._server.before_reading()
        self._server.tell_rights()
        self.write(wire.reply_frames(replies))
