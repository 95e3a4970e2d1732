"""Streams of the JSON gateway: a line of JSON for each response, on a connection that the client closes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from http import HTTPStatus

from raftkv.coordination.steps import Circumstances, Plan
from raftkv.core.results import StateHeld
from raftkv.core.rights import Caller
from raftkv.etcd import gateway_json, observing, snapshots
from raftkv.etcd.calls import EtcdCall
from raftkv.etcd.errors import HTTP_STATUSES, CallStatus
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.etcd.messages import EmptyRequest, LeaderRequest, WatchRequest
from raftkv.etcd.schema import Message
from raftkv.etcd.watching import JsonForm, SharedWatching, WatchStream, place
from raftkv.http.messages import JSON, BodyStream, HttpResponse, encode_json

FORM = JsonForm()


class Lines:
    """Where a stream's lines go: as an outlet it takes no more events before its reader has taken what there is."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._came = asyncio.Event()
        self._is_ended = False

    def send(self, message: bytes) -> bool:
        """See ``Outlet``."""
        self._lines.append(message)
        self._came.set()
        return False

    def end(self, status: CallStatus) -> None:
        """Tell that there is no more, and why."""
        http = HTTPStatus(HTTP_STATUSES[status.code])
        told = {"grpc_code": int(status.code), "http_code": int(http), "message": status.message}
        self._lines.append(encode_json({"error": told | {"http_status": http.phrase}}))
        self._is_ended = True
        self._came.set()

    async def chunks(self, go_on: Callable[[], None], close: Callable[[], None]) -> AsyncGenerator[bytes]:
        """The lines as they come; ``go_on`` is called when all were taken, ``close`` when the reader leaves."""
        try:
            while True:
                while self._lines:
                    yield self._lines.popleft()
                if self._is_ended:
                    return
                go_on()
                if not self._lines:
                    self._came.clear()
                    await self._came.wait()
        finally:
            close()

    def body(self, go_on: Callable[[], None], close: Callable[[], None]) -> HttpResponse:
        """The response that has them."""
        return HttpResponse(status=200, headers=(JSON,), body=BodyStream(chunks=self.chunks(go_on, close)))


def line(message: Message) -> bytes:
    """A message on a stream."""
    return b'{"result":' + gateway_json.encode(message) + b"}\n"


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
    return lines.body(stream.go_on, stream.close)


def observe(request: LeaderRequest, watching: SharedWatching, call: EtcdCall) -> Plan[HttpResponse]:
    """``POST /v3/election/observe``, likewise."""
    contest = yield from observing.contest(request, call)
    lines = Lines()
    observation = observing.Observation(
        contest, watching, call.caller, lambda leader: lines.send(line(leader)), lines.end
    )
    observation.begin()
    return lines.body(observation.go_on, observation.close)


def snapshot(_: EmptyRequest, call: EtcdCall) -> Plan[HttpResponse]:
    """``POST /v3/maintenance/snapshot``."""
    held = yield from snapshots.hold(call)
    return HttpResponse(status=200, headers=(JSON,), body=BodyStream(chunks=_snapshot_lines(held, call)))


async def _snapshot_lines(held: StateHeld, call: EtcdCall) -> AsyncGenerator[bytes]:
    async with aclosing(snapshots.pieces(held, call.context.exports)) as pieces:
        async for piece in pieces:
            yield line(piece)
