"""The gunicorn worker: gunicorn's own, with another connection. Imported by gunicorn only.

Before gunicorn's parser sees anything, ``plain`` answers what it knows; the rest goes the general way. A client that
has sent all it wanted and closed its half of the connection is still answered, what it asked before that included. How
many connections there are is counted by ``room``, which gunicorn leaves to whoever writes the worker: one too many is
answered 429 unless it asks after health.
"""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import Callable, Iterable
from typing import Any

import uvloop
from gunicorn.arbiter import Arbiter
from gunicorn.workers import gasgi

from raftkv.core.config import Address
from raftkv.core.listening import BACKLOG
from raftkv.http.door import plain
from raftkv.http.door.beside import HTTP2, HTTP2_PREFACE, SecondConnection
from raftkv.http.door.general import GeneralConnection
from raftkv.http.door.room import Seats
from raftkv.http.messages import HttpResponse
from raftkv.process import streams
from raftkv.process.garbage import collect_rarely

HANDSHAKE_WITHIN_S = 5.0
"""A TLS handshake that takes longer is given up: until it is over, its connection is counted nowhere."""

HEADERS_WITHIN_S = 30.0
"""A connection that sent no whole request header within this time is closed."""

LEAVING_S = 1.0
"""How long calls of HTTP/2 that are under way have when the worker ends."""

REST_WITHIN_S = 0.25
"""Clients that send a body in a piece of its own send it at once; one that does not has the general way's patience."""

_OF_AN_OPEN_CONNECTION = (
    "transport",
    "writer",
    "_task",
    "_callback_parser",
    "_current_request",
    "_body_receiver",
    "_flow_control",
    "_plain",
)


