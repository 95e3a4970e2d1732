"""gRPC over the streams of a connection: what a call is, how it ends, and in which words."""

from __future__ import annotations

import gzip
import math
import tracemalloc
import zlib

import pytest

from raftkv.etcd.grpc import frames
from raftkv.etcd.grpc.calls import MESSAGE_BYTES_MAX, GrpcCall, ManyRequests
from raftkv.etcd.grpc.frames import ErrorCode
from raftkv.etcd.grpc.status import GrpcStatus, percent_encoded
from raftkv.http.door.room import PATIENCE_S, SLOWEST_BYTES_PER_S
from tests.unit.http2_client import HEAD, Frame, Http2Client, body_of, cut, message, resets


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
        assert resets(said[-1:]) == {1: ErrorCode.NO_ERROR}
        said.pop()

    (head,) = said
    assert head.flags & frames.END_STREAM
    fields = client.fields(head)
    assert (fields.pop(":status"), fields.pop("content-type")) == ("200", "application/grpc")
    return int(fields["grpc-status"]), fields.get("grpc-message", "")


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


# --- how calls end


def test_a_refusal_says_its_words_as_every_client_reads_them():
    client = Http2Client()
    said = client.say(client.call(1, "käse: 100 %\n".encode(), path="/test.Echo/Refuse"))

    assert client.fields(said[0]) == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-status": "9",
        "grpc-message": "k%C3%A4se: 100 %25%0A",
        "reason": "told",
        "raw-bin": "AAH/",
    }


def test_words_are_bounded():
    assert percent_encoded("\udcff") == b"?"
    assert len(percent_encoded("x" * 1_000_000)) == 2048


def test_metadata_comes_early_and_late():
    client = Http2Client()
    said = client.say(client.call(1, b"token", path="/test.Echo/Metadata", token="secret"))

    assert client.fields(said[0]) == {":status": "200", "content-type": "application/grpc", "early": "yes"}
    assert body_of(said, 1) == message(b"secret")
    assert client.fields(said[-1]) == {"grpc-status": "0", "late": "yes"}


@pytest.mark.parametrize(
    ("sent", "meant"), [("AAH/", b"\0\1\xff"), ("AA", b"\0"), ("AA==", b"\0"), ("AAH/,AA", b"\0\1\xff")]
)
def test_binary_metadata_is_decoded(sent, meant):
    client = Http2Client()
    said = client.say(client.call(1, b"token-bin", path="/test.Echo/Metadata", token_bin=sent))

    assert body_of(said, 1) == message(meant)


@pytest.mark.parametrize("sent", ["a!b", "AA!AA", "A", "AA=A", "AA,?"])
def test_binary_metadata_that_is_none_is_refused(sent):
    assert asked(message(b"x"), token_bin=sent) == (GrpcStatus.INTERNAL, "malformed binary metadata in token-bin")


def test_who_cancels_is_heard():
    client = Http2Client()
    client.say(client.call(1, b"a", path="/test.Echo/Wait"), client.call(3, b"b", path="/test.Echo/Wait"))
    client.say(frames.reset_frame(1, ErrorCode.CANCEL))

    assert client.service.over == ["a"]
    client.service.waiting[0].answer(b"to nobody")
    client.service.waiting[0].finish()
    assert not client.service.waiting[0].send(b"to nobody")
    assert client.server.take() == b""


def test_a_call_ends_once():
    client = Http2Client()
    client.say(client.call(1, path="/test.Echo/Wait"))
    (call,) = client.service.waiting
    call.answer(b"first")
    call.answer(b"second")
    call.fail(GrpcStatus.ABORTED, "third")

    assert body_of(cut(client.server.take()), 1) == message(b"first")
    assert client.service.over == []
    assert client.server.streams == {}


def test_a_stream_of_answers_ends_behind_the_last():
    client = Http2Client()
    said = client.say(client.call(1, b"3 10", path="/test.Echo/Count"))

    assert body_of(said, 1) == message(b"x" * 10) * 3
    assert ending(client, said)[0] == GrpcStatus.OK


def test_when_the_server_leaves_what_takes_too_long_is_told():
    client = Http2Client()
    client.say(client.call(1, path="/test.Echo/Wait"))
    client.calls.end_all(GrpcStatus.UNAVAILABLE, "the server is shutting down")

    assert ending(client, cut(client.server.take())) == (GrpcStatus.UNAVAILABLE, "the server is shutting down")
    assert client.service.over == ["hello"]


def test_heads_of_calls_that_are_open_are_counted_by_what_they_take():
    client = Http2Client()
    many = {f"x{number}": "" for number in range(300)}
    numbers = iter(range(1, 1000, 2))

    def begin(calls: int) -> None:
        for _ in range(calls):
            client.say(client.head(next(numbers), **many), client.head(next(numbers), large_bin="YWJj" * 1000))

    begin(20)
    held_bytes = client.calls.held_bytes
    tracemalloc.start()
    begin(20)
    taken_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken_bytes / 2 < held_bytes < taken_bytes * 2
    assert client.calls.held_bytes == 2 * held_bytes
    client.say(*(frames.reset_frame(number, ErrorCode.CANCEL) for number in list(client.server.streams)))

    assert client.server.streams == {}
    assert client.calls.held_bytes == 0


