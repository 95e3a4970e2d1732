"""The gunicorn worker: gunicorn's own, but what its parser refuses leaves as a problem too. Imported by gunicorn only.

gunicorn answers a request that it cannot parse by itself, as plain text, before any application sees it. Here those
answers take the form that every other error has. A client that has sent all it wanted and closed its half of the
connection is still answered, what it asked before that included. A stream reaches its connection here (``Line``). What
connections hold, and how many there are, is
counted by ``room``, which gunicorn leaves to whoever writes the worker: one too many is answered 429 unless it asks
after health. Before gunicorn's parser sees anything, ``plain`` answers what it knows.
"""

from __future__ import annotations

import asyncio
import math
import signal
import socket
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

import uvloop
from gunicorn.asgi import protocol
from gunicorn.workers import gasgi

from raftkv.core.errors import Code
from raftkv.http.door import plain
from raftkv.http.door.carrying import HEALTH_PATHS
from raftkv.http.door.room import PATIENCE_S, SLOWEST_BYTES_PER_S, Holding, Seats
from raftkv.http.door.streaming import CERTIFICATE_KEY, LINE_KEY
from raftkv.http.messages import Headers, HttpResponse
from raftkv.http.problems import internal_error, problem
from raftkv.process.garbage import collect_rarely

_CODES = {413: Code.VALUE_TOO_LARGE, 414: Code.KEY_TOO_LARGE, 431: Code.HEADERS_TOO_LARGE, 501: Code.NOT_IMPLEMENTED}
HEAD_BYTES_MAX = 64 << 10
"""All headers of a request together."""

CHUNK_BYTES_MAX = 64 << 20
"""No body of any route, here or at the proxy, is larger than this."""

HANDSHAKE_WITHIN_S = 5.0
"""A TLS handshake that takes longer is given up: until it is over, its connection is counted nowhere."""

_RESET = struct.pack("ii", 1, 0)
_LONG_HEAD = f"its headers are longer than {HEAD_BYTES_MAX} bytes"
HEADERS_WITHIN_S = 30.0
"""A connection that sent no whole request header within this time is closed."""
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


