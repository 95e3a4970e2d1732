"""The ASGI application: bodies with a limit, hot routes answered right here, everything else by Flask on this loop.

Rules: a request whose body did not arrive whole has no effect; every request is answered exactly once, with a problem
when something is wrong with it; a defect of ours costs one line in the log and shows the client no more than a 500.
Hot routes use the very handlers that Flask's views use.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from time import monotonic
from typing import Final

from raftkv.api import paths
from raftkv.api.headers import PAGE
from raftkv.api.paths import READ_METHODS
from raftkv.coordination.feed import Feed
from raftkv.coordination.onlookers import Onlookers
from raftkv.core.errors import Code, DefiniteError
from raftkv.core.replicator import Replicator
from raftkv.core.requests import is_read
from raftkv.core.results import Outcome
from raftkv.core.rights import CLUSTER, NOBODY, Caller
from raftkv.http.bodies import FORM_BYTES_MAX
from raftkv.http.counts import GRPC, OTHER, UNROUTED, Counts
from raftkv.http.door.access import Exchanged, Hears
from raftkv.http.door.admission import is_proof
from raftkv.http.door.beside import NOTHING_BESIDE, Beside, SecondConnection
from raftkv.http.door.browsers import BrowserGuard
from raftkv.http.door.callers import UnauthenticatedError, unauthenticated, with_token_of_form
from raftkv.http.door.carrying import (
    AsgiApplication,
    Bodies,
    IncompleteError,
    Message,
    Receive,
    Send,
    check_expectation,
    check_room,
    drain,
    normal_path,
    send_response,
    turn_away,
)
from raftkv.http.door.conversing import Asker, Conversations
from raftkv.http.door.founding import Founding
from raftkv.http.door.plain import PlainRequest
from raftkv.http.door.room import HeldBytes
from raftkv.http.door.streaming import CERTIFICATE_KEY, LINE_KEY, Streams
from raftkv.http.door.views import Views
from raftkv.http.futures import outcome_of
from raftkv.http.handlers.handler import Ask, Context, Conversation, begin, finish
from raftkv.http.messages import BodyStream, HttpRequest, HttpResponse, join_headers
from raftkv.http.metrics import METHODS, Metrics
from raftkv.http.needs import Needs
from raftkv.http.problems import internal_error, mistake, problem
from raftkv.http.routes import PAGES, ROUTES, Route

BODY_SLACK_BYTES: Final = 1 << 20
"""What JSON around values may add, beyond the third that base64 adds."""

SMALL_BYTES: Final = 64 << 10
"""An answer up to this size waits in the socket, and is always given."""

PUBLISH_S: Final = 0.25
"""How old a worker's number of streams and listeners may be where another tells the sum."""

log = logging.getLogger("raftkv.http")


