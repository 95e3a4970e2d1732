"""HTTP requests and responses as small frozen values; knows neither Flask nor ASGI.

This module imports nothing but msgspec, ``core`` and the names of the API.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

import msgspec

from raftkv.api import headers
from raftkv.core.rights import NOBODY, Caller

Headers = tuple[tuple[bytes, bytes], ...]

NO_BODY: Final = (204, 304)
"""The statuses whose answers end with their head."""

JSON: Final = (b"content-type", headers.JSON.encode())

_encode: Final = msgspec.json.Encoder().encode


def encode_json(content: Any) -> bytes:
    """JSON with a line's end, so that it does not glue to the prompt of who asked by curl."""
    return _encode(content) + b"\n"


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a client sent. ``path`` is raw: percent-encoded, without the query; header names are lower case.

    A header that came several times has its values joined by commas (RFC 9110, section 5.3). ``client`` is the address
    that the connection came from, without the port; empty when the carrier cannot tell. ``caller`` is who asks,
    as the door found out where that matters.
    """

    method: str
    path: bytes
    query: bytes = b""
    headers: dict[bytes, bytes]
    body: bytes = b""
    client: str = ""
    caller: Caller = NOBODY


class StreamCutError(Exception):
    """What a stream's chunks come from is gone, so that the body has no end."""


class BodyStream(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A body that is made while it is read, of no known length.

    ``chunks`` are asked for the next when the reader's socket has taken the last, and closed as soon as the reader or
    this process leaves, which may be before they were asked for any. What they raise cuts the body off, so that nobody
    takes it for the end; what is no ``StreamCutError`` is a defect. ``idle`` says in the body's own form that nothing
    happened: it goes out while nothing else does, after a chunk that ends with ``between``, so that a reader who left
    without a word is found; every ``idle_s`` seconds where the body has its own mind of that.

    ``offer``, where there is one, is called once with a function that writes a chunk at once. While its ``chunks`` were
    asked for the next, the source may write instead of yielding, which costs much less. True: the reader takes more.
    False: the chunk is on its way, and the source has to yield, an empty chunk if need be, and to wait until it is
    asked for the next.
    """

    chunks: AsyncGenerator[bytes]
    idle: bytes | Callable[[], bytes] = b""
    idle_s: float | None = None
    between: bytes = b""
    offer: Callable[[Callable[[bytes], bool]], None] | None = None


class HttpResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What goes back; ``Content-Length`` is the carrier's part, and so is leaving out the body for ``HEAD``."""

    status: int
    headers: Headers = ()
    body: bytes | BodyStream = b""


def framed(status: int, headers: Headers, size_bytes: int) -> Headers:
    """The headers of an answer, the length of its body among them, where one may be (RFC 9110, section 8.6)."""
    if status in NO_BODY:
        return headers
    for name, _ in headers:
        if name == b"content-length":
            return headers
    return (*headers, (b"content-length", b"%d" % size_bytes))


def join_headers(pairs: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers as a mapping, repeated ones joined."""
    headers = dict(pairs)
    if len(headers) != len(pairs):
        headers = {}
        for name, value in pairs:
            headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


def json_response(status: int, content: Any, headers: Headers = ()) -> HttpResponse:
    """A JSON response."""
    return HttpResponse(status=status, headers=(JSON, *headers), body=encode_json(content))
