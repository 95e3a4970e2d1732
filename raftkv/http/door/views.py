"""Flask's views, which come when somebody asks for the first time what only they answer.

Flask and what it is made of take about as long to import as the rest of a front-end, and answer nothing that clients
ask all the time. So a node serves before it has them, and goes on serving while they come, in a thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from raftkv.core.replicator import Replicator
from raftkv.http.handlers.handler import Context
from raftkv.http.messages import HttpRequest, HttpResponse
from raftkv.http.metrics import Metrics
from raftkv.http.routes import Route

Respond = Callable[[HttpRequest], Awaitable[tuple[HttpResponse, str]]]


class Views:
    """The views of one worker."""

    def __init__(self, replicator: Replicator, context: Context, metrics: Metrics, more: Sequence[Route] = ()) -> None:
        """``more`` is what is served beside the native API."""
        self._more = more
        self._replicator = replicator
        self._context = context
        self._metrics = metrics
        self._loading = threading.Lock()
        self._loaded: Respond | None = None

    async def respond(self, request: HttpRequest) -> tuple[HttpResponse, str]:
        """The response to ``request``, and the name of the route that gave it."""
        if self._loaded is None:
            self._loaded = await asyncio.to_thread(self._load)
        return await self._loaded(request)

    def _load(self) -> Respond:
        with self._loading:
            if self._loaded is None:
                from raftkv.http.app import create_app  # noqa: PLC0415  this is what takes so long
                from raftkv.http.door import bridge  # noqa: PLC0415

                app = create_app(self._context, bridge.greenlet_wait(self._replicator), self._metrics, self._more)
                self._loaded = partial(bridge.respond, app)
            return self._loaded
