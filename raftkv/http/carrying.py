"""How one HTTP request comes in over ASGI, and how its response goes out. Knows no route.

Rules: a body that did not arrive whole is no body; one that is too large is refused as soon as that is known, and what
still comes of it is read for a while, so that its sender sees the answer instead of a reset.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from raftkv.core.errors import Code
from raftkv.http.messages import HttpResponse
from raftkv.http.problems import problem

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DRAIN_S: Final = 2.0
"""How long an unwanted body is still read."""

HELD_BYTES_MAX: Final = 32 << 20
"""What all bodies that have not arrived whole may hold together, or two of the largest where those are more."""

PATIENCE_S: Final = 30.0
SLOWEST_BYTES_PER_S: Final = 16 << 10
"""A body may take this long, and more while it comes faster than this: no connection is held by one that drips."""

_CLOSE: Final = (b"connection", b"close")
_UNRESERVED = re.compile(rb"%(?:2[DdEe]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])")


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
    """Reads the bodies of one process's requests; what they hold while they arrive is bounded, and so is their time."""

    def __init__(self, *, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._held_bytes = 0

    async def read(self, headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
        """The whole body, of ``limit`` bytes at most; raises ``IncompleteError``."""
        length = headers.get(b"content-length")
        if length is None and b"transfer-encoding" not in headers:
            return b""
        if length is not None and length.isdigit() and int(length) > limit:
            raise IncompleteError(_too_large(limit), drain=True)
        began_s = self._monotonic_s()
        chunks: list[bytes] = []
        size_bytes = 0
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise _unwhole("the body did not arrive whole; nothing was done")
                chunk = message.get("body", b"")
                if size_bytes + len(chunk) > limit:
                    raise IncompleteError(_too_large(limit), drain=True)
                if not message.get("more_body", False):
                    return b"".join((*chunks, chunk)) if chunks else chunk
                chunks.append(chunk)
                size_bytes += len(chunk)
                self._held_bytes += len(chunk)
                self._check(self._monotonic_s() - began_s, size_bytes, limit)
        finally:
            self._held_bytes -= size_bytes

    def _check(self, passed_s: float, size_bytes: int, limit: int) -> None:
        """Is there room for more of this body, and does it come fast enough?"""
        if self._held_bytes > max(HELD_BYTES_MAX, 2 * limit):
            detail = "too many large bodies arrive at once; nothing was done"
            raise IncompleteError(problem(Code.OVERLOADED, detail, headers=(_CLOSE,)), drain=True)
        if passed_s > PATIENCE_S + size_bytes / SLOWEST_BYTES_PER_S:
            raise _unwhole("the body arrives too slowly; nothing was done")


def _unwhole(detail: str) -> IncompleteError:
    return IncompleteError(problem(Code.BAD_REQUEST, detail, headers=(_CLOSE,)), drain=False)


def _too_large(limit: int) -> HttpResponse:
    detail = f"the body is larger than the limit of {limit} bytes"
    return problem(Code.VALUE_TOO_LARGE, detail, headers=(_CLOSE,))


def turn_away(refusal: HttpResponse | None) -> None:
    """Raise ``IncompleteError`` when there is a refusal, before the body is read."""
    if refusal is not None:
        raise IncompleteError(refusal, drain=True)


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
    """Send ``response`` to a request of ``method``."""
    headers = list(response.headers)
    if response.status != 304 and not any(name == b"content-length" for name, _ in headers):
        headers.append((b"content-length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else response.body})
