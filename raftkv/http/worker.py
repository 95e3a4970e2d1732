"""The gunicorn worker: gunicorn's own, but what its parser refuses leaves as a problem too. Imported by gunicorn only.

gunicorn answers a request that it cannot parse by itself, as plain text, before any application sees it. Here those
answers take the form that every other error has, and an unknown transfer coding is the client's mistake (400).
"""

from __future__ import annotations

from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers import gasgi

from raftkv.core.errors import Code
from raftkv.http.problems import internal_error, problem

_CODES = {414: Code.KEY_TOO_LARGE}
HEADERS_WITHIN_S = 30.0
"""A connection that sent no whole request header within this time is closed."""


class Protocol(ASGIProtocol):  # type: ignore[misc]  # gunicorn has no annotations
    """One client connection."""

    def connection_made(self, transport: object) -> None:
        """See asyncio."""
        super().connection_made(transport)
        self.worker.loop.call_later(HEADERS_WITHIN_S, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.req_count <= 1 and self._current_request is None and not self._closed:
            self._close_transport()
            self._request_ready.set()

    def _send_error_response(self, status: int, message: str, extra_headers: tuple[tuple[str, str], ...] = ()) -> None:
        if status == 500:
            response = internal_error()
        else:
            response = problem(_CODES.get(status, Code.BAD_REQUEST), f"the request cannot be read: {message}")
        lines = [f"HTTP/1.1 {response.status} {'Bad Request' if response.status == 400 else 'Error'}".encode()]
        extra = tuple((name.encode(), value.encode()) for name, value in extra_headers)
        length = (b"content-length", b"%d" % len(response.body))
        for name, value in (*response.headers, *extra, length, (b"connection", b"close")):
            lines.append(name + b": " + value)
        self._safe_write(b"\r\n".join(lines) + b"\r\n\r\n" + response.body)


class Worker(gasgi.ASGIWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """The ASGI worker with that protocol, which it looks up by this very name."""

    def init_process(self) -> None:
        """See gunicorn."""
        gasgi.ASGIProtocol = Protocol
        super().init_process()
