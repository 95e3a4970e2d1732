"""One HTTP/1.1 keep-alive connection for measuring: requests are ready bytes, one in flight at a time, no pipelining.

A general HTTP client spends about as much per request as the servers under test; this one spends little, so that on two
cores the servers stay the bottleneck. It reads answers with Content-Length or chunked bodies and nothing else, which is
all that raftkv and etcd send. It must not know what it measures.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Final, cast

MAX_ANSWER_BYTES: Final = 64 << 20
"""An answer larger than this is a fault of the server, not something to keep in memory."""

OPEN_S: Final = 5.0


class BrokenConnectionError(ConnectionError):
    """The connection failed, or the answer was not readable HTTP; what became of the request is unknown."""


class NoAnswerError(BrokenConnectionError):
    """The connection was given up because the server was silent for too long."""


class Connection(asyncio.Protocol):
    """A connection to one node; ``waiting_since_s`` (``perf_counter``) is when the request in flight was sent, or 0."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._address = (host, port)
        self._tls = tls
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._buffer = b""
        self._body_start = 0
        self._body_end = -1
        self.waiting_since_s = 0.0

    @property
    def is_open(self) -> bool:
        """Can a request be sent without opening anew?"""
        return self._transport is not None and not self._transport.is_closing()

    async def open(self) -> None:
        """Connect, within ``OPEN_S``; raises ``OSError``."""
        loop = asyncio.get_running_loop()
        self.close()
        async with asyncio.timeout(OPEN_S):
            await loop.create_connection(lambda: self, *self._address, ssl=self._tls)

    async def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Send ``request`` and return (status, body); raises ``BrokenConnectionError``."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise BrokenConnectionError("not connected")
        assert self._answer is None
        answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self._buffer, self._body_start = b"", 0
        self.waiting_since_s = time.perf_counter()
        transport.write(request)
        try:
            return await answer
        finally:
            self._answer = None
            self.waiting_since_s = 0.0

    def close(self) -> None:
        """Drop the connection at once; a request in flight fails."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def give_up(self) -> None:
        """Drop the connection because its server is silent; the request in flight fails with ``NoAnswerError``."""
        self._fail(NoAnswerError("no answer"))
        self.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by behaviour, not by class

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._fail(BrokenConnectionError(f"connection lost: {exc or 'closed by the server'}"))

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        self._buffer = buffer = self._buffer + data if self._buffer else data
        try:
            if not self._body_start and not self._read_head(buffer):
                return
            if self._body_end >= 0:
                if len(buffer) < self._body_end:
                    return
                body = buffer[self._body_start : self._body_end]
            else:
                chunks = _dechunked(buffer, self._body_start)
                if chunks is None:
                    return
                body = chunks
        except ValueError as error:
            self._fail(BrokenConnectionError(f"unreadable answer: {error}"))
            self.close()
            return
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((int(buffer[9:12]), body))

    def _read_head(self, buffer: bytes) -> bool:
        """Find where the body begins and ends (-1 for chunked); false while the head is not complete."""
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = buffer[:end].lower() + b"\r\n"
        if not head.startswith(b"http/1.1 "):
            raise ValueError(head[:40])
        self._body_start = end + 4
        at = head.find(b"\r\ncontent-length:")
        if at >= 0:
            length = int(head[at + 17 : head.index(b"\r\n", at + 17)])
            if length > MAX_ANSWER_BYTES:
                raise ValueError(f"{length} bytes announced")
            self._body_end = self._body_start + length
        elif b"\r\ntransfer-encoding: chunked\r\n" in head:
            self._body_end = -1
        else:
            raise ValueError("neither Content-Length nor chunked")
        return True

    def _fail(self, error: BrokenConnectionError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def _dechunked(buffer: bytes, position: int) -> bytes | None:
    """The body whose chunks begin at ``position``, or ``None`` while the last one is not there; no trailers."""
    parts: list[bytes] = []
    while True:
        line_end = buffer.find(b"\r\n", position)
        if line_end < 0:
            return None
        size = int(buffer[position:line_end].split(b";")[0], 16)
        position = line_end + 2
        if len(buffer) < position + size + 2:
            return None
        if size == 0:
            return b"".join(parts)
        parts.append(buffer[position : position + size])
        position += size + 2
