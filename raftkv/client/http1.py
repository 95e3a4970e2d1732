"""HTTP/1.1 as a client speaks it, without I/O: a request becomes bytes, and the bytes that come back an answer.

A driver makes one ``AnswerReader`` for each request, feeds it what its socket gives, and asks what there is: pieces of
the body as they come, or the whole answer. httptools judges every head: names, values, and lengths that contradict each
other. Where the answer ends is counted here, since httptools neither knows that HEAD has no body nor says where an
answer ended. What is asked thousands of times a second may try ``common_answer`` first: one pattern, stricter than all
of that, and no reader.

Rules. What comes of some bytes never depends on how they were split. All that is held is bounded: a head with its
interim ones before it, the line of a chunk, trailers, and a body that is read as a whole. Whatever bytes come, nothing
is raised but an ``AnswerError``. Must not import a socket, a clock, or anything of a server.
"""

from __future__ import annotations

import io
import re
from collections.abc import Generator, Iterable
from typing import Final

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from raftkv.core.errors import UsageError

HEAD_BYTES_MAX: Final = 1 << 16
"""Of a head, with the interim ones (1xx) before it."""

BODY_BYTES_MAX: Final = 1 << 28
"""Of a body that is read as a whole: far above any answer of raftkv's; what is longer comes from something else."""

LINE_BYTES_MAX: Final = 4096
"""Of the line that says how long a chunk is; and of the trailers."""

Headers = Iterable[tuple[str, str]]

_NO_BODY: Final = frozenset({204, 304})
_NO_BODY_WORDS: Final = frozenset({b"204", b"304"})
_START: Final = b"HTTP/1."
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET: Final = re.compile(r"[!-~\x80-\xff]+")
_FIELD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e\x80-\xff]*")
_CHUNK: Final = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILER: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n")


class RequestForm:
    """A method and headers that many requests share, encoded once.

    Raises ``UsageError`` for what would not stay one line, or one word: nothing can be smuggled into a request.
    ``Content-Length`` is added where it belongs; the target goes as it is: ".." is a key like any other.
    """

    __slots__ = ("_end", "_says_length", "_start")

    def __init__(self, method: str, headers: Headers) -> None:
        if not _METHOD.fullmatch(method):
            raise UsageError(f"{method!r} is no method")
        lines = [" HTTP/1.1"]
        for name, value in headers:
            line = f"{name}: {value}"
            if not _FIELD.fullmatch(line):
                raise UsageError(f"{name}: must be visible ASCII characters")
            lines.append(line)
        self._start = f"{method} "
        self._end = "\r\n".join([*lines, ""])
        self._says_length = method not in ("GET", "HEAD")

    def request(self, target: str, body: bytes = b"") -> bytes:
        """The whole request."""
        # What the first looks pass, nearly every target, needs no pattern, which costs five times as much.
        is_plain = target.isascii() and target.isprintable() and " " not in target
        if not (is_plain and target) and not _TARGET.fullmatch(target):
            raise UsageError(f"{target!r} cannot be asked for")
        length = f"Content-Length: {len(body)}\r\n\r\n" if body or self._says_length else "\r\n"
        return f"{self._start}{target}{self._end}{length}".encode("latin-1") + body


class HttpAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a server said. ``fields`` are its header lines as they came, each ended by CRLF, one more CRLF before."""

    status: int
    fields: bytes = b"\r\n"
    body: bytes = b""

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names, in lower case, and values, in order; a name may come more than once."""
        pairs = [line.partition(b":") for line in self.fields[2:-2].split(b"\r\n") if line]
        return [(name.lower(), value.strip(b" \t")) for name, _, value in pairs]

    def header(self, name: str) -> str:
        """The first value of the header ``name``, given in lower case; empty when there is none."""
        at = self.fields.lower().find(f"\r\n{name}:".encode())
        if at < 0:
            return ""
        start = at + len(name) + 3
        return self.fields[start : self.fields.index(b"\r\n", start)].strip(b" \t").decode("latin-1")


class AnswerError(Exception):
    """There will be no whole answer."""


class UnreadableError(AnswerError):
    """What came is no HTTP answer, or a larger one than is taken."""


CLOSED: Final = "closed the connection before it had answered"


class CutError(AnswerError):
    """The stream ended before the answer did; ``is_silent``: not even a byte of it had come."""

    def __init__(self, *, is_silent: bool) -> None:
        super().__init__(CLOSED if is_silent else "closed the connection in the middle of its answer")
        self.is_silent = is_silent