class HotRoutes:
    """Finds the route of a hot request without Flask; what it does not find is Flask's."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._exact: dict[tuple[str, bytes], Route] = {}
        self._below: dict[tuple[str, bytes], Route] = {}
        self._around: dict[tuple[str, bytes], list[tuple[bytes, Route]]] = {}
        """By what stands before the place in a path: what stands after it, and the route."""

        self._deep: dict[tuple[str, bytes], list[tuple[re.Pattern[bytes], Route]]] = {}
        """By the first segment: those whose places come later."""

        for route in routes:
            if not route.hot:
                continue
            stem, brace, rest = route.path.partition("{")
            after = rest.partition("}")[2]
            for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
                place = method, stem.encode()
                if brace and stem.count("/") > 2:
                    first = stem[: stem.index("/", 1) + 1].encode()
                    self._deep.setdefault((method, first), []).append((_pattern(route.path), route))
                elif after and "{" not in after:
                    self._around.setdefault(place, []).append((after.encode(), route))
                else:
                    (self._below if brace else self._exact)[place] = route

    def find(self, method: str, path: bytes) -> Route | None:
        """The route of a raw path."""
        route = self._exact.get((method, path))
        if route is not None:
            return route
        stem = path[: path.find(b"/", 1) + 1]
        for after, route in self._around.get((method, stem), ()):
            if path.endswith(after):
                return route
        for pattern, route in self._deep.get((method, stem), ()):
            if pattern.fullmatch(path) is not None:
                return route
        return self._below.get((method, stem))


def _pattern(path: str) -> re.Pattern[bytes]:
    """What raw paths are of ``path``, whose places are one segment each."""
    return re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)).encode())


def _unread(scope: Message) -> HttpRequest:
    """What is known of a request that was refused before it had come whole."""
    client = scope.get("client")
    return HttpRequest(
        method=scope["method"],
        path=scope["raw_path"],
        headers=dict(scope["headers"]),
        client=client[0] if client else "",
    )


def _defect(method: str, name: str, error: Exception) -> HttpResponse:
    """The response to what should not have happened, of which only the log is told more."""
    log.error("defect in %s %s: %s: %s", method, name, type(error).__name__, error)
    return internal_error(method)


def _schedule(delay_s: float, call: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    if delay_s:
        loop.call_later(delay_s, call)
    else:
        loop.call_soon(call)


def feed_on_loop(replicator: Replicator) -> Feed:
    """The feed of ``replicator``, on whichever loop runs when somebody listens."""
    return Feed(replicator, now_s=monotonic, schedule=_schedule)


def onlookers_on_loop(replicator: Replicator) -> Onlookers:
    """Those who look by way of ``replicator``, likewise."""
    return Onlookers(replicator, now_s=monotonic, schedule=_schedule)


class Application(AsgiApplication):
    """The ASGI application of one worker, which answers to the names ``hosts`` besides loopback names and addresses.

    ``counts`` are shared with other workers. Who ``hears`` is told of every request.
    ``start`` runs before the first, ``stop`` after the last.
    ``root_password`` is that of the first root user, if there is to be one. ``beside`` is what is
    served beside the native API.
    """

    def __init__(
        self,
        replicator: Replicator,
        context: Context,
        *,
        hosts: Iterable[str] = (),
        counts: Counts | None = None,
        hears: Sequence[Hears] = (),
        start: Callable[[], Awaitable[None]] | None = None,
        stop: Callable[[], None] | None = None,
        root_password: str = "",
        beside: Beside = NOTHING_BESIDE,
    ) -> None:
        self._replicator = replicator
        self._context = context
        self._start = start
        self._stop = stop
        self._hears = tuple(hears)
        self._beside = beside
        self._speak: Callable[[], SecondConnection] | None = None
        self._hot = HotRoutes((*ROUTES, *beside.routes))
        anonymous = [one.path for one in (*ROUTES, *beside.routes) if one.handler.needs is Needs.NOTHING]
        self._anonymous_paths = paths.raw(*PAGES, *anonymous)
        """Where nobody is asked here who he is, whatever he says of that."""

        self._body_limit = 2 * context.limits.max_value_bytes + BODY_SLACK_BYTES
        self.room = HeldBytes(max(context.limits.max_held_bytes, 2 * self._body_limit), monotonic_s=monotonic)
        self.streams = Streams(self.room, limit=max(1, context.limits.max_connections // 2))
        self.conversations = Conversations(replicator, context.feed, limit=max(1, context.limits.max_connections // 4))
        self._founding = Founding(context, root_password, partial(self.conversations.carry, asker=None, caller=CLUSTER))
        self._metrics = Metrics(context, self.streams, counts)
        self._views = Views(replicator, context, self._metrics, beside.routes)
        self._bodies = Bodies(self.room, monotonic_s=monotonic)
        self._browsers = BrowserGuard(hosts)
        self._value_limit = context.limits.max_value_bytes

    async def begin(self) -> None:
        """Call ``start``."""
        self._publish()
        if self._start is not None:
            await self._start()
        self._founding.start()

    def end(self) -> None:
        """Call ``stop``."""
        self._founding.end()
        if self._stop is not None:
            self._stop()

    def _publish(self) -> None:
        self._metrics.publish()
        asyncio.get_running_loop().call_later(PUBLISH_S, self._publish)

    def second(self) -> SecondConnection | None:
        """A connection that speaks HTTP/2, if there is anything to say by it."""
        if self._beside.http2 is None:
            return None
        if self._speak is None:
            self._speak = self._beside.http2(self._replicator, self._context, self.room, self._told)
        return self._speak()

    def leave(self) -> None:
        """See ``AsgiApplication``."""
        self.streams.end()
        self.conversations.end()

    def answer(
        self, request: PlainRequest, client: str, certificate: str, respond: Callable[[HttpResponse], None]
    ) -> bool:
        """See ``AsgiApplication``: here are the routes that ask the replica one thing, by whom is known already."""
        started_s = monotonic()
        path = normal_path(request.path)
        route = self._hot.find(request.method, path)
        headers, callers = request.headers, self._context.callers
        if route is None or not route.handler.is_plain or self.room.is_full or not self._browsers.is_plain(headers):
            return False
        if len(request.body) > self._limit(route):
            return False
        caller = callers.known_at_once(headers, certificate) if callers.is_asked else NOBODY
        if caller is None:
            return False
        http = HttpRequest(
            method=request.method,
            path=path,
            query=request.query,
            headers=headers,
            body=request.body,
            client=client,
            caller=caller,
        )
        self._metrics.in_flight += 1
        self.room.held_bytes += len(http.body)
        respond_and_count = partial(self._end, route, http, started_s, respond)
        try:
            begun = begin(route.handler, http, self._context)
            if isinstance(begun, Ask):
                pending = self._replicator.submit(begun.request, started_s + begun.timeout_s)
        except Exception as error:  # noqa: BLE001  as in ``serve``
            begun = _defect(request.method, route.name, error)
        if isinstance(begun, Ask):
            pending.when_done(partial(self._finish, route, begun, respond_and_count))
        elif isinstance(begun, Conversation):
            self.conversations.begin(begun, caller, partial(self._conversed, route, http, respond_and_count))
        else:
            respond_and_count(begun)
        return True

    def _limit(self, route: Route | None) -> int:
        """How long a body may be."""
        if route is not None and route.handler.takes_token_in_form:
            return FORM_BYTES_MAX
        return self._value_limit if route is not None and route.body is bytes else self._body_limit

    def _finish(self, route: Route, ask: Ask, respond: Callable[[HttpResponse], None], outcome: Outcome) -> None:
        try:
            response = self._rendered(route, ask, outcome)
        except Exception as error:  # noqa: BLE001  as in ``serve``
            response = _defect(ask.http.method, route.name, error)
        respond(response)

    def _conversed(
        self,
        route: Route,
        request: HttpRequest,
        respond: Callable[[HttpResponse], None],
        response: HttpResponse | None,
        failure: Exception | None,
    ) -> None:
        if response is None:
            assert failure is not None
            response = _defect(request.method, route.name, failure)
        respond(response)

    def _end(
        self,
        route: Route,
        request: HttpRequest,
        started_s: float,
        respond: Callable[[HttpResponse], None],
        response: HttpResponse,
    ) -> None:
        self._metrics.in_flight -= 1
        self.room.held_bytes -= len(request.body)
        self._observe(route.name, response, request, started_s)
        respond(response)

    async def serve(self, scope: Message, receive: Receive, send: Send) -> None:
        """See ``AsgiApplication``."""
        started_s = monotonic()
        method, path = scope["method"], normal_path(scope["raw_path"])
        route = self._hot.find(method, path)
        name = UNROUTED if route is None else route.name
        self._metrics.in_flight += 1
        held_bytes = 0
        request: HttpRequest | None = None
        try:
            headers = join_headers(scope["headers"])
            self._check(scope, path, headers)
            is_asked = self._context.callers.is_asked and path not in self._anonymous_paths
            has_form = route is not None and route.handler.takes_token_in_form
            caller = await self._caller(scope, headers) if is_asked and not has_form else NOBODY
            body = await self._bodies.read(headers, receive, self._limit(route))
            held_bytes = len(body)
            self.room.held_bytes += held_bytes
            if has_form:
                headers = with_token_of_form(headers, body)
                caller = await self._caller(scope, headers, has_body=True) if is_asked else NOBODY
            request = self._request(scope, path, headers, body, caller)
            if route is not None:
                response = await self._answer(route, request, scope.get("extensions", {}).get(LINE_KEY))
            else:
                response, name = await self._views.respond(request)
                if isinstance(response.body, bytes) and len(response.body) > SMALL_BYTES:
                    response = self._fitting(response, len(response.body), is_read=method in READ_METHODS)
            if isinstance(response.body, BodyStream):
                response = await self.streams.admit(response)
            if isinstance(response.body, BodyStream):
                self.room.held_bytes -= held_bytes
                held_bytes = 0
                self._observe(name, response, request or _unread(scope), started_s)
                await self.streams.carry(response, scope, send)
                return
            await send_response(response, method, send)
        except IncompleteError as incomplete:
            response = incomplete.response
            await send_response(response, method, send)
            if incomplete.drain:
                await drain(receive, 4 * self._body_limit)
        except Exception as error:  # noqa: BLE001  the one place where a defect becomes a 500
            response = _defect(method, name, error)
            await send_response(response, method, send)
        finally:
            self._metrics.in_flight -= 1
            self.room.held_bytes -= held_bytes
        self._observe(name, response, request or _unread(scope), started_s)

    def _check(self, scope: Message, path: bytes, headers: dict[bytes, bytes]) -> None:
        """Is the request to be heard at all? Raises ``IncompleteError``."""
        if self.room.is_full:
            check_room(self.room, path)
        if b"expect" in headers:
            check_expectation(headers)
        if not self._browsers.is_plain(headers):
            host_needed = scope["http_version"] == "1.1"
            turn_away(self._browsers.refusal(scope["method"], path, headers, host_needed=host_needed))

    def _request(
        self, scope: Message, path: bytes, headers: dict[bytes, bytes], body: bytes, caller: Caller
    ) -> HttpRequest:
        """The request; raises ``IncompleteError`` where it does not prove to be the cluster's own, as it claims."""
        client = scope.get("client")
        request = HttpRequest(
            method=scope["method"],
            path=path,
            query=scope["query_string"],
            headers=headers,
            body=body,
            client=client[0] if client else "",
            caller=caller,
        )
        if caller is CLUSTER:
            turn_away(self._context.admission.unproven(request, self._context.node_header), has_body=True)
        return request

    async def _caller(self, scope: Message, headers: dict[bytes, bytes], *, has_body: bool = False) -> Caller:
        """Who asks; the cluster itself has still to prove it, by the body. Raises ``IncompleteError`` for nobody."""
        context = self._context
        if is_proof(headers):
            return CLUSTER
        client = scope.get("client")
        certificate = scope.get("extensions", {}).get(CERTIFICATE_KEY, "")
        caller, refusal = NOBODY, None
        try:
            caller = await context.callers.find(headers, certificate, client[0] if client else "")
        except UnauthenticatedError as error:
            refusal = unauthenticated(error.detail, context.node_header, is_of_token=error.is_of_token)
        except DefiniteError as error:
            refusal = mistake(error)
        turn_away(refusal or context.callers.refusal(Needs.USER, caller, context.node_header), has_body=has_body)
        return caller

    def _observe(self, name: str, response: HttpResponse, request: HttpRequest, started_s: float) -> None:
        """Count an answer, and tell of it."""
        taken_s = monotonic() - started_s
        method = request.method if request.method in METHODS else OTHER
        self._metrics.observe(name, method, response.status, taken_s)
        if PAGE.raw in request.headers:
            self._metrics.observe_page(name, response.status, taken_s)
        if self._hears:
            exchanged = Exchanged(
                method=method,
                route=name,
                status=response.status,
                taken_s=taken_s,
                taken_bytes=len(request.body),
                sent_bytes=len(response.body) if isinstance(response.body, bytes) else 0,
                client=request.client,
                user=request.caller.user.replace("\0cluster", "(cluster)"),
                headers=request.headers,
            )
            for hear in self._hears:
                hear(exchanged)

    def _told(self, name: str, code: int, taken_s: float, exchanged: Callable[[], Exchanged]) -> None:
        """The same of a call that came by HTTP/2."""
        self._metrics.observe(name, GRPC, code, taken_s)
        if self._hears:
            call = exchanged()
            for hear in self._hears:
                hear(call)

    async def _answer(self, route: Route, request: HttpRequest, asker: Asker | None) -> HttpResponse:
        ask = begin(route.handler, request, self._context)
        if isinstance(ask, HttpResponse):
            return ask
        if isinstance(ask, Conversation):
            return await self.conversations.carry(ask, asker, request.caller)
        pending = self._replicator.submit(ask.request, monotonic() + ask.timeout_s)
        return self._rendered(route, ask, pending.outcome or await outcome_of(pending))

    def _rendered(self, route: Route, ask: Ask, outcome: Outcome) -> HttpResponse:
        response = finish(route.handler, ask, outcome, self._context)
        if ask.tell is None and isinstance(response.body, bytes) and len(response.body) > SMALL_BYTES:
            return self._fitting(response, len(response.body), is_read=is_read(ask.request))
        return response

    def _fitting(self, response: HttpResponse, size_bytes: int, *, is_read: bool) -> HttpResponse:
        """``response``, which is large, if there is room for it until its reader has taken it."""
        if self.room.has_room(size_bytes):
            return response
        if is_read:
            return problem(Code.OVERLOADED, "too many large answers wait for their readers; nothing was done")
        return problem(Code.OUTCOME_UNKNOWN, "it was carried out, but there is no room for its large answer")