def test_without_room_nothing_new_is_begun():
    client = Http2Client()
    client.calls.is_full = True
    said = client.say(client.call(1))

    assert ending(client, said)[0] == GrpcStatus.RESOURCE_EXHAUSTED
    client.calls.is_full = False
    assert body_of(client.say(client.call(3)), 3) == message(b"hello")


def test_a_large_answer_that_has_no_room_is_not_kept():
    client = Http2Client()
    client.room_bytes = 0
    said = client.say(client.call(1, b"x" * 70_000), client.call(3, b"x" * 60_000))

    code, text = ending(client, [one for one in said if one.stream_id == 1])
    assert (code, "a write has been carried out" in text) == (GrpcStatus.RESOURCE_EXHAUSTED, True)
    assert body_of(said, 3)


def test_a_stream_of_answers_ends_where_one_has_no_room_and_who_makes_them_is_told():
    client = Http2Client()
    client.room_bytes = 0
    said = client.say(client.call(1, b"5 70000", path="/test.Echo/Count"))

    assert ending(client, said)[0] == GrpcStatus.UNAVAILABLE
    assert client.service.over == ["count"]
    assert client.service.sent == 1


def test_every_call_is_told_of_when_it_ends_with_its_code_and_what_was_said():
    client = Http2Client()
    client.say(client.call(1), client.call(3, path="/test.Echo/None"), client.call(5, path="/test.Echo/Wait"))
    client.say(client.call(7, b"2 10", path="/test.Echo/Count"), client.head(9, content_type="text/plain"))
    client.say(frames.reset_frame(5, frames.ErrorCode.CANCEL))

    assert client.ended == [
        ("/test.Echo/Say", GrpcStatus.OK, 5, 5),
        ("/test.Echo/None", GrpcStatus.UNIMPLEMENTED, 0, 0),
        ("/test.Echo/Count", GrpcStatus.OK, 4, 20),
        ("/test.Echo/Wait", GrpcStatus.CANCELLED, 5, 0),
    ]


def test_a_call_knows_its_client_and_its_deadline():
    client = Http2Client()
    client.say(client.call(1, path="/test.Echo/Wait"), client.call(3, path="/test.Echo/Wait", grpc_timeout="5S"))

    assert [call.client for call in client.service.waiting] == ["test", "test"]
    assert [call.deadline_s for call in client.service.waiting] == [math.inf, 1005]


def test_heads_that_come_again_are_read_once_and_those_that_differ_are_not_mixed_up():
    client = Http2Client()
    said = []
    for number in range(1, 101, 2):
        said += client.say(client.call(number, b"token", path="/test.Echo/Metadata", token=f"t{number % 40}"))

    for number in range(1, 101, 2):
        assert body_of(said, number) == message(b"t%d" % (number % 40))
    assert HEAD[2] == (b":path", b"/test.Echo/Say")


class Broken:
    """A service that breaks down wherever it is called."""

    def __init__(self, call: GrpcCall) -> None:
        call.on_over = self.over
        call.on_taking = self.over

    def over(self) -> None:
        raise ValueError("over")

    def received(self, data: bytes) -> None:
        raise ValueError("received")

    def ended(self) -> None:
        raise ValueError("ended")


def begin_broken(call: GrpcCall) -> Broken:
    raise ValueError("begin")


def test_whatever_breaks_down_is_reported_and_ends_its_own_call_alone():
    client = Http2Client()
    client.service.methods |= {"/a": ManyRequests(begin_broken), "/b": ManyRequests(Broken)}
    said = client.say(client.head(1, path="/a"), client.head(3, path="/b"), client.head(5, path="/b"))
    said += client.say(client.head(7, path="/b"), client.body(3, message(b"x"), is_last=False), client.body(5, b""))
    said += client.say(frames.reset_frame(7, ErrorCode.CANCEL), client.call(9))

    assert client.reported == ["/a: begin", "/b: received", "/b: over", "/b: ended", "/b: over", "/b: over"]
    statuses = [client.fields(one)["grpc-status"] for one in said if one.kind == frames.HEADERS and one.stream_id < 9]
    assert statuses == ["13"] * 3
    assert body_of(said, 9) == message(b"hello")
    assert client.calls.open == {}


def test_a_conversation_may_be_over_before_it_has_begun():
    client = Http2Client()

    def refuse(call: GrpcCall) -> Broken:
        call.finish(GrpcStatus.UNAUTHENTICATED, "who are you?")
        return Broken(call)

    client.service.methods["/a"] = ManyRequests(refuse)
    said = client.say(client.head(1, path="/a"), client.body(1, message(b"x")))

    assert ending(client, said) == (GrpcStatus.UNAUTHENTICATED, "who are you?")
    assert client.reported == []
