"""One HTTP/2 connection as its server sees it (RFC 9113): bytes and time in, bytes and calls of readers out. Sans-I/O.

Rules. What arrives is dealt with frame by frame and never kept, save a frame or a header block that is not whole. A
peer that breaks the protocol, asks too much of no use (``patience``) or is silent when it should not be is told why by
a GOAWAY, and ``is_over``; nothing raises. Everything that one turn answers is one piece of bytes (``take``). Server
push, priorities and upgrades from HTTP/1.1 are not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Final, NamedTuple

from raftkv.etcd.grpc import frames
from raftkv.etcd.grpc.fields import LIST_BYTES_MAX, HeadReader, RequestHead
from raftkv.etcd.grpc.frames import ErrorCode, Http2Fault, StreamFault
from raftkv.etcd.grpc.patience import Patience
from raftkv.etcd.grpc.streams import STREAM_WINDOW_BYTES, Advances, Http2Stream, Outbound, StreamReader

STREAMS_MAX: Final = 1_000
"""Requests of one connection at a time; with the windows of streams and the advances it bounds what it holds."""

RECEIVE_WINDOW_BYTES: Final = 1 << 20
"""What all streams together may have on its way. It is given back by halves, so nobody can use it up: the windows of
streams are what bounds what is held."""

BLOCK_BYTES_MAX: Final = 2 * LIST_BYTES_MAX
"""A header block as it is sent, over all its frames."""

GREETED_WITHIN_S: Final = 10.0
"""The client's preface and settings, its answer to ours, and the rest of a header block come within this."""

QUIET_S: Final = 60.0
ANSWERED_WITHIN_S: Final = 20.0
"""A client that was silent for ``QUIET_S`` is asked whether it is there."""

STALLED_S: Final = 30.0
"""A stream of which nothing to speak of was taken for so long, although something waits, is reset."""

LAST_CALLS_S: Final = 1.0
"""A client that was told that the server leaves, and does not answer, may still begin calls for so long."""

LATELY: Final = STREAMS_MAX
"""Of so many streams that were reset here it is known that their client may not know it yet."""

LOOK_EVERY_S: Final = 0.01
"""What is due is looked for no more often: there may be a thousand streams."""

_ALIVE: Final = b"alive?\0\0"
_LEAVING: Final = b"leaving\0"


class _OpenBlock(NamedTuple):
    """A header block whose end is still to come."""

    stream_id: int
    is_last: bool
    pieces: list[bytes]
    began_s: float


Accept = Callable[[Http2Stream, RequestHead, bytes | None], StreamReader]
"""Who reads a new stream, by its head and the value of the field that is kept aside. It may have answered already."""


