"""The ASGI application: bodies with a limit, hot routes answered right here, everything else by Flask on this loop.

Rules: a request whose body did not arrive whole has no effect; every request is answered exactly once, with a problem
when something is wrong with it; a defect of ours costs one line in the log and shows the client no more than a 500.
Hot routes use the very handlers that Flask's views use. Streaming is not offered yet.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from time import monotonic
from typing import Any, Final

from raftkv.core.errors import Code
from raftkv.core.replicator import Replicator
from raftkv.core.results import Outcome
from raftkv.http import bridge
from raftkv.http.app import create_app
from raftkv.http.handlers import Context, begin, finish
from raftkv.http.messages import HttpRequest, HttpResponse, join_headers
from raftkv.http.metrics import Metrics
from raftkv.http.problems import internal_error, problem
from raftkv.http.routes import ROUTES, Route

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_SLACK_BYTES: Final = 1 << 20
"""What JSON around values may add, beyond the third that base64 adds."""

DRAIN_S: Final = 2.0
"""How long an unwanted body is still read, so that its sender gets to see the answer instead of a reset."""

_UNRESERVED = re.compile(rb"%(?:2[DdEe]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])")
_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"})
log = logging.getLogger("raftkv.http")


class _IncompleteError(Exception):
    """The body did not arrive; ``response`` says so."""

    def __init__(self, response: HttpResponse, *, drain: bool) -> None:
        super().__init__()
        self.response = response
        self.drain = drain


class HotRoutes:
    """Finds the route of a hot request without Flask; what it does not find is Flask's."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._exact: dict[tuple[str, bytes], Route] = {}
        self._below: dict[tuple[str, bytes], Route] = {}
        for route in routes:
            if not route.hot:
                continue
            stem, brace, _ = route.path.partition("{")
            table = self._below if brace else self._exact
            table[route.method, stem.encode()] = route
            if route.method == "GET":
                table["HEAD", stem.encode()] = route

    def find(self, method: str, path: bytes) -> Route | None:
        """The route of a raw path."""
        route = self._exact.get((method, path))
        if route is not None:
            return route
        return self._below.get((method, path[: path.find(b"/", 1) + 1]))


class Application:
    """The ASGI application of one worker. ``start`` runs before the first request, ``stop`` after the last."""

    def __init__(
        self,
        replicator: Replicator,
        context: Context,
        *,
        start: Callable[[], Awaitable[None]] | None = None,
        stop: Callable[[], None] | None = None,
    ) -> None:
        self._replicator = replicator
        self._context = context
        self._start = start
        self._stop = stop
        self._metrics = Metrics(context)
        self._flask = create_app(context, bridge.greenlet_wait(replicator), self._metrics)
        self._hot = HotRoutes(ROUTES)
        self._value_limit = context.limits.max_value_bytes
        self._body_limit = 2 * self._value_limit + BODY_SLACK_BYTES

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or the life of the worker."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                if self._start is not None:
                    await self._start()
                await send({"type": "lifespan.startup.complete"})
            else:
                if self._stop is not None:
                    self._stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        started_s = monotonic()
        method, path = scope["method"], normal_path(scope["raw_path"])
        route = self._hot.find(method, path)
        name = bridge.UNROUTED if route is None else route.name
        self._metrics.in_flight.inc()
        try:
            headers = join_headers(scope["headers"])
            is_value = route is not None and route.body is bytes
            limit = self._value_limit if is_value else self._body_limit
            body = await _read_body(headers, receive, limit)
            request = HttpRequest(method=method, path=path, query=scope["query_string"], headers=headers, body=body)
            if route is not None:
                response = await self._answer(route, request)
            else:
                response, name = await bridge.respond(self._flask, request)
            await _send(response, method, send)
        except _IncompleteError as incomplete:
            response = incomplete.response
            await _send(response, method, send)
            if incomplete.drain:
                await _drain(receive, 4 * self._body_limit)
        except Exception as error:  # noqa: BLE001  the one place where a defect becomes a 500
            log.error("defect in %s %s: %s: %s", method, name, type(error).__name__, error)  # noqa: TRY400  one line
            response = internal_error()
            await _send(response, method, send)
        finally:
            self._metrics.in_flight.dec()
        self._metrics.observe(name, method if method in _METHODS else "(other)", response.status, started_s)

    async def _answer(self, route: Route, request: HttpRequest) -> HttpResponse:
        ask = begin(route.handler, request, self._context)
        if isinstance(ask, HttpResponse):
            return ask
        pending = self._replicator.submit(ask.request, monotonic() + ask.timeout_s)
        outcome = pending.outcome
        if outcome is None:
            future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            pending.when_done(lambda found: None if future.done() else future.set_result(found))
            outcome = await future
        return finish(route.handler, ask, outcome, self._context)


def normal_path(path: bytes) -> bytes:
    """The one spelling of a raw path that routes and handlers both look at, so that they never see two different keys.

    A target in absolute form loses its authority (RFC 9112, section 3.2.2), slashes before the first segment become
    one, and what needs no percent-encoding has none (RFC 3986, section 6.2.2.2). Everything else stays as it was sent.
    """
    if not path.startswith(b"/") and b"://" in path:
        path = b"/" + path.split(b"://", 1)[1].partition(b"/")[2]
    if path.startswith(b"//"):
        path = b"/" + path.lstrip(b"/")
    if b"%" in path:
        path = _UNRESERVED.sub(lambda found: bytes([int(found[0][1:], 16)]), path)
    return path


async def _read_body(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    length = headers.get(b"content-length")
    if length is None and b"transfer-encoding" not in headers:
        return b""
    if length is not None and length.isdigit() and int(length) > limit:
        raise _IncompleteError(_too_large(limit), drain=True)
    chunks: list[bytes] = []
    size_bytes = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            detail = "the body did not arrive whole; nothing was done"
            raise _IncompleteError(problem(Code.BAD_REQUEST, detail, headers=((b"connection", b"close"),)), drain=False)
        chunk = message.get("body", b"")
        size_bytes += len(chunk)
        if size_bytes > limit:
            raise _IncompleteError(_too_large(limit), drain=True)
        if not message.get("more_body", False):
            return b"".join((*chunks, chunk)) if chunks else chunk
        chunks.append(chunk)


def _too_large(limit: int) -> HttpResponse:
    detail = f"the body is larger than the limit of {limit} bytes"
    return problem(Code.VALUE_TOO_LARGE, detail, headers=((b"connection", b"close"),))


async def _drain(receive: Receive, limit: int) -> None:
    size_bytes = 0
    try:
        async with asyncio.timeout(DRAIN_S):
            while size_bytes < limit:
                message = await receive()
                size_bytes += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


async def _send(response: HttpResponse, method: str, send: Send) -> None:
    headers = list(response.headers)
    if response.status != 304 and not any(name == b"content-length" for name, _ in headers):
        headers.append((b"content-length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else response.body})
