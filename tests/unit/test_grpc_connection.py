"""One HTTP/2 connection: the examples and rules of RFC 9113."""

from __future__ import annotations

import struct

import pytest

from raftkv.etcd.grpc import connection, frames
from raftkv.etcd.grpc.frames import ErrorCode
from tests.unit.http2_client import (
    HEAD,
    PING,
    Frame,
    Http2Client,
    body_of,
    cut,
    ended_by,
    last_word,
    message,
    reset,
    resets,
    settings,
)

# -- the beginning


def test_it_opens_with_settings_and_a_wider_window():
    client = Http2Client(is_greeted=False)

    assert [one.kind for one in client.greeting] == [frames.SETTINGS, frames.WINDOW_UPDATE]
    assert dict(frames.settings(client.greeting[0].payload)) == {
        frames.MAX_CONCURRENT_STREAMS: 1000,
        frames.INITIAL_WINDOW_SIZE: 16384,
        frames.MAX_HEADER_LIST_SIZE: 16384,
    }
    assert client.say(frames.PREFACE, settings()) == [Frame(frames.SETTINGS, frames.ACK, 0, b"")]


def test_any_pieces_are_as_good_as_one():
    client = Http2Client(is_greeted=False)
    data = frames.PREFACE + settings(INITIAL_WINDOW_SIZE=100_000) + client.call(1) + PING
    said = [one for byte in data for one in client.say(bytes([byte]))]

    assert [one.kind for one in said] == [
        frames.SETTINGS,
        frames.HEADERS,
        frames.DATA,
        frames.HEADERS,
        frames.PING,
    ]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", b"\x16\x03\x01"])
def test_what_is_no_http2_is_told_so(data):
    assert ended_by(Http2Client(is_greeted=False), data) == ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize("first", [PING, frames.frame(frames.SETTINGS, frames.ACK, 0)])
def test_the_first_frame_is_settings(first):
    assert ended_by(Http2Client(is_greeted=False), frames.PREFACE, first) == ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize("data", [b"", frames.PREFACE[:10], frames.PREFACE, frames.PREFACE + settings()])
def test_who_does_not_finish_greeting_is_let_go(data):
    client = Http2Client(is_greeted=False)
    client.say(data)
    said = client.later(connection.GREETED_WITHIN_S)

    assert last_word(said)[1] == ErrorCode.SETTINGS_TIMEOUT
    assert client.server.is_over


# -- requests


def test_a_call_is_answered_in_its_turn_by_three_frames():
    client = Http2Client()
    said = client.say(client.call(1), client.call(3, b"again"))

    assert [(one.kind, one.flags, one.stream_id) for one in said] == [
        (frames.HEADERS, 4, 1),
        (frames.DATA, 0, 1),
        (frames.HEADERS, 5, 1),
        (frames.HEADERS, 4, 3),
        (frames.DATA, 0, 3),
        (frames.HEADERS, 5, 3),
    ]
    assert client.fields(said[0]) == {":status": "200", "content-type": "application/grpc"}
    assert said[1].payload == message(b"hello")
    assert client.fields(said[2]) == {"grpc-status": "0"}
    assert client.server.streams == {}
    assert client.woken == 0


def test_a_header_block_may_come_in_pieces():
    client = Http2Client()
    block = client.encoder.encode(HEAD)
    said = client.say(
        frames.frame(frames.HEADERS, 0, 1, block[:5]),
        frames.frame(frames.CONTINUATION, 0, 1, block[5:9]),
        frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[9:]),
        client.body(1, message(b"x")),
    )

    assert body_of(said, 1) == message(b"x")


def test_padding_and_priority_are_passed_over():
    client = Http2Client()
    block = client.encoder.encode(HEAD)
    padded = b"\x07" + b"\0\0\0\0\x10" + block + b"\0" * 7
    said = client.say(
        frames.frame(frames.PRIORITY, 0, 1, b"\0\0\0\0\x10"),
        frames.frame(frames.HEADERS, frames.END_HEADERS | frames.PADDED | frames.WITH_PRIORITY, 1, padded),
        frames.frame(frames.DATA, frames.PADDED, 1, b"\x03" + message(b"x") + b"\0\0\0"),
        frames.frame(frames.DATA, frames.PADDED | frames.END_STREAM, 1, b"\x00"),
    )

    assert body_of(said, 1) == message(b"x")


def test_trailers_of_a_client_end_its_request():
    client = Http2Client()
    said = client.say(
        client.head(1),
        client.body(1, message(b"x"), is_last=False),
        client.head(1, [(b"checksum", b"1")], flags=5),
    )

    assert body_of(said, 1) == message(b"x")


def test_frames_and_settings_that_nobody_knows_are_ignored():
    client = Http2Client()
    unknown = frames.settings_frame({77: 1})
    said = client.say(frames.frame(0xBB, 0xFF, 0, b"?" * 100), unknown, client.call(1))

    assert [one.kind for one in said] == [frames.SETTINGS, frames.HEADERS, frames.DATA, frames.HEADERS]