_TOO_LONG: Final = "a longer answer than is taken"
_NO_END: Final = "a line without an end among chunks"
_LENGTH: Final = b"\r\ncontent-length:"
_CODING: Final = b"\r\ntransfer-encoding:"
_CONNECTION: Final = b"\r\nconnection:"
_CHUNKED_ALONE: Final = re.compile(_CODING + rb"[ \t]*chunked[ \t]*\r\n")
_CLOSE: Final = re.compile(rb"\r\nconnection:(?:[^\r]*,)?[ \t]*close[ \t]*[,\r]")
_ANY_SIZE: Final = 1 << 62
_OTHERS: Final = (
    rb"(?:\r\n(?![CcTt](?i:ontent-length|onnection|ransfer-encoding):)"
    rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t\x20-\x7e\x80-\xff]*+)*+"
)
_COMMON: Final = re.compile(
    rb"HTTP/1\.1 ([2-5]\d\d) [\t\x20-\x7e\x80-\xff]*+"
    rb"(" + _OTHERS + rb"\r\n[Cc]ontent-[Ll]ength: ?(\d{1,15})" + _OTHERS + rb"\r\n)\r\n"
)


def common_answer(data: bytes, method: str, body_bytes_max: int | None) -> HttpAnswer | None:
    """The answer that ``data`` is, where it is one of the common kind, whole and alone, after which another may follow.

    Only what an ``AnswerReader`` of the same arguments would say as well, for less; ``None`` for everything else.
    """
    if body_bytes_max is None or method == "HEAD":
        return None
    found = _COMMON.match(data)
    if found is None:
        return None
    status, fields, length = found.groups()
    end = found.end()
    if int(length) != len(data) - end or len(data) - end > body_bytes_max or status in _NO_BODY_WORDS:
        return None
    return HttpAnswer(status=int(status), fields=fields, body=data[end:])


_Steps = Generator[None, bytes, None]
_Found = Generator[None, bytes, bytes]


