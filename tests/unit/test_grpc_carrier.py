"""What a connection of gRPC does with its transport: when it writes, reads, waits and lets go."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from raftkv.etcd.grpc import carrier, connection, frames
from raftkv.etcd.grpc.carrier import CLOSED_WITHIN_S, COUNTED_BYTES, GrpcCarrier
from raftkv.http.door.room import PATIENCE_S, HeldBytes
from tests.unit.grpc_server import EchoService
from tests.unit.http2_client import Http2Client, body_of, cut, last_word, message


class Loop(asyncio.SelectorEventLoop):
    """A loop whose time is moved by hand."""

    moved_s = 0.0

    def time(self) -> float:
        return super().time() + self.moved_s


class Transport:
    """What a carrier does to its transport."""

    def __init__(self, *, is_tls: bool = False) -> None:
        self.written: list[bytes] = []
        self.buffered = 0
        self.is_reading = True
        self.is_tls = is_tls
        self.said: list[str] = []
        self.carrier: GrpcCarrier | None = None

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 5000) if name == "peername" else None

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return not self.is_tls

    def write_eof(self) -> None:
        self.said.append("eof")

    def close(self) -> None:
        self.said.append("close")

    def abort(self) -> None:
        self.said.append("abort")
        if self.carrier is not None:
            self.carrier.connection_lost(None)

    def taken(self) -> list[Any]:
        data, self.written = b"".join(self.written), []
        return cut(data)


class Talk:
    """A client, without a server of its own, and the carrier that it talks to."""

    def __init__(self, room_bytes: int = 1 << 30, *, is_tls: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.client = Http2Client()
        self.service = EchoService()
        self.room = HeldBytes(room_bytes, monotonic_s=self.loop.time)
        self.transport = Transport(is_tls=is_tls)
        self.carrier = GrpcCarrier(self.service.find, self.room, lambda path, error: None, lambda call, status: None)
        self.transport.carrier = self.carrier
        self.carrier.connection_made(self.transport)
        self.say(frames.PREFACE, frames.settings_frame({}), frames.frame(frames.SETTINGS, frames.ACK, 0))
        self.transport.taken()

    def say(self, *data: bytes) -> None:
        self.carrier.data_received(b"".join(data))

    async def later(self, seconds: float) -> None:
        """Let time pass, and what it brings about happen."""
        self.loop.moved_s += seconds
        for _ in range(4):
            await asyncio.sleep(0)
        await asyncio.sleep(0.02)


def driven(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(test())

    run.__name__ = test.__name__
    return run


@driven
async def test_one_turn_is_one_write():
    talk = Talk()
    talk.say(talk.client.call(1), talk.client.call(3), frames.frame(frames.PING, 0, 0, b"12345678"))

    assert len(talk.transport.written) == 1
    assert [one.kind for one in talk.transport.taken()] == [1, 0, 1, 1, 0, 1, 6]
    talk.say(talk.client.call(5, path="/test.Echo/Later"), talk.client.call(7, path="/test.Echo/Later"))
    assert talk.transport.written == []
    await talk.later(0)
    assert len(talk.transport.written) == 1
    assert [one.stream_id for one in talk.transport.taken()] == [5, 5, 5, 7, 7, 7]


@driven
async def test_a_long_answer_goes_in_turns():
    talk = Talk()
    talk.say(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 1 << 30}), frames.window_frame(0, 1 << 30))
    talk.say(talk.client.call(1, b"1 1000000", path="/test.Echo/Count"))
    assert len(talk.transport.written) == 2
    talk.say(talk.client.call(3))
    for _ in range(8):
        await talk.later(0)
    sizes = [len(data) for data in talk.transport.written]
    said = talk.transport.taken()

    assert max(sizes) < 300_000
    assert len(body_of(said, 1)) == 1_000_005
    assert [one.stream_id for one in said].index(3) < len(said) - 10


@driven
async def test_who_takes_nothing_is_not_read_from_and_then_let_go():
    talk = Talk()
    talk.say(talk.client.call(1, path="/test.Echo/Wait"))
    talk.carrier.pause_writing()
    assert not talk.transport.is_reading
    talk.service.waiting[0].answer(b"x")
    await talk.later(1)
    assert talk.transport.written == []

    talk.carrier.resume_writing()
    assert talk.transport.is_reading
    assert body_of(talk.transport.taken(), 1) == message(b"x")
    talk.transport.buffered = 16 << 10
    talk.carrier.pause_writing()
    await talk.later(PATIENCE_S)
    assert talk.transport.said == []
    await talk.later(1.5)
    assert talk.transport.said == ["abort"]


@driven
async def test_who_takes_again_is_not_let_go():
    talk = Talk()
    talk.carrier.pause_writing()
    await talk.later(PATIENCE_S - 1)
    talk.carrier.resume_writing()
    await talk.later(PATIENCE_S - 1)
    talk.carrier.pause_writing()
    await talk.later(2)

    assert talk.transport.said == []


@driven
async def test_what_a_client_makes_it_hold_is_counted_and_given_back():
    talk = Talk()
    talk.say(talk.client.call(1, b"1 200000", path="/test.Echo/Count"))
    assert talk.room.held_bytes > 200_000 - frames.DEFAULT_WINDOW_BYTES
    talk.say(frames.window_frame(0, 1 << 20), frames.window_frame(1, 1 << 20))
    assert talk.room.held_bytes == 0

    data = message(b"x" * 1_000_000)
    talk.say(talk.client.head(3), talk.client.body(3, data[:16_000], is_last=False))
    for at in range(16_000, 200_000, 16_000):
        talk.say(talk.client.body(3, data[at : at + 16_000], is_last=False))
    assert talk.room.held_bytes > COUNTED_BYTES
    talk.carrier.connection_lost(None)
    assert talk.room.held_bytes == 0


@driven
async def test_without_room_new_calls_are_refused_and_who_holds_it_is_let_go():
    talk = Talk(room_bytes=400_000)
    talk.say(talk.client.call(1, b"1 300000", path="/test.Echo/Count"))
    talk.transport.taken()
    talk.room.limit_bytes = 100_000
    talk.say(talk.client.call(3))
    head = talk.transport.taken()[0]

    assert talk.client.fields(head)["grpc-status"] == "8"
    talk.loop.moved_s += 5
    assert talk.room.has_room(1000)
    assert talk.transport.said == ["abort"]
    assert talk.room.held_bytes == 0


@driven
async def test_what_is_answered_in_one_turn_is_counted_as_it_comes():
    talk = Talk(room_bytes=1_000_000)
    talk.say(*(talk.client.call(number, b"x" * 300_000) for number in range(1, 9, 2)))
    heads = [talk.client.fields(one) for one in talk.transport.taken() if one.kind == frames.HEADERS]

    assert [head.get("grpc-status") for head in heads].count("8") == 1
    assert talk.room.held_bytes <= 1_000_000


@driven
async def test_a_slow_client_is_let_go_for_the_large_answer_of_another():
    slow, other = Talk(room_bytes=400_000), Talk()
    other.carrier._room = slow.room
    slow.say(slow.client.call(1, b"1 350000", path="/test.Echo/Count"))
    other.say(other.client.call(1, b"1 300000", path="/test.Echo/Count"))
    refused = other.client.fields(other.transport.taken()[-1])
    for talk in (slow, other):
        talk.loop.moved_s += 5
    other.say(other.client.call(3, b"1 300000", path="/test.Echo/Count"))

    assert refused["grpc-status"] == "14"
    assert slow.transport.said == ["abort"]
    assert body_of(other.transport.taken(), 3)


@driven
async def test_who_has_much_to_read_still_is_answered_nothing_new():
    talk = Talk()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(carrier, "QUEUED_BYTES_MAX", 100_000)
        talk.say(talk.client.call(1, b"1 300000", path="/test.Echo/Count"))
        talk.transport.taken()
        talk.say(talk.client.call(3))
        assert talk.client.fields(talk.transport.taken()[0])["grpc-status"] == "8"
        talk.say(frames.window_frame(0, 1 << 20), frames.window_frame(1, 1 << 20))
        await talk.later(0)
        talk.transport.taken()
        talk.say(talk.client.call(5))

    assert body_of(talk.transport.taken(), 5) == message(b"hello")


@driven
async def test_a_broken_protocol_is_told_before_the_end():
    talk = Talk()
    talk.say(frames.frame(frames.PING, 0, 0, b"1234567"))

    assert last_word(talk.transport.taken())[1] == frames.ErrorCode.FRAME_SIZE_ERROR
    assert talk.transport.said == ["eof"]
    talk.say(talk.client.call(1))
    assert talk.transport.written == []
    await talk.later(CLOSED_WITHIN_S)
    assert talk.transport.said == ["eof", "abort"]


@driven
async def test_tls_has_no_half_of_a_connection():
    talk = Talk(is_tls=True)
    talk.say(frames.frame(frames.PING, 0, 0, b"1234567"))

    assert talk.transport.said == ["close"]
    await talk.later(CLOSED_WITHIN_S)
    assert talk.transport.said == ["close", "abort"]


@driven
async def test_who_does_not_greet_is_let_go():
    talk = Talk()
    silent = Transport()
    late = GrpcCarrier(talk.service.find, talk.room, lambda path, error: None, lambda call, status: None)
    late.connection_made(silent)
    await talk.later(connection.GREETED_WITHIN_S)

    assert last_word(silent.taken())[1] == frames.ErrorCode.SETTINGS_TIMEOUT
    assert silent.said == ["eof"]
    late.connection_lost(None)


@driven
async def test_who_is_silent_is_asked_and_let_go():
    talk = Talk()
    await talk.later(connection.QUIET_S)
    assert [one.kind for one in talk.transport.taken()] == [frames.PING]
    await talk.later(connection.ANSWERED_WITHIN_S)

    assert last_word(talk.transport.taken())[1] == frames.ErrorCode.NO_ERROR
    assert talk.transport.said == ["eof"]


@driven
async def test_deadlines_pass_without_a_word_of_the_client():
    talk = Talk()
    talk.say(talk.client.call(1, path="/test.Echo/Wait", grpc_timeout="2S"))
    await talk.later(2)

    assert talk.client.fields(talk.transport.taken()[0])["grpc-status"] == "4"


@driven
async def test_an_idle_connection_gives_way():
    talk = Talk()
    assert talk.carrier.idle_since_s() is not None
    talk.say(talk.client.call(1, path="/test.Echo/Wait"))
    assert talk.carrier.idle_since_s() is None
    talk.service.waiting[0].answer(b"")
    await talk.later(0)
    assert talk.carrier.idle_since_s() is not None

    talk.carrier.give_way()
    await talk.later(connection.LAST_CALLS_S)
    assert talk.transport.said == ["eof"]


@driven
async def test_a_server_that_ends_has_a_last_word_for_what_takes_too_long():
    talk = Talk()
    talk.say(talk.client.call(1, path="/test.Echo/Wait"), talk.client.call(3, path="/test.Echo/Wait"))
    talk.carrier.leave(5)
    await talk.later(3)
    talk.service.waiting[0].answer(b"in time")
    await talk.later(3)
    said = talk.transport.taken()

    assert body_of(said, 1) == message(b"in time")
    assert [one.kind for one in said if one.stream_id == 3] == [frames.HEADERS]
    assert talk.transport.said == ["eof"]


@driven
async def test_a_closed_connection_leaves_nothing():
    gc.collect()
    gc.disable()
    try:
        talk = Talk()
        talk.say(*(talk.client.call(number) for number in range(1, 21, 2)))
        talk.say(talk.client.call(21, path="/test.Echo/Wait"), talk.client.head(23, path="/test.Echo/Chat"))
        talk.say(talk.client.call(25, b"100 100000", path="/test.Echo/Count", grpc_timeout="1H"))
        left = [weakref.ref(talk.carrier), weakref.ref(talk.carrier._connection), weakref.ref(talk.carrier._calls)]
        talk.carrier.connection_lost(None)
        talk.service.waiting.clear()
        talk.transport.carrier = None
        del talk.carrier
        await talk.later(0)

        assert [one() for one in left] == [None, None, None]
    finally:
        gc.enable()
