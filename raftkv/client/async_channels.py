"""Kept-alive HTTP connections on an asyncio loop, for who must know how far a request came. Nothing is ever sent twice.

General clients send a PUT again when a kept-alive connection turns out to be closed; whoever passes on other people's
writes, or keeps a history of his own, must not. ``UnopenedError`` says that not a byte of the request left this
process, ``UnheardError`` that the rest is unknown. Rules: one request at a time on a channel, no pipelining; a channel
on which anything went wrong is not used again, nor one that was idle for long or whose server said something unasked;
of a body that is taken piece by piece, no more is read before a piece is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from typing import Final, cast

from raftkv.client.events import EventReader, LineReader, ServerSentEvent
from raftkv.client.http1 import BODY_BYTES_MAX, AnswerError, AnswerReader, Headers, HttpAnswer, common_answer
from raftkv.client.reach import CONNECT_TIMEOUT_S, IDLE_S, Host, UnheardError, UnopenedError, unheard, unopened

ANSWER_BYTES_MAX: Final = 64 << 20
"""An answer larger than this is a fault of the server, not something to pass on, or to keep."""


class AsyncChannel(asyncio.Protocol):
    """One connection to ``host``, opened anew as often as is wanted. ``tls`` says who is trusted where it is https.

    ``waiting_since_s`` (``time.monotonic``) is when the request in flight was sent, 0 when there is none.
    """

    def __init__(self, host: Host, *, tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.idle_since_s = 0.0
        self.waiting_since_s = 0.0
        self._tls = tls
        self._transport: asyncio.Transport | None = None
        self._asked: tuple[str, int | None] = ("", None)  # the method, and the bound of what is read as a whole
        self._reader: AnswerReader | None = None  # of an answer that is not of the common kind
        self._waiter: asyncio.Future[HttpAnswer | None] | None = None
        self._failure: UnheardError | None = None
        self._is_paused = False

    @property
    def is_open(self) -> bool:
        """Can a request be sent without opening anew?"""
        return self._transport is not None and not self._transport.is_closing()

    async def open(self, limit_s: float) -> None:
        """Connect; raises ``UnopenedError``."""
        self.close()
        loop, host = asyncio.get_running_loop(), self.host
        tls = (self._tls or ssl.create_default_context()) if host.is_tls else None
        try:
            async with asyncio.timeout(max(0.0, limit_s)):
                await loop.create_connection(lambda: self, host.name, host.port, ssl=tls)
        except (OSError, UnicodeError) as error:  # the timeout is an OSError, too
            raise unopened(error, host, in_handshake=isinstance(error, ssl.SSLError)) from None

    async def ask(self, request: bytes, method: str = "GET", *, body_bytes_max: int = BODY_BYTES_MAX) -> HttpAnswer:
        """Send ``request``, wait without a limit for its whole answer; raises ``UnheardError``."""
        waiter, is_reusable = self._send(request, method, body_bytes_max), False
        try:
            answer = await waiter
            is_reusable = self._reader is None or self._reader.is_reusable
        finally:
            self._done(is_reusable=is_reusable)
        assert answer is not None
        return answer

    async def begin(self, request: bytes, method: str = "GET") -> HttpAnswer:
        """Send ``request``, wait without a limit for the head of its answer; raises ``UnheardError``.

        The body is then taken by ``piece``, and the channel is the answer's until ``end``.
        """
        waiter = self._send(request, method, None)
        reader = self._reader = AnswerReader(method, None)
        try:
            await waiter
            return reader.head or reader.answer()  # which raises what kept it away
        except BaseException as error:
            self._done(is_reusable=False)
            if isinstance(error, AnswerError):
                raise unheard(error) from error
            raise

    async def piece(self) -> bytes:
        """The next piece of the body, empty at its end; waits without a limit; raises ``UnheardError``."""
        reader = self._reader
        assert reader is not None
        while not (reader.has_piece or reader.is_over):
            if self._failure is not None:
                raise self._failure
            if self._is_paused and self._transport is not None:
                self._is_paused = False
                self._transport.resume_reading()
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        try:
            return reader.take()
        except AnswerError as error:
            raise unheard(error) from error

    def end(self) -> None:
        """Nothing more of the answer is wanted; the channel serves on only if all of it was there."""
        if self._reader is not None:
            self._done(is_reusable=self._reader.is_reusable)

    def give_up(self) -> None:
        """Drop the connection because its server is silent; the request in flight fails so."""
        self._fail(UnheardError("no answer in time", is_silence=True))
        self.close()

    def close(self) -> None:
        """Drop the connection at once; a request in flight fails."""
        if self._transport is not None:
            self._fail(UnheardError("closed"))
            self._transport.abort()
            self._transport = None

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by behaviour, not by class
        self._is_paused = False

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        waiter, reader = self._waiter, self._reader
        if reader is None:
            if waiter is None or waiter.done():  # nobody asked
                self.close()
                return
            method, body_bytes_max = self._asked
            if body_bytes_max is not None and method != "HEAD":
                answer = common_answer(data, body_bytes_max)
                if answer is not None:
                    waiter.set_result(answer)
                    return
            reader = self._reader = AnswerReader(method, body_bytes_max)
        self._read(reader, data)

    def eof_received(self) -> None:
        """See ``asyncio.Protocol``."""
        if self._waiter is not None:
            self._reader = self._reader or AnswerReader(*self._asked)
            self._read(self._reader, b"")

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        if exc is None:
            self.eof_received()
        else:
            self._fail(unheard(exc if isinstance(exc, OSError) else OSError(str(exc))))

    # -- one request

    def _send(self, request: bytes, method: str, body_bytes_max: int | None) -> asyncio.Future[HttpAnswer | None]:
        transport = self._transport
        if transport is None or transport.is_closing():
            raise UnheardError("not connected")
        assert not self.waiting_since_s
        self._asked = method, body_bytes_max
        self.waiting_since_s = time.monotonic()
        transport.write(request)
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        return waiter

    def _read(self, reader: AnswerReader, data: bytes) -> None:
        reader.feed(data)
        if self._asked[1] is None:
            if reader.has_piece and not reader.is_over and self._transport is not None:
                self._transport.pause_reading()
                self._is_paused = True
            if reader.status or reader.is_over:
                self._wake(None)
        elif reader.is_over:
            try:
                self._wake(reader.answer())
            except AnswerError as error:
                self._fail(unheard(error))

    def _wake(self, answer: HttpAnswer | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(answer)

    def _fail(self, error: UnheardError) -> None:
        if self._waiter is None or self._failure is not None:
            return
        self._failure = error
        if not self._waiter.done():
            self._waiter.set_exception(error)

    def _done(self, *, is_reusable: bool) -> None:
        self._reader = self._waiter = self._failure = None
        self.waiting_since_s = 0.0
        if not is_reusable:
            self.close()


class AsyncStream:
    """An answer whose body is taken as it comes: iterate over it once, in any one of the three ways."""

    def __init__(self, channel: AsyncChannel, head: HttpAnswer, silence_s: float) -> None:
        self.head = head
        self._channel = channel
        self._silence_s = silence_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Pieces, until the end; raises ``UnheardError`` when it breaks off or nothing comes for too long."""
        while piece := await self._piece():
            yield piece

    async def lines(self) -> AsyncIterator[bytes]:
        """Lines, without their ends; raises as well ``UnheardError`` for one that is too long."""
        reader = LineReader()
        async for piece in self:
            for line in reader.feed(piece):
                yield line

    async def events(self) -> AsyncIterator[ServerSentEvent]:
        """Server-Sent Events; raises as ``lines``."""
        reader = EventReader()
        async for piece in self:
            for event in reader.feed(piece):
                yield event

    async def _piece(self) -> bytes:
        try:
            async with asyncio.timeout(self._silence_s):
                return await self._channel.piece()
        except TimeoutError:
            raise UnheardError(f"said nothing for {self._silence_s:g} s", is_silence=True) from None


