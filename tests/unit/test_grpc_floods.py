"""What nobody may make an HTTP/2 server do: floods, resets and bombs."""

from __future__ import annotations

import pytest

from raftkv.etcd.grpc import connection, frames
from raftkv.etcd.grpc.frames import ErrorCode
from tests.unit.http2_client import (
    HEAD,
    PING,
    Http2Client,
    body_of,
    ended_by,
    last_word,
    message,
    reset,
    resets,
    settings,
)


def flooded(client: Http2Client, *data: bytes, times: int) -> int:
    """How often ``data`` could be said before it was too much."""
    for time in range(times):
        said = client.say(*data)
        if client.server.is_over:
            assert last_word(said)[1] == ErrorCode.ENHANCE_YOUR_CALM
            return time
    return times


@pytest.mark.parametrize(
    "data",
    [
        PING,
        settings(),
        settings(INITIAL_WINDOW_SIZE=7),
        frames.frame(frames.PRIORITY, 0, 1, b"\0" * 5),
        frames.frame(0xFE, 0, 0, b""),
        frames.frame(frames.DATA, 0, 1, b""),
        frames.window_frame(1, 1),
        frames.window_frame(0, 1),
        frames.frame(frames.SETTINGS, frames.ACK, 0),
        frames.frame(frames.DATA, frames.PADDED, 1, b"\0"),
    ],
)
def test_floods_of_what_is_of_no_use_end(data):
    client = Http2Client()
    client.say(client.head(1))

    assert 100 < flooded(client, data, times=5000) < 5000


def test_a_flood_that_takes_its_time_is_none():
    client = Http2Client()
    for _ in range(1000):
        client.now_s += 0.01
        assert len(client.say(PING)) == 1


def test_fields_that_are_sent_on_and_on_to_a_stream_that_was_reset_end_it():
    client = Http2Client()
    client.say(client.head(1, path="/test.Echo/None"))

    assert 100 < flooded(client, frames.frame(frames.HEADERS, 4, 1, b"\x82"), times=5000) < 5000


def test_windows_that_are_used_are_no_flood_however_small_they_are():
    client = Http2Client()
    client.say(client.call(1, b"10000 2048", path="/test.Echo/Count"))
    client.say(frames.window_frame(0, 1 << 30))
    updates = 0
    while 1 in client.server.streams:
        assert client.say(frames.window_frame(1, 2048))
        updates += 1

    assert updates > 9000


def test_long_heads_of_no_use_are_a_flood_before_short_ones_are():
    def heads(value: bytes) -> int:
        client, count = Http2Client(), 0
        block = client.encoder.encode([(name, text, True) for name, text in [*HEAD, (b"name", value)]])
        while not client.server.is_over:
            assert count < 5000
            count += 1
            client.say(frames.frame(frames.HEADERS, 4, 2 * count - 1, block), reset(2 * count - 1))
        return count

    assert 100 < 3 * heads(b"~" * 8_000) < heads(b"short")


def test_calls_that_are_answered_may_have_long_heads():
    client = Http2Client()
    for number in range(1, 4001, 2):
        client.say(client.call(number, authorization=f"{number:04}~" * 1000), frames.window_frame(0, 10))

    assert not client.server.is_over


def test_rapid_resets_end_the_connection():
    client = Http2Client()
    pairs = [client.call(number, path="/test.Echo/Wait") + reset(number) for number in range(1, 20_001, 2)]
    done = 0
    for pair in pairs:
        client.say(pair)
        if client.server.is_over:
            break
        done += 1

    assert 1000 <= done < 3000
    assert client.calls.open == {}
    assert len(client.service.over) >= done


def test_calls_that_are_answered_are_no_flood_however_many():
    client = Http2Client()
    client.say(frames.window_frame(0, 1 << 30))
    for number in range(1, 12_001, 2):
        assert len(client.say(client.call(number), frames.window_frame(0, 10), PING)) == 4
        client.server.out.window = 1 << 20


def test_there_are_so_many_streams_at_a_time_and_no_more():
    client = Http2Client()
    last = 2 * connection.STREAMS_MAX - 1
    for number in range(1, last + 1, 2):
        assert client.say(client.call(number, path="/test.Echo/Wait")) == []

    assert resets(client.say(client.call(last + 2))) == {last + 2: ErrorCode.REFUSED_STREAM}
    client.service.waiting[0].answer(b"")
    assert body_of(client.say(client.call(last + 4)), last + 4) == message(b"hello")
    client.say(*(client.head(number) for number in range(last + 6, last + 20_006, 2)))
    assert client.server.is_over


def test_a_header_bomb_of_indexes_is_no_bomb():
    client = Http2Client()
    client.say(client.call(1, bomb="x" * 3000))
    block = client.encoder.encode(HEAD) + b"\xbe" * 8000

    assert ended_by(client, frames.frame(frames.HEADERS, 4, 3, block)) == ErrorCode.ENHANCE_YOUR_CALM


def test_a_header_bomb_of_continuations_is_no_bomb():
    client = Http2Client()
    client.say(frames.frame(frames.HEADERS, 0, 1, b""))
    piece = frames.frame(frames.CONTINUATION, 0, 1, b"\x00\x01a\x7f\xff\x7f" + b"x" * 1000)

    assert flooded(client, piece, times=100) < 34
    client = Http2Client()
    client.say(frames.frame(frames.HEADERS, 0, 1, b""))
    assert flooded(client, frames.frame(frames.CONTINUATION, 0, 1, b""), times=100) < 34


def test_long_header_fields_are_too_much():
    client = Http2Client()
    fields = [*HEAD, *((b"name-%d" % number, b"x" * 500) for number in range(40))]

    assert ended_by(client, *whole_head(client, 1, fields)) == ErrorCode.ENHANCE_YOUR_CALM


def whole_head(client: Http2Client, stream_id: int, fields: list[tuple[bytes, bytes]]) -> list[bytes]:
    block = client.encoder.encode(fields)
    return [frames.header_frames(stream_id, block, is_last=False)]
