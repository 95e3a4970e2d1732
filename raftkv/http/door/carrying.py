"""How a worker lives and one HTTP request comes in over ASGI, and how its response goes out. Knows no route.

Rules: a body that did not arrive whole is no body; one that is too large is refused as soon as that is known, and what
still comes of it is read for a while, so that its sender sees the answer instead of a reset.
"""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from raftkv.api import paths
from raftkv.core.errors import Code
from raftkv.http.door.plain import PlainRequest
from raftkv.http.door.room import PATIENCE_S, SLOWEST_BYTES_PER_S, HeldBytes, Holding
from raftkv.http.messages import HttpResponse, framed
from raftkv.http.problems import problem

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DRAIN_S: Final = 2.0
"""How long an unwanted body is still read."""

HEALTH_PATHS: Final = paths.raw(paths.LIVEZ, paths.READYZ, paths.HEALTH, paths.METRICS)
"""Answered whatever else is under way."""

_CLOSE: Final = (b"connection", b"close")
_UNRESERVED = re.compile(rb"%(?:2[DdEe]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])")


class AsgiApplication(ABC):
    """What a worker runs: ``begin`` comes before the first request, ``end`` after the last."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or the life of the worker."""
        if scope["type"] == "http":
            await self.serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                await self.begin()
                await send({"type": "lifespan.startup.complete"})
            self.end()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await send({"type": "websocket.close", "code": 1003})

    @abstractmethod
    async def begin(self) -> None:
        """Make ready."""

    @abstractmethod
    def leave(self) -> None:
        """The worker is about to end: let go of what would not by itself."""

    @abstractmethod
    def end(self) -> None:
        """Give back what was taken."""

    def answer(
        self,
        request: PlainRequest,  # noqa: ARG002
        client: str,  # noqa: ARG002
        certificate: str,  # noqa: ARG002
        respond: Callable[[HttpResponse], None],  # noqa: ARG002
    ) -> bool:
        """Answer ``request`` by one call of ``respond``, now or later, and never raise.

        ``client`` is the address that it came from, ``certificate`` the name that the connection has shown.
        False: nothing was done, and it is for ``serve``.
        """
        return False

    @abstractmethod
    async def serve(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, exactly once."""


class IncompleteError(Exception):
    """The body did not arrive; ``response`` says so. ``drain``: more of it may come and wants to be read."""

    def __init__(self, response: HttpResponse, *, drain: bool) -> None:
        super().__init__()
        self.response = response
        self.drain = drain


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


class Bodies:
    """Reads the bodies of one process's requests, in bounded time and as much of ``room`` as there is."""

    def __init__(self, room: HeldBytes, *, monotonic_s: Callable[[], float]) -> None:
        self._room = room
        self._monotonic_s = monotonic_s

    async def read(self, headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
        """The whole body, of ``limit`` bytes at most; raises ``IncompleteError``."""
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            return b""  # RFC 9112, section 6.3
        length, coding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
        if coding is not None and coding.strip().lower() != b"chunked":
            detail = "Transfer-Encoding: only chunked is understood; nothing was done"
            raise IncompleteError(problem(Code.NOT_IMPLEMENTED, detail, headers=(_CLOSE,)), drain=True)
        if length is not None and length.isdigit() and int(length) > limit:
            raise IncompleteError(_too_large(limit), drain=True)
        message = await receive()
        chunk = _chunk(message)
        if len(chunk) > limit:
            raise IncompleteError(_too_large(limit), drain=True)
        return await self._rest(chunk, receive, limit) if message.get("more_body", False) else chunk

    async def _rest(self, chunk: bytes, receive: Receive, limit: int) -> bytes:
        """The whole body that begins with ``chunk``; given up when it comes too slowly while room is short."""
        chunks = [chunk]
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as waiting:
                holding = self._room.hold(lambda: waiting.reschedule(loop.time()))
                try:
                    self._take(holding, chunk)
                    while True:
                        message = await receive()
                        chunk = _chunk(message)
                        if holding.held_bytes + len(chunk) > limit:
                            raise IncompleteError(_too_large(limit), drain=True)
                        chunks.append(chunk)
                        if not message.get("more_body", False):
                            return b"".join(chunks)
                        self._take(holding, chunk)
                finally:
                    holding.close()
        except TimeoutError:
            detail = "the body came too slowly while many others came; nothing was done"
            raise IncompleteError(problem(Code.OVERLOADED, detail, headers=(_CLOSE,)), drain=False) from None

    def _take(self, holding: Holding, chunk: bytes) -> None:
        """Is there room for more of this body, and does it come fast enough?"""
        if not self._room.has_room(len(chunk)):
            detail = "too much is under way at once; nothing was done"
            raise IncompleteError(problem(Code.OVERLOADED, detail, headers=(_CLOSE,)), drain=True)
        holding.grow(len(chunk))
        holding.moved(holding.held_bytes)
        if holding.is_slow(self._monotonic_s(), patience_s=PATIENCE_S, bytes_per_s=SLOWEST_BYTES_PER_S):
            raise _unwhole("the body arrives too slowly; nothing was done")


def _chunk(message: Message) -> bytes:
    if message["type"] != "http.request":
        raise _unwhole("the body did not arrive whole; nothing was done")
    chunk: bytes = message.get("body", b"")
    return chunk


def _unwhole(detail: str) -> IncompleteError:
    return IncompleteError(problem(Code.BAD_REQUEST, detail, headers=(_CLOSE,)), drain=False)


def _too_large(limit: int) -> HttpResponse:
    detail = f"the body is larger than the limit of {limit} bytes"
    return problem(Code.VALUE_TOO_LARGE, detail, headers=(_CLOSE,))


def turn_away(refusal: HttpResponse | None, *, has_body: bool = False) -> None:
    """Raise ``IncompleteError`` when there is a refusal; ``has_body``: all of the body was read, and none will come."""
    if refusal is not None:
        raise IncompleteError(refusal, drain=not has_body)


def check_room(room: HeldBytes, path: bytes) -> None:
    """Hear nothing more while there is no room for it, save questions after health; raises ``IncompleteError``."""
    if not room.has_room() and path not in HEALTH_PATHS:
        detail = "too much is under way at once; nothing was done"
        raise IncompleteError(problem(Code.OVERLOADED, detail, headers=(_CLOSE,)), drain=True)


def check_expectation(headers: dict[bytes, bytes]) -> None:
    """Nothing but 100-continue can be expected (RFC 9110, section 10.1.1); raises ``IncompleteError``."""
    expected = headers.get(b"expect")
    if expected is not None and expected.strip().lower() != b"100-continue":
        detail = "Expect: only 100-continue is understood; nothing was done"
        raise IncompleteError(problem(Code.EXPECTATION_FAILED, detail, headers=(_CLOSE,)), drain=True)


async def drain(receive: Receive, limit: int) -> None:
    """Read what is left of a body, up to ``limit`` bytes, and forget it."""
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


async def send_response(response: HttpResponse, method: str, send: Send) -> None:
    """Send ``response``, whose body is bytes, to a request of ``method``; a stream is for ``streaming``."""
    body = response.body
    assert isinstance(body, bytes)
    headers = framed(response.status, response.headers, len(body))
    await send({"type": "http.response.start", "status": response.status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