class AnswerReader:
    """Reads the answer to one request of ``method``.

    ``head`` is the answer without its body, once it is there. ``is_over``: nothing more is wanted, as the answer is
    whole or never will be. ``is_reusable``: it is whole, and the connection serves for another request.
    ``wanted_bytes``: how much more is known to come, for who reads in pieces of some size. ``body_bytes_max`` bounds
    the body; ``None`` for one that is taken piece by piece.
    """

    def __init__(self, method: str = "GET", body_bytes_max: int | None = BODY_BYTES_MAX) -> None:
        self.status = 0  # until the head is there
        self.is_over = False
        self.is_reusable = False
        self.wanted_bytes = 0
        self._fields = b""
        self._is_head = method == "HEAD"
        self._room = _ANY_SIZE if body_bytes_max is None else body_bytes_max
        self._buffer = b""
        self._at = 0  # before it all is understood
        self._is_silent = True
        self._keeps_alive = False
        self._held = io.BytesIO()
        self._error: AnswerError | None = None
        self._steps = self._read()
        next(self._steps)

    @property
    def head(self) -> HttpAnswer | None:
        return HttpAnswer(status=self.status, fields=self._fields) if self.status else None

    @property
    def has_piece(self) -> bool:
        """Would ``take`` give anything, or raise?"""
        return self._held.tell() > 0 or self._error is not None

    def feed(self, data: bytes) -> None:
        """Take what came; nothing at all means that the stream has ended. Does not raise."""
        if self.is_over:
            self.is_reusable = False  # more than was asked for, or no more
            return
        if data:
            self._is_silent = False
        try:
            self._steps.send(data)
        except StopIteration:
            self.is_over, self.is_reusable = True, self._keeps_alive and self._at == len(self._buffer)
        except AnswerError as error:
            self.is_over, self._error = True, error

    def take(self) -> bytes:
        """What of the body has come since the last time; raises ``AnswerError`` when the rest never will."""
        if not self._held.tell():
            if self._error is not None:
                raise self._error
            return b""
        piece, self._held = self._held.getvalue(), io.BytesIO()
        return piece

    def answer(self) -> HttpAnswer:
        """The whole answer, when it is over and nothing was taken of it; raises ``AnswerError``."""
        if self._error is not None:
            raise self._error
        assert self.is_over
        return HttpAnswer(status=self.status, fields=self._fields, body=self._held.getvalue())

    # -- what is read, in its order

    def _read(self) -> _Steps:
        fields, is_1_1 = yield from self._read_heads()
        self._keeps_alive = is_1_1 and (_CONNECTION not in fields or not _CLOSE.search(fields))
        # How long the body is: RFC 9112, section 6.3.
        at = fields.find(_LENGTH)  # httptools has seen that it is one number, and no transfer coding beside it
        codings = 0 if at >= 0 else fields.count(_CODING)
        if codings and (codings > 1 or not is_1_1 or not _CHUNKED_ALONE.search(fields)):
            raise UnreadableError("a body that is coded, and not only chunked")
        if self._is_head or self.status in _NO_BODY:
            return
        if codings:
            yield from self._read_chunks()
        elif at >= 0:
            length = int(fields[at + len(_LENGTH) : fields.index(b"\r\n", at + 2)])
            if length > self._room:
                raise UnreadableError(f"an answer of {length} bytes")
            yield from self._read_counted(length)
        else:
            yield from self._read_to_close()

    def _read_heads(self) -> Generator[None, bytes, tuple[bytes, bool]]:
        """Interim heads and the head; the fields of that in lower case, and whether it is HTTP/1.1."""
        room = HEAD_BYTES_MAX
        while True:
            while len(start := self._buffer[self._at : self._at + len(_START)]) < len(_START):
                if not _START.startswith(start):
                    break
                yield from self._receive()
            if start != _START:
                raise UnreadableError("it is not HTTP/1.1")
            head = yield from self._through(b"\r\n\r\n", room, f"a head of more than {HEAD_BYTES_MAX} bytes")
            room -= len(head)
            parser = HttpResponseParser(None)
            try:
                parser.feed_data(head)
            except HttpParserUpgrade:
                raise UnreadableError("it wants to go on with another protocol") from None
            except HttpParserError as error:
                raise UnreadableError(f"no head of HTTP: {error}") from None
            status = parser.get_status_code()
            if status >= 200:
                self.status, self._fields = status, head[head.index(b"\r\n") : -2]
                return self._fields.lower(), head.startswith(b"HTTP/1.1")
            if status < 100 or status == 101:  # nobody asked to switch protocols
                raise UnreadableError(f"a status of {status}")

    def _read_counted(self, count: int) -> _Steps:
        while count:
            piece = self._buffer[self._at : self._at + count]
            self._at += len(piece)
            self._held.write(piece)
            self.wanted_bytes = count = count - len(piece)
            if count:
                yield from self._receive()

    def _read_chunks(self) -> _Steps:
        while True:
            line = yield from self._through(b"\r\n", LINE_BYTES_MAX + 2, _NO_END)
            found = _CHUNK.fullmatch(line)
            if found is None:
                raise UnreadableError(f"a chunk of the length {line[:40]!r}")
            size = int(found[1], 16)
            if size > self._room:
                raise UnreadableError(_TOO_LONG)
            if not size:
                break
            self._room -= size
            yield from self._read_counted(size)
            while self._at + 2 > len(self._buffer):
                yield from self._receive()
            if not self._buffer.startswith(b"\r\n", self._at):
                raise UnreadableError("a chunk that is longer than it says")
            self._at += 2
        room = LINE_BYTES_MAX
        while (line := (yield from self._through(b"\r\n", room + 2, _NO_END))) != b"\r\n":
            room -= len(line)
            if not _TRAILER.fullmatch(line):
                raise UnreadableError("unreadable trailers")

    def _read_to_close(self) -> _Steps:
        self._keeps_alive = False
        data = self._buffer[self._at :]
        self._buffer, self._at = b"", 0
        while True:
            self._held.write(data[: self._room])
            if len(data) > self._room:
                raise UnreadableError(_TOO_LONG)
            self._room -= len(data)
            data = yield
            if not data:
                return

    # -- what has come

    def _through(self, end: bytes, room: int, reason: str) -> _Found:
        """What comes until ``end``, with it; of more than ``room`` bytes, ``reason`` is why they are not read."""
        while (at := self._buffer.find(end, self._at, self._at + room)) < 0:
            if len(self._buffer) - self._at >= room:
                raise UnreadableError(reason)
            yield from self._receive()
        found = self._buffer[self._at : at + len(end)]
        self._at += len(found)
        return found

    def _receive(self) -> _Steps:
        data = yield
        if not data:
            raise CutError(is_silent=self._is_silent)
        self._buffer, self._at = self._buffer[self._at :] + data, 0
