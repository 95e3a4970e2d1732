"""One HTTP/2 connection: the examples and rules of RFC 9113, and what nobody may make a server do."""

from __future__ import annotations

import struct

import pytest

from raftkv.etcd.grpc import connection, frames, streams
from raftkv.etcd.grpc.frames import ErrorCode
from tests.unit.http2_client import (
    HEAD,
    Frame,
    Http2Client,
    body_of,
    cut,
    last_word,
    message,
    resets,
    settings,
)

PING = frames.frame(frames.PING, 0, 0, b"12345678")
WINDOW = frames.DEFAULT_WINDOW_BYTES


def reset(stream_id: int, code: int = 8) -> bytes:
    return frames.frame(frames.RST_STREAM, 0, stream_id, struct.pack(">L", code))


def ended_by(client: Http2Client, *data: bytes) -> int:
    """The code by which the connection ends."""
    said = client.say(*data)

    assert client.server.is_over
    assert client.server.streams == {}
    return last_word(said)[1]


# --- the beginning


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


# --- requests


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
        [*HEAD, (b"name", b" a")],
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


# --- states of streams (section 5.1)


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


# --- windows (sections 5.2 and 6.9)


def window_of(client: Http2Client, stream_id: int) -> int:
    return client.server.streams[stream_id].receive_window


def test_an_answer_waits_for_windows_and_takes_turns():
    client = Http2Client()
    data = b"x" * 40_000
    client.say(settings(INITIAL_WINDOW_SIZE=30_000))
    said = client.say(*(client.call(one, b"30000 1", path="/test.Echo/Wait") for one in (1, 3, 5)))
    for call in list(client.service.waiting):
        call.answer(data)
    said = cut(client.server.take())

    assert client.woken == 1
    assert [len(body_of(said, one)) for one in (1, 3, 5)] == [30_000, 19_151, 16_384]
    said = client.say(frames.window_frame(0, 1 << 20))
    assert [len(body_of(said, one)) for one in (1, 3, 5)] == [0, 10_849, 13_616]
    said = client.say(*(frames.window_frame(one, 10_004) for one in (1, 3, 5)))
    assert [len(body_of(said, one)) for one in (1, 3, 5)] == [10_004] * 3
    said = client.say(*(frames.window_frame(one, 100) for one in (1, 3, 5)))
    assert [len(body_of(said, one)) for one in (1, 3, 5)] == [1] * 3
    assert [one.stream_id for one in said if one.kind == frames.HEADERS] == [1, 3, 5]
    assert client.server.out.queued_bytes == 0


def test_answers_in_one_piece_use_up_the_window_of_the_connection_too():
    client = Http2Client()
    said = client.say(*(client.call(number, b"x" * 15_995) for number in range(1, 11, 2)))

    assert [len(body_of(said, number)) for number in range(1, 11, 2)] == [16_000] * 4 + [WINDOW - 64_000]
    assert client.server.out.window == 0


def test_settings_in_mid_stream_change_every_window_even_below_nothing():
    client = Http2Client()
    client.say(client.call(1, b"2 40000", path="/test.Echo/Count"))
    client.say(settings(INITIAL_WINDOW_SIZE=1000))
    client.say(frames.window_frame(0, 1 << 20))

    assert client.server.streams[1].send_window == 1000 - WINDOW
    assert body_of(client.say(frames.window_frame(1, WINDOW - 1000)), 1) == b""
    assert len(body_of(client.say(frames.window_frame(1, 7)), 1)) == 7
    assert len(body_of(client.say(settings(INITIAL_WINDOW_SIZE=2000)), 1)) == 1000


def test_windows_do_not_overflow():
    client = Http2Client()
    client.say(client.call(1, path="/test.Echo/Wait"), client.call(3, path="/test.Echo/Wait"))
    said = client.say(frames.window_frame(1, frames.WINDOW_MAX))

    assert resets(said) == {1: ErrorCode.FLOW_CONTROL_ERROR}
    client.say(frames.window_frame(3, frames.WINDOW_MAX - WINDOW))
    assert ended_by(client, settings(INITIAL_WINDOW_SIZE=WINDOW + 1)) == ErrorCode.FLOW_CONTROL_ERROR


