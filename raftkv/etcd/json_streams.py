"""Streams of the JSON gateway: a line of JSON for each response, on a connection that the client closes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable

from raftkv.coordination.steps import Circumstances, Plan
from raftkv.core.rights import Caller
from raftkv.etcd.errors import CallStatus
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.etcd.messages import WatchRequest
from raftkv.etcd.watching import JsonForm, SharedWatching, WatchStream, place
from raftkv.http.messages import JSON, BodyStream, HttpResponse

FORM = JsonForm()


class Lines:
    """Where a stream's lines go: as an outlet it takes no more events before its reader has taken what there is."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._came = asyncio.Event()

    def send(self, message: bytes) -> bool:
        """See ``Outlet``."""
        self._lines.append(message)
        self._came.set()
        return False

    async def chunks(self, go_on: Callable[[], None], close: Callable[[], None]) -> AsyncGenerator[bytes]:
        """The lines as they come; ``go_on`` is called when all were taken, ``close`` when the reader leaves."""
        try:
            while True:
                while self._lines:
                    yield self._lines.popleft()
                go_on()
                if not self._lines:
                    self._came.clear()
                    await self._came.wait()
        finally:
            close()


def watch(
    request: WatchRequest, caller: Caller, watching: SharedWatching, circumstances: Circumstances
) -> Plan[HttpResponse]:
    """``POST /v3/watch``: one watch, for as long as the client listens. Raises ``CallStatus``."""
    create = request.create_request
    if create is None:
        raise CallStatus(GrpcStatus.INVALID_ARGUMENT, "etcdserver: the first message of a watch is a create_request")
    where = yield from place(create.start_revision, watching.context, circumstances)
    lines = Lines()
    stream = WatchStream(watching, caller, FORM, lines, lambda _plan, told: told(where, None))
    stream.received(request)
    body = BodyStream(chunks=lines.chunks(stream.go_on, stream.close))
    return HttpResponse(status=200, headers=(JSON,), body=body)
