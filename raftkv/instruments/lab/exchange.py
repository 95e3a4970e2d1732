"""One HTTP connection of the laboratory: a request is sent at most once, and the caller learns how far it came.

General clients resend a PUT when a kept-alive connection turns out to be closed; a history would then hold one
operation where there were two. Here nothing is ever sent twice: ``UnsentError`` says that not a byte left this process,
``UnheardError`` that the rest is unknown. Unlike the pool of ``raftkv.client.connection``, whose answers and errors
these are, it has one connection, and takes all of the time to open it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from raftkv.client.connection import HEAD_BYTES_MAX, Answer, UnheardError, UnsentError, read_answer
from raftkv.core.config import Address


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
                answer = await read_answer(reader, is_head=method == "HEAD")
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:  # OSError: also the timeout
            self.close()
            raise (UnheardError if is_sent else UnsentError)(str(error) or type(error).__name__) from None
        except asyncio.CancelledError:
            self.close()
            raise
        if answer.header("connection").lower() == "close":
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