def test_a_stream_is_widened_by_something():
    client = Http2Client()
    client.say(client.call(1, path="/test.Echo/Wait"))

    assert resets(client.say(frames.window_frame(1, 0))) == {1: ErrorCode.PROTOCOL_ERROR}


def test_large_frames_are_for_who_takes_them():
    client = Http2Client()
    client.say(settings(MAX_FRAME_SIZE=1 << 20, INITIAL_WINDOW_SIZE=1 << 20), frames.window_frame(0, 1 << 20))
    client.say(client.call(1, b"", path="/test.Echo/Wait"))
    client.service.waiting[0].answer(b"x" * 100_000)
    data, sizes = client.server.take(), []
    while data:
        size = 9 + int.from_bytes(data[:3])
        sizes.append(size - 9)
        data = data[size:]

    assert max(sizes) == 65_536
    assert sum(sizes) > 100_000


def test_a_client_that_sends_more_than_it_may_is_told():
    client = Http2Client()
    client.say(client.head(1), client.body(1, message(b"x" * 16_000)[:16_000], is_last=False))
    said = client.say(client.body(1, b"x" * 385, is_last=False))

    assert resets(said) == {1: ErrorCode.FLOW_CONTROL_ERROR}
    assert client.calls.held_bytes == 0


def test_before_the_client_knows_our_settings_it_has_the_default_window():
    client = Http2Client(is_greeted=False)
    client.say(frames.PREFACE, settings(), client.head(1), client.head(3))
    client.say(client.body(1, message(b"x" * 60_000), is_last=False), client.body(3, b"\0", is_last=False))
    said = client.say(frames.frame(frames.SETTINGS, frames.ACK, 0))

    assert said == []
    assert window_of(client, 3) == streams.STREAM_WINDOW_BYTES - 1
    assert body_of(client.say(client.body(1, b"")), 1) != b""


def test_the_window_of_the_connection_is_given_back_whatever_became_of_the_stream():
    client = Http2Client()
    given = 0
    for stream_id in range(1, 401, 2):
        said = client.say(client.head(stream_id, path="/test.Echo/None"), client.body(stream_id, b"x" * 16_000))
        given += sum(frames.increment(one.payload) for one in said if one.kind == frames.WINDOW_UPDATE)

    assert given >= 200 * 16_000 - connection.RECEIVE_WINDOW_BYTES // 2


def test_large_messages_are_let_in_one_after_another():
    client = Http2Client()
    size = 2_000_000
    said = client.say(
        *(client.head(one) + client.body(one, message(b"x" * size)[:16_000], is_last=False) for one in range(1, 12, 2))
    )
    let_in = [one.stream_id for one in said if one.kind == frames.WINDOW_UPDATE]

    assert let_in == [1, 3, 5, 7]
    client.say(reset(1))
    assert window_of(client, 9) == size + 5 - 16_000
    assert window_of(client, 11) == 384
    for at in range(16_000, size + 5, 16_000):
        said = client.say(client.body(3, message(b"x" * size)[at : at + 16_000], is_last=at + 16_000 >= size + 5))
    assert client.server.streams.get(3) is not None  # its answer waits for windows
    assert window_of(client, 11) == size + 5 - 16_000
    assert client.calls.held_bytes == 4 * 16_000


def test_who_waits_to_be_let_in_and_goes_leaves_nothing():
    client = Http2Client()
    start = message(b"x" * 2_000_000)[:16_000]
    for number in range(1, 1001, 2):
        client.now_s += 1
        client.say(client.head(number), client.body(number, start, is_last=False))
        if number > 9:
            client.say(reset(number))

    assert len(client.server._advances._waiting) == 1
    assert client.calls.held_bytes == 5 * 16_000