class AsyncChannels:
    """At most ``limit`` channels to ``host``, opened when needed, within ``connect_s``. One event loop owns them."""

    def __init__(
        self, host: Host, *, tls: ssl.SSLContext | None, limit: int, connect_s: float = CONNECT_TIMEOUT_S
    ) -> None:
        self._host = host
        self._tls = tls
        self._connect_s = connect_s
        self._idle: list[AsyncChannel] = []
        self._free = asyncio.Semaphore(limit)
        self.in_use = 0

    async def exchange(
        self, method: str, target: str, *, headers: Headers, body: bytes = b"", timeout_s: float
    ) -> HttpAnswer:
        """Send one request, ``Host`` and its length added, and wait for the whole answer; raises as below.

        Raises ``UnopenedError`` or ``UnheardError``, and ``UsageError`` when it is no request.
        """
        request, deadline_s = self._host.form(method, headers).request(target, body), time.monotonic() + timeout_s
        async with self._lent(deadline_s) as channel:
            try:
                async with asyncio.timeout(deadline_s - time.monotonic()):
                    return await channel.ask(request, method, body_bytes_max=ANSWER_BYTES_MAX)
            except TimeoutError as error:
                raise unheard(error) from None

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str, target: str, *, headers: Headers, body: bytes = b"", timeout_s: float, silence_s: float
    ) -> AsyncIterator[AsyncStream]:
        """Send one request and give its answer as a stream, while the context is open.

        ``timeout_s``: until the head is there. ``silence_s``: the longest that nothing may come after it.
        Raises as ``exchange``.
        """
        request, deadline_s = self._host.form(method, headers).request(target, body), time.monotonic() + timeout_s
        async with self._lent(deadline_s) as channel:
            try:
                async with asyncio.timeout(deadline_s - time.monotonic()):
                    head = await channel.begin(request, method)
            except TimeoutError as error:
                raise unheard(error) from None
            try:
                yield AsyncStream(channel, head, silence_s)
            finally:
                channel.end()

    def close(self) -> None:
        """Drop the channels that nobody uses now."""
        idle, self._idle = self._idle, []
        for channel in idle:
            channel.close()

    @contextlib.asynccontextmanager
    async def _lent(self, deadline_s: float) -> AsyncIterator[AsyncChannel]:
        try:
            async with asyncio.timeout(min(self._connect_s, deadline_s - time.monotonic())):
                await self._free.acquire()
        except TimeoutError:
            raise UnopenedError("every connection is in use") from None
        self.in_use += 1
        try:
            channel = await self._opened(deadline_s)
            try:
                yield channel
            except BaseException:
                channel.close()
                raise
            if channel.is_open:
                channel.idle_since_s = time.monotonic()
                self._idle.append(channel)
        finally:
            self.in_use -= 1
            self._free.release()

    async def _opened(self, deadline_s: float) -> AsyncChannel:
        oldest_s = time.monotonic() - IDLE_S
        while self._idle:
            channel = self._idle.pop()
            if channel.idle_since_s >= oldest_s and channel.is_open:
                return channel
            channel.close()
        channel = AsyncChannel(self._host, tls=self._tls)
        await channel.open(min(self._connect_s, deadline_s - time.monotonic()))
        return channel
