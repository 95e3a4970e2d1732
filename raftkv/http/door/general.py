"""The general way: gunicorn's protocol, bounded, and speaking in problems.

gunicorn answers a request that it cannot parse by itself, as plain text, before any application sees it. Here those
answers take the form that every other error has. A stream reaches its connection here (``Line``). What connections
hold is counted by ``room``, which gunicorn leaves to whoever writes the worker.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

from gunicorn.asgi import protocol
from msgspec import structs

from raftkv.core.errors import Code
from raftkv.http.door import plain
from raftkv.http.door.carrying import HEALTH_PATHS
from raftkv.http.door.room import PATIENCE_S, SLOWEST_BYTES_PER_S, Holding
from raftkv.http.door.streaming import CERTIFICATE_KEY, LINE_KEY
from raftkv.http.messages import HttpResponse
from raftkv.http.problems import internal_error, problem

_CODES = {413: Code.VALUE_TOO_LARGE, 414: Code.KEY_TOO_LARGE, 431: Code.HEADERS_TOO_LARGE, 501: Code.NOT_IMPLEMENTED}
HEAD_BYTES_MAX = 64 << 10
"""All headers of a request together."""

CHUNK_BYTES_MAX = 64 << 20
"""No body of any route, here or at the proxy, is larger than this."""

_RESET = struct.pack("ii", 1, 0)
_LONG_HEAD = f"its headers are longer than {HEAD_BYTES_MAX} bytes"

# gunicorn does not know every status, and some by another phrase than what is written before it sees a request.
protocol._REASON_PHRASES.update({status.value: status.phrase for status in HTTPStatus})  # noqa: SLF001  no other way


def _framed(chunk: bytes) -> bytes:
    """A chunk of a chunked body (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(chunk), chunk)


_SHORT_CHUNK_BYTES: Final = 64 << 10
_framed_once = lru_cache(maxsize=4)(_framed)
"""The same chunk often goes to thousands, one after another."""


class GeneralConnection(protocol.ASGIProtocol):  # type: ignore[misc]  # gunicorn has no annotations
    """One client connection, as far as it is gunicorn's; ``worker.Protocol`` is the whole of it."""

    _closed: bool
    _response_buffer: bytes | None
    _all_is_sent = False
    """Has the client closed its half?"""

    _is_spare = False
    _head_bytes = 0
    _reading: asyncio.TimerHandle | None = None
    _incoming: Holding | None = None
    _unread: Holding | None = None
    _on_half_closed: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """See asyncio; a TLS handshake is over by now."""
        super().connection_made(transport)
        is_shown = self._is_ssl and self.cfg.ca_certs
        self._certificate = common_name(transport.get_extra_info("peercert")) if is_shown else ""

    def connection_kept(self, transport: asyncio.Transport) -> None:
        """A connection that gunicorn has no part in, save that it counts it."""
        self.transport = transport
        self.worker.nr_conns += 1
        self._is_ssl = True

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

    def _end_if_not_read(self) -> None:
        assert self._unread is not None
        self._unread.refresh()
        if self._unread.is_slow(self.worker.loop.time(), patience_s=0, bytes_per_s=SLOWEST_BYTES_PER_S):
            self._abandon()
        else:
            self._reading = self.worker.loop.call_later(PATIENCE_S, self._end_if_not_read)

    # --- an answer that is no piece of bytes: see ``Asker`` and ``Line``

    def _build_http_scope(self, request: object, sockname: object, peername: object) -> dict[str, Any]:
        scope: dict[str, Any] = super()._build_http_scope(request, sockname, peername)
        scope["extensions"] = {LINE_KEY: self}
        if self._certificate:
            scope["extensions"][CERTIFICATE_KEY] = self._certificate
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

    # --- what comes in

    def _on_headers_complete(self) -> bool:
        """Called by the parser, which refuses what is raised here."""
        if self._head_bytes > HEAD_BYTES_MAX:
            headers = self._callback_parser.headers
            if sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_BYTES_MAX:
                raise protocol.LimitRequestHeaders(_LONG_HEAD)
        self._head_bytes = 0
        super()._on_headers_complete()
        if self._is_spare and self._callback_parser.path.partition(b"?")[0] not in HEALTH_PATHS:
            refusal = problem(Code.OVERLOADED, f"there are {self.worker.nr_conns} connections already")
            self._write_whole(refusal, self._current_request.method, is_last=True)
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
        more = tuple([(name.encode(), value.encode()) for name, value in extra_headers])
        self._write_whole(structs.replace(response, headers=response.headers + more), "", is_last=True)

    def _write_whole(self, response: HttpResponse, method: str, *, is_last: bool) -> None:
        """Write an answer to ``method`` past gunicorn, as it writes one: its own fields last."""
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


def common_name(certificate: Mapping[str, Any] | None) -> str:
    """The one common name of a certificate's subject, as OpenSSL tells it; empty if there is none, or several."""
    subject = () if certificate is None else certificate.get("subject", ())
    names = [value for part in subject for kind, value in part if kind == "commonName"]
    return names[0] if len(names) == 1 else ""
