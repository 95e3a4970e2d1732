"""The windows of an HTTP/2 connection and of its streams, and who does not read or is not there."""

from __future__ import annotations

from raftkv.etcd.grpc import connection, frames, streams
from raftkv.etcd.grpc.frames import ErrorCode
from tests.unit.http2_client import (
    PING,
    WINDOW,
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

# -- windows (sections 5.2 and 6.9)


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


# -- who does not read, and who is not there


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
