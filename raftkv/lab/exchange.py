"""One HTTP connection of the laboratory: a request is sent at most once, and the caller learns how far it came.

General clients resend a PUT when a kept-alive connection turns out to be closed; a history would then hold one
operation where there were two. Here nothing is ever sent twice: ``UnsentError`` says that not a byte left this process,
``UnheardError`` that the rest is unknown. Imports the standard library and ``raftkv.core`` only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec

from raftkv.core.config import Address

HEAD_BYTES_MAX: Final = 1 << 16
BODY_BYTES_MAX: Final = 64 << 20


class UnsentError(Exception):
    """No connection came about, so nothing was sent."""


class UnheardError(Exception):
    """The request was sent, wholly or in part, and no whole answer came."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the server said; names of ``headers`` are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """A kept-alive connection to one server, opened when needed; one request at a time."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def exchange(
        self, method: str, target: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> Answer:
        """Send one request and wait at most ``timeout_s`` seconds; raises ``UnsentError`` or ``UnheardError``."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._address}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        request = "\r\n".join([*lines, "", ""]).encode() + body
        is_sent = False
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await self._open()
                is_sent = True
                writer.write(request)
                answer = await _read_answer(reader, has_body=method != "HEAD")
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:  # OSError: also the timeout
            self.close()
            raise (UnheardError if is_sent else UnsentError)(str(error) or type(error).__name__) from None
        except asyncio.CancelledError:
            self.close()
            raise
        if answer.headers.get("connection", "").lower() == "close":
            self.close()
        return answer

    def close(self) -> None:
        """Drop the connection, if there is one."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None or self._reader.at_eof() or self._writer.is_closing():
            self.close()
            self._reader, self._writer = await asyncio.open_connection(
                self._address.host, self._address.port, limit=HEAD_BYTES_MAX
            )
        return self._reader, self._writer


async def _read_answer(reader: asyncio.StreamReader, *, has_body: bool) -> Answer:
    """Read one answer; raises ``ValueError`` for what is not readable, ``EOFError`` when it ends too soon."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head[:-4].split("\r\n")
    protocol, _, rest = first.partition(" ")
    if protocol != "HTTP/1.1":
        raise ValueError(f"not HTTP/1.1: {first[:40]!r}")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if not has_body:
        body = b""
    elif headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    else:
        body = (
            await reader.readexactly(_bounded(int(headers["content-length"]))) if "content-length" in headers else b""
        )
    return Answer(status=int(rest[:3]), headers=headers, body=body)


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