class Protocol(GeneralConnection):
    """One client connection."""

    _silence: asyncio.TimerHandle | None = None
    _rest: asyncio.TimerHandle | None = None
    _second: SecondConnection | None = None
    """Who has this connection, since it speaks HTTP/2."""

    _is_new = True
    """Has nothing been asked yet that is for the general way, nor was HTTP/1 agreed on?"""

    _preface = b""
    """What came so far of what a client of HTTP/2 says first."""

    _answered_s = -math.inf
    """When something was last answered before gunicorn saw it."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """See asyncio."""
        peer = transport.get_extra_info("peername")
        self._client = peer[0] if peer else ""
        self._plain = plain.PlainConnection(self)
        self._is_spare = not self.worker.seats.enter(self)
        tls = transport.get_extra_info("ssl_object")
        protocol = None if tls is None else tls.selected_alpn_protocol()
        if protocol == HTTP2:
            self.connection_kept(transport)
            self._hand_over()
            return
        self._is_new = protocol is None
        super().connection_made(transport)
        self._silence = self.worker.loop.call_later(HEADERS_WITHIN_S, self._close_if_silent)
        if self._is_spare:
            self._keepalive = 0

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio. Nothing outlives its connection: no timer, and no cycle that only a full collection finds."""
        self.worker.seats.leave(self)
        if self._second is not None:
            self.worker.second.discard(self._second)
            self._second.connection_lost(exc)
            self._second = None
        self._plain.close()
        for timer in (self._silence, self._reading, self._rest):
            if timer is not None:
                timer.cancel()
        for holding in (self._incoming, self._unread):
            if holding is not None:
                holding.close()
        self._silence = self._reading = self._rest = self._incoming = self._unread = self._on_half_closed = None
        super().connection_lost(exc)
        if self._task is None or self._task.done():
            self._unlink()
        else:
            self._task.add_done_callback(self._unlink)

    def _unlink(self, _: object = None) -> None:
        """Let go of everything that knows this connection, when nothing runs on it any more."""
        for name in _OF_AN_OPEN_CONNECTION:
            setattr(self, name, None)

    def idle_since_s(self) -> float | None:
        """See ``Seated``."""
        if self._second is not None:
            return self._second.idle_since_s()
        if self._current_request is not None or self._plain.is_busy:
            return None
        if self._keepalive_handle is not None:
            return max(float(self._keepalive_handle.when()) - self._keepalive, self._answered_s)
        return None if self._silence is None else float(self._silence.when()) - HEADERS_WITHIN_S

    def give_way(self) -> None:
        """See ``Seated``."""
        if self._second is not None:
            self._second.give_way()
        else:
            self._close_idle()

    def _close_if_silent(self) -> None:
        self._silence = None
        is_known = self.req_count > 1 or self._answered_s > -math.inf
        if not is_known and not self._plain.is_busy and self._current_request is None and not self._closed:
            self._close_idle()

    def _keepalive_timeout(self) -> None:
        """Called when gunicorn has asked nothing of this connection for long; ``plain`` may have."""
        left_s = self._answered_s + self._keepalive - self.worker.loop.time()
        if self._plain.is_busy or self._current_request is not None or left_s > 0:
            self._keepalive_handle = self.worker.loop.call_later(max(left_s, 1.0), self._keepalive_timeout)
        else:
            self._close_idle()

    def _close_idle(self) -> None:
        super()._keepalive_timeout()

    # --- what is answered before gunicorn sees it: see ``plain.Carrier``

    def pause_writing(self) -> None:
        """See asyncio."""
        if self._second is not None:
            self._second.pause_writing()
        else:
            super().pause_writing()

    def resume_writing(self) -> None:
        """See asyncio."""
        if self._second is not None:
            self._second.resume_writing()
        else:
            super().resume_writing()
            self._plain.go_on()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._second is not None:
            self._second.data_received(data)
        elif self._preface:
            data, self._preface = self._preface + data, b""
            self._plain.received(data)
        else:
            self._plain.received(data)

    @property
    def may_answer(self) -> bool:
        """See ``Carrier``."""
        return (
            self._current_request is None
            and not self._head_bytes
            and not self._is_spare
            and not self._closed
            and bool(self.worker.alive)
        )

    def take(self, request: plain.PlainRequest, respond: Callable[[HttpResponse], None]) -> bool:
        """See ``Carrier``."""
        return bool(self.app.answer(request, self._client, self._certificate, respond))

    def write(self, response: HttpResponse, method: str) -> None:
        """See ``Carrier``."""
        is_last = not self.worker.alive
        self._write_whole(response, method, is_last=is_last)
        self._answered_s = self.worker.loop.time()
        if is_last:
            self._close_idle()
        elif self._all_is_sent:
            self.worker.loop.call_soon(self._close_if_done)
        elif self._keepalive_handle is None:
            self._arm_keepalive_timer()

    def hold(self, size_bytes: int) -> None:
        """See ``Carrier``."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if size_bytes:
            self._pause_reading()
        else:
            self._resume_reading()
        if size_bytes or self._incoming is not None:
            self._count(size_bytes)

    def await_rest(self, size_bytes: int) -> None:
        """See ``Carrier``."""
        if self._rest is None:
            self._rest = self.worker.loop.call_later(REST_WITHIN_S, self._plain.give_up)
        self._count(size_bytes)

    def pass_on(self, data: bytes) -> None:
        """See ``Carrier``."""
        if self._is_new and self._answered_s == -math.inf:
            if data.startswith(HTTP2_PREFACE) and self._hand_over():
                self.data_received(data)
                return
            if HTTP2_PREFACE.startswith(data):
                self._preface = data
                return
        self._is_new = False
        super().data_received(data)
        self._close_if_done()

    def _hand_over(self) -> bool:
        """Let who speaks HTTP/2 have the connection, if anybody does."""
        second = self.app.second()
        if second is None:
            return False
        for timer in (self._silence, self._keepalive_handle):
            if timer is not None:
                timer.cancel()
        self._silence = self._keepalive_handle = None
        self._second = second
        self.worker.second.add(second)
        second.connection_made(self.transport)
        if self._is_spare:
            second.refuse(f"there are {self.worker.nr_conns} connections already")
        return True

    def go_on_later(self) -> None:
        """See ``Carrier``."""
        self.worker.loop.call_soon(self._plain.go_on)

    def _close_if_done(self) -> None:
        """Nothing more can come, and nothing of what came is under way."""
        if self._all_is_sent and self._plain is not None and not self._plain.is_busy and self._current_request is None:
            self._close_idle()

    # --- the rest of gunicorn's

    def eof_received(self) -> bool:
        """See asyncio: true keeps the connection open for answers; TLS has no such thing as half a connection."""
        if self._second is not None:
            return self._second.eof_received()
        self._plain.end()
        if self._is_ssl or (self._current_request is None and not self._plain.is_busy):
            return False
        self._all_is_sent = True
        self._end_a_body_cut_short()
        if self._on_half_closed is not None:
            self._on_half_closed()
        return True

    def _arm_keepalive_timer(self) -> None:
        """Called when everything that was asked is answered: nothing more can come from who has sent it all."""
        if self._all_is_sent:
            self._close_if_done()
        else:
            super()._arm_keepalive_timer()


def leave_all(connections: Iterable[SecondConnection]) -> None:
    """The worker ends: what takes longer than it has is ended, and told."""
    for one in tuple(connections):
        one.leave(LEAVING_S)


class _Loop(uvloop.Loop):
    """uvloop's loop, in which a listener waits for TLS handshakes no longer than it must, and has room for a crowd."""

    async def create_server(self, *arguments: Any, **more: Any) -> Any:
        """See asyncio. Here the worker begins to listen: the application has started by now."""
        listener = more["sock"]
        try:
            listener.listen(BACKLOG)  # uvloop does so as well, but keeps to itself that it could not
        except OSError as error:  # another is bound there too, as is possible until one listens, and was first
            address = Address(*listener.getsockname()[:2])
            streams.last_words(f"http: cannot listen on {address}: {error.strerror}\n")
            raise SystemExit(Arbiter.WORKER_BOOT_ERROR) from None
        if more.get("ssl") is not None:
            more["ssl_handshake_timeout"] = HANDSHAKE_WITHIN_S
        return await super().create_server(*arguments, **more, backlog=BACKLOG)


class Worker(gasgi.ASGIWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """The ASGI worker with that protocol, which it looks up by this very name."""

    def init_process(self) -> None:
        """See gunicorn."""
        gasgi.ASGIProtocol = Protocol
        super().init_process()

    def init_signals(self) -> None:
        """See gunicorn."""
        super().init_signals()
        self.loop.add_signal_handler(signal.SIGHUP, self.app.renew_certificates)

    def run(self) -> None:
        """See gunicorn; the application is loaded by now."""
        collect_rarely()
        super().run()

    def notify(self) -> None:
        """See gunicorn, which calls it as soon as all listen, and every second from then on."""
        self.app.listens()
        super().notify()

    async def _shutdown(self) -> None:
        """Streams have no end to wait for, and who waits for others waits no longer."""
        self.asgi.leave()
        leave_all(self.second)
        await super()._shutdown()

    def _setup_event_loop(self) -> None:
        self.loop = _Loop()
        asyncio.set_event_loop(self.loop)
        self.seats = Seats(self.worker_connections, monotonic_s=self.loop.time)
        self.second: set[SecondConnection] = set()
