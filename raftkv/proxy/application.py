"""The proxy as an ASGI application: its own ``/livez`` and ``/status``, everything else passed on, streams too.

``/internal/...`` is not passed on: those are for a node's own machine and for peers, and behind a proxy everybody
would seem to be either. ``/metrics`` is of one node, so it is asked there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from raftkv.api import cluster_answers, paths
from raftkv.core.config import HttpSection
from raftkv.core.errors import Code
from raftkv.http.door.browsers import BrowserGuard
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
from raftkv.http.door.room import HeldBytes
from raftkv.http.door.streaming import Streams
from raftkv.http.messages import BodyStream, HttpRequest, HttpResponse, join_headers, json_response
from raftkv.http.problems import internal_error, problem
from raftkv.proxy.cluster import STREAMS_MAX, Cluster
from raftkv.proxy.forwarding import Forwarder
from raftkv.proxy.routing import is_stream

MAX_WAITING: Final = 4096
"""Requests under way at a time; more are answered 429 at once."""

BODY_BYTES_MAX: Final = 64 << 20
"""No request is larger: twice the largest value that a configuration allows, for what base64 and JSON add, and more."""

_LIVEZ, _STATUS, _METRICS = (path.encode() for path in (paths.LIVEZ, paths.STATUS, paths.METRICS))
log = logging.getLogger("raftkv.proxy")


class ProxyApplication(AsgiApplication):
    """See the module. ``monotonic_s`` is the clock of deadlines; ``hosts`` are names that the proxy answers to."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        timeout_s: float,
        version: str,
        monotonic_s: Callable[[], float],
        hosts: Iterable[str] = (),
    ) -> None:
        self._cluster = cluster
        self._forwarder = Forwarder(cluster, timeout_s=timeout_s)
        self._version = version
        self._monotonic_s = monotonic_s
        self.room = HeldBytes(HttpSection().max_held_bytes, monotonic_s=monotonic_s)
        self.streams = Streams(self.room, limit=STREAMS_MAX)
        self._bodies = Bodies(self.room, monotonic_s=monotonic_s)
        self._browsers = BrowserGuard(hosts)
        self._waiting = 0
        self._refreshing: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Learn who is behind it, and keep asking."""
        await self._cluster.refresh()
        self._refreshing = asyncio.get_running_loop().create_task(self._cluster.keep_fresh())

    def end(self) -> None:
        """Ask no more."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        self._cluster.close()

    def leave(self) -> None:
        """See ``AsgiApplication``."""
        self.streams.end()

    async def serve(self, scope: Message, receive: Receive, send: Send) -> None:
        """See ``AsgiApplication``."""
        method, now_s = scope["method"], self._monotonic_s()
        self._waiting += 1
        try:
            headers, path = join_headers(scope["headers"]), normal_path(scope["raw_path"])
            check_room(self.room, path)
            check_expectation(headers)
            host_needed = scope["http_version"] == "1.1"
            turn_away(self._browsers.refusal(method, path, headers, host_needed=host_needed))
            body = await self._bodies.read(headers, receive, BODY_BYTES_MAX)
            request = HttpRequest(method=method, path=path, query=scope["query_string"], headers=headers, body=body)
            response = await self.streams.admit(await self._answer(request, now_s))
            if isinstance(response.body, BodyStream):
                await self.streams.carry(response, scope, send)
            else:
                await send_response(response, method, send)
        except IncompleteError as incomplete:
            await send_response(incomplete.response, method, send)
            if incomplete.drain:
                await drain(receive, BODY_BYTES_MAX)
        except Exception as error:  # noqa: BLE001  the one place where a defect becomes a 500
            log.error("defect in %s: %s: %s", method, type(error).__name__, error)  # noqa: TRY400  one line
            await send_response(internal_error(method), method, send)
        finally:
            self._waiting -= 1

    async def _answer(self, request: HttpRequest, now_s: float) -> HttpResponse:
        if request.path == _LIVEZ:
            return json_response(200, cluster_answers.Alive("alive"))
        if request.path == _STATUS and not is_stream(request):
            return json_response(200, self._status())
        if request.path == _METRICS:
            return problem(Code.UNKNOWN_ROUTE, "metrics are of one node: ask it there; /status names the nodes")
        if request.path.startswith(paths.INTERNAL):
            return problem(Code.FORBIDDEN, "one replica is asked directly, never through a proxy")
        if self._waiting > MAX_WAITING:
            return problem(Code.OVERLOADED, f"{MAX_WAITING} requests are under way already; try again later")
        return await self._forwarder.forward(request, now_s)

    def _status(self) -> cluster_answers.ProxyStatus:
        """Which nodes, which ring; ``peers`` as in the status of a node."""
        cluster, view = self._cluster, self._cluster.view
        why = f": {cluster.silence}" if cluster.silence else ""
        avoided, age_s, ring = cluster.avoided(), cluster.learned_ago_s, view.ring
        return cluster_answers.ProxyStatus(
            role="proxy",
            version=self._version,
            ready=cluster.is_fresh,
            reason=None if cluster.is_fresh else f"no node behind this proxy answers{why}",
            learned_ago_ms=None if age_s is None else round(age_s * 1000),
            leader=view.leader,
            ring=None if ring is None else ring.digest,
            ring_agreed=view.is_agreed,
            n=None if ring is None else view.n,
            requests_waiting=self._waiting,
            peers=[
                cluster_answers.ProxiedNode(
                    id=node.id,
                    http=str(node.http),
                    reachable=node.id not in avoided and cluster.is_fresh,
                    state=node.state or None,
                    connections=cluster.channels(node.http).in_use,
                )
                for node in view.nodes
            ],
        )