class Http2Connection:
    """One connection. ``wake`` is called when there is something to ``take`` that no turn of ``receive`` brought."""

    def __init__(
        self, accept: Accept, wake: Callable[[], None], *, aside: bytes, monotonic_s: Callable[[], float]
    ) -> None:
        self._accept = accept
        self._monotonic_s = monotonic_s
        now_s = monotonic_s()
        self.out = Outbound(wake, monotonic_s)
        self.streams: dict[int, Http2Stream] = {}
        self.is_over = False
        """Nothing more is received; what ``take`` still has should be sent, and the connection closed."""
        self.due_s = now_s + GREETED_WITHIN_S
        """When ``tick`` is to be called, at the latest."""
        self.idle_since_s: float | None = now_s
        self._began_s = now_s
        self._heard_s = now_s
        self._now_s = now_s
        self._cutter = frames.FrameCutter()
        self._heads = HeadReader(aside)
        self._patience = Patience(now_s)
        self._advances = Advances()
        self._preface = b""
        self._is_greeted = False
        self._is_acknowledged = False
        self._stream_window = frames.DEFAULT_WINDOW_BYTES
        self._unreturned_bytes = 0
        self._paid_bytes = 0
        self._last_id = 0
        self._reset: dict[int, None] = {}
        self._block: _OpenBlock | None = None
        self._asked_s = math.inf
        self._leaving_s: float | None = None
        self._accepts_until = frames.STREAM_ID_MAX
        self._is_peer_leaving = False
        self.out.is_awake = True
        self.out.emit(
            frames.settings_frame(
                {
                    frames.MAX_CONCURRENT_STREAMS: STREAMS_MAX,
                    frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
                    frames.MAX_HEADER_LIST_SIZE: LIST_BYTES_MAX,
                }
            )
        )
        self.out.emit(frames.window_frame(0, RECEIVE_WINDOW_BYTES - frames.DEFAULT_WINDOW_BYTES))

    # --- turns

    def receive(self, data: bytes) -> None:
        """``data`` arrived; what it brings about is there to ``take`` afterwards."""
        if self.is_over:
            return
        self.out.is_awake = True
        self._now_s = self._heard_s = self._monotonic_s()
        self._asked_s = math.inf
        try:
            if len(self._preface) < len(frames.PREFACE):
                data = self._greet(data)
            for kind, flags, stream_id, payload in self._cutter.cut(data):
                self._dispatch(kind, flags, stream_id, payload)
                if self.is_over:
                    return
        except Http2Fault as fault:
            self._end(fault.code, str(fault))

    def take(self) -> bytes:
        """What is to be sent in this turn, in one piece."""
        taken = self.out.take()
        if self.out.queued_bytes:
            self._expect(self._monotonic_s() + STALLED_S)
        return taken

    def tick(self) -> None:
        """Do what the time has come for."""
        now_s = self._now_s = self._monotonic_s()
        self.due_s = math.inf
        if self.is_over:
            return
        if not self._is_acknowledged or self._block is not None:
            began_s = self._began_s if self._block is None else self._block.began_s
            if now_s >= began_s + GREETED_WITHIN_S:
                self._end(ErrorCode.SETTINGS_TIMEOUT, "what has to come at the beginning did not come in time")
                return
            self._expect(began_s + GREETED_WITHIN_S)
        self._ask_whether_alive(now_s)
        if self._leaving_s is not None and self._accepts_until == frames.STREAM_ID_MAX:
            if now_s >= self._leaving_s + LAST_CALLS_S:
                self._accept_no_more()
            else:
                self._expect(self._leaving_s + LAST_CALLS_S)
        for stream in list(self.streams.values()):
            if stream.queued_bytes and now_s >= stream.moved_s + STALLED_S:
                self._drop(stream, ErrorCode.CANCEL)
            elif stream.reader is not None:
                self._expect(stream.reader.due(now_s))
                if stream.queued_bytes:
                    self._expect(stream.moved_s + STALLED_S)
        self.due_s = max(self.due_s, now_s + LOOK_EVERY_S)

    def leave(self) -> None:
        """Say that the connection is about to end: what was asked is answered, nothing new is asked (section 6.8)."""
        if self._leaving_s is None and not self.is_over:
            self._leaving_s = self._monotonic_s()
            self.out.emit(frames.goaway_frame(frames.STREAM_ID_MAX, ErrorCode.NO_ERROR))
            self.out.emit(frames.frame(frames.PING, 0, 0, _LEAVING))
            self._expect(self._leaving_s + LAST_CALLS_S)

    def refuse(self, why: str) -> None:
        """End, with the word that no request was looked at (section 6.8)."""
        self._end(ErrorCode.NO_ERROR, why)

    def lost(self) -> None:
        """The transport is gone, and with it all streams."""
        self.out.sleep()
        self._close_all()

    def _close_all(self) -> None:
        self.is_over = True
        for stream in list(self.streams.values()):
            self._close(stream)

    @property
    def held_bytes(self) -> int:
        """What waits here to be sent, or for its end to arrive, save bodies that readers hold."""
        return self.out.queued_bytes + self._cutter.held_bytes

    # --- one frame

    def _greet(self, data: bytes) -> bytes:
        known = self._preface + data
        self._preface = known[: len(frames.PREFACE)]
        if not frames.PREFACE.startswith(self._preface):
            raise Http2Fault(ErrorCode.PROTOCOL_ERROR, "the connection does not begin as one of HTTP/2")
        return known[len(frames.PREFACE) :]

    def _dispatch(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None and (kind != frames.CONTINUATION or stream_id != self._block.stream_id):
            raise Http2Fault(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")
        if not self._is_greeted:
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise Http2Fault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._is_greeted = True
        try:
            if kind < len(self._HANDLERS):
                self._HANDLERS[kind](self, flags, stream_id, payload)
            else:
                self._annoyed(1)
        except StreamFault as fault:
            self._refuse(stream_id, fault.code)

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size_bytes = len(payload)
        self._unreturned_bytes += size_bytes
        if self._unreturned_bytes >= RECEIVE_WINDOW_BYTES // 2:
            self.out.emit(frames.window_frame(0, self._unreturned_bytes))
            self._patience.regain(self._unreturned_bytes >> 10)
            self._unreturned_bytes = 0
        stream = self.streams.get(stream_id)
        if flags & frames.PADDED:
            payload = frames.unpadded(payload)
        is_last = flags & frames.END_STREAM
        if stream is not None:
            if not payload and not is_last:
                self._annoyed(1)
            stream.receive(payload, size_bytes, is_last=bool(is_last))
        elif stream_id in self._reset:
            self._annoyed(1 / 4)
        else:
            self._check_not_idle(stream_id)
            raise Http2Fault(ErrorCode.STREAM_CLOSED, "DATA on a stream that is closed")

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & frames.PADDED:
            payload = frames.unpadded(payload)
        if flags & frames.WITH_PRIORITY:
            if len(payload) < 5:
                raise Http2Fault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without its priority")
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._on_block(stream_id, payload, is_last=bool(flags & frames.END_STREAM))
        else:
            self._block = _OpenBlock(stream_id, bool(flags & frames.END_STREAM), [payload], self._now_s)
            self._expect(self._now_s + GREETED_WITHIN_S)

    def _on_continuation(self, flags: int, _: int, payload: bytes) -> None:
        if self._block is None:
            raise Http2Fault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        pieces = self._block.pieces
        pieces.append(payload)
        if sum(map(len, pieces)) > BLOCK_BYTES_MAX or len(pieces) > BLOCK_BYTES_MAX >> 10:
            raise Http2Fault(ErrorCode.ENHANCE_YOUR_CALM, "a header block is too long, or in too many pieces")
        self._annoyed(1)
        if flags & frames.END_HEADERS:
            block, self._block = self._block, None
            self._on_block(block.stream_id, b"".join(pieces), is_last=block.is_last)

    def _on_block(self, stream_id: int, block: bytes, *, is_last: bool) -> None:
        """A whole header block. It is read even if nobody wants it, since it may change the table of those to come."""
        self._annoyed(len(block) >> 10)  # a long one takes time to read, which a call that is answered pays for
        stream = self.streams.get(stream_id)
        if stream is not None and not stream.is_remote_ended:
            self._heads.trailers(block)
            if not is_last:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "trailers that do not end their stream")
            stream.receive(b"", 0, is_last=True)
            return
        if not stream_id & 1:
            raise Http2Fault(ErrorCode.PROTOCOL_ERROR, "a client's streams have odd numbers")
        if stream_id <= self._last_id:
            self._heads.unpack(block)
            if stream is not None:
                raise StreamFault(ErrorCode.STREAM_CLOSED, "HEADERS behind the end of the stream")
            if stream_id not in self._reset:
                raise Http2Fault(ErrorCode.STREAM_CLOSED, "HEADERS on a stream that is closed")
            self._annoyed(1)
            return
        self._last_id = stream_id
        head, aside = self._heads.request(block)
        if stream_id > self._accepts_until:
            self._remember(stream_id)
            return
        if len(self.streams) >= STREAMS_MAX:
            raise StreamFault(ErrorCode.REFUSED_STREAM, "there are too many streams")
        self._begin(stream_id, head, aside, is_last=is_last)

    def _begin(self, stream_id: int, head: RequestHead, aside: bytes | None, *, is_last: bool) -> None:
        stream = Http2Stream(
            stream_id,
            self.out,
            advances=self._advances,
            on_end=self._finished,
            receive_window=self._stream_window,
            expected_bytes=head.content_bytes,
        )
        stream.is_remote_ended = is_last
        self.streams[stream_id] = stream
        self.idle_since_s = None
        reader = self._accept(stream, head, aside)
        if not stream.is_open:
            return
        stream.reader = reader
        self._expect(reader.due(self._now_s))
        if is_last:
            if head.content_bytes:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "no body, although content-length says so")
            reader.end()

    def _on_priority(self, _: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise Http2Fault(ErrorCode.PROTOCOL_ERROR, "PRIORITY of no stream")
        if len(payload) != 5:
            raise StreamFault(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY has five bytes")
        self._annoyed(1)

    def _on_reset(self, _: int, stream_id: int, payload: bytes) -> None:
        frames.number(payload)
        self._check_not_idle(stream_id)
        self._annoyed(2)
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._close(stream)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise Http2Fault(ErrorCode.PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & frames.ACK:
            self._on_acknowledged(payload)
            return
        self._annoyed(20 + len(payload) // 6)
        for name, value in frames.settings(payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                more_bytes = value - self.out.stream_window
                self.out.stream_window = value
                for stream in list(self.streams.values()):
                    try:
                        stream.widen(more_bytes)
                    except StreamFault as fault:
                        raise Http2Fault(fault.code, str(fault)) from None
            elif name == frames.MAX_FRAME_SIZE:
                self.out.frame_bytes_max = min(value, 4 * frames.FRAME_BYTES_MAX)
        self.out.emit(frames.frame(frames.SETTINGS, frames.ACK, 0))

    def _on_acknowledged(self, payload: bytes) -> None:
        if payload:
            raise Http2Fault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS that has settings")
        if self._is_acknowledged:
            self._annoyed(20)
            return
        self._is_acknowledged = True
        less_bytes = self._stream_window - STREAM_WINDOW_BYTES
        self._stream_window = STREAM_WINDOW_BYTES
        for stream in self.streams.values():
            stream.receive_window -= less_bytes

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise Http2Fault(ErrorCode.PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != 8:
            raise Http2Fault(ErrorCode.FRAME_SIZE_ERROR, "PING has eight bytes")
        self._annoyed(4)
        if not flags & frames.ACK:
            self.out.emit(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif payload == _LEAVING and self._leaving_s is not None:
            self._accept_no_more()

    def _on_goaway(self, _: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise Http2Fault(ErrorCode.PROTOCOL_ERROR, "GOAWAY of a stream")
        if len(payload) < 8:
            raise Http2Fault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY has eight bytes at least")
        self._annoyed(1)
        self._is_peer_leaving = True
        self._end_if_left()

    def _on_window(self, _: int, stream_id: int, payload: bytes) -> None:
        more_bytes = frames.increment(payload)
        self._patience.regain((self.out.sent_bytes - self._paid_bytes) >> 10)
        self._paid_bytes = self.out.sent_bytes
        self._annoyed(1)
        if not stream_id:
            if not more_bytes:
                raise Http2Fault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            self.out.widen(more_bytes)
            return
        self._check_not_idle(stream_id)
        stream = self.streams.get(stream_id)
        if stream is not None:
            if not more_bytes:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            stream.widen(more_bytes)

    def _on_push(self, _: int, stream_id: int, payload: bytes) -> None:
        raise Http2Fault(ErrorCode.PROTOCOL_ERROR, f"a client pushes, {len(payload)} bytes on stream {stream_id}")

    # fmt: off
    _HANDLERS: ClassVar = (
        _on_data, _on_headers, _on_priority, _on_reset, _on_settings, _on_push, _on_ping, _on_goaway, _on_window,
        _on_continuation,
    )
    # fmt: on

    # --- streams and the connection end

    def _finished(self, stream: Http2Stream) -> None:
        """A stream was answered: all of it is sent, or on its way."""
        self._patience.regain(6)
        if not stream.is_remote_ended:
            self._tell_reset(stream.stream_id, ErrorCode.NO_ERROR)  # RFC 9113, section 8.1
        self._remove(stream)

    def _close(self, stream: Http2Stream) -> None:
        """A stream ended, but not by its answer."""
        reader = self._remove(stream)
        if reader is not None:
            reader.gone()

    def _drop(self, stream: Http2Stream, code: ErrorCode) -> None:
        self._tell_reset(stream.stream_id, code)
        self._close(stream)

    def _refuse(self, stream_id: int, code: ErrorCode) -> None:
        """The client broke the protocol on one stream."""
        self._annoyed(2)
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._drop(stream, code)
        elif stream_id not in self._reset:
            self._tell_reset(stream_id, code)

    def _remove(self, stream: Http2Stream) -> StreamReader | None:
        self.streams.pop(stream.stream_id, None)
        reader = stream.close()
        if not self.streams:
            self.idle_since_s = self._now_s
            if self._leaving_s is not None or self._is_peer_leaving:
                self._end_if_left()
        return reader

    def _tell_reset(self, stream_id: int, code: ErrorCode) -> None:
        self.out.emit(frames.reset_frame(stream_id, code))
        self._remember(stream_id)

    def _remember(self, stream_id: int) -> None:
        self._reset[stream_id] = None
        if len(self._reset) > LATELY:
            del self._reset[next(iter(self._reset))]

    def _check_not_idle(self, stream_id: int) -> None:
        if stream_id > self._last_id or not stream_id & 1:
            raise Http2Fault(ErrorCode.PROTOCOL_ERROR, f"a frame of stream {stream_id}, which is not there")

    def _annoyed(self, cost: float) -> None:
        if not self._patience.spend(cost, self._now_s):
            raise Http2Fault(ErrorCode.ENHANCE_YOUR_CALM, "too much of no use")

    def _ask_whether_alive(self, now_s: float) -> None:
        if not self.out.is_taking:  # then it is not read from either, and how long that may last is not decided here
            self._heard_s, self._asked_s = now_s, math.inf
        if now_s >= self._asked_s + ANSWERED_WITHIN_S:
            self._end(ErrorCode.NO_ERROR, "nobody is there")
        elif self._asked_s < math.inf:
            self._expect(self._asked_s + ANSWERED_WITHIN_S)
        elif now_s >= self._heard_s + QUIET_S:
            self._asked_s = now_s
            self.out.emit(frames.frame(frames.PING, 0, 0, _ALIVE))
            self._expect(now_s + ANSWERED_WITHIN_S)
        else:
            self._expect(self._heard_s + QUIET_S)

    def _accept_no_more(self) -> None:
        """The second GOAWAY: what was begun until now is answered, and nothing else."""
        if self._accepts_until == frames.STREAM_ID_MAX:
            self._accepts_until = self._last_id
            self.out.emit(frames.goaway_frame(self._last_id, ErrorCode.NO_ERROR))
            self._end_if_left()

    def _end_if_left(self) -> None:
        is_left = self._is_peer_leaving or self._accepts_until < frames.STREAM_ID_MAX
        if is_left and not self.streams:
            self.is_over = True
            if not self.out.is_awake:
                self.out.emit(b"")

    def _end(self, code: ErrorCode, why: str) -> None:
        if not self.is_over:
            self.out.emit(frames.goaway_frame(self._last_id, code, why))
            self._close_all()

    def _expect(self, when_s: float) -> None:
        self.due_s = min(self.due_s, when_s)
