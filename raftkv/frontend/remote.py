"""The front-end's ``Replicator``: speaks to the replica process of this node, and reads the applied state itself.

It decides who serves a request: the applied state (``reading``), what the replica answered to the same before
(``remembered``), the replica itself (``outstanding``), or nobody (``replica`` knows why). The connection is made anew,
with growing pauses, for as long as this object is open. This module must not import ``raft`` or ``http``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from raftkv.core.errors import Code, Refused
from raftkv.core.judgement import of_query
from raftkv.core.replicator import Hear, Pending, Shown, Subscription
from raftkv.core.requests import Consistency, Read, Request
from raftkv.core.results import Missing
from raftkv.core.status import ModeStatus
from raftkv.formats.rights import is_of_rights
from raftkv.frontend import wire
from raftkv.frontend.connection import WireConnection
from raftkv.frontend.outstanding import SWEEP_S, Outstanding, Waiting
from raftkv.frontend.readers import StateReader
from raftkv.frontend.reading import StateReads
from raftkv.frontend.remembered import RememberedAnswers
from raftkv.frontend.replica import NOT_RUNNING, OVERLOADED, KnownReplica
from raftkv.frontend.rights import KnownRights
from raftkv.process.memory import GIVE_BACK_S, give_back

_RECONNECT_FIRST_S: Final = 0.02
_RECONNECT_LIMIT_S: Final = 0.5
_CLOSED: Final = Refused(code=Code.NO_LEADER, detail="the front-end is shutting down", retry_after_s=1.0)


class RemoteReplicator:
    """The ``Replicator`` of a front-end worker, for the replica that listens at the Unix socket ``path``.

    ``open_state`` opens the applied state at the path that a pulse names. Call ``start`` on the worker's running event
    loop before the first ``submit``; everything happens on that loop.
    """

    def __init__(self, path: str, *, open_state: Callable[[str], StateReader], max_pending: int) -> None:
        self._path = path
        self._max_pending = max_pending
        self._connecting: asyncio.Task[None] | None = None
        self._closed = False
        self._replica = KnownReplica()
        self._outstanding = Outstanding(self._replica)
        self._reads = StateReads(self._replica, self._outstanding, open_state)
        self._remembered = RememberedAnswers()
        self._outstanding.remember = self._remembered.remember
        self._give_back_at_s = time.monotonic() + GIVE_BACK_S

    async def start(self) -> None:
        """Begin to connect, and wait a moment for the first pulse; without one the requests are refused meanwhile."""
        loop = asyncio.get_running_loop()
        self._outstanding.start(loop)
        self._connecting = loop.create_task(self._keep_connecting(loop))
        for _ in range(50):
            if self.pulse is not None:
                return
            await asyncio.sleep(0.01)

    @property
    def pulse(self) -> ModeStatus | None:
        """The status of the replica, ``None`` while it is not running, not yet connected, or stuck.

        While somebody subscribed, its revision is the one that was announced last.
        """
        return self._replica.pulse

    @property
    def rights(self) -> KnownRights:
        """Who may do what, as far as it is known here: as of the last pulse, or of what was read since."""
        return self._reads.rights

    def counted(self) -> Mapping[str, int]:
        """What there is in the applied state, by its kind, where that can be read here."""
        return self._reads.counted()

    @property
    def silence(self) -> str:
        """Why there is no pulse, for a person."""
        return self._replica.silence

    @property
    def last_pulse(self) -> ModeStatus | None:
        """The last status that was ever heard, as it was heard."""
        return self._replica.status

    def status(self) -> ModeStatus:
        """See ``Replicator``; raises ``DefiniteError`` while there is none to tell."""
        return self._replica.standing()

    def subscribe(self, hear: Hear) -> Subscription:
        """See ``Replicator``."""
        return self._replica.subscribers.add(hear)

    def submit(self, request: Request, deadline_s: float) -> Pending:
        """See ``Replicator``."""
        waiting = Waiting(request, deadline_s)
        if self._closed:
            waiting.resolve(_CLOSED)
            return waiting
        replica, reads = self._replica, self._reads
        if isinstance(request, Read):
            is_offered = replica.status is None or request.consistency in replica.status.offers
            if not is_offered and not is_of_rights(request):
                detail = f"this node cannot give {request.consistency} reads now"
                waiting.resolve(Refused(code=Code.NOT_SUPPORTED, detail=detail))
                return waiting
            if request.consistency is Consistency.LOCAL:
                if reads.at_once(request, waiting) or self._answer_again(request, waiting):
                    return waiting
                waiting.change_count = self._remembered.count(request)
        refusal = replica.refusal()
        if refusal is None and len(self._outstanding) >= self._max_pending:
            refusal = OVERLOADED
        if refusal is not None:
            waiting.resolve(refusal)
            return waiting
        self._outstanding.add(waiting)
        if not reads.after_barrier(waiting):
            self._outstanding.send(waiting)
        return waiting

    def _answer_again(self, read: Read, waiting: Waiting) -> bool:
        """Answer as the replica would, if that is known and who may be told is."""
        answer, rights = self._remembered.find(read), self.rights.current
        if answer is None or rights is None:
            return False
        refusal = None if read.caller is None else of_query(rights, read.caller, read.query, Missing(key=b""))
        waiting.resolve(refusal or answer)
        return True

    def work(self, now_s: float) -> float:
        """See ``Replicator``; the front-end's own timer calls it."""
        self._outstanding.expire(now_s)
        return now_s + SWEEP_S

    def close(self) -> None:
        """See ``Replicator``."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        self._outstanding.close()
        if self._replica.connection is not None:
            self._replica.connection.abort()
        self._lose_all(_CLOSED)
        self._reads.close()
        self._remembered.close()

    def _lose_all(self, reason: Refused | None) -> None:
        """Give everything that waits its outcome, because nobody will answer it any more."""
        self._outstanding.lose(reason)
        self._reads.forget()

    async def _keep_connecting(self, loop: asyncio.AbstractEventLoop) -> None:
        pause_s = _RECONNECT_FIRST_S
        while True:
            connection = _ReplicaConnection(self)
            try:
                await loop.create_unix_connection(lambda made=connection: made, self._path)  # type: ignore[misc]
            except OSError:
                self._replica.absent = NOT_RUNNING
            else:
                await connection.lost.wait()
                if connection.is_known:
                    pause_s = _RECONNECT_FIRST_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _RECONNECT_LIMIT_S)

    def connected(self, connection: WireConnection[wire.ToFrontend]) -> None:
        """The replica is there, and of this build."""
        self._replica.connected(connection)

    def mismatched(self, other: wire.Build | None) -> None:
        """The replica is of another build, which may mean other things by its state, too."""
        self._replica.mismatched(other)
        self._reads.close()

    def disconnected(self, connection: WireConnection[wire.ToFrontend]) -> None:
        """The replica is gone. The applied state stays open for local reads, until a new replica names its own."""
        if self._replica.connection is connection:
            self._replica.connection = None
            self._remembered.close()
            self._lose_all(None)
            self._replica.subscribers.tell(None)

    def received(self, message: wire.ToFrontend) -> None:
        """Outcomes, a pulse, or what is shown."""
        if isinstance(message, wire.Replies):
            self._outstanding.answered(message.replies)
        elif isinstance(message, wire.RightsHeld):
            self._reads.told_rights(message.document)
        elif isinstance(message, wire.Announcement):
            self._replica.announced(Shown(revision=message.revision, applied_index=message.applied_index))
        else:
            is_new = self._replica.heard(message.status)
            if is_new:
                self._remembered.open(message.status.changes_path)
            if is_new or not self._reads.is_open:
                self._reads.open(message.status.state_path)
            else:
                self._reads.look_at_rights()
            self._replica.subscribers.tell(self._replica.subscribers.latest)
            now_s = time.monotonic()
            if now_s >= self._give_back_at_s:
                self._give_back_at_s = now_s + GIVE_BACK_S
                give_back(message.status.state_path)


class _ReplicaConnection(WireConnection[wire.ToFrontend]):
    """One connection to the replica; ``lost`` is set when it is over."""

    def __init__(self, replicator: RemoteReplicator) -> None:
        super().__init__(wire.decode_message)
        self._replicator = replicator
        self.lost = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.set()
        self._replicator.disconnected(self)

    def known(self) -> None:
        self._replicator.connected(self)

    def mismatched(self, other: wire.Build | None) -> None:
        self._replicator.mismatched(other)
        self.abort()

    def received(self, message: wire.ToFrontend) -> None:
        self._replicator.received(message)
