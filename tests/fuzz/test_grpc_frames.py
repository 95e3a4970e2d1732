"""Made-up clients of gRPC: frames of every kind that are right, or almost, or not at all, cut anywhere.

Whatever they say, nothing is raised, what is held stays within its bounds, what comes back is HTTP/2 that another
implementation of HPACK reads, and the end of a connection has a code. How bytes are cut changes nothing for a client
who keeps to the protocol.
"""

from __future__ import annotations

import gzip
import random
import struct

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.etcd.grpc import connection, frames, streams
from raftkv.etcd.grpc.calls import MESSAGE_BYTES_MAX, GrpcCall, OneRequest
from raftkv.etcd.grpc.frames import ErrorCode
from tests.fuzz.budget import made_up
from tests.unit.http2_client import HEAD, Frame, Http2Client, message

FLAGS = (0, 1, 4, 5, 8, 12, 13, 32, 37, 45, 255)
NUMBERS = (0, 1, 5, 100, 16_384, 65_535, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
METHODS = (
    "Say",
    "Say",
    "Say",
    "Later",
    "Wait",
    "Refuse",
    "Break",
    "Metadata",
    "Count",
    "Count",
    "Chat",
    "Chat",
    "None",
)
MESSAGES = (b"", b"x", b"3 20000", b"100 70000", b"2000 50", b"x" * 9000, b"y" * 16_379, b"z" * 16_380, b"x" * 50_000)
ODD_FIELDS = (
    (b"grpc-timeout", b"10m"),
    (b"grpc-timeout", b"x"),
    (b"grpc-encoding", b"gzip"),
    (b"grpc-encoding", b"gzip"),
    (b"grpc-encoding", b"br"),
    (b"content-length", b"9"),
    (b"token-bin", b"AA"),
    (b"token-bin", b"?"),
    (b"Connection", b"close"),
    (b"te", b"gzip"),
    (b":path", b"/late"),
    (b"long", b"x" * 5000),
    (b"other", b"y" * 100),
)


class Speaker:
    """Makes up what a client says: right for the most part, since whoever is wrong is not heard for long."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._encoder = hpack.Encoder()
        self._next_id = 1
        self._open: list[int] = []
        self._over: list[int] = [1]
        self.odds = chance.choice((0, 0, 0.02, 0.1))

    def says(self) -> bytes:
        kinds = (self.head, self.head, self.body, self.body, self.body, self.window, self.window, self.other)
        return self._chance.choice(kinds)()

    def is_odd(self) -> bool:
        return self._chance.random() < self.odds

    def stream(self) -> int:
        """One that is open, if there is any, or not."""
        if self.is_odd():
            return self._chance.choice((0, 2, *self._over[-3:], self._next_id, self._next_id + 2, (1 << 31) - 1))
        if not self._open:
            return self._over[-1]
        return self._chance.choice(self._open)

    def end(self, stream_id: int) -> None:
        if stream_id in self._open:
            self._open.remove(stream_id)
            self._over.append(stream_id)

    def head(self) -> bytes:
        fields, chance = [*HEAD], self._chance
        fields[2] = (b":path", b"/test.Echo/" + chance.choice(METHODS).encode())
        if chance.random() < 0.3:
            odd = chance.choice(ODD_FIELDS)
            fields.insert(len(fields) if odd[0].islower() and chance.random() < 0.9 else chance.randrange(7), odd)
        if self.is_odd():
            del fields[chance.randrange(len(fields))]
        block = self._encoder.encode(fields, huffman=chance.random() < 0.5)
        stream_id, is_last = self._next_id, chance.random() < 0.1
        self._next_id += chance.choice((2, 2, 2, 4))
        self._open.append(stream_id)
        if is_last:
            self.end(stream_id)
        if chance.random() < 0.7:
            return frames.frame(frames.HEADERS, 4 | is_last, stream_id, block)
        at = chance.randrange(len(block) + 1)
        flags = chance.choice(FLAGS) if self.is_odd() else int(is_last)
        first = frames.frame(frames.HEADERS, flags, stream_id, block[:at])
        return first + frames.frame(frames.CONTINUATION, 4, stream_id, block[at:])

    def body(self) -> bytes:
        chance, stream_id, is_last = self._chance, self.stream(), self._chance.random() < 0.5
        if stream_id not in self._open and not self.is_odd():
            return self.head()
        data = chance.choice(MESSAGES)
        if chance.random() < 0.1:
            data = message(gzip.compress(data), 1)
        elif chance.random() < 0.95:
            data = message(data)
        if chance.random() < 0.15:
            data = data[: chance.randrange(len(data) + 1)]
        if len(data) > 16_384 and not self.is_odd():
            data, is_last = data[:16_384], False
        if is_last:
            self.end(stream_id)
        if chance.random() < 0.2:
            padding = chance.randrange(256)
            flags = frames.PADDED | is_last
            return frames.frame(frames.DATA, flags, stream_id, bytes([padding]) + data[:16_000] + bytes(padding))
        pieces = [data[at : at + 16_384] for at in range(0, len(data), 16_384)] or [b""]
        made = [frames.frame(frames.DATA, 0, stream_id, piece) for piece in pieces[:-1]]
        return b"".join([*made, frames.frame(frames.DATA, is_last, stream_id, pieces[-1])])

    def window(self) -> bytes:
        chance = self._chance
        size = chance.choice(NUMBERS) if self.is_odd() else chance.choice((1, 10, 100, 16_384, 100_000))
        stream_id = chance.choice((0, self.stream()))
        if stream_id >= self._next_id and not self.is_odd():
            stream_id = 0
        return frames.frame(frames.WINDOW_UPDATE, 0, stream_id, struct.pack(">L", size))

    def other(self) -> bytes:
        chance, stream_id = self._chance, self.stream()
        number = chance.choice(NUMBERS)
        window = struct.pack(">HL", frames.INITIAL_WINDOW_SIZE, chance.choice((0, 1, 100, 16_384, 65_535, 1 << 20)))
        setting = struct.pack(">HL", chance.randrange(8), number) if self.is_odd() else window
        kind, payload = chance.choice(
            (
                (frames.SETTINGS, setting * chance.randrange(3)),
                (frames.SETTINGS, setting),
                (frames.PING, b"12345678"),
                (frames.PRIORITY, bytes(5)),
                (frames.RST_STREAM, struct.pack(">L", 8)),
                (frames.HEADERS, b"\x00\x04some\x08trailers"),
                (200, b"unknown"),
            )
        )
        if self.is_odd():
            kind, payload = chance.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)), chance.randbytes(chance.randrange(20))
            return frames.frame(kind, chance.choice(FLAGS), stream_id, payload)
        if kind in (frames.SETTINGS, frames.PING):
            return frames.frame(kind, 0, 0, payload)
        if kind in (frames.RST_STREAM, frames.HEADERS):
            if stream_id not in self._open:
                return self.head()
            self.end(stream_id)
        return frames.frame(kind, 5 if kind == frames.HEADERS else 0, stream_id, payload)


class Heard(Http2Client):
    """A client that notes what its server does, and looks whether it keeps to its bounds."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.said: list[Frame] = []
        super().__init__(is_greeted=False)
        self.service.methods["/test.Echo/Say"] = OneRequest(self.heard)
        self.service.methods["/test.Echo/Later"] = OneRequest(self.service.wait)

    def heard(self, call: GrpcCall, data: bytes) -> None:
        self.messages.append(data)
        call.answer(data)

    def tell(self, data: bytes) -> None:
        said = self.say(data)
        self.said += said
        for one in said:
            if one.kind == frames.HEADERS:
                assert dict(self.decoder.decode(one.payload))
        self.check()

    def check(self) -> None:
        server = self.server
        assert len(server.streams) <= connection.STREAMS_MAX
        assert len(self.calls.open) <= len(server.streams)
        assert server.out.queued_bytes == sum(stream.queued_bytes for stream in server.streams.values())
        bound = streams.FULL_BYTES + max(70_010, MESSAGE_BYTES_MAX)
        assert all(stream.queued_bytes <= bound for stream in server.streams.values())
        assert self.calls.held_bytes <= streams.ADVANCE_BYTES + len(server.streams) * frames.DEFAULT_WINDOW_BYTES
        assert server._cutter.held_bytes < frames.HEAD_BYTES + frames.FRAME_BYTES_MAX
        assert 0 <= server._advances._left_bytes <= streams.ADVANCE_BYTES
        if server.is_over:
            assert server.streams == {}
            assert self.calls.held_bytes == server.out.queued_bytes == 0
            assert server._advances._left_bytes == streams.ADVANCE_BYTES

    def verdict(self) -> list[tuple[int, ...]]:
        """The last stream and the code of what ended it, if anything did."""
        return [struct.unpack_from(">LL", one.payload) for one in self.said if one.kind == frames.GOAWAY]


@pytest.mark.timeout(3600)
@made_up
@given(st.integers(0, 1 << 64))
def test_whatever_a_client_says_however_it_is_cut(seed: int) -> None:
    chance = random.Random(seed)
    speaker, whole, pieces = Speaker(chance), Heard(), Heard()
    greeting = [frames.PREFACE, frames.settings_frame({}), frames.frame(frames.SETTINGS, frames.ACK, 0)]
    joined = b"".join(greeting + [speaker.says() for _ in range(chance.randrange(120))])
    if speaker.odds and chance.random() < 0.3:
        at = chance.randrange(len(joined))
        joined = joined[:at] + chance.randbytes(1) + joined[at + 1 :]
    whole.tell(joined)
    at, step = 0, chance.choice((1, 30, 300, 3000, 30_000))
    while at < len(joined):
        size = chance.randint(1, step)
        pieces.tell(joined[at : at + size])
        at += size

    if speaker.odds:  # who says more behind the end of a stream may find it answered by then, or not
        shorter = min(len(pieces.messages), len(whole.messages))
        assert pieces.messages[:shorter] == whole.messages[:shorter]
    else:
        assert pieces.messages == whole.messages
        assert pieces.verdict() == whole.verdict() == []
    assert all(code in set(ErrorCode) for _, code in whole.verdict())
    assert not (set(whole.reported) | set(pieces.reported)) - {"/test.Echo/Break: a defect"} - defects(whole, pieces)
    for call in list(whole.service.waiting):
        call.answer(b"at last")
    whole.later(1000)
    whole.check()
    assert whole.server.is_over
    pieces.server.lost()
    pieces.check()
    assert pieces.calls.open == {}


def defects(*clients: Heard) -> set[str]:
    """What the echo service, which expects numbers, makes of anything else."""
    return {one for client in clients for one in client.reported if one.startswith("/test.Echo/Count")}


@made_up
@given(st.binary(max_size=200), st.booleans())
def test_bytes_that_are_nothing(data: bytes, is_greeted: bool) -> None:
    client = Heard()
    client.tell(frames.PREFACE + frames.settings_frame({}) + data if is_greeted else data)
    client.later(1000)

    assert client.server.is_over
