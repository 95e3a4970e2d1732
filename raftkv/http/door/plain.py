"""Requests in the plainest form, which most clients send most of the time, answered in the turn in which they come.

Sans-I/O. A request is plain when it came in one piece and is written in a strict subset of HTTP/1.1 (RFC 9112), in
which there are no two ways to read it: a target in origin form, visible ASCII, each field once, a Content-Length or no
body, nothing about the connection but ``keep-alive``. ``read`` knows it or does not; what it does not know is not
refused here but left, with all that follows, to the general way, which knows all of HTTP/1.1 and does the refusing.

``PlainConnection`` keeps the order: the next request is looked at when the one before is answered and its answer is on
its way to a reader who takes it. What came meanwhile waits, is reported, and stops the socket from being read; so a
client that reads nothing costs no more than what one read brings. Must not import Flask, ASGI or gunicorn.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

from raftkv.http.messages import HttpResponse

HEAD_BYTES_MAX: Final = 4 << 10
"""Below every limit of the general way, so that nothing is taken here which is refused there."""

FIELDS_MAX: Final = 64

TURN_REQUESTS: Final = 16
"""Of pipelined requests, so many are answered in one turn of the loop: others have their turn too."""

WHOLE_BYTES: Final = 64 << 10
"""A body of so many bytes is handed over next to its head, instead of being copied to it."""

_REMEMBERED: Final = 512
_LINE: Final = re.compile(rb'(GET|PUT|POST|DELETE|HEAD) (/[!"$-~]*) HTTP/1\.1\r\n')
_FIELDS: Final = re.compile(rb"(?:[!#$%&'*+.^`|~0-9A-Za-z-]+:[\t -~]*\r\n)+")
_LENGTH: Final = re.compile(rb"[0-9]{1,9}")
_GENERAL: Final = frozenset(
    {b"expect", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""Fields that say how the message or the connection is to be treated."""


class PlainRequest(NamedTuple):
    """One request, and what came behind it. ``path`` and ``query`` are raw; names of headers are lower case."""

    method: str
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes
    rest: bytes


def read(data: bytes) -> PlainRequest | None:
    """The plain request that ``data`` begins with; ``None`` where it does not begin with a whole one."""
    line = _LINE.match(data)
    if line is None:
        return None
    fields_at = line.end()
    end = data.find(b"\r\n\r\n", fields_at, HEAD_BYTES_MAX)
    if end < 0:
        return None
    fields = _fields(data[fields_at : end + 2])
    if fields is None:
        return None
    headers, length = fields
    body_at = end + 4
    body_end = body_at + length
    if body_end > len(data):
        return None
    path, _, query = line[2].partition(b"?")
    return PlainRequest(line[1].decode(), path, query, headers, data[body_at:body_end], data[body_end:])


@lru_cache(_REMEMBERED)
def _fields(block: bytes) -> tuple[dict[bytes, bytes], int] | None:
    """The fields of a plain head, and how long its body is: a client sends the same ones again and again."""
    if _FIELDS.fullmatch(block) is None:
        return None
    lines = block[:-2].split(b"\r\n")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip(b"\t ")
    if len(headers) != len(lines) or len(lines) > FIELDS_MAX or not headers.get(b"host"):
        return None
    if headers.get(b"connection", b"keep-alive").lower() != b"keep-alive" or not _GENERAL.isdisjoint(headers):
        return None
    if any(name.startswith(b"x-forwarded") for name in headers):
        return None  # what of it counts depends on who sent it
    length = headers.get(b"content-length", b"0")
    return (headers, int(length)) if _LENGTH.fullmatch(length) else None


@lru_cache(len(HTTPStatus))
def _status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())


def written(response: HttpResponse, method: str, closing: bytes) -> tuple[bytes, bytes]:
    """The head and the body of ``response`` as they go out, its last fields being those in ``closing``.

    Raises ``ValueError`` for a header that would end before its line does.
    """
    body = response.body
    assert isinstance(body, bytes)
    lines = [_status_line(response.status)]
    is_framed = response.status in (204, 304)
    for name, value in response.headers:
        lines += (name, b": ", value, b"\r\n")
        is_framed = is_framed or name == b"content-length"
    if not is_framed:
        lines.append(b"content-length: %d\r\n" % len(body))
    head = b"".join(lines)
    lines_written = 1 + len(response.headers) + (not is_framed)
    if head.count(b"\n") != lines_written or head.count(b"\r") != lines_written or b"\0" in head:
        raise ValueError("a header of the answer has a line of its own in it")
    return head + closing, b"" if method == "HEAD" or response.status in (204, 304) else body


class Carrier(Protocol):
    """The connection under a ``PlainConnection``."""

    @property
    def may_answer(self) -> bool:
        """Is nothing of what came before still with the general way, and is there a next request to come?"""

    @property
    def is_taking(self) -> bool:
        """Does the client take what is written?"""

    def take(self, request: PlainRequest, respond: Callable[[HttpResponse], None]) -> bool:
        """Have it answered by one call of ``respond``, now or later; false: nothing was done, and it is not for here.

        Who takes it never raises.
        """

    def write(self, response: HttpResponse, method: str) -> None:
        """Send an answer."""

    def hold(self, size_bytes: int) -> None:
        """So many bytes wait here; while there are any, nothing more is read."""

    def pass_on(self, data: bytes) -> None:
        """Give all of it to the general way."""

    def go_on_later(self) -> None:
        """Call ``go_on`` in the next turn."""


class PlainConnection:
    """What one connection brings, before the general way sees it."""

    __slots__ = ("_carrier", "_is_going_on", "_is_over", "_waiting", "is_answering")

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._waiting = b""
        self._is_going_on = False
        self._is_over = False
        self.is_answering = False
        """Is a request being worked on?"""

    @property
    def is_busy(self) -> bool:
        """Is anything under way here?"""
        return self.is_answering or bool(self._waiting)

    def received(self, data: bytes) -> None:
        """``data`` came in."""
        if self.is_answering or self._waiting:
            self._wait(self._waiting + data)
        else:
            self._go_through(data)

    def go_on(self) -> None:
        """Look at what waits again: the client takes its answers, or it is the next turn."""
        if self._waiting and not self.is_answering and not self._is_going_on and self._carrier.is_taking:
            data, self._waiting = self._waiting, b""
            self._carrier.hold(0)
            self._go_through(data)

    def close(self) -> None:
        """The connection is gone: who still answers answers nobody."""
        self._is_over = True
        self._waiting = b""

    def _go_through(self, data: bytes) -> None:
        carrier = self._carrier
        self._is_going_on = True
        try:
            for _ in range(TURN_REQUESTS):
                if not data or self._is_over:
                    return
                if self.is_answering or not carrier.is_taking:
                    self._wait(data)
                    return
                request = read(data) if carrier.may_answer else None
                if request is None or not self._take(request):
                    carrier.pass_on(data)
                    return
                data = request.rest
        finally:
            self._is_going_on = False
        if data:
            self._wait(data)
            if not self.is_answering:
                carrier.go_on_later()

    def _take(self, request: PlainRequest) -> bool:
        self.is_answering = True
        is_taken = self._carrier.take(request, lambda response: self._answered(response, request.method))
        if not is_taken:
            self.is_answering = False
        return is_taken

    def _answered(self, response: HttpResponse, method: str) -> None:
        self.is_answering = False
        if not self._is_over:
            self._carrier.write(response, method)
            self.go_on()

    def _wait(self, data: bytes) -> None:
        self._waiting = data
        self._carrier.hold(len(data))
