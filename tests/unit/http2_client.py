"""A client of HTTP/2 without sockets, who may say anything, at a clock that is moved by hand."""

from __future__ import annotations

import struct
from typing import NamedTuple

import hpack

from raftkv.etcd.grpc import frames
from raftkv.etcd.grpc.calls import GrpcCalls
from raftkv.etcd.grpc.connection import Accept, Http2Connection
from raftkv.etcd.grpc.heads import TIMEOUT_FIELD
from tests.unit.grpc_server import EchoService

HEAD = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/test.Echo/Say"),
    (b":authority", b"localhost"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
]

PING = frames.frame(frames.PING, 0, 0, b"12345678")
WINDOW = frames.DEFAULT_WINDOW_BYTES


class Frame(NamedTuple):
    kind: int
    flags: int
    stream_id: int
    payload: bytes


def cut(data: bytes) -> list[Frame]:
    return [Frame(*one) for one in frames.FrameCutter().cut(data)]


def message(data: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BL", flag, len(data)) + data


def settings(**values: int) -> bytes:
    return frames.settings_frame({getattr(frames, name): value for name, value in values.items()})


class Http2Client:
    """Joined to a server's connection, of the echo service unless ``accept`` is given."""

    def __init__(self, accept: Accept | None = None, *, is_greeted: bool = True) -> None:
        self.now_s = 1000.0
        self.woken = 0
        self.room_bytes = 1 << 30
        self.ended: list[tuple[str, int, int, int]] = []
        self.service = EchoService()
        self.reported: list[str] = []
        self.calls = GrpcCalls(
            self.service.find,
            client="test",
            report=lambda path, error: self.reported.append(f"{path}: {error}"),
            monotonic_s=lambda: self.now_s,
            has_room=lambda size_bytes: size_bytes <= self.room_bytes,
            ended=lambda call, status: self.ended.append((call.head.path, status, call.taken_bytes, call.sent_bytes)),
        )
        self.server = Http2Connection(
            accept or self.calls.accept, self._wake, aside=TIMEOUT_FIELD, monotonic_s=lambda: self.now_s
        )
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.greeting = cut(self.server.take())
        if is_greeted:
            self.say(frames.PREFACE, settings(), frames.frame(frames.SETTINGS, frames.ACK, 0))

    def _wake(self) -> None:
        self.woken += 1

    def say(self, *data: bytes) -> list[Frame]:
        """Send ``data`` in one piece; what the server answers."""
        self.server.receive(b"".join(data))
        return cut(self.server.take())

    def later(self, seconds: float) -> list[Frame]:
        """Let time pass as a carrier would; what the server says by itself."""
        until_s = self.now_s + seconds
        said = []
        while self.server.due_s <= until_s and not self.server.is_over:
            self.now_s = max(self.now_s, self.server.due_s)
            self.server.tick()
            said += cut(self.server.take())
        self.now_s = until_s
        return said

    def head(
        self, stream_id: int, fields: list[tuple[bytes, bytes]] = HEAD, *, flags: int = 4, **changed: str
    ) -> bytes:
        """HEADERS; ``changed`` names fields whose value is another, or that are added."""
        made = dict(fields)
        for name, value in changed.items():
            key = name.replace("_", "-").encode()
            made[b":" + key if b":" + key in made else key] = value.encode("latin-1")
        return frames.frame(frames.HEADERS, flags, stream_id, self.encoder.encode(list(made.items())))

    def body(self, stream_id: int, data: bytes, *, is_last: bool = True) -> bytes:
        """DATA, in as many frames as it takes."""
        pieces = [data[at : at + 16384] for at in range(0, len(data), 16384)] or [b""]
        made = [frames.frame(frames.DATA, 0, stream_id, piece) for piece in pieces[:-1]]
        return b"".join([*made, frames.frame(frames.DATA, int(is_last), stream_id, pieces[-1])])

    def call(self, stream_id: int, data: bytes = b"hello", **changed: str) -> bytes:
        """A whole unary call."""
        return self.head(stream_id, **changed) + self.body(stream_id, message(data))

    def fields(self, frame: Frame) -> dict[str, str]:
        """What is in a header block of the server."""
        assert frame.kind == frames.HEADERS
        assert frame.flags & frames.END_HEADERS
        return dict(self.decoder.decode(frame.payload))


def last_word(said: list[Frame]) -> tuple[int, int, str]:
    """Of the GOAWAY that ended a connection: the last stream, the code and why."""
    assert said
    assert said[-1].kind == frames.GOAWAY
    last_id, code = struct.unpack_from(">LL", said[-1].payload)
    return last_id, code, said[-1].payload[8:].decode()


def resets(said: list[Frame]) -> dict[int, int]:
    """The codes of the streams that were reset."""
    return {one.stream_id: struct.unpack(">L", one.payload)[0] for one in said if one.kind == frames.RST_STREAM}


def body_of(said: list[Frame], stream_id: int) -> bytes:
    return b"".join(one.payload for one in said if one.kind == frames.DATA and one.stream_id == stream_id)


def reset(stream_id: int, code: int = 8) -> bytes:
    return frames.frame(frames.RST_STREAM, 0, stream_id, struct.pack(">L", code))


def ended_by(client: Http2Client, *data: bytes) -> int:
    """The code by which the connection ends."""
    said = client.say(*data)

    assert client.server.is_over
    assert client.server.streams == {}
    return last_word(said)[1]


def ending(client: Http2Client, said: list[Frame]) -> tuple[int, str]:
    """The status of a call, and why."""
    last = [one for one in said if one.kind == frames.HEADERS][-1]
    assert last.flags & frames.END_STREAM
    fields = client.fields(last)
    return int(fields["grpc-status"]), fields.get("grpc-message", "")


def asked(*data: bytes, **changed: str) -> tuple[int, str]:
    """How a call ends that is asked so, of which nothing comes but its end."""
    client = Http2Client()
    said = client.say(client.head(1, **changed), client.body(1, b"".join(data)))
    if said[-1].kind == frames.RST_STREAM:  # it was ended before the client had sent all
        assert resets(said[-1:]) == {1: frames.ErrorCode.NO_ERROR}
        said.pop()

    (head,) = said
    assert head.flags & frames.END_STREAM
    fields = client.fields(head)
    assert (fields.pop(":status"), fields.pop("content-type")) == ("200", "application/grpc")
    return int(fields["grpc-status"]), fields.get("grpc-message", "")