@pytest.mark.parametrize(
    "fields",
    [
        HEAD[1:],
        HEAD[:1] + HEAD[2:],
        HEAD[:2] + HEAD[3:],
        [*HEAD[:3], HEAD[2], *HEAD[3:]],
        [*HEAD, (b":path", b"/late")],
        [*HEAD[:3], (b":status", b"200"), *HEAD[3:]],
        [*HEAD[:2], (b":path", b""), *HEAD[3:]],
        [*HEAD, (b"Upper", b"case")],
        [*HEAD, (b"connection", b"keep-alive")],
        [*HEAD, (b"transfer-encoding", b"chunked")],
        [*HEAD[:-1], (b"te", b"gzip")],
        [*HEAD, (b"name", b"a\nb")],
        [*HEAD, (b"name", b"a\0b")],
        [*HEAD, (b"name", b"a\rb")],
        [*HEAD, (b"name", b" a")],
        [*HEAD, (b"name", b"\ta")],
        [*HEAD, (b"name", b"a ")],
        [*HEAD, (b"name", b"a\t"), (b"after", b"a")],
        [*HEAD, (b"na me", b"a")],
        [*HEAD, (b"na\nme", b"a")],
        [*HEAD, (b"", b"a")],
        [*HEAD, (b"content-length", b"4"), (b"content-length", b"5")],
        [*HEAD, (b"content-length", b"-1")],
    ],
)
def test_a_malformed_request_ends_its_stream_and_no_other(fields):
    client = Http2Client()
    said = client.say(client.head(1), client.body(1, message(b"x"), is_last=False))
    block = frames.frame(frames.HEADERS, 4, 3, client.encoder.encode(fields))
    said += client.say(block, client.body(3, message(b"y")), client.body(1, b""))

    assert resets(said) == {3: ErrorCode.PROTOCOL_ERROR}
    assert body_of(said, 1) == message(b"x")


@pytest.mark.parametrize("length", ["0", "5", "7", "100"])
def test_a_body_has_the_length_that_its_head_says(length):
    client = Http2Client()

    assert resets(client.say(client.call(1, b"x", content_length=length))) == {1: ErrorCode.PROTOCOL_ERROR}
    assert body_of(client.say(client.call(3, b"x", content_length="6")), 3) == message(b"x")


def test_trailers_with_a_pseudo_header_field_are_malformed():
    client = Http2Client()

    assert resets(client.say(client.head(1), client.head(1, HEAD, flags=5))) == {1: ErrorCode.PROTOCOL_ERROR}


def test_trailers_that_do_not_end_their_stream_are_malformed():
    client = Http2Client()

    assert resets(client.say(client.head(1), client.head(1, [(b"a", b"b")]))) == {1: ErrorCode.PROTOCOL_ERROR}


# -- states of streams (section 5.1)


def test_what_comes_behind_the_end_of_a_stream_resets_it():
    client = Http2Client()
    client.say(client.call(1, path="/test.Echo/Wait"))

    assert resets(client.say(client.body(1, b"more"))) == {1: ErrorCode.STREAM_CLOSED}
    assert client.service.over == ["hello"]
    client.say(client.call(3, path="/test.Echo/Wait"))
    assert resets(client.say(client.head(3, [(b"a", b"b")], flags=5))) == {3: ErrorCode.STREAM_CLOSED}
    client.say(client.call(5, path="/test.Echo/Wait"))
    assert resets(client.say(client.head(5))) == {5: ErrorCode.STREAM_CLOSED}


@pytest.mark.parametrize("make", [lambda client: client.body(1, b"x"), lambda client: client.head(1)])
def test_what_comes_on_a_closed_stream_ends_the_connection(make):
    client = Http2Client()
    client.say(client.call(1))

    assert ended_by(client, make(client)) == ErrorCode.STREAM_CLOSED


def test_what_was_under_way_when_a_stream_was_reset_here_is_passed_over():
    client = Http2Client()
    said = client.say(client.head(1, path="/test.Echo/None"), client.body(1, b"x" * 100, is_last=False))
    client.encoder.header_table_size = 4096

    assert resets(said) == {1: ErrorCode.NO_ERROR}
    assert client.say(client.body(1, b"x" * 100), client.head(1, [(b"new", b"field")], flags=5)) == []
    assert body_of(client.say(client.call(3, new="field")), 3) == message(b"hello")


