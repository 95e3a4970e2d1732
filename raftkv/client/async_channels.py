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
import socket
import ssl
import time
from typing import Final, cast

from raftkv.client.http1 import BODY_BYTES_MAX, AnswerError, AnswerReader, Headers, HttpAnswer, common_answer
from raftkv.client.reach import CONNECT_TIMEOUT_S, IDLE_S, Host, UnheardError, UnopenedError, silent, unheard, unopened

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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._method = ""
        self._bytes_max: int | None = None  # of what is read as a whole
        self._reader: AnswerReader | None = None  # of an answer that is not of the common kind
        self._waiter: asyncio.Future[HttpAnswer | None] | None = None
        self._failure: UnheardError | None = None
        self._is_paused = False
        self._is_stuffed = False  # more was written than the system took: the server cannot have all of it

    @property
    def is_open(self) -> bool:
        """Can a request be sent without opening anew?"""
        return self._transport is not None and not self._transport.is_closing()

    async def open(self, limit_s: float) -> None:
        """Connect; raises ``UnopenedError``."""
        self.close()
        loop, host = asyncio.get_running_loop(), self.host
        self._loop, self._is_stuffed = loop, False
        tls = (self._tls or ssl.create_default_context()) if host.is_tls else None
        try:
            async with asyncio.timeout(max(0.0, limit_s)):
                await loop.create_connection(lambda: self, host.name, host.port, ssl=tls)
        except (OSError, UnicodeError) as error:  # the timeout is an OSError, too
            raise unopened(error, host, in_handshake=isinstance(error, ssl.SSLError)) from None

    async def ask(self, request: bytes, method: str = "GET", *, body_bytes_max: int = BODY_BYTES_MAX) -> HttpAnswer:
        """Send ``request``, wait without a limit for its whole answer; raises ``UnheardError``."""
        waiter = self._sent(request, method, body_bytes_max)
        try:
            answer = await waiter
            assert answer is not None
            if self._reader is None:  # the common case, with nothing to tidy up
                self._waiter, self.waiting_since_s = None, 0.0
                return answer
        except BaseException:
            self._done(is_reusable=False)
            raise
        self._done(is_reusable=self._reader.is_reusable)
        return answer

    async def begin(self, request: bytes, method: str = "GET") -> HttpAnswer:
        """Send ``request``, wait without a limit for the head of its answer; raises ``UnheardError``.

        The body is then taken by ``piece``, and the channel is the answer's until ``end``.
        """
        waiter = self._sent(request, method, None)
        reader = self._reader = AnswerReader(method, None)
        try:
            await waiter
            return reader.head or reader.answer()  # which raises what kept it away
        except AnswerError as error:
            raise self._unheard(error) from None
        finally:
            if not reader.status:
                self._done(is_reusable=False)

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
            raise self._unheard(error) from None

    def end(self) -> None:
        """Nothing more of the answer is wanted; the channel serves on only if all of it was there."""
        if self._reader is not None:
            self._done(is_reusable=self._reader.is_reusable and not self._reader.has_piece)

    def late(self, error: TimeoutError) -> UnheardError:
        """What it means that the time for a request on this channel is up."""
        return self._unheard(error)

    def give_up(self) -> None:
        """Drop the connection because its server is silent; the request in flight fails so."""
        self._fail(self._unheard(TimeoutError()))
        self.close()

    def close(self) -> None:
        """Drop the connection at once; a request in flight fails."""
        if self._transport is not None:
            self._fail(UnheardError("closed"))
            self._transport.abort()
            self._transport = None

    def abandon(self) -> None:
        """Its loop is closed, which can do nothing any more: let the server know that nothing more will come."""
        transport, self._transport = self._transport, None
        connection = None if transport is None else transport.get_extra_info("socket")
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by behaviour, not by class
        self._is_paused = False

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        waiter = self._waiter
        if self._reader is None:
            if waiter is None or waiter.done():  # nobody asked
                self.close()
                return
            answer = common_answer(data, self._method, self._bytes_max)
            if answer is not None:
                waiter.set_result(answer)
                return
        self._read(data)

    def eof_received(self) -> None:
        """See ``asyncio.Protocol``."""
        if self._waiter is not None:
            self._read(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        if exc is None:
            self.eof_received()
        else:
            self._fail(self._unheard(exc if isinstance(exc, OSError) else OSError(str(exc))))

    def pause_writing(self) -> None:
        """See ``asyncio.BaseProtocol``."""
        self._is_stuffed = True

    def resume_writing(self) -> None:
        """See ``asyncio.BaseProtocol``."""
        self._is_stuffed = False

    # -- one request

    def _sent(self, request: bytes, method: str, bytes_max: int | None) -> asyncio.Future[HttpAnswer | None]:
        transport = self._transport
        if transport is None or self._loop is None or transport.is_closing():
            raise UnheardError("is not connected", is_cut=True)
        assert not self.waiting_since_s
        self._method, self._bytes_max = method, bytes_max
        self.waiting_since_s = time.monotonic()
        transport.write(request)
        waiter = self._waiter = self._loop.create_future()
        return waiter

    def _read(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            reader = self._reader = AnswerReader(self._method, self._bytes_max)
        reader.feed(data)
        if self._bytes_max is None:
            if reader.has_piece and not reader.is_over and self._transport is not None:
                self._transport.pause_reading()
                self._is_paused = True
            if reader.status or reader.is_over:
                self._wake(None)
        elif reader.is_over:
            try:
                self._wake(reader.answer())
            except AnswerError as error:
                self._fail(self._unheard(error))

    def _unheard(self, error: OSError | AnswerError) -> UnheardError:
        return unheard(error, is_cut=self._is_stuffed, is_fresh=not self.idle_since_s)

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


class AsyncChannelBody:
    """See ``AnswerBody``; ``channel`` goes back to ``channels``."""

    def __init__(self, channel: AsyncChannel, head: HttpAnswer, channels: AsyncChannels) -> None:
        self.head = head
        self._channel: AsyncChannel | None = channel
        self._channels = channels

    async def piece(self, timeout_s: float) -> bytes:
        """See ``TakePiece``; raises ``UnheardError``."""
        assert self._channel is not None
        try:
            async with asyncio.timeout(timeout_s):
                return await self._channel.piece()
        except TimeoutError:
            raise silent(timeout_s) from None

    def end(self) -> None:
        """See ``AnswerBody``; unless all of it was taken, the connection is not used again."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.end()
            self._channels.give_back(channel)

    def cut(self) -> None:
        """See ``AnswerBody``."""
        if self._channel is not None:
            self._channel.close()


class AsyncChannels:
    """At most ``limit`` channels to ``host``, opened when needed, within ``connect_s``. One event loop owns them.

    Who wants one more waits for it ``place_s`` at most, by default as long as for a connection.
    """

    def __init__(
        self,
        host: Host,
        *,
        tls: ssl.SSLContext | None,
        limit: int,
        connect_s: float = CONNECT_TIMEOUT_S,
        place_s: float | None = None,
    ) -> None:
        self.host = host
        self._tls = tls
        self._connect_s = connect_s
        self._place_s = connect_s if place_s is None else place_s
        self._idle: list[AsyncChannel] = []
        self._free = asyncio.Semaphore(limit)
        self.in_use = 0

    async def ask(
        self, method: str, request: bytes, timeout_s: float, *, bytes_max: int = BODY_BYTES_MAX, is_apart: bool = False
    ) -> HttpAnswer:
        """Send ``request`` once and wait for the whole answer; raises ``UnopenedError`` or ``UnheardError``.

        ``is_apart``: on a new connection that serves for nothing else.
        """
        deadline_s = time.monotonic() + timeout_s
        channel = await self._borrowed(deadline_s, is_apart=is_apart)
        try:
            async with asyncio.timeout(deadline_s - time.monotonic()):
                return await channel.ask(request, method, body_bytes_max=bytes_max)
        except TimeoutError as error:
            raise channel.late(error) from None
        finally:
            if is_apart:
                channel.close()
            self.give_back(channel)

    async def begin(self, method: str, request: bytes, timeout_s: float) -> AsyncChannelBody:
        """Send ``request`` once and wait for the head of the answer; raises as ``ask``."""
        deadline_s = time.monotonic() + timeout_s
        channel = await self._borrowed(deadline_s)
        try:
            async with asyncio.timeout(deadline_s - time.monotonic()):
                return AsyncChannelBody(channel, await channel.begin(request, method), self)
        except BaseException as error:
            channel.close()
            self.give_back(channel)
            if isinstance(error, TimeoutError):
                raise channel.late(error) from None
            raise

    async def exchange(
        self, method: str, target: str, *, headers: Headers, body: bytes = b"", timeout_s: float
    ) -> HttpAnswer:
        """As ``ask``, ``Host`` and the length added; raises as well ``UsageError`` when it is no request."""
        request = self.host.form(method, headers).request(target, body)
        return await self.ask(method, request, timeout_s, bytes_max=ANSWER_BYTES_MAX)

    def close(self) -> None:
        """Drop the channels that nobody uses now."""
        idle, self._idle = self._idle, []
        for channel in idle:
            channel.close()

    def abandon(self) -> None:
        """Let go of the channels of a loop that is closed."""
        idle, self._idle = self._idle, []
        for channel in idle:
            channel.abandon()

    def give_back(self, channel: AsyncChannel | None) -> None:
        """Nobody uses ``channel`` any more."""
        self.in_use -= 1
        self._free.release()
        if channel is not None and channel.is_open:
            channel.idle_since_s = time.monotonic()
            self._idle.append(channel)

    async def _borrowed(self, deadline_s: float, *, is_apart: bool = False) -> AsyncChannel:
        try:
            async with asyncio.timeout(min(self._place_s, deadline_s - time.monotonic())):
                await self._free.acquire()
        except TimeoutError:
            raise UnopenedError("has every connection in use") from None
        self.in_use += 1
        try:
            return await self._opened(deadline_s, is_apart=is_apart)
        except BaseException:
            self.give_back(None)
            raise

    async def _opened(self, deadline_s: float, *, is_apart: bool) -> AsyncChannel:
        oldest_s = time.monotonic() - IDLE_S
        while self._idle and not is_apart:
            channel = self._idle.pop()
            if channel.idle_since_s >= oldest_s and channel.is_open:
                return channel
            channel.close()
        channel = AsyncChannel(self.host, tls=self._tls)
        await channel.open(min(self._connect_s, deadline_s - time.monotonic()))
        return channel
