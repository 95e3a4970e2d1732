"""What is one stream's: what it may still receive, what waits to be sent on it, and how it ends.

The sending of a connection (``Outbound``) belongs here too, since all its streams share it: they take turns, a frame at
a time, within the windows that the peer gives. What a peer does not take stays here, never in the transport, and
``write`` says when it is enough.

What may arrive is bounded by the windows of streams. Each is small (``STREAM_WINDOW_BYTES``); a message that is larger
is let in by an advance, of which a connection has ``ADVANCE_BYTES`` in all, first come, first served. So whoever is
given one can finish, and large messages wait for each other instead of being refused. Sans-I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from raftkv.etcd.grpc.fields import FIRST
from raftkv.etcd.grpc.frames import (
    DATA,
    DEFAULT_WINDOW_BYTES,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES_MAX,
    HEADERS,
    WINDOW_MAX,
    ErrorCode,
    Http2Fault,
    StreamFault,
    frame,
    header_frames,
    window_frame,
)

STREAM_WINDOW_BYTES: Final = 16 << 10
ADVANCE_BYTES: Final = 8 << 20
"""No message may be larger, or it could never be let in."""

FULL_BYTES: Final = 64 << 10
"""Of one stream, when it has so many bytes to send, nothing more should be written to it."""

MOVED_BYTES: Final = 16 << 10
"""Of what waits for long, so much at least is taken at a time, or the stream counts as one that does not move."""

TURN_BYTES: Final = 256 << 10
"""What one turn of the loop sends of what waits: the transport has its say in between."""


class StreamReader(Protocol):
    """Who reads a stream and answers on it. Called within a turn of its connection; it never raises."""

    def data(self, chunk: bytes) -> None:
        """So much more of the body; it is to be told to ``Http2Stream.consumed`` once it is of no more concern."""

    def end(self) -> None:
        """Nothing more will come."""

    def go_on(self) -> None:
        """What was written is on its way, so that more may be."""

    def gone(self) -> None:
        """The stream ended otherwise than by its reader: nothing can be sent on it."""

    def due(self, now_s: float) -> float:
        """Do what the time has come for; returns when to ask again, at the latest."""


def asleep() -> None:
    """Who is woken when there is nobody."""


class Outbound:
    """What a connection sends. ``wake`` is called once when there is something, until it was taken."""

    def __init__(self, wake: Callable[[], None], monotonic_s: Callable[[], float]) -> None:
        self._wake = wake
        self.monotonic_s = monotonic_s
        self._out: list[bytes] = []
        self._ready: dict[Http2Stream, None] = {}
        self.is_first = True
        """Was no header block sent yet?"""
        self.is_awake = False
        self.is_taking = True
        """False while the transport takes nothing: then everything stays in its stream."""
        self.window = DEFAULT_WINDOW_BYTES
        self.stream_window = DEFAULT_WINDOW_BYTES
        self.frame_bytes_max = FRAME_BYTES_MAX
        self.queued_bytes = 0
        self.sent_bytes = 0
        """Of bodies, since it began."""

    def emit(self, frames: bytes) -> None:
        """Send whole frames, which no window bounds."""
        self._out.append(frames)
        if not self.is_awake:
            self.is_awake = True
            self._wake()

    def emit_fields(self, stream_id: int, block: bytes, *, is_last: bool) -> None:
        """Send a header block."""
        self.emit(header_frames(stream_id, self.opened(block) if self.is_first else block, is_last=is_last))

    def opened(self, block: bytes) -> bytes:
        """The first header block of all, as it is sent."""
        self.is_first = False
        return FIRST + block

    def may_pass(self, size_bytes: int) -> bool:
        """Can so much go out at once, before nobody else and within every bound but that of its stream?"""
        return size_bytes <= self.window and size_bytes <= FRAME_BYTES_MAX and self.is_taking and not self._ready

    def is_ready(self, stream: Http2Stream) -> None:
        """``stream`` has something to send, and a window for it perhaps."""
        self._ready[stream] = None
        if not self.is_awake:
            self.is_awake = True
            self._wake()

    def widen(self, size_bytes: int) -> None:
        """The peer takes so much more on all streams together; raises ``Http2Fault``."""
        if self.window + size_bytes > WINDOW_MAX:
            raise Http2Fault(ErrorCode.FLOW_CONTROL_ERROR, "the window of the connection is too large")
        self.window += size_bytes
        if self._ready and not self.is_awake:
            self.is_awake = True
            self._wake()

    def forget(self, stream: Http2Stream) -> None:
        """Nothing more of ``stream`` is sent."""
        self._ready.pop(stream, None)
        self.queued_bytes -= stream.queued_bytes

    def sleep(self) -> None:
        """Nobody takes anything any more."""
        self._wake = asleep

    def take(self) -> bytes:
        """All there is to send in this turn; ``wake`` is called at once if the next turn has more."""
        self.is_awake = False
        if self._ready:
            self.is_awake = True
            self._pump()
            self.is_awake = False
            if self._ready and self.window > 0 and self.is_taking:
                self.is_awake = True
                self._wake()
        if len(self._out) == 1:
            return self._out.pop()
        taken = b"".join(self._out)
        self._out.clear()
        return taken

    def _pump(self) -> None:
        left_bytes = TURN_BYTES
        while self._ready and self.window > 0 and left_bytes > 0 and self.is_taking:
            stream = next(iter(self._ready))
            del self._ready[stream]
            size = min(self.window, stream.send_window, self.frame_bytes_max)
            if size <= 0:
                continue
            chunk = stream.taken(size)
            size = len(chunk)
            self.window -= size
            self.queued_bytes -= size
            self.sent_bytes += size
            left_bytes -= size
            self._out.append(frame(DATA, 0, stream.stream_id, chunk))
            if stream.queued_bytes:
                self._ready[stream] = None
            stream.moved(size)


class Advances:
    """Who of a connection may send more than the window of its stream, for one message that is larger."""

    def __init__(self) -> None:
        self._left_bytes = ADVANCE_BYTES
        self._waiting: dict[Http2Stream, int] = {}

    def ask(self, stream: Http2Stream, size_bytes: int) -> None:
        """``stream`` is let in as soon as there is enough for it, and for those who asked before."""
        self._waiting[stream] = size_bytes
        self._serve()

    def give_back(self, stream: Http2Stream, size_bytes: int) -> None:
        """``stream`` needs so much of its advance no more, and asks for none."""
        self._waiting.pop(stream, None)
        self._left_bytes += size_bytes
        self._serve()

    def _serve(self) -> None:
        while self._waiting:
            stream, size_bytes = next(iter(self._waiting.items()))
            if size_bytes > self._left_bytes:
                return
            del self._waiting[stream]
            self._left_bytes -= size_bytes
            stream.let_in(size_bytes)


class Http2Stream:
    """One request and its answer."""

    __slots__ = (
        "_advanced_bytes", "_advances", "_at", "_is_begun", "_is_waiting", "_moved_bytes", "_on_end", "_out", "_queue",
        "_trailers", "_unreturned_bytes", "expected_bytes", "is_full", "is_open", "is_remote_ended", "moved_s",
        "queued_bytes", "reader", "receive_window", "send_window", "stream_id",
    )  # fmt: skip

    def __init__(
        self,
        stream_id: int,
        out: Outbound,
        *,
        advances: Advances,
        on_end: Callable[[Http2Stream], None],
        receive_window: int,
        expected_bytes: int | None,
    ) -> None:
        self.stream_id = stream_id
        self.reader: StreamReader | None = None
        self.is_open = True
        """May anything still be sent or received on it?"""
        self.is_remote_ended = False
        self.send_window = out.stream_window
        self.receive_window = receive_window
        self.expected_bytes = expected_bytes
        self.queued_bytes = 0
        self.moved_s = 0.0
        """When ``MOVED_BYTES`` of what waits had last been sent, or all of it, or it began to wait."""
        self._moved_bytes = 0
        self._out = out
        self._advances = advances
        self._on_end = on_end
        self._queue: deque[bytes] | None = None
        self._at = 0
        self._trailers: bytes | None = None
        self._is_begun = False
        self.is_full = False
        """Does enough wait to be sent?"""
        self._is_waiting = False
        self._unreturned_bytes = 0
        self._advanced_bytes = 0

    # --- what comes in

    def receive(self, chunk: bytes, size_bytes: int, *, is_last: bool) -> None:
        """A piece of the body, for which ``size_bytes`` were sent, its padding included; raises ``StreamFault``."""
        if self.is_remote_ended:
            raise StreamFault(ErrorCode.STREAM_CLOSED, "more comes behind the end of the stream")
        self.receive_window -= size_bytes
        if self.receive_window < 0:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "more was sent than the window of the stream allows")
        if self.expected_bytes is not None:
            self.expected_bytes -= len(chunk)
            if self.expected_bytes < 0 or (is_last and self.expected_bytes):
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "the body has another length than content-length says")
        self.is_remote_ended = is_last
        assert self.reader is not None
        if size_bytes > len(chunk):
            self.consumed(size_bytes - len(chunk))
        if chunk:
            self.reader.data(chunk)
        if is_last and self.reader is not None:
            self.reader.end()

    def consumed(self, size_bytes: int) -> None:
        """So much of what came is of no more concern: as much may come in its place."""
        if self._advanced_bytes:
            back_bytes = min(self._advanced_bytes, size_bytes)
            self._advanced_bytes -= back_bytes
            size_bytes -= back_bytes
            self._advances.give_back(self, back_bytes)
        if self.is_remote_ended:
            return
        self._unreturned_bytes += size_bytes
        if self._unreturned_bytes >= STREAM_WINDOW_BYTES // 2:
            self._widen(self._unreturned_bytes)

    def require(self, size_bytes: int) -> None:
        """A message that has begun lacks so many bytes: let them in, as soon as there is room."""
        lacking_bytes = size_bytes - self.receive_window
        if lacking_bytes <= 0 or self._is_waiting or self.is_remote_ended:
            return
        if lacking_bytes <= self._unreturned_bytes:
            self._widen(self._unreturned_bytes)
        else:
            self._is_waiting = True
            self._advances.ask(self, lacking_bytes)

    def let_in(self, size_bytes: int) -> None:
        """An advance was given."""
        self._is_waiting = False
        self._advanced_bytes += size_bytes
        self.receive_window += size_bytes
        self._out.emit(window_frame(self.stream_id, size_bytes))

    def _widen(self, size_bytes: int) -> None:
        self._unreturned_bytes -= size_bytes
        self.receive_window += size_bytes
        self._out.emit(window_frame(self.stream_id, size_bytes))

    # --- what goes out

    def widen(self, size_bytes: int) -> None:
        """The peer takes so much more (or, when its settings change, less); raises ``StreamFault``."""
        if self.send_window + size_bytes > WINDOW_MAX:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "the window of the stream is too large")
        self.send_window += size_bytes
        if self.queued_bytes and self.send_window > 0:
            self._out.is_ready(self)

    def answer(self, head: bytes, body: bytes, trailers: bytes) -> None:
        """The whole answer at once, its header blocks packed."""
        size, out = len(body), self._out
        if size <= self.send_window and not self._is_begun and out.may_pass(size):
            self._is_begun = True
            out.window -= size
            out.sent_bytes += size
            number = self.stream_id
            if out.is_first:
                head = out.opened(head)
            pieces = (
                frame(HEADERS, END_HEADERS, number, head),
                frame(DATA, 0, number, body),
                frame(HEADERS, END_HEADERS | END_STREAM, number, trailers),
            )
            out.emit(b"".join(pieces))
            self._on_end(self)
        else:
            self.begin(head)
            self.write(body)
            self.end(trailers)

    def begin(self, head: bytes) -> None:
        """The header block of the answer, once."""
        assert not self._is_begun
        self._is_begun = True
        self._out.emit_fields(self.stream_id, head, is_last=False)

    def write(self, body: bytes) -> bool:
        """More of the answer; false: it waits, and nothing more should be written before ``StreamReader.go_on``."""
        assert self._is_begun
        assert self._trailers is None
        if self._queue is None:
            self._queue = deque()
        if not self.queued_bytes:
            self.moved_s = self._out.monotonic_s()
        self._queue.append(body)
        self.queued_bytes += len(body)
        self._out.queued_bytes += len(body)
        if self.send_window > 0:
            self._out.is_ready(self)
        self.is_full = self.queued_bytes >= FULL_BYTES
        return not self.is_full

    def end(self, trailers: bytes) -> None:
        """The last header block, behind everything that was written; the only one, if nothing was begun."""
        assert self._trailers is None
        self._trailers = trailers
        if not self.queued_bytes:
            self._end()

    def _end(self) -> None:
        assert self._trailers is not None
        self._out.emit_fields(self.stream_id, self._trailers, is_last=True)
        self._on_end(self)

    def taken(self, size_bytes: int) -> bytes:
        """Up to so many bytes of what waits, to be sent now."""
        assert self._queue
        first = self._queue[0]
        if not self._at and len(first) <= size_bytes:
            self._queue.popleft()
            pieces, left = [first], size_bytes - len(first)
            while self._queue and len(self._queue[0]) <= left:
                pieces.append(self._queue.popleft())
                left -= len(pieces[-1])
            chunk = b"".join(pieces)
        else:
            chunk = first[self._at : self._at + size_bytes]
            self._at += len(chunk)
            if self._at == len(first):
                self._queue.popleft()
                self._at = 0
        self.queued_bytes -= len(chunk)
        self.send_window -= len(chunk)
        return chunk

    def moved(self, size_bytes: int) -> None:
        """So much of what waited is sent. One who takes it by drops does not count as one who takes it."""
        self._moved_bytes += size_bytes
        if self._moved_bytes >= MOVED_BYTES or not self.queued_bytes:
            self._moved_bytes = 0
            self.moved_s = self._out.monotonic_s()
        if not self.queued_bytes and self._trailers is not None:
            self._end()
        elif self.is_full and self.queued_bytes < FULL_BYTES // 2:
            self.is_full = False
            if self._trailers is None and self.reader is not None:
                self.reader.go_on()

    def close(self) -> StreamReader | None:
        """It is over, however it ended; returns who read it."""
        self.is_open = False
        self._out.forget(self)
        reader, self.reader = self.reader, None
        self._queue = None
        self.queued_bytes = 0
        if self._advanced_bytes or self._is_waiting:
            self._advances.give_back(self, self._advanced_bytes)
            self._advanced_bytes = 0
        return reader
