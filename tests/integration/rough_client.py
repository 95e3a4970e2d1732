"""A client of HTTP/2 over a real socket who may say anything, and reads only when he is asked to."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Self

import hpack

from raftkv.etcd import protobuf
from raftkv.etcd.grpc import frames
from raftkv.etcd.schema import Message
from tests.unit.http2_client import Frame, message, settings

RANGE, PUT, WATCH = "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put", "/etcdserverpb.Watch/Watch"
LOCK = "/v3lockpb.Lock/Lock"


class RoughClient:
    """Connected to ``port`` of this machine and greeted; ``window`` is what each stream of his may be sent."""

    def __init__(self, port: int, *, window: int = frames.DEFAULT_WINDOW_BYTES, receive_bytes: int = 0) -> None:
        self._socket = socket.socket()
        if receive_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._socket.settimeout(30)
        self._socket.connect(("127.0.0.1", port))
        self._cutter = frames.FrameCutter()
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()
        self._waiting: list[Frame] = []
        self.last_id = -1
        self.say(frames.PREFACE, settings(INITIAL_WINDOW_SIZE=window), frames.frame(frames.SETTINGS, frames.ACK, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()

    # --- what he says

    def say(self, *data: bytes) -> None:
        self._socket.sendall(b"".join(data))

    def flood(self, data: bytes, times: int) -> bool:
        """Say ``data`` again and again, reading nothing; false: he was hung up on before."""
        try:
            for _ in range(times):
                self._socket.sendall(data)
        except OSError:
            return False
        return True

    def head(self, path: str, *, flags: int = frames.END_HEADERS, more: tuple[tuple[str, str], ...] = ()) -> bytes:
        """HEADERS of a call, on the next stream."""
        self.last_id += 2
        fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
        fields += [("content-type", "application/grpc"), ("te", "trailers"), *more]
        return frames.frame(frames.HEADERS, flags, self.last_id, self._encoder.encode(fields))

    def body(self, request: Message, *, is_last: bool = True) -> bytes:
        """DATA of the call begun last."""
        data = message(protobuf.encode(request))
        return frames.frame(frames.DATA, frames.END_STREAM if is_last else 0, self.last_id, data)

    def call(self, path: str, request: Message, *, is_last: bool = True) -> bytes:
        """A whole request."""
        return self.head(path) + self.body(request, is_last=is_last)

    # --- what he hears

    def frames(self) -> list[Frame]:
        """What has come by now, something at least; nothing: he was hung up on."""
        try:
            data = self._socket.recv(1 << 20)
        except ConnectionError:
            return []
        return [Frame(*one) for one in self._cutter.cut(data)] if data else []

    def next(self, kind: int, stream_id: int | None = None) -> Frame:
        """The next frame of that kind, of that stream; what comes before it is passed over."""
        while True:
            while self._waiting:
                found = self._waiting.pop(0)
                if found.kind == kind and stream_id in (None, found.stream_id):
                    return found
            self._waiting += self.frames() or [self._hung_up()]

    def _hung_up(self) -> Frame:
        raise ConnectionError("hung up")

    def fields(self, frame: Frame) -> dict[str, str]:
        return dict(self._decoder.decode(frame.payload))

    def last_word(self) -> tuple[int, str]:
        """Of the GOAWAY that ends the connection: code and reason. What comes before it is passed over."""
        with contextlib.suppress(ConnectionResetError):
            while said := self.frames():
                for one in said:
                    if one.kind == frames.GOAWAY:
                        return struct.unpack_from(">L", one.payload, 4)[0], one.payload[8:].decode()
        return -1, "reset before it could be read"
