"""The ``Replicator`` of a front-end that lives in its replica's own process and on its loop: no socket, no coding.

Rules: the replica serves everything, reads included; outcomes are given after its turn, never from within it; what
comes due in one turn is bounded in bytes; nobody hears of an outcome before the rights that it rests on are known, and
nothing is asked of a replica that must not go on. Must not import ``raft`` or ``http``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import msgspec

from raftkv.core.errors import Code, DefiniteError, Refused, Unknown
from raftkv.core.replicator import Hear, Pending, Shown, Subscribers, Subscription
from raftkv.core.requests import Request, is_read
from raftkv.core.results import Answer, Outcome
from raftkv.core.status import ModeStatus, RaftStatus
from raftkv.frontend.reading import held_bytes
from raftkv.frontend.replica import OVERLOADED
from raftkv.frontend.rights import KnownRights
from raftkv.frontend.server import BEHIND, LARGE_BYTES, SLOW_BYTES, OpenReplicator

_ENDING: Final = Refused(code=Code.NO_LEADER, detail="this node is shutting down", retry_after_s=1.0)
_CUT_SHORT: Final = Unknown(detail=f"{_ENDING.detail}; the write may have been applied")


class DirectReplicator:
    """``replicator`` as its own process's front-end asks it.

    ``wake`` is called after requests were submitted. What ``replicator`` raises goes to ``fail``, after which nothing
    is asked of it. Call ``start`` on the running loop before the first ``submit``.
    """

    def __init__(
        self,
        replicator: OpenReplicator,
        *,
        wake: Callable[[], None],
        fail: Callable[[BaseException], None],
        max_pending: int,
    ) -> None:
        self._replicator = replicator
        self._wake = wake
        self._fail = fail
        self._max_pending = max_pending
        self._waiting: dict[Pending, Request] = {}
        self._closed = False
        self._settled: list[tuple[Pending, Outcome]] = []
        self._settled_bytes = 0
        self._shown: Shown | None = None
        self._telling = False
        self._heard: Subscription | None = None
        self._subscribers = Subscribers(self._wish)
        self.last_pulse: ModeStatus | None = None
        """The last status that was told."""

        self.rights = KnownRights()

    async def start(self) -> None:
        """Everything happens on the running loop from now on."""
        self._loop = asyncio.get_running_loop()
        self.push(self._replicator.status())

    @property
    def pulse(self) -> ModeStatus | None:
        """The status, ``None`` before there is one; while somebody subscribed, its revision is what is shown now."""
        status, shown = self.last_pulse, self._shown
        if self._closed or status is None or shown is None or shown.revision <= status.revision:
            return None if self._closed else status
        if isinstance(status, RaftStatus):
            return msgspec.structs.replace(status, revision=shown.revision, applied_index=shown.applied_index)
        return msgspec.structs.replace(status, revision=shown.revision)

    @property
    def silence(self) -> str:
        """Why there is no pulse, for a person."""
        return _ENDING.detail

    def push(self, status: ModeStatus) -> None:
        """The replica stands like this now."""
        self.last_pulse = status
        self.tell_rights()

    def tell_rights(self) -> None:
        """Whoever listens is told who may do what, if that has changed."""
        self.rights.learn(self._replicator.current_rights)

    def counted(self) -> Mapping[str, int]:
        """See ``OpenReplicator``."""
        return self._replicator.counted()

    def status(self) -> ModeStatus:
        """See ``Replicator``; raises ``DefiniteError`` when the node ends."""
        pulse = self.pulse
        if pulse is None:
            raise DefiniteError(Code.NO_LEADER, self.silence, retry_after_s=1.0)
        return pulse

    def submit(self, request: Request, deadline_s: float) -> Pending:
        """See ``Replicator``."""
        pending = Pending()
        if self._closed:
            pending.resolve(_ENDING)
        elif len(self._waiting) >= self._max_pending:
            pending.resolve(OVERLOADED)
        else:
            try:
                asked = self._replicator.submit(request, deadline_s)
            except Exception as error:  # noqa: BLE001  a broken invariant, of which no client may make a mere answer
                self.close()
                self._fail(error)
                return pending
            if asked.outcome is not None:
                self.tell_rights()
                return asked
            self._waiting[pending] = request
            asked.when_done(partial(self._settle, pending))
            self._wake()
        return pending

    def _settle(self, pending: Pending, outcome: Outcome) -> None:
        """An outcome came due; large answers beyond what one turn may hold become refusals, as between processes."""
        if self._waiting.pop(pending, None) is None:
            return  # it was told when this side ended
        size_bytes = held_bytes(outcome.content) if isinstance(outcome, Answer) else 0
        if size_bytes > LARGE_BYTES and self._settled_bytes + size_bytes > SLOW_BYTES:
            outcome = BEHIND
        else:
            self._settled_bytes += size_bytes
        if not self._settled:
            self._loop.call_soon(self._answer)
        self._settled.append((pending, outcome))

    def _answer(self) -> None:
        settled, self._settled = self._settled, []
        self._settled_bytes = 0
        self.tell_rights()
        for pending, outcome in settled:
            pending.resolve(outcome)

    def subscribe(self, hear: Hear) -> Subscription:
        """See ``Replicator``."""
        return self._subscribers.add(hear)

    def _wish(self, to_hear: bool) -> None:  # noqa: FBT001  see ``Subscribers``
        if to_hear:
            self._heard = self._replicator.subscribe(self._hear)
        elif self._heard is not None:
            self._heard.end()
            self._heard = self._shown = self._subscribers.latest = None

    def _hear(self, shown: Shown | None) -> None:
        """Tell at the end of this turn, which is not held up by how many there are."""
        self._shown = shown
        if not self._telling:
            self._telling = True
            self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        if self._heard is not None:
            self.tell_rights()
            self._subscribers.tell(self._shown)

    def work(self, now_s: float) -> float:
        """See ``Replicator``; the node lets the replica work by itself."""
        return now_s + 1.0

    def close(self) -> None:
        """Ask nothing more; what the replica has not answered by now is refused, or in doubt."""
        self._closed = True
        waiting, self._waiting = self._waiting, {}
        for pending, request in waiting.items():
            pending.resolve(_ENDING if is_read(request) else _CUT_SHORT)

    async def stop(self) -> None:
        """Give what is settled already, and end."""
        if self._settled:
            self._answer()
        self.close()