def _framed(chunk: bytes) -> bytes:
    """A chunk of a chunked body (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(chunk), chunk)


_SHORT_CHUNK_BYTES: Final = 64 << 10
_framed_once = lru_cache(maxsize=4)(_framed)
"""The same chunk often goes to thousands, one after another."""


class Protocol(protocol.ASGIProtocol):  # type: ignore[misc]  # gunicorn has no annotations
    """One client connection."""

    _closed: bool
    _response_buffer: bytes | None
    _all_is_sent = False
    _silence: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _is_spare = False
    _head_bytes = 0
    _incoming: Holding | None = None
    _unread: Holding | None = None
    _on_half_closed: Callable[[], None] | None = None
    _answered_s = -math.inf
    """When something was last answered before gunicorn saw it."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """See asyncio."""
        peer = transport.get_extra_info("peername")
        self._client = peer[0] if peer else ""
        self._plain = plain.PlainConnection(self)
        self._is_spare = not self.worker.seats.enter(self)
        super().connection_made(transport)
        self._silence = self.worker.loop.call_later(HEADERS_WITHIN_S, self._close_if_silent)
        if self._is_spare:
            self._keepalive = 0

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio. Nothing outlives its connection: no timer, and no cycle that only a full collection finds."""
        self.worker.seats.leave(self)
        self._plain.close()
        for timer in (self._silence, self._reading):
            if timer is not None:
                timer.cancel()
        for holding in (self._incoming, self._unread):
            if holding is not None:
                holding.close()
        self._silence = self._reading = self._incoming = self._unread = self._on_half_closed = None
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
        if self._current_request is not None or self._plain.is_busy:
            return None
        if self._keepalive_handle is not None:
            return max(float(self._keepalive_handle.when()) - self._keepalive, self._answered_s)
        return None if self._silence is None else float(self._silence.when()) - HEADERS_WITHIN_S

    def give_way(self) -> None:
        """See ``Seated``."""
        self._close_idle()

    def _abandon(self) -> None:
        """End at once, whatever is still to be sent."""
        if self.transport is not None:
            self.transport.abort()

    def pause_writing(self) -> None:
        """See asyncio: the client takes its answer more slowly than it came, and somebody has to hold it."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.app.room.hold(self._abandon, self.transport.get_write_buffer_size)
            self._reading = self.worker.loop.call_later(PATIENCE_S, self._end_if_not_read)

    def resume_writing(self) -> None:
        """See asyncio."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.close()
            self._unread = None
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        self._plain.go_on()

    def _end_if_not_read(self) -> None:
        assert self._unread is not None
        self._unread.refresh()
        if self._unread.is_slow(self.worker.loop.time(), patience_s=0, bytes_per_s=SLOWEST_BYTES_PER_S):
            self._abandon()
        else:
            self._reading = self.worker.loop.call_later(PATIENCE_S, self._end_if_not_read)

    def _close_if_silent(self) -> None:
        self._silence = None
        is_known = self.req_count > 1 or self._answered_s > -math.inf
        if not is_known and not self._plain.is_busy and self._current_request is None and not self._closed:
            self._close_idle()

    def _keepalive_timeout(self) -> None:
        """Called when gunicorn has asked nothing of this connection for long; ``plain`` may have."""
        left_s = self._answered_s + self._keepalive - self.worker.loop.time()
        if self._plain.is_busy or left_s > 0:
            self._keepalive_handle = self.worker.loop.call_later(max(left_s, 1.0), self._keepalive_timeout)
        else:
            self._close_idle()

    def _close_idle(self) -> None:
        super()._keepalive_timeout()

    # --- what is answered before gunicorn sees it: see ``plain.Carrier``

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
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
        return bool(self.app.answer(request, self._client, respond))

    def write(self, response: HttpResponse, method: str) -> None:
        """See ``Carrier``: as gunicorn writes an answer, its own fields last."""
        is_last = not self.worker.alive
        closing = protocol._CACHED_SERVER_HEADER + protocol._get_cached_date_header()  # noqa: SLF001  the very same
        closing += b"Connection: close\r\n\r\n" if is_last else b"\r\n"
        try:
            head, body = plain.written(response, method, closing)
        except ValueError as error:
            self.log.error("defect in an answer to %s: %s", method, error)  # noqa: TRY400  one line
            head, body = plain.written(internal_error(method), method, closing)
        if len(body) < plain.WHOLE_BYTES:
            self._safe_write(head + body)
        else:
            self._safe_write(head)
            self._safe_write(body)
        self._answered_s = self.worker.loop.time()
        if is_last:
            self._close_idle()
        elif self._all_is_sent:
            self.worker.loop.call_soon(self._close_if_done)
        elif self._keepalive_handle is None:
            self._arm_keepalive_timer()

    def hold(self, size_bytes: int) -> None:
        """See ``Carrier``."""
        if size_bytes:
            self._pause_reading()
        else:
            self._resume_reading()
        if size_bytes or self._incoming is not None:
            self._count(size_bytes)

    def pass_on(self, data: bytes) -> None:
        """See ``Carrier``."""
        super().data_received(data)
        self._close_if_done()

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
        if self._is_ssl or (self._current_request is None and not self._plain.is_busy):
            return False
        self._all_is_sent = True
        self._end_a_body_cut_short()
        if self._on_half_closed is not None:
            self._on_half_closed()
        return True

    def _build_http_scope(self, request: object, sockname: object, peername: object) -> dict[str, Any]:
        scope: dict[str, Any] = super()._build_http_scope(request, sockname, peername)
        scope["extensions"] = {LINE_KEY: self}
        if self._is_ssl and self.cfg.ca_certs:
            scope["extensions"][CERTIFICATE_KEY] = common_name(self.transport.get_extra_info("peercert"))
        return scope

    def begin_wait(self, half_closed: Callable[[], None]) -> None:
        """See ``Asker``."""
        self._on_half_closed = half_closed
        if self._all_is_sent:
            self.worker.loop.call_soon(half_closed)

    def probe(self) -> None:
        """See ``Asker``: an interim response, which clients pass over (RFC 9110, section 15.2); not in HTTP/1.0."""
        if not self._closed and self._current_request is not None and self._current_request.version >= (1, 1):
            self._safe_write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def end_wait(self) -> None:
        """See ``Asker``."""
        self._on_half_closed = None

    def begin_stream(self, half_closed: Callable[[], None]) -> None:
        """See ``Line``. HTTP/1.0 knows the end of such a body by that of the connection (RFC 9112, section 6.3)."""
        if self._current_request.version < (1, 1):
            self._current_request.must_close = True
        self.begin_wait(half_closed)

    def flush_head(self) -> None:
        """See ``Line``."""
        if self._response_buffer and not self._closed:
            head, self._response_buffer = self._response_buffer, None
            self._safe_write(head)

    @property
    def is_taking(self) -> bool:
        """See ``Line``."""
        return not self._closed and self._flow_control is not None and not self._flow_control.write_paused

    def write_chunk(self, chunk: bytes) -> bool:
        """See ``Line``."""
        if self._closed:
            return False
        is_short = len(chunk) <= _SHORT_CHUNK_BYTES
        is_chunked = self._current_request.version >= (1, 1)
        self._safe_write((_framed_once if is_short else _framed)(chunk) if is_chunked else chunk)
        return self.is_taking

    async def taken(self) -> None:
        """See ``Line``."""
        if self._flow_control is not None:
            await self._flow_control.drain()

    end_stream = end_wait

    def cut(self) -> None:
        """See ``Line``: a chunked body lacks its end, any other needs a reset."""
        if self._closed:
            return
        if self._current_request is not None and self._current_request.version < (1, 1):
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._abandon()
            self._closed = True
        else:
            self._close_transport()

    def _end_a_body_cut_short(self) -> None:
        """Wait for no body whose end cannot come any more, of this request or of one that waited behind it."""
        receiver = self._body_receiver
        if self._all_is_sent and receiver is not None and not receiver._complete:  # noqa: SLF001  told nowhere else
            receiver.signal_disconnect()

    def _arm_keepalive_timer(self) -> None:
        """Called when everything that was asked is answered: nothing more can come from who has sent it all."""
        if self._all_is_sent:
            self._close_if_done()
        else:
            super()._arm_keepalive_timer()

    def _on_headers_complete(self) -> bool:
        """Called by the parser, which refuses what is raised here."""
        if self._head_bytes > HEAD_BYTES_MAX:
            headers = self._callback_parser.headers
            if sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_BYTES_MAX:
                raise protocol.LimitRequestHeaders(_LONG_HEAD)
        self._head_bytes = 0
        super()._on_headers_complete()
        if self._is_spare and self._callback_parser.path.partition(b"?")[0] not in HEALTH_PATHS:
            self._answer(problem(Code.OVERLOADED, f"there are {self.worker.nr_conns} connections already"))
            self._close_transport()
        return False

    def _feed_callback_parser(self, data: bytes) -> bool:
        """Called with every piece that arrives: what gunicorn's parser chokes on is a bad request as well."""
        if self._current_request is None:
            self._head_bytes += len(data)
        try:
            fed: bool = super()._feed_callback_parser(data)
        except ValueError:  # a Content-Length of more digits than Python converts
            self._send_error_response(400, "it is malformed")
            self._close_transport()
            return False
        if fed and not self._is_settled:
            fed = self._check_pending()
        if self._all_is_sent:
            self._end_a_body_cut_short()
        return fed

    @property
    def _is_settled(self) -> bool:
        """Did all that came become a request, so that nothing is to be counted? Mostly, and this is quick to tell."""
        parser = self._callback_parser
        return (
            self._current_request is not None
            and self._incoming is None
            and not parser._buffer  # noqa: SLF001  told nowhere else
            and not parser.is_chunked
        )

    def _check_pending(self) -> bool:
        """Count what waits to become a request, and refuse what can become none."""
        parser = self._callback_parser
        if self._current_request is None:
            pending_bytes = self._head_bytes
            if pending_bytes > HEAD_BYTES_MAX + self.cfg.limit_request_line:
                self._send_error_response(431, _LONG_HEAD)
                self._close_transport()
                return False
        else:
            pending_bytes = len(parser._buffer)  # noqa: SLF001  told nowhere else
            if parser.is_chunked and parser._chunk_size > CHUNK_BYTES_MAX:  # noqa: SLF001
                self._send_error_response(413, f"a chunk of more than {CHUNK_BYTES_MAX} bytes")
                self._close_transport()
                return False
        if pending_bytes or self._incoming is not None:
            self._count(pending_bytes)
        return True

    def _count(self, pending_bytes: int) -> None:
        if self._incoming is None:
            self._incoming = self.app.room.hold(self._abandon)
        self._incoming.grow(pending_bytes - self._incoming.held_bytes)
        self._incoming.moved(pending_bytes)
        if not pending_bytes:
            self._incoming.close()
            self._incoming = None
        elif not self.app.room.has_room():
            self._abandon()

    def _is_websocket_upgrade(self, request: object) -> bool:  # noqa: ARG002  gunicorn's signature
        """Nothing here speaks WebSocket: the wish to change protocols is not heeded (RFC 9110, section 7.8)."""
        return False

    def _send_error_response(self, status: int, message: str, extra_headers: tuple[tuple[str, str], ...] = ()) -> None:
        if status == 500:
            response = internal_error("")  # whose method was not read
        else:
            response = problem(_CODES.get(status, Code.BAD_REQUEST), f"the request cannot be read: {message}")
        self._answer(response, tuple((name.encode(), value.encode()) for name, value in extra_headers))

    def _answer(self, response: HttpResponse, extra: Headers = ()) -> None:
        lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}".encode()]
        body = response.body
        assert isinstance(body, bytes)
        length = (b"content-length", b"%d" % len(body))
        for name, value in (*response.headers, *extra, length, (b"connection", b"close")):
            lines.append(name + b": " + value)
        self._safe_write(b"\r\n".join(lines) + b"\r\n\r\n" + body)


