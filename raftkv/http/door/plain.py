"""Requests in the plainest form, which most clients send most of the time, answered in the turn in which they come.

Sans-I/O. A request is plain when its head came in one piece and is written in a strict subset of HTTP/1.1 (RFC 9112),
in which there are no two ways to read it: a target in origin form, visible ASCII, each field once, a Content-Length or
no body, nothing about the connection but ``keep-alive`` and wishes that are not heeded. ``read`` knows it or does not;
what it does not know is not refused here but left, with all that follows, to the general way, which knows all of
HTTP/1.1 and does the refusing. So the first bytes of a connection decide who has it: what opens HTTP/2 (``PRI *``, RFC
9113, section 3.4) is no plain request line, and reaches ``Carrier.pass_on`` as it came, before any parser saw a byte.

``PlainConnection`` keeps the order: the next request is looked at when the one before is answered and its answer is on
its way to a reader who takes it. What came meanwhile waits, is reported, and stops the socket from being read; so a
client that reads nothing costs no more than what one read brings. A short body is awaited here, since many clients
send it in a piece of its own; who takes long over it is the general way's. Must not import Flask, ASGI or gunicorn.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

from raftkv.http.messages import NO_BODY, Headers, HttpResponse, framed

HEAD_BYTES_MAX: Final = 4 << 10
"""Below every limit of the general way, so that nothing is taken here which is refused there."""

FIELDS_MAX: Final = 64

TURN_REQUESTS: Final = 16
"""Of pipelined requests, so many are answered in one turn of the loop: others have their turn too."""

WHOLE_BYTES: Final = 64 << 10
"""A body of so many bytes is handed over next to its head, instead of being copied to it."""

AWAITED_BYTES_MAX: Final = 64 << 10
"""Of a longer body that has not come whole the general way takes each piece as it comes."""

_REMEMBERED: Final = 512
_LINE: Final = re.compile(rb'(GET|PUT|POST|DELETE|HEAD) (/[!"$-~]*) HTTP/1\.1\r\n')
_FIELDS: Final = re.compile(rb"(?:[!#$%&'*+.^`|~0-9A-Za-z-]+:[\t -~]*\r\n)+")
_LENGTH: Final = re.compile(rb"[0-9]{1,9}")
_GENERAL: Final = frozenset(
    {
        *(b"expect", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding"),
        *(b"x-forwarded-proto", b"x-forwarded-protocol", b"x-forwarded-ssl"),
    }
)
"""Fields that say how the message or the connection is to be treated; what a proxy says of it depends on the proxy."""

_NO_MATTER: Final = frozenset({b"keep-alive", b"upgrade", b"http2-settings"})
"""What may be said of the connection: a wish to change protocols is not heeded (RFC 9110, section 7.8)."""


class PlainRequest(NamedTuple):
    """One request, and where in the data it ends. ``path`` and ``query`` are raw; names of headers are lower case."""

    method: str
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes
    end: int


class Begun(NamedTuple):
    """The head of a plain request, whose body has not come whole, and where in the data that will end."""

    end: int


def read(data: bytes, at: int = 0) -> PlainRequest | Begun | None:
    """The plain request that ``data`` has from ``at`` on; ``None`` where no whole head of one is there."""
    line = _LINE.match(data, at)
    if line is None:
        return None
    fields_at = line.end()
    fields_end = data.find(b"\r\n\r\n", fields_at, at + HEAD_BYTES_MAX)
    if fields_end < 0:
        return None
    fields = _fields(data[fields_at : fields_end + 2])
    if fields is None:
        return None
    headers, length = fields
    body_at = fields_end + 4
    end = body_at + length
    if end > len(data):
        return Begun(end) if length <= AWAITED_BYTES_MAX else None
    path, _, query = line[2].partition(b"?")
    return PlainRequest(line[1].decode(), path, query, headers, data[body_at:end], end)


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
    said = headers.get(b"connection", b"keep-alive").lower().split(b",")
    if not _GENERAL.isdisjoint(headers) or not _NO_MATTER.issuperset([one.strip(b"\t ") for one in said]):
        return None
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
    # What has but one field says nothing of the one answer: it comes again.
    write = _head_again if len(response.headers) == 1 else _head
    head = write(response.status, response.headers, len(body))
    return head + closing, b"" if method == "HEAD" or response.status in NO_BODY else body


def _head(status: int, headers: Headers, size_bytes: int) -> bytes:
    headers = framed(status, headers, size_bytes)
    lines = [_status_line(status)]
    for name, value in headers:
        lines += (name, b": ", value, b"\r\n")
    head = b"".join(lines)
    lines_written = 1 + len(headers)
    if head.count(b"\n") != lines_written or head.count(b"\r") != lines_written or b"\0" in head:
        raise ValueError("a header of the answer has a line of its own in it")
    return head


_head_again: Final = lru_cache(_REMEMBERED)(_head)


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
        """So many bytes wait here; while there are any, nothing more is read. None: nor is any rest awaited."""

    def await_rest(self, size_bytes: int) -> None:
        """So many bytes of a request wait here for its rest; call ``give_up`` when that takes long."""

    def pass_on(self, data: bytes) -> None:
        """Give all of it to the general way."""

    def go_on_later(self) -> None:
        """Call ``go_on`` in the next turn."""


class PlainConnection:
    """What one connection brings, before the general way sees it."""

    __slots__ = (
        "_begun",
        "_begun_end",
        "_carrier",
        "_has_ended",
        "_is_going_on",
        "_is_over",
        "_waiting",
        "is_answering",
    )

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._waiting = b""
        self._begun = bytearray()
        self._begun_end = 0
        self._is_going_on = False
        self._has_ended = False
        self._is_over = False
        self.is_answering = False
        """Is a request being worked on?"""

    @property
    def is_busy(self) -> bool:
        """Is anything under way here?"""
        return self.is_answering or bool(self._waiting) or bool(self._begun)

    def received(self, data: bytes) -> None:
        """``data`` came in."""
        if self._begun:
            self._begun += data
            if len(self._begun) < self._begun_end:
                self._carrier.await_rest(len(self._begun))
            else:
                self._go_through(self._all_begun())
        elif self.is_answering or self._waiting:
            self._wait(self._waiting + data)
        else:
            self._go_through(data)

    def go_on(self) -> None:
        """Look at what waits again: the client takes its answers, or it is the next turn."""
        if self._waiting and not self.is_answering and not self._is_going_on and self._carrier.is_taking:
            data, self._waiting = self._waiting, b""
            self._carrier.hold(0)
            self._go_through(data)

    def give_up(self) -> None:
        """Await no rest any longer."""
        if self._begun:
            self._carrier.pass_on(self._all_begun())

    def end(self) -> None:
        """Nothing more will come."""
        self._has_ended = True
        self.give_up()

    def close(self) -> None:
        """The connection is gone: who still answers answers nobody."""
        self._is_over = True
        self._waiting = b""
        self._begun.clear()

    def _go_through(self, data: bytes) -> None:
        carrier = self._carrier
        at = 0
        self._is_going_on = True
        try:
            for _ in range(TURN_REQUESTS):
                if at == len(data) or self._is_over:
                    return
                if self.is_answering:
                    break
                if not carrier.may_answer:
                    carrier.pass_on(data[at:])
                    return
                if not carrier.is_taking:
                    break
                request = read(data, at)
                if isinstance(request, Begun) and not self._has_ended:
                    self._begun += data[at:]
                    self._begun_end = request.end - at
                    carrier.await_rest(len(self._begun))
                    return
                if not isinstance(request, PlainRequest) or not self._take(request):
                    carrier.pass_on(data[at:])
                    return
                at = request.end
        finally:
            self._is_going_on = False
        if at < len(data):
            self._wait(data[at:])
            if not self.is_answering and carrier.is_taking:
                carrier.go_on_later()

    def _take(self, request: PlainRequest) -> bool:
        self.is_answering = True
        is_taken = self._carrier.take(request, lambda response: self._answered(response, request.method))
        if not is_taken:
            self.is_answering = False
        return is_taken

    def _answered(self, response: HttpResponse, method: str) -> None:
        """Write it. Who answers may be in the midst of others' answers, so what waits is looked at in the next turn."""
        self.is_answering = False
        if not self._is_over:
            self._carrier.write(response, method)
            if self._waiting:
                self._carrier.go_on_later()

    def _wait(self, data: bytes) -> None:
        self._waiting = data
        self._carrier.hold(len(data))

    def _all_begun(self) -> bytes:
        """What has come of the request that was begun, which awaits no more."""
        data = bytes(self._begun)
        self._begun.clear()
        self._carrier.hold(0)
        return data