def test_a_conversation_gets_its_window_back_as_it_goes():
    client = Http2Client()
    client.say(client.head(1, path="/test.Echo/Chat"))
    client.say(frames.window_frame(0, 1 << 24), frames.window_frame(1, 1 << 24))
    for _ in range(100):
        said = client.say(client.body(1, message(b"x" * 10_000), is_last=False))
        assert body_of(said, 1) == message(b"x" * 10_000)
    said = client.say(client.body(1, message(b"x" * 100_000)[:10_000], is_last=False))

    assert window_of(client, 1) == 100_005 - 10_000
    for at in range(10_000, 100_005, 10_000):
        said = client.say(client.body(1, message(b"x" * 100_000)[at : at + 10_000], is_last=False))
    stream = client.server.streams[1]
    assert stream.receive_window + stream._unreturned_bytes == streams.STREAM_WINDOW_BYTES


# --- who does not read, and who is not there


def test_who_does_not_read_stops_the_producer_and_costs_no_more():
    client = Http2Client()
    client.say(client.call(1, b"1000 10000", path="/test.Echo/Count"))

    assert client.server.out.queued_bytes < streams.FULL_BYTES + 10_005
    assert client.service.sent == (WINDOW + client.server.out.queued_bytes) // 10_005
    client.say(frames.window_frame(0, 1 << 24), frames.window_frame(1, 1 << 24))
    while client.server.out.queued_bytes:
        client.server.take()
    assert client.service.sent == 1000
    assert client.service.over == []


def test_while_the_transport_takes_nothing_all_stays_in_its_stream():
    client = Http2Client()
    client.server.out.is_taking = False
    said = client.say(client.call(1))

    assert body_of(said, 1) == b""
    client.server.out.is_taking = True
    assert body_of(cut(client.server.take()), 1) == message(b"hello")


def test_a_stream_that_nobody_takes_from_is_reset_and_others_go_on():
    client = Http2Client()
    client.say(frames.window_frame(0, 1 << 24))
    client.say(client.call(1, b"1000 10000", path="/test.Echo/Count"), client.call(3, path="/test.Echo/Wait"))
    said = client.later(connection.STALLED_S - 1)
    client.say(frames.window_frame(1, streams.MOVED_BYTES))
    said += client.later(connection.STALLED_S - 1)
    client.say(frames.window_frame(1, 1000))

    assert resets(said) == {}
    assert resets(client.later(2)) == {1: ErrorCode.CANCEL}
    assert client.service.over == ["count"]
    assert client.server.out.queued_bytes == 0
    assert list(client.server.streams) == [3]


def test_a_silent_client_is_asked_and_then_let_go():
    client = Http2Client()
    client.say(client.call(1, path="/test.Echo/Wait"))
    (ping,) = client.later(connection.QUIET_S)
    assert (ping.kind, ping.flags) == (frames.PING, 0)
    assert client.say(frames.frame(frames.PING, frames.ACK, 0, ping.payload)) == []

    (ping,) = client.later(connection.QUIET_S)
    said = client.later(connection.ANSWERED_WITHIN_S)
    assert last_word(said)[1] == ErrorCode.NO_ERROR
    assert client.server.is_over
    assert client.service.over == ["hello"]


def test_who_is_not_read_from_is_not_asked_whether_he_is_there():
    client = Http2Client()
    client.server.out.is_taking = False

    assert client.later(1000) == []
    assert not client.server.is_over
    client.server.out.is_taking = True
    assert [one.kind for one in client.later(connection.QUIET_S / 2)] == [frames.PING]
    assert not client.server.is_over


def test_pings_are_answered():
    client = Http2Client()

    assert client.say(PING) == [Frame(frames.PING, frames.ACK, 0, b"12345678")]


def test_a_header_block_that_does_not_end_is_not_waited_for():
    client = Http2Client()
    client.say(frames.frame(frames.HEADERS, 0, 1, b"\x82"))

    assert last_word(client.later(connection.GREETED_WITHIN_S + 1))[1] == ErrorCode.SETTINGS_TIMEOUT


# --- the end (section 6.8)


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


# --- floods


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