class _Loop(uvloop.Loop):
    """uvloop's loop, in which a listener waits for TLS handshakes no longer than it must."""

    async def create_server(self, *arguments: Any, **more: Any) -> Any:
        """See asyncio."""
        if more.get("ssl") is not None:
            more["ssl_handshake_timeout"] = HANDSHAKE_WITHIN_S
        return await super().create_server(*arguments, **more)


def common_name(certificate: Mapping[str, Any] | None) -> str:
    """The one common name of a certificate's subject, as OpenSSL tells it; empty if there is none, or several."""
    subject = () if certificate is None else certificate.get("subject", ())
    names = [value for part in subject for kind, value in part if kind == "commonName"]
    return names[0] if len(names) == 1 else ""


class Worker(gasgi.ASGIWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """The ASGI worker with that protocol, which it looks up by this very name."""

    def init_process(self) -> None:
        """See gunicorn."""
        gasgi.ASGIProtocol = Protocol
        # gunicorn knows the phrases of the statuses it answers itself, and says "Unknown" to the others.
        for status in HTTPStatus:
            protocol._REASON_PHRASES.setdefault(status.value, status.phrase)  # noqa: SLF001  there is no other way
        super().init_process()

    def init_signals(self) -> None:
        """See gunicorn."""
        super().init_signals()
        self.loop.add_signal_handler(signal.SIGHUP, self.app.renew_certificates)

    def run(self) -> None:
        """See gunicorn; the application is loaded by now."""
        collect_rarely()
        super().run()

    async def _shutdown(self) -> None:
        """Streams have no end to wait for, and who waits for others waits no longer."""
        self.asgi.leave()
        await super()._shutdown()

    def _setup_event_loop(self) -> None:
        self.loop = _Loop()
        asyncio.set_event_loop(self.loop)
        self.seats = Seats(self.worker_connections, monotonic_s=self.loop.time)
