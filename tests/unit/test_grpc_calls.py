"""gRPC over the streams of a connection: what a call is, its messages, and the time it has."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from raftkv.etcd.grpc import frames
from raftkv.etcd.grpc.calls import MESSAGE_BYTES_MAX, GrpcCall, ManyRequests
from raftkv.etcd.grpc.frames import ErrorCode
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.http.door.room import PATIENCE_S, SLOWEST_BYTES_PER_S
from tests.unit.http2_client import Frame, Http2Client, asked, body_of, cut, ending, message, resets

# --- what is a call


@pytest.mark.parametrize("content_type", ["application/grpc", "application/grpc+proto", "application/grpc;charset=x"])
def test_it_is_a_call_by_its_content_type(content_type):
    client = Http2Client()

    assert body_of(client.say(client.call(1, content_type=content_type)), 1) == message(b"hello")


@pytest.mark.parametrize("content_type", ["application/json", "application/grpc-web", "application/grpc+json", ""])
def test_what_is_no_call_is_answered_in_the_codes_of_http(content_type):
    client = Http2Client()
    head, _ = client.say(client.call(1, content_type=content_type))

    assert client.fields(head)[":status"] == "415"
    assert head.flags & frames.END_STREAM


def test_a_call_is_posted():
    client = Http2Client()
    (head,) = client.say(client.head(1, flags=5, method="GET"))

    assert client.fields(head) == {":status": "405", "allow": "POST"}


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/test.Echo/None", "unknown method None for service test.Echo"),
        ("/None", 'malformed method name: "/None"'),
        ("*", 'malformed method name: "*"'),
    ],
)
def test_an_unknown_method_is_not_implemented(path, why):
    assert asked(message(b"x"), path=path) == (GrpcStatus.UNIMPLEMENTED, why)


def test_a_defect_is_told_and_reported_and_others_go_on():
    client = Http2Client()
    said = client.say(client.call(1, path="/test.Echo/Break"), client.call(3))

    assert ending(client, said[:1]) == (GrpcStatus.INTERNAL, "internal error")
    assert client.reported == ["/test.Echo/Break: a defect"]
    assert body_of(said, 3) == message(b"hello")


# --- messages


def test_one_message_makes_a_unary_call():
    assert asked()[0] == GrpcStatus.INTERNAL
    assert asked(b"\0\0\0")[0] == GrpcStatus.INTERNAL
    assert asked(message(b"hello")[:-1])[0] == GrpcStatus.INTERNAL
    assert asked(message(b"a"), message(b"b"))[0] == GrpcStatus.INTERNAL
    assert asked(message(b"a"), b"\0")[0] == GrpcStatus.INTERNAL


def test_a_call_without_a_body_is_none():
    client = Http2Client()

    assert ending(client, client.say(client.head(1, flags=5)))[0] == GrpcStatus.INTERNAL


def test_it_is_answered_when_the_client_has_sent_all():
    client = Http2Client()

    assert client.say(client.head(1), client.body(1, message(b"x"), is_last=False)) == []
    assert body_of(client.say(client.body(1, b"")), 1) == message(b"x")


def test_an_empty_message_is_a_message():
    client = Http2Client()

    assert body_of(client.say(client.call(1, b"")), 1) == message(b"")


def test_a_message_may_be_as_large_as_that():
    status, why = asked(message(b"x" * (MESSAGE_BYTES_MAX + 1))[:100])

    assert status == GrpcStatus.RESOURCE_EXHAUSTED
    assert why == f"grpc: received message larger than max ({MESSAGE_BYTES_MAX + 1} vs. {MESSAGE_BYTES_MAX})"


def test_a_conversation_hears_each_message_however_they_are_cut():
    client = Http2Client()
    data = b"".join(message(b"%d" % number * number) for number in range(30))
    said = client.say(client.head(1, path="/test.Echo/Chat"))
    for at in range(0, len(data), 7):
        said += client.say(client.body(1, data[at : at + 7], is_last=False))

    assert body_of(said, 1) == data
    assert ending(client, client.say(client.body(1, b"")))[0] == GrpcStatus.OK


def test_a_conversation_that_is_not_listened_to_is_not_heard_either():
    client = Http2Client()
    client.say(client.head(1, path="/test.Echo/Chat"), frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 0}))
    client.say(frames.window_frame(0, 1 << 24))
    data = message(b"x" * 4000)
    said: list[Frame] = []
    sent = 0
    while resets(said) == {}:
        assert sent < 100
        said = client.say(client.body(1, data, is_last=False))
        sent += 1

    assert resets(said) == {1: ErrorCode.FLOW_CONTROL_ERROR}  # the client was not told to send more
    assert 17 <= sent <= 17 + 5


def test_a_conversation_goes_on_when_it_is_listened_to_again():
    client = Http2Client()
    client.say(client.head(1, path="/test.Echo/Chat"), frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 0}))
    client.say(frames.window_frame(0, 1 << 24))
    data = message(b"x" * 4000)
    for _ in range(18):
        client.say(client.body(1, data, is_last=False))
    client.say(client.body(1, data[:10]))
    assert client.calls.held_bytes > 10
    said = client.say(frames.window_frame(1, 1 << 20))

    assert body_of(said, 1) == data * 18
    assert ending(client, said) == (GrpcStatus.INTERNAL, "the last message was cut short")
    assert client.calls.held_bytes == 0


def test_a_conversation_takes_a_message_at_a_time_if_it_likes():
    client = Http2Client()
    data = [message(b"%d" % number * 5000) for number in range(3)]
    said = client.say(client.head(1, path="/test.Echo/Slow"), client.body(1, b"".join(data)[:15_000], is_last=False))
    (call,) = client.service.waiting
    assert said == []
    assert client.calls.held_bytes >= 15_000

    heard = []
    for number in range(3):
        call.resume()
        heard.append(body_of(cut(client.server.take()), 1))
        if number == 0:
            for _ in range(10):  # whoever keeps it waiting, it is not the client
                client.later(50)
                client.say(frames.frame(frames.PING, 0, 0, b"here I am"[:8]))
            assert client.say(client.body(1, b"".join(data)[15_000:])) == []
    assert heard == data
    call.resume()
    assert ending(client, cut(client.server.take())) == (GrpcStatus.OK, "")
    assert client.calls.held_bytes == 0


def test_what_comes_while_nobody_listens_stays_within_the_window_of_its_stream():
    client = Http2Client()
    said = client.say(client.head(1, path="/test.Echo/Slow"), frames.window_frame(0, 1 << 24))
    data = message(b"x" * 4000)
    sent = 0
    while resets(said) == {}:
        assert sent < 100
        said = client.say(client.body(1, data, is_last=False))
        sent += 1

    assert resets(said) == {1: ErrorCode.FLOW_CONTROL_ERROR}
    assert sent == (16 << 10) // len(data) + 1
    assert client.calls.held_bytes == 0


def test_a_conversation_that_answers_at_once_takes_all_in_one_turn():
    class Eager:
        def __init__(self, call: GrpcCall) -> None:
            self._call = call

        def received(self, message: bytes) -> None:
            self._call.pause()
            self._call.send(message)
            self._call.resume()

        def ended(self) -> None:
            self._call.finish()

    client = Http2Client()
    client.service.methods["/test.Echo/Eager"] = ManyRequests(Eager)
    data = b"".join(message(b"%d" % number) for number in range(2000))
    said = client.say(client.head(1, path="/test.Echo/Eager"), client.body(1, data))

    assert body_of(said, 1) == data
    assert ending(client, said) == (GrpcStatus.OK, "")


# --- compression


def test_messages_may_be_compressed():
    client = Http2Client()
    said = client.say(client.head(1, grpc_encoding="gzip"), client.body(1, message(gzip.compress(b"x" * 1000), 1)))
    assert body_of(said, 1) == message(b"x" * 1000)

    said = client.say(client.head(3, grpc_encoding="gzip"), client.body(3, message(b"plain")))
    assert body_of(said, 3) == message(b"plain")


def test_an_encoding_that_is_unknown_is_told_which_are_known():
    client = Http2Client()
    head, _ = client.say(client.call(1, grpc_encoding="snappy"))
    fields = client.fields(head)

    assert int(fields["grpc-status"]) == GrpcStatus.UNIMPLEMENTED
    assert fields["grpc-message"] == 'grpc: Decompressor is not installed for grpc-encoding "snappy"'
    assert fields["grpc-accept-encoding"] == "identity,gzip"


@pytest.mark.parametrize(
    "data",
    [
        b"no gzip",
        gzip.compress(b"x" * 1000)[:-1],
        gzip.compress(b"x" * 1000) + b"more",
        zlib.compress(b"x"),
        b"",
    ],
    ids=["other", "cut", "more", "zlib", "empty"],
)
def test_what_cannot_be_decompressed_is_refused(data):
    assert asked(message(data, 1), grpc_encoding="gzip")[0] == GrpcStatus.INTERNAL


def test_compression_is_announced():
    assert asked(message(gzip.compress(b"x"), 1))[0] == GrpcStatus.INTERNAL
    assert asked(message(b"x", 2), grpc_encoding="gzip")[0] == GrpcStatus.INTERNAL


def test_a_bomb_is_inflated_no_further_than_a_message_may_be():
    data = message(gzip.compress(b"\0" * (16 << 20)), 1)
    client = Http2Client()
    tracemalloc.start()
    try:
        said = client.say(client.head(1, grpc_encoding="gzip"), client.body(1, data))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    status, why = ending(client, said)
    assert status == GrpcStatus.RESOURCE_EXHAUSTED
    assert str(MESSAGE_BYTES_MAX) in why
    assert peak_bytes < 8 << 20


def test_a_service_may_want_smaller_messages():
    client = Http2Client()
    client.calls.message_bytes_max = 4

    assert ending(client, client.say(client.call(1)))[0] == GrpcStatus.RESOURCE_EXHAUSTED
    assert body_of(client.say(client.call(3, b"four")), 3) == message(b"four")


# --- time


@pytest.mark.parametrize(
    ("timeout", "seconds"), [("1S", 1), ("1500m", 1.5), ("2M", 120), ("1H", 3600), ("50000u", 0.05)]
)
def test_a_call_has_the_time_that_its_client_gives_it(timeout, seconds):
    client = Http2Client()
    client.say(client.call(1, path="/test.Echo/Wait", grpc_timeout=timeout))
    client.now_s += min(seconds, 30) * 0.99
    client.server.tick()
    assert client.server.take() == b""
    client.now_s = 1000 + seconds
    client.server.tick()

    assert ending(client, cut(client.server.take())) == (GrpcStatus.DEADLINE_EXCEEDED, "context deadline exceeded")
    assert client.service.over == ["hello"]
    client.service.waiting[0].answer(b"too late")
    assert client.server.take() == b""


def test_a_call_that_has_no_time_is_not_begun():
    client = Http2Client()

    assert ending(client, client.say(client.call(1, grpc_timeout="0n")))[0] == GrpcStatus.DEADLINE_EXCEEDED
    assert client.calls.open == {}


@pytest.mark.parametrize("timeout", ["", "1", "S", "1s", "-1S", "123456789S", "1.5S", "1 S"])
def test_a_malformed_timeout_is_refused(timeout):
    assert asked(message(b"x"), grpc_timeout=timeout) == (GrpcStatus.INTERNAL, "malformed grpc-timeout")


def test_calls_that_are_answered_at_once_need_no_time_at_all():
    client = Http2Client()
    client.say(client.call(1))
    before_s = client.server.due_s
    client.say(*(client.call(number, grpc_timeout="59S") for number in range(3, 101, 2)))

    assert client.server.due_s <= before_s
    client.later(100)
    assert client.server.due_s > 1000 + 100


@pytest.mark.parametrize("path", ["/test.Echo/Say", "/test.Echo/Chat"])
def test_a_message_that_does_not_arrive_is_not_waited_for_forever(path):
    client = Http2Client()
    client.say(client.head(1, path=path), client.body(1, message(b"hello")[:6], is_last=False))
    said = []
    while not said:
        client.later(10)
        said = [one for one in client.say(frames.frame(frames.PING, 0, 0, b"12345678")) if one.kind != frames.PING]
        said += cut(client.server.take())
        if client.calls.open == {}:
            break

    assert client.now_s - 1000 <= PATIENCE_S + MESSAGE_BYTES_MAX / SLOWEST_BYTES_PER_S + 10
    assert client.calls.held_bytes == 0


def test_an_answer_may_take_as_long_as_it_likes():
    client = Http2Client()
    client.say(client.call(1, path="/test.Echo/Wait"))
    for _ in range(100):
        client.later(50)
        client.say(frames.frame(frames.PING, 0, 0, b"12345678"))

    client.service.waiting[0].answer(b"at last")
    assert body_of(cut(client.server.take()), 1) == message(b"at last")


def test_a_conversation_may_be_silent_for_as_long_as_it_likes():
    client = Http2Client()
    client.say(client.head(1, path="/test.Echo/Chat"))
    for _ in range(100):
        client.later(50)
        client.say(frames.frame(frames.PING, 0, 0, b"12345678"))

    assert len(client.calls.open) == 1
