"""How a body that is made while it is read goes out, and when it ends.

Rules: the next chunk is asked for when the socket has taken the last, and while room is short it is not asked for at
all; the chunks are closed however it ends, and never asked for anything where only the head is wanted; a body that was
cut off never looks like one that has ended; a stream has no deadline, and ends with its client or with the worker. At
most ``limit`` streams are open, so that some connections are left for requests. Must not import Flask.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from typing import Final, Protocol

from raftkv.core.errors import Code
from raftkv.http.door.carrying import Message, Send
from raftkv.http.door.room import HeldBytes
from raftkv.http.messages import BodyStream, HttpResponse, StreamCutError
from raftkv.http.problems import problem

LINE_KEY: Final = "raftkv.line"
"""The ASGI extension by which our worker gives the client's connection to the application."""

CERTIFICATE_KEY: Final = "raftkv.certificate"
"""The one by which it gives the name in that connection's certificate, if it has shown one."""

IDLE_S: Final = 5.0
"""A stream that had nothing to say for this long says so."""

LEAVING_S: Final = 0.25
"""The same once the client has closed its half: most clients that do have left, and two writes find that out."""

ROOM_S: Final = 0.1
"""How often a stream looks for room while there is none."""

ENDS: Final = ("complete", "left", "cut")
"""How streams end: by themselves, with their client or worker, or because their source failed."""

log = logging.getLogger("raftkv.http")


class Line(Protocol):
    """A client's connection, as far as a stream on it needs more than ASGI has."""

    def begin_stream(self, half_closed: Callable[[], None]) -> None:
        """A stream's head is about to be sent; ``half_closed`` is called once the client has sent all it ever will."""

    def flush_head(self) -> None:
        """Send the head now, though no chunk came to go with it."""

    @property
    def is_taking(self) -> bool:
        """Is it open, and does the client take what it is sent?"""

    def write_chunk(self, chunk: bytes) -> bool:
        """Write a chunk of the body, which is not empty, after the head; returns ``is_taking``."""

    async def taken(self) -> None:
        """Returns when the client has taken enough of what it was sent."""

    def end_stream(self) -> None:
        """The stream is over, however it ended."""

    def cut(self) -> None:
        """Close the connection in such a way that the client cannot take it for the body's end."""


class Streams:
    """The streams of one worker. ``open_count`` are under way, ``ended`` counts the others by how they ended."""

    def __init__(self, room: HeldBytes, *, limit: int) -> None:
        self._room = room
        self._limit = limit
        self._open: dict[_Outgoing, None] = {}
        self.ended = dict.fromkeys(ENDS, 0)

    @property
    def open_count(self) -> int:
        """How many are under way."""
        return len(self._open)

    async def admit(self, response: HttpResponse) -> HttpResponse:
        """``response``, or a refusal instead where it is a stream too many."""
        if not isinstance(response.body, BodyStream) or len(self._open) < self._limit:
            return response
        await response.body.chunks.aclose()
        return problem(Code.OVERLOADED, f"there are {len(self._open)} streams already; try again later")

    async def carry(self, response: HttpResponse, scope: Message, send: Send) -> None:
        """Send ``response``, whose body is a stream, to its end."""
        stream = response.body
        assert isinstance(stream, BodyStream)
        head = {"type": "http.response.start", "status": response.status, "headers": list(response.headers)}
        if scope["method"] == "HEAD":
            await stream.chunks.aclose()
            await send(head)
            await send({"type": "http.response.body", "body": b""})
            return
        outgoing = _Outgoing(stream, self._room, send, scope.get("extensions", {}).get(LINE_KEY))
        self._open[outgoing] = None
        how = "left"
        try:
            how = await outgoing.run(head)
        finally:
            outgoing.stop()
            del self._open[outgoing]
            self.ended[how] += 1

    def end(self) -> None:
        """The worker ends: cut every stream off."""
        for outgoing in tuple(self._open):
            outgoing.leave()


class _Outgoing:
    """One stream on its way out."""

    def __init__(self, stream: BodyStream, room: HeldBytes, send: Send, line: Line | None) -> None:
        self._stream = stream
        self._room = room
        self._send = send
        self._line = line
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._period_s = min(stream.idle_s or IDLE_S, IDLE_S)
        self._has_moved = False
        self._is_writing = False
        self._is_between = True
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, head: Message) -> str:
        """Send it; returns how it ended."""
        if self._line is not None:
            self._line.begin_stream(self._half_closed)
        await self._send(head)
        if self._line is not None:
            self._line.flush_head()
            if self._stream.offer is not None:
                self._stream.offer(self._write)
            if self._stream.idle:
                self._timer = self._loop.call_later(self._period_s, self._look)
        try:
            async with aclosing(self._stream.chunks) as chunks:
                async for chunk in chunks:
                    await self._pass_on(chunk)
        except StreamCutError:
            self._cut()
            return "cut"
        except Exception as error:  # noqa: BLE001  whatever it is, the reader must not take it for the end
            log.error("defect in a stream: %s: %s", type(error).__name__, error)  # noqa: TRY400  one line
            self._cut()
            return "cut"
        self.stop()  # what says that nothing happens must not follow the end
        await self._send({"type": "http.response.body", "body": b""})
        return "complete"

    async def _pass_on(self, chunk: bytes) -> None:
        self._is_writing = self._has_moved = True
        if chunk:
            self._is_between = chunk.endswith(self._stream.between)
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        elif self._line is not None:  # to send it would end a chunked body
            await self._line.taken()
        while self._room.is_full and not self._room.has_room():  # noqa: ASYNC110  who gives room back tells nobody
            await asyncio.sleep(ROOM_S)
        self._is_writing = False

    def _write(self, chunk: bytes) -> bool:
        """See ``BodyStream.offer``."""
        assert self._line is not None
        self._has_moved = True
        self._is_between = chunk.endswith(self._stream.between)
        return self._line.write_chunk(chunk) and not self._room.is_full

    def _half_closed(self) -> None:
        self._period_s = LEAVING_S
        if self._timer is not None:
            self._timer.cancel()
            self._has_moved = False
            self._look()

    def _look(self) -> None:
        """Say that nothing happened, if nothing did and the reader takes what it is sent."""
        assert self._line is not None
        is_quiet = self._is_between and not (self._has_moved or self._is_writing)
        if is_quiet and self._line.is_taking:
            idle = self._stream.idle
            self._line.write_chunk(idle() if callable(idle) else idle)
        self._has_moved = False
        self._timer = self._loop.call_later(self._period_s, self._look)

    def _cut(self) -> None:
        if self._line is not None:
            self._line.cut()

    def leave(self) -> None:
        """Cut it off from outside."""
        self._cut()
        if self._task is not None:
            self._task.cancel()

    def stop(self) -> None:
        """Nothing more is said of its own accord."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._line is not None:
            self._line.end_stream()
