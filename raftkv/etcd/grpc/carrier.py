"""A connection of gRPC on a transport of asyncio: one write for what a turn brings, one timer, one place that lets go.

``GrpcCarrier`` is driven like an ``asyncio.Protocol`` by whoever owns the transport, from the client's first byte on: a
listener of its own, or a front door that has seen the preface. Rules: while the client does not read, it is not read
from either; one that takes what waits more slowly than ``SLOWEST_BYTES_PER_S`` is let go; what it makes this process
hold is counted in ``room`` from ``COUNTED_BYTES`` on. Nothing outlives its connection.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final, cast

from raftkv.etcd.grpc.calls import MESSAGE_BYTES_MAX, Ended, GrpcCalls, Method, none_there
from raftkv.etcd.grpc.connection import Http2Connection
from raftkv.etcd.grpc.heads import TIMEOUT_FIELD
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.http.door.room import PATIENCE_S, SLOWEST_BYTES_PER_S, HeldBytes, Holding

COUNTED_BYTES: Final = 64 << 10
QUEUED_BYTES_MAX: Final = 64 << 20
"""What waits for one client; beyond that it is answered nothing new."""

CLOSED_WITHIN_S: Final = 2.0
"""After the last word the client has so long to close its side: a reset could overtake what was said."""


class GrpcCarrier(asyncio.Protocol):
    """One connection."""

    def __init__(
        self,
        find: Callable[[str], Method | None],
        room: HeldBytes,
        report: Callable[[str, Exception], None],
        ended: Ended,
        *,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
    ) -> None:
        self._find = find
        self._room = room
        self._report = report
        self._ended = ended
        self._message_bytes_max = message_bytes_max

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio; called by whoever hands a transport over, too."""
        peer = transport.get_extra_info("peername")
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = cast("asyncio.Transport", transport)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = math.inf
        self._taken_by_s = math.inf
        self._close_by_s = math.inf
        self._holding: Holding | None = None
        self._calls = GrpcCalls(
            self._find,
            client=peer[0] if isinstance(peer, tuple) else "",
            certificate=transport.get_extra_info("peercert"),
            report=self._report,
            monotonic_s=self._loop.time,
            has_room=self._has_room,
            ended=self._ended,
            message_bytes_max=self._message_bytes_max,
        )
        self._connection = Http2Connection(
            self._calls.accept, self._flush_soon, aside=TIMEOUT_FIELD, monotonic_s=self._loop.time
        )
        self._flush()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._calls.is_full = not self._room.has_room() or self._connection.out.queued_bytes > QUEUED_BYTES_MAX
        self._connection.receive(data)
        self._flush()

    def eof_received(self) -> bool:
        """See asyncio: who has sent all is answered nothing more, as nobody of gRPC's clients closes one half."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's
        """See asyncio."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._holding is not None:
            self._holding.close()
            self._holding = None
        self._calls.has_room = none_there
        self._connection.lost()

    def pause_writing(self) -> None:
        """See asyncio."""
        self._connection.out.is_taking = False
        if self._transport is not None:
            self._transport.pause_reading()
            size_bytes = self._transport.get_write_buffer_size()
            self._taken_by_s = self._loop.time() + PATIENCE_S + size_bytes / SLOWEST_BYTES_PER_S
            self._arm(self._taken_by_s)

    def resume_writing(self) -> None:
        """See asyncio."""
        self._connection.out.is_taking = True
        self._taken_by_s = math.inf
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._flush()

    # --- for whoever serves

    def idle_since_s(self) -> float | None:
        """Since when no call is open (monotonic); ``None`` while one is."""
        return self._connection.idle_since_s

    def give_way(self) -> None:
        """Let the connection end, once what is under way is answered."""
        self._connection.leave()

    def refuse(self, why: str) -> None:
        """End before anything was asked; the client may ask it elsewhere."""
        self._connection.refuse(why)
        self._flush()

    def leave(self, within_s: float) -> None:
        """The same, since the server ends: calls that take longer than ``within_s`` are ended, and told."""
        self._connection.leave()
        self._loop.call_later(within_s, self._calls.end_all, GrpcStatus.UNAVAILABLE, "the server is shutting down")

    def abandon(self) -> None:
        """End at once."""
        if self._transport is not None:
            self._transport.abort()

    # --- one turn

    def _flush_soon(self) -> None:
        if self._transport is not None:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Write what there is to write, and see to what that means."""
        transport, connection = self._transport, self._connection
        if transport is None or transport.is_closing() or not connection.out.is_taking or self._close_by_s < math.inf:
            return
        data = connection.take()
        if data:
            transport.write(data)
        if self._held_bytes > COUNTED_BYTES or self._holding is not None:
            self._count(self._held_bytes)
        if connection.is_over:
            self._close()
        if connection.due_s < self._timer_s:
            self._arm(connection.due_s)

    def _close(self) -> None:
        assert self._transport is not None
        self._close_by_s = self._loop.time() + CLOSED_WITHIN_S
        self._arm(self._close_by_s)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    @property
    def _held_bytes(self) -> int:
        return self._connection.held_bytes + self._calls.held_bytes

    def _has_room(self, size_bytes: int) -> bool:
        """May so much more wait for this client? Then it is counted at once: many may be answered in one turn."""
        # Whoever is slow is let go for it, and that may be this very client.
        if not self._room.has_room(size_bytes) or self._transport is None or self._transport.is_closing():
            return False
        self._count(self._held_bytes + size_bytes)
        return True

    def _count(self, held_bytes: int) -> None:
        """Tell ``room`` what is held for this client."""
        out = self._connection.out
        if self._holding is None:
            self._holding = self._room.hold(self.abandon)
            self._held_from_bytes = out.sent_bytes
        self._holding.grow(held_bytes - self._holding.held_bytes)
        self._holding.moved(out.sent_bytes - self._held_from_bytes)
        if held_bytes <= COUNTED_BYTES:
            self._holding.close()
            self._holding = None

    def _arm(self, when_s: float) -> None:
        if when_s < self._timer_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_s = when_s
            self._timer = self._loop.call_at(when_s, self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_s = None, math.inf
        if self._transport is None:
            return
        if self._loop.time() >= min(self._close_by_s, self._taken_by_s):
            self.abandon()
            return
        self._connection.tick()
        self._arm(min(self._connection.due_s, self._close_by_s, self._taken_by_s))
        self._flush()