def test_what_is_remembered_of_streams_that_were_reset_here_is_bounded():
    client = Http2Client()
    for number in range(1, 6001, 2):
        client.now_s += 1
        client.say(client.head(number, path="/test.Echo/None"))

    assert len(client.server._reset) == connection.STREAMS_MAX
    assert client.say(client.body(5999, b"x")) == []
    assert ended_by(client, client.body(1, b"x")) == ErrorCode.STREAM_CLOSED


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frames.frame(frames.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.DATA, 0, 7, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.DATA, frames.PADDED, 7, b"\x05x"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.HEADERS, 4, 0, b"\x82"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.HEADERS, 4, 2, b"\x82"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.HEADERS, 4 | frames.WITH_PRIORITY, 1, b"\0\0"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.HEADERS, 4 | frames.PADDED, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.HEADERS, 4 | frames.PADDED, 1, b"\x01"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.HEADERS, 4, 1, b"\x80"), ErrorCode.COMPRESSION_ERROR),
        (frames.frame(frames.HEADERS, 4, 1, b"\xc0"), ErrorCode.COMPRESSION_ERROR),
        (frames.frame(frames.HEADERS, 4, 1, b"\x00\x85abc"), ErrorCode.COMPRESSION_ERROR),
        (frames.frame(frames.HEADERS, 4, 1, b"\x82\x20"), ErrorCode.COMPRESSION_ERROR),
        (frames.frame(frames.HEADERS, 0, 1, b"\x82") + PING, ErrorCode.PROTOCOL_ERROR),
        (
            frames.frame(frames.HEADERS, 0, 1, b"\x82") + frames.frame(frames.CONTINUATION, 4, 3, b"\x82"),
            ErrorCode.PROTOCOL_ERROR,
        ),
        (frames.frame(frames.CONTINUATION, 4, 1, b"\x82"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.PRIORITY, 0, 0, b"\0" * 5), ErrorCode.PROTOCOL_ERROR),
        (reset(0), ErrorCode.PROTOCOL_ERROR),
        (reset(1), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.RST_STREAM, 0, 1, b"\0"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.SETTINGS, 0, 0, b"\0" * 5), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.SETTINGS, frames.ACK, 0, b"\0" * 6), ErrorCode.FRAME_SIZE_ERROR),
        (settings(ENABLE_PUSH=2), ErrorCode.PROTOCOL_ERROR),
        (settings(INITIAL_WINDOW_SIZE=1 << 31), ErrorCode.FLOW_CONTROL_ERROR),
        (settings(MAX_FRAME_SIZE=16383), ErrorCode.PROTOCOL_ERROR),
        (settings(MAX_FRAME_SIZE=1 << 24), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.PUSH_PROMISE, 4, 1, b"\0\0\0\x02"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.PING, 0, 1, b"12345678"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.PING, 0, 0, b"1234567"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.GOAWAY, 0, 1, b"\0" * 8), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.GOAWAY, 0, 0, b"\0" * 7), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.WINDOW_UPDATE, 0, 0, b"\0\0\0\0"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.WINDOW_UPDATE, 0, 0, b"\0\0\x01"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.window_frame(5, 1), ErrorCode.PROTOCOL_ERROR),
        (frames.window_frame(0, frames.WINDOW_MAX), ErrorCode.FLOW_CONTROL_ERROR),
        (b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", ErrorCode.FRAME_SIZE_ERROR),
    ],
)
def test_a_broken_protocol_ends_the_connection_by_its_code(data, code):
    assert ended_by(Http2Client(), data) == code


def test_nothing_is_heard_after_the_end():
    client = Http2Client()
    ended_by(client, reset(0))

    assert client.say(client.call(1), PING) == []
    assert client.later(1000) == []


# -- the end (section 6.8)


def test_a_server_that_leaves_answers_what_was_begun_and_nothing_else():
    client = Http2Client()
    client.say(client.call(1, path="/test.Echo/Wait"))
    client.server.leave()
    goaway, ping = cut(client.server.take())
    assert struct.unpack(">LL", goaway.payload) == (frames.STREAM_ID_MAX, 0)

    said = client.say(client.call(3), frames.frame(frames.PING, frames.ACK, 0, ping.payload))
    assert body_of(said, 3) == message(b"hello")
    assert last_word(said)[:2] == (3, ErrorCode.NO_ERROR)
    assert client.say(client.call(5)) == []
    assert not client.server.is_over
    client.service.waiting[0].answer(b"at last")
    assert body_of(cut(client.server.take()), 1) == message(b"at last")
    assert client.server.is_over


def test_a_client_that_does_not_answer_has_its_last_word_a_little_later():
    client = Http2Client()
    client.server.leave()
    client.server.leave()
    said = cut(client.server.take()) + client.later(connection.LAST_CALLS_S)

    assert [one.kind for one in said] == [frames.GOAWAY, frames.PING, frames.GOAWAY]
    assert client.server.is_over


def test_a_client_that_leaves_hears_what_it_asked():
    client = Http2Client()
    client.say(client.call(1, path="/test.Echo/Wait"), frames.goaway_frame(0, ErrorCode.NO_ERROR, "bye"))

    assert not client.server.is_over
    client.service.waiting[0].answer(b"at last")
    assert client.server.is_over
    assert body_of(cut(client.server.take()), 1) == message(b"at last")


def test_a_lost_connection_ends_its_calls():
    client = Http2Client()
    client.say(client.call(1, path="/test.Echo/Wait"), client.call(3, b"3 3", path="/test.Echo/Wait"))
    client.server.lost()

    assert client.service.over == ["hello", "3 3"]
    client.service.waiting[0].answer(b"to nobody")
    assert client.calls.open == {}
