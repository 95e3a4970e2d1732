"""Kept-alive HTTP connections to one server, for who must know how far a request came. Nothing is ever sent twice.

General clients send a PUT again when a kept-alive connection turns out to be closed; whoever passes on other people's
writes must not. ``UnsentError`` says that not a byte of the request left this process, ``UnheardError`` that the rest
is unknown. Rules: a server has at most ``limit`` connections; a connection on which anything went wrong is not used
again; one that was idle for long is not trusted to be open still. Imports the standard library and msgspec only.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Final

import msgspec

HEAD_BYTES_MAX: Final = 1 << 16
BODY_BYTES_MAX: Final = 64 << 20
CONNECT_S: Final = 1.0
"""A machine that does not take a connection within a second is as good as down."""

IDLE_S: Final = 30.0
"""Well below what servers keep an idle connection open for."""

_NO_BODY: Final = frozenset({204, 304})

Headers = list[tuple[str, str]]


class UnsentError(Exception):
    """No connection came about, so nothing was sent."""


class UnheardError(Exception):
    """The request was sent, wholly or in part, and no whole answer came."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the server said; names of headers are in lower case, and a name may come more than once."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: str) -> str:
        """The value of the header ``name``, empty when there is none."""
        return next((value for found, value in self.headers if found == name), "")


class Pool:
    """Connections to ``host:port``. ``tls`` makes them speak https."""

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None, limit: int) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._idle: list[_Connection] = []
        self._free = asyncio.Semaphore(limit)
        self.in_use = 0

    async def exchange(self, method: str, target: str, *, headers: Headers, body: bytes, timeout_s: float) -> Answer:
        """Send one request, without any but the given headers, and wait; raises ``UnsentError`` or ``UnheardError``."""
        deadline_s = time.monotonic() + timeout_s
        try:
            async with asyncio.timeout(min(CONNECT_S, timeout_s)):
                await self._free.acquire()
        except TimeoutError:
            raise UnsentError("every connection is in use") from None
        self.in_use += 1
        try:
            lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
            request = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
            connection = await self._connected(deadline_s)
            answer = await _exchange(connection, request, deadline_s, is_head=method == "HEAD")
            if not connection.is_over:
                connection.idle_since_s = time.monotonic()
                self._idle.append(connection)
            return answer
        finally:
            self.in_use -= 1
            self._free.release()

    def close(self) -> None:
        """Drop the connections that nobody uses now."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.abort()

    async def _connected(self, deadline_s: float) -> _Connection:
        oldest_s = time.monotonic() - IDLE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since_s >= oldest_s and not connection.is_over:
                return connection
            connection.abort()
        try:
            async with asyncio.timeout(max(0.0, min(CONNECT_S, deadline_s - time.monotonic()))):
                reader, writer = await asyncio.open_connection(
                    self._host, self._port, ssl=self._tls, limit=HEAD_BYTES_MAX
                )
        except OSError as error:  # the timeout is one too
            raise UnsentError(str(error) or "no connection in time") from None
        return _Connection(reader, writer)


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.idle_since_s = 0.0

    @property
    def is_over(self) -> bool:
        return self.reader.at_eof() or self.writer.is_closing()

    def abort(self) -> None:
        self.writer.transport.abort()


async def _exchange(connection: _Connection, request: bytes, deadline_s: float, *, is_head: bool) -> Answer:
    try:
        async with asyncio.timeout(max(0.0, deadline_s - time.monotonic())):
            connection.writer.write(request)
            answer = await read_answer(connection.reader, is_head=is_head)
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        connection.abort()
        raise UnheardError(str(error) or "no answer in time") from None
    except asyncio.CancelledError:
        connection.abort()
        raise
    if answer.header("connection").lower() == "close":
        connection.abort()
    return answer


async def read_answer(reader: asyncio.StreamReader, *, is_head: bool) -> Answer:
    """Read one answer; raises ``ValueError`` for what is not readable, ``EOFError`` when it ends too soon."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head[:-4].split("\r\n")
    protocol, _, rest = first.partition(" ")
    if protocol != "HTTP/1.1":
        raise ValueError(f"not HTTP/1.1: {first[:40]!r}")
    headers: Headers = []
    for line in lines:
        name, _, value = line.partition(":")
        headers.append((name.strip().lower(), value.strip()))
    answer = Answer(status=int(rest[:3]), headers=headers, body=b"")
    if is_head or answer.status in _NO_BODY:
        return answer
    if answer.header("transfer-encoding").lower() == "chunked":
        body = await _read_chunks(reader)
    else:
        body = await reader.readexactly(_bounded(int(answer.header("content-length") or "0")))
    return msgspec.structs.replace(answer, body=body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    held_bytes = 0
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        held_bytes = _bounded(held_bytes + size)
        chunk = await reader.readexactly(size + 2)
        if size == 0:
            return b"".join(parts)
        parts.append(chunk[:-2])


def _bounded(size: int) -> int:
    if not 0 <= size <= BODY_BYTES_MAX:
        raise ValueError(f"a body of {size} bytes")
    return size
