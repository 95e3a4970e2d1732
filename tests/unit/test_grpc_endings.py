"""How calls of gRPC end, in which words, and what is held of them until then."""

from __future__ import annotations

import math
import tracemalloc

import pytest

from raftkv.etcd.grpc import frames
from raftkv.etcd.grpc.calls import GrpcCall, ManyRequests
from raftkv.etcd.grpc.frames import ErrorCode
from raftkv.etcd.grpc.status import GrpcStatus, percent_encoded
from tests.unit.http2_client import HEAD, Http2Client, asked, body_of, cut, ending, message


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
