"""HTTP/1.1 as a client speaks it, without I/O: a request becomes bytes, and the bytes that come back an answer.

A driver makes one ``AnswerReader`` for each request, feeds it what its socket gives, and asks what there is: pieces of
the body as they come, or the whole answer. httptools judges every head: names, values, and lengths that contradict each
other. Where the answer ends is counted here, since httptools neither knows that HEAD has no body nor says where an
answer ended.

Rules. What comes of some bytes never depends on how they were split. All that is held is bounded: a head with its
interim ones before it, the line of a chunk, trailers, and a body that is read as a whole. Whatever bytes come, nothing
is raised but an ``AnswerError``. Must not import a socket, a clock, or anything of a server.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
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
_START: Final = b"HTTP/1."
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET: Final = re.compile(r"[!-~\x80-\xff]+")
_FIELD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e\x80-\xff]*")
_CHUNK: Final = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")


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
        if not _TARGET.fullmatch(target):
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


class CutError(AnswerError):
    """The stream ended before the answer did; ``is_silent``: not even a byte of it had come."""

    def __init__(self, *, is_silent: bool) -> None:
        super().__init__("ended before a word of the answer" if is_silent else "ended in the middle of the answer")
        self.is_silent = is_silent


_TOO_LONG: Final = "a longer answer than is taken"
_NO_END: Final = "a line without an end among chunks"
_HEAD, _COUNTED, _CHUNKED, _UNTIL_CLOSE, _OVER = range(5)
_LENGTH: Final = b"\r\ncontent-length:"
_CODING: Final = b"\r\ntransfer-encoding:"
_CHUNKED_ALONE: Final = re.compile(_CODING + rb"[ \t]*chunked[ \t]*\r\n")
_CLOSE: Final = re.compile(rb"\r\nconnection:(?:[^\r]*,)?[ \t]*close[ \t]*[,\r]")
_ANY_SIZE: Final = 1 << 62


class AnswerReader:
    """Reads the answer to one request of ``method``.

    ``head`` is the answer without its body, once it is there. ``is_over``: nothing more is wanted, as the answer is
    whole or never will be. ``is_reusable``: it is whole, and the connection serves for another request.
    ``body_bytes_max`` bounds the body; ``None`` for one that is taken piece by piece.
    """

    status = 0  # until the head is there
    # What an answer seldom needs is not set for each.
    _stage = _HEAD
    _fields = b""
    _buffer = b""
    _interim_bytes = 0
    _left = 0  # of the body, or of a chunk with the CRLF after it
    _trailer_bytes = -1  # before the last chunk
    _keeps_alive = False
    _piece = b""
    _more: io.BytesIO | None = None
    _error: AnswerError | None = None

    def __init__(self, method: str = "GET", body_bytes_max: int | None = BODY_BYTES_MAX) -> None:
        self._is_head = method == "HEAD"
        self._is_bounded = body_bytes_max is not None
        self._room = _ANY_SIZE if body_bytes_max is None else body_bytes_max

    @property
    def head(self) -> HttpAnswer | None:
        return HttpAnswer(status=self.status, fields=self._fields) if self.status else None

    @property
    def is_over(self) -> bool:
        return self._stage == _OVER

    @property
    def is_reusable(self) -> bool:
        return self._keeps_alive and self._stage == _OVER

    @property
    def has_piece(self) -> bool:
        """Would ``take`` give anything, or raise?"""
        return bool(self._piece) or (self._error is not None)

    @property
    def wanted_bytes(self) -> int:
        """How much more is known to come, for who reads in pieces of some size."""
        return self._left

    def feed(self, data: bytes) -> None:
        """Take what came; nothing at all means that the stream has ended. Does not raise."""
        if not data:
            self._end()
            return
        if self._stage == _HEAD:
            data = self._read_heads(self._buffer + data if self._buffer else data)
            if not data:
                return
        if self._stage == _COUNTED:
            self._read_counted(data)
        elif self._stage == _CHUNKED:
            self._read_chunks(self._buffer + data if self._buffer else data)
        elif self._stage == _UNTIL_CLOSE:
            self._read_to_close(data)
        else:
            self._keeps_alive = False  # more than was asked for

    def take(self) -> bytes:
        """What of the body has come since the last time; raises ``AnswerError`` when the rest never will."""
        if self._more is not None:
            piece, self._more = self._more.getvalue(), None
        else:
            piece = self._piece
        if not piece and self._error is not None:
            raise self._error
        self._piece = b""
        return piece

    def answer(self) -> HttpAnswer:
        """The whole answer, when it is over and nothing was taken of it; raises ``AnswerError``."""
        if self._error is not None:
            raise self._error
        assert self._stage == _OVER
        body = self._piece if self._more is None else self._more.getvalue()
        return HttpAnswer(status=self.status, fields=self._fields, body=body)

    # -- heads

    def _read_heads(self, buffer: bytes) -> bytes:
        """Read interim heads and the head; returns what follows it."""
        while self._stage == _HEAD:
            start = buffer[: len(_START)]
            if start != _START and not _START.startswith(start):
                self._fail("it is not HTTP/1.1")
                break
            end = buffer.find(b"\r\n\r\n") + 4
            if self._interim_bytes + (end if end > 3 else len(buffer) + 1) > HEAD_BYTES_MAX:
                self._fail(f"a head of more than {HEAD_BYTES_MAX} bytes")
                break
            if end == 3:
                self._buffer = buffer
                return b""
            self._read_head(buffer[:end])
            buffer = buffer[end:]
        self._buffer = b""
        return buffer

    def _read_head(self, head: bytes) -> None:
        parser = HttpResponseParser(None)
        try:
            parser.feed_data(head)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._fail(f"no head of HTTP: {error}")
            return
        status = parser.get_status_code()
        if status >= 200:
            self.status, self._fields = status, head[head.index(b"\r\n") : -2]
            self._begin_body(status, self._fields.lower(), is_1_1=head.startswith(b"HTTP/1.1"))
        elif status < 100 or status == 101:  # nobody asked to switch protocols
            self._fail(f"a status of {status}")
        else:
            self._interim_bytes += len(head)

    def _begin_body(self, status: int, fields: bytes, *, is_1_1: bool) -> None:
        """How long the body is (RFC 9112, section 6.3), and whether another answer may follow; ``fields`` are lower."""
        self._keeps_alive = is_1_1 and (b"\r\nconnection:" not in fields or not _CLOSE.search(fields))
        at = fields.find(_LENGTH)  # httptools has seen that it is one number, and no transfer coding beside it
        codings = 0 if at >= 0 else fields.count(_CODING)
        if codings and (codings > 1 or not is_1_1 or not _CHUNKED_ALONE.search(fields)):
            self._fail("a body that is coded, and not only chunked")
        elif self._is_head or status in _NO_BODY:
            self._stage = _OVER
        elif codings:
            self._stage = _CHUNKED
        elif at < 0:
            self._keeps_alive, self._stage = False, _UNTIL_CLOSE
        else:
            self._left = int(fields[at + len(_LENGTH) : fields.index(b"\r\n", at + 2)])
            self._stage = _COUNTED if self._left else _OVER
            if self._left > self._room:
                self._fail(f"an answer of {self._left} bytes")

    # -- bodies

    def _read_counted(self, data: bytes) -> None:
        left = self._left = self._left - len(data)
        if left > 0:
            self._hold(data)
            return
        self._stage = _OVER
        if left < 0:
            data = data[:left]
            self._keeps_alive = False
        self._hold(data)

    def _read_chunks(self, buffer: bytes) -> None:
        position = 0
        pieces: list[bytes] = []
        while self._stage == _CHUNKED and (step := self._read_chunk(buffer, position, pieces)):
            position += step
        if pieces:
            self._hold(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        self._buffer = b"" if self._stage == _OVER else buffer[position:]
        if self._stage == _OVER and position < len(buffer):
            self._keeps_alive = False

    def _read_chunk(self, buffer: bytes, position: int, pieces: list[bytes]) -> int:
        """Read what is at ``position``, data or the line around it; how many bytes it took, 0 when more are needed."""
        if self._left > 2:
            if piece := buffer[position : position + self._left - 2]:
                pieces.append(piece)
                self._left -= len(piece)
            return len(piece)
        if self._left:
            found = buffer[position : position + 2]
            if len(found) < 2:
                return 0
            if found != b"\r\n":
                self._fail("a chunk that is longer than it says")
            self._left = 0
            return 2
        end = buffer.find(b"\r\n", position)
        if end < 0:
            if len(buffer) - 1 - position > LINE_BYTES_MAX:
                self._fail(_NO_END)
            return 0
        self._read_line(buffer[position:end])
        return end + 2 - position

    def _read_line(self, line: bytes) -> None:
        """The line before a chunk, or after the last one."""
        if len(line) > LINE_BYTES_MAX:
            self._fail(_NO_END)
        elif self._trailer_bytes >= 0:
            self._trailer_bytes += len(line) + 2
            if not line:
                self._stage = _OVER
            elif self._trailer_bytes > LINE_BYTES_MAX or not _TRAILER.fullmatch(line):
                self._fail("unreadable trailers")
        else:
            self._read_size(line)

    def _read_size(self, line: bytes) -> None:
        found = _CHUNK.fullmatch(line)
        size = -1 if found is None else int(found[1], 16)
        if size < 0:
            self._fail(f"a chunk of the length {line[:40]!r}")
        elif size > self._room:
            self._fail(_TOO_LONG)
        elif size == 0:
            self._trailer_bytes = 0
        else:
            if self._is_bounded:
                self._room -= size
            self._left = size + 2

    # -- what is held

    def _read_to_close(self, piece: bytes) -> None:
        if len(piece) > self._room:
            piece = piece[: self._room]
            self._fail(_TOO_LONG)
        if self._is_bounded:
            self._room -= len(piece)
        self._hold(piece)

    def _hold(self, piece: bytes) -> None:
        if not self._piece:
            self._piece = piece
        else:
            if self._more is None:
                self._more = io.BytesIO()
                self._more.write(self._piece)
            self._more.write(piece)

    def _fail(self, reason: str) -> None:
        if self._error is None:
            self._error = UnreadableError(reason)
        self._keeps_alive, self._stage = False, _OVER

    def _end(self) -> None:
        if self._stage not in (_UNTIL_CLOSE, _OVER):
            self._error = CutError(is_silent=not self.status and not self._buffer and not self._interim_bytes)
        self._keeps_alive, self._stage = False, _OVER
