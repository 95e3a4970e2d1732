"""The gunicorn worker: gunicorn's own, but what its parser refuses leaves as a problem too. Imported by gunicorn only.

gunicorn answers a request that it cannot parse by itself, as plain text, before any application sees it. Here those
answers take the form that every other error has, and an unknown transfer coding is the client's mistake (400). A client
that has sent all it wanted and closed its half of the connection is still answered, what it asked before that included.
One that connects when ``worker_connections`` are there already is told so at once and let go, so that the others are
served, which gunicorn leaves to whoever writes the worker.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from gunicorn.asgi import protocol
from gunicorn.workers import gasgi

from raftkv.core.errors import Code
from raftkv.http.messages import Headers, HttpResponse
from raftkv.http.problems import internal_error, problem

_CODES = {414: Code.KEY_TOO_LARGE}
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
)


class Protocol(protocol.ASGIProtocol):  # type: ignore[misc]  # gunicorn has no annotations
    """One client connection."""

    _all_is_sent = False
    _silence: asyncio.TimerHandle | None = None

    def connection_made(self, transport: object) -> None:
        """See asyncio."""
        if self.worker.nr_conns >= self.worker.worker_connections:
            self._turn_away(transport)
            return
        super().connection_made(transport)
        self._silence = self.worker.loop.call_later(HEADERS_WITHIN_S, self._close_if_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio. Nothing outlives its connection: no timer, and no cycle that only a full collection finds."""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        super().connection_lost(exc)
        if self._task is None or self._task.done():
            self._unlink()
        else:
            self._task.add_done_callback(self._unlink)

    def _unlink(self, _: object = None) -> None:
        """Let go of everything that knows this connection, when nothing runs on it any more."""
        for name in _OF_AN_OPEN_CONNECTION:
            setattr(self, name, None)

    def _turn_away(self, transport: object) -> None:
        self.transport = transport
        self._conn_lost_handled = True  # it was never counted
        self._answer(problem(Code.OVERLOADED, f"there are {self.worker.nr_conns} connections already"))
        self._close_transport()

    def _close_if_silent(self) -> None:
        self._silence = None
        if self.req_count <= 1 and self._current_request is None and not self._closed:
            self._keepalive_timeout()

    def eof_received(self) -> bool:
        """See asyncio: true keeps the connection open for answers; TLS has no such thing as half a connection."""
        if self._is_ssl or self._current_request is None:
            return False
        self._all_is_sent = True
        self._end_a_body_cut_short()
        return True

    def _end_a_body_cut_short(self) -> None:
        """Wait for no body whose end cannot come any more, of this request or of one that waited behind it."""
        receiver = self._body_receiver
        if self._all_is_sent and receiver is not None and not receiver._complete:  # noqa: SLF001  told nowhere else
            receiver.signal_disconnect()

    def _arm_keepalive_timer(self) -> None:
        """Called when everything that was asked is answered: nothing more can come from who has sent it all."""
        if self._all_is_sent:
            self._keepalive_timeout()
        else:
            super()._arm_keepalive_timer()

    def _feed_callback_parser(self, data: bytes) -> bool:
        """Called with every piece that arrives: what gunicorn's parser chokes on is a bad request as well."""
        try:
            fed: bool = super()._feed_callback_parser(data)
        except ValueError:  # a Content-Length of more digits than Python converts
            self._send_error_response(400, "it is malformed")
            self._close_transport()
            return False
        self._end_a_body_cut_short()
        return fed

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
        length = (b"content-length", b"%d" % len(response.body))
        for name, value in (*response.headers, *extra, length, (b"connection", b"close")):
            lines.append(name + b": " + value)
        self._safe_write(b"\r\n".join(lines) + b"\r\n\r\n" + response.body)


class Worker(gasgi.ASGIWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """The ASGI worker with that protocol, which it looks up by this very name."""

    def init_process(self) -> None:
        """See gunicorn."""
        gasgi.ASGIProtocol = Protocol
        # gunicorn knows the phrases of the statuses it answers itself, and says "Unknown" to the others.
        for status in HTTPStatus:
            protocol._REASON_PHRASES.setdefault(status.value, status.phrase)  # noqa: SLF001  there is no other way
        super().init_process()
