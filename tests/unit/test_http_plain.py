"""Plain requests: what is one and what is left to the general way, in what order they are answered, and that both ways
give the same answers to whatever is sent, however it is cut.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.http.door.plain import HEAD_BYTES_MAX, TURN_REQUESTS, PlainConnection, read, written
from raftkv.http.door.worker import Protocol
from raftkv.http.messages import HttpResponse
from tests.fuzz.test_http_raw import REFUSED
from tests.unit.test_http_api import Node
from tests.unit.test_http_connections import Served, until

HOST = b"Host: 127.0.0.1:8001\r\n"


def get(key: bytes = b"k", fields: bytes = HOST) -> bytes:
    return b"GET /kv/" + key + b" HTTP/1.1\r\n" + fields + b"\r\n"


def put(value: bytes, key: bytes = b"k", fields: bytes = HOST) -> bytes:
    return b"PUT /kv/%b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (key, fields, len(value), value)


# -- what is plain ----------------------------------------------------------------------------------------------------


def test_a_plain_request_is_read_with_what_comes_behind_it() -> None:
    found = read(b"PUT /kv/a%2Fb?ttl=5 HTTP/1.1\r\nhost: x\r\nX-Y:  z \r\nContent-Length: 3\r\n\r\nabcdef")
    assert found is not None
    assert found._replace(headers={}) == ("PUT", b"/kv/a%2Fb", b"ttl=5", {}, b"abc", b"def")
    assert found.headers == {b"host": b"x", b"x-y": b"z", b"content-length": b"3"}


@pytest.mark.parametrize("end", range(1, len(put(b"abc"))))
def test_what_has_not_come_whole_is_none(end: int) -> None:
    assert read(put(b"abc")[:end]) is None


NOT_PLAIN = {
    "another version": get().replace(b"1.1", b"1.0"),
    "another method": get().replace(b"GET", b"PATCH"),
    "a lower-case method": get().replace(b"GET", b"get"),
    "an absolute target": get().replace(b"/kv", b"http://127.0.0.1/kv"),
    "a fragment": get(b"k#f"),
    "a space in the target": get(b"a b"),
    "raw bytes in the target": get(b"\xc3\xa9"),
    "an empty line first": b"\r\n" + get(),
    "no host": get(fields=b"X: y\r\n"),
    "an empty host": get(fields=b"Host:\r\n"),
    "two hosts": get(fields=HOST * 2),
    "a field twice": get(fields=HOST + b"X: y\r\nx: y\r\n"),
    "no field at all": get(fields=b""),
    "a fold": get(fields=HOST + b"X: y\r\n z\r\n"),
    "a space before the colon": get(fields=HOST + b"X : y\r\n"),
    "no name": get(fields=HOST + b": y\r\n"),
    "no colon": get(fields=HOST + b"X\r\n"),
    "an underscore": get(fields=HOST + b"X_Y: z\r\n"),
    "a bare line feed": get(fields=HOST + b"X: y\nZ: a\r\n"),
    "a bare carriage return": get(fields=HOST + b"X: y\rZ: a\r\n"),
    "a NUL": get(fields=HOST + b"X: \0\r\n"),
    "raw bytes in a field": get(fields=HOST + b"X: \xff\r\n"),
    "the end of the connection": get(fields=HOST + b"Connection: close\r\n"),
    "an upgrade": get(fields=HOST + b"Connection: keep-alive, Upgrade\r\nUpgrade: h2c\r\n"),
    "an expectation": put(b"v", fields=HOST + b"Expect: 100-continue\r\n"),
    "chunks": put(b"v", fields=HOST + b"Transfer-Encoding: chunked\r\n"),
    "a length twice": put(b"v", fields=HOST + b"Content-Length: 1\r\n"),
    "a length with a sign": get(fields=HOST + b"Content-Length: +0\r\n"),
    "a length in another base": get(fields=HOST + b"Content-Length: 0x0\r\n"),
    "a length of many digits": get(fields=HOST + b"Content-Length: 0000000000\r\n"),
    "an empty length": get(fields=HOST + b"Content-Length:\r\n"),
    "what a proxy says": get(fields=HOST + b"X-Forwarded-Proto: https\r\n"),
    "many fields": get(fields=HOST + b"".join(b"X%d: y\r\n" % number for number in range(100))),
    "a long head": get(fields=HOST + b"X: " + b"y" * HEAD_BYTES_MAX + b"\r\n"),
}


@pytest.mark.parametrize("what", NOT_PLAIN)
def test_what_could_be_read_in_two_ways_or_is_about_the_connection_is_not_plain(what: str) -> None:
    assert read(NOT_PLAIN[what]) is None


def test_an_answer_is_framed_once_and_no_header_of_it_breaks_out() -> None:
    end = b"Date: x\r\n\r\n"
    response = HttpResponse(status=200, headers=((b"a", b"b"),), body=b"body")
    assert written(response, "GET", end) == (b"HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 4\r\n" + end, b"body")
    assert written(response, "HEAD", end) == (b"HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 4\r\n" + end, b"")
    framed = HttpResponse(status=200, headers=((b"content-length", b"9"),))
    assert written(framed, "HEAD", end)[0].count(b"content-length") == 1
    for status in (204, 304):
        assert written(HttpResponse(status=status), "GET", end) == (
            b"HTTP/1.1 %d %b\r\n%b" % (status, {204: b"No Content", 304: b"Not Modified"}[status], end),
            b"",
        )
    for value in (b"b\r\nc: d", b"b\nc: d", b"b\rc", b"b\0"):
        with pytest.raises(ValueError, match="a line of its own"):
            written(HttpResponse(status=200, headers=((b"a", value),)), "GET", end)


# -- one after another ------------------------------------------------------------------------------------------------


class Carrier:
    """Answers when told; what it cannot take goes the general way."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.may_answer = self.is_taking = True
        self.at_once = at_once
        self.asked: list[bytes] = []
        self.responds: list[Callable[[HttpResponse], None]] = []
        self.written: list[bytes] = []
        self.passed = b""
        self.held_bytes = 0
        self.later = 0
        self.plain = PlainConnection(self)

    def take(self, request: Any, respond: Callable[[HttpResponse], None]) -> bool:
        if request.path == b"/other":
            return False
        self.asked.append(request.path)
        self.responds.append(respond)
        if self.at_once:
            self.respond()
        return True

    def respond(self) -> None:
        self.responds.pop(0)(HttpResponse(status=200, body=self.asked[-1]))

    def write(self, response: HttpResponse, method: str) -> None:
        assert isinstance(response.body, bytes)
        self.written.append(response.body)

    def hold(self, size_bytes: int) -> None:
        self.held_bytes = size_bytes

    def pass_on(self, data: bytes) -> None:
        self.passed += data
        self.may_answer = False

    def go_on_later(self) -> None:
        self.later += 1


def test_the_next_is_asked_when_the_one_before_is_answered_and_what_waits_is_held() -> None:
    carrier = Carrier()
    carrier.plain.received(get(b"1") + get(b"2"))
    assert carrier.asked == [b"/kv/1"]
    assert carrier.held_bytes == len(get(b"2"))
    carrier.plain.received(get(b"3"))
    assert carrier.held_bytes == len(get(b"2") + get(b"3"))
    assert carrier.plain.is_busy

    carrier.respond()
    assert (carrier.asked, carrier.written, carrier.held_bytes) == ([b"/kv/1", b"/kv/2"], [b"/kv/1"], len(get(b"3")))
    carrier.respond()
    carrier.respond()
    assert carrier.written == [b"/kv/1", b"/kv/2", b"/kv/3"]
    assert carrier.held_bytes == 0
    assert not carrier.plain.is_busy


def test_who_takes_no_answers_is_asked_nothing_more() -> None:
    carrier = Carrier(at_once=True)
    carrier.is_taking = False
    carrier.plain.received(get(b"1"))
    carrier.plain.go_on()
    assert carrier.asked == []
    assert carrier.held_bytes == len(get(b"1"))

    carrier.is_taking = True
    carrier.plain.go_on()
    assert carrier.written == [b"/kv/1"]
    assert carrier.held_bytes == 0


def test_what_is_not_for_here_goes_the_general_way_with_all_that_follows_and_after_what_came_before() -> None:
    carrier = Carrier()
    other = get().replace(b"/kv/k", b"/other")
    carrier.plain.received(get(b"1") + other + get(b"2"))
    assert carrier.passed == b""
    carrier.respond()
    assert carrier.passed == other + get(b"2")
    carrier.plain.received(get(b"3"))
    assert carrier.passed == other + get(b"2") + get(b"3")

    carrier.may_answer = True
    carrier.plain.received(get(b"4"))
    assert carrier.asked[-1] == b"/kv/4"


def test_many_at_once_leave_turns_to_others() -> None:
    carrier = Carrier(at_once=True)
    carrier.plain.received(get() * (2 * TURN_REQUESTS + 1))
    assert len(carrier.written) == TURN_REQUESTS
    assert carrier.later == 1
    carrier.plain.go_on()
    carrier.plain.go_on()
    assert len(carrier.written) == 2 * TURN_REQUESTS + 1
    assert carrier.later == 2
    assert carrier.held_bytes == 0


def test_nothing_is_written_to_who_is_gone() -> None:
    carrier = Carrier()
    carrier.plain.received(get(b"1") + get(b"2"))
    carrier.plain.close()
    carrier.respond()
    assert carrier.written == []
    assert carrier.asked == [b"/kv/1"]


# -- both ways --------------------------------------------------------------------------------------------------------


class OnlyGeneral:
    """An application to which the plain way is closed."""

    def __init__(self, application: Any) -> None:
        self.room = application.room
        self._application = application

    def answer(self, *_: object) -> bool:
        return False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._application(scope, receive, send)


class Wire(asyncio.Transport):
    """A transport that loses nothing, whoever closes first: what comes while reading is paused waits."""

    def __init__(self, protocol: Any) -> None:
        super().__init__({"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 8001)})
        self._protocol = protocol
        self._coming: list[bytes] = []
        self._is_paused = False
        self.written = b""
        self.closed = asyncio.Event()

    def send(self, data: bytes) -> None:
        self._coming.append(data)
        self._deliver()

    def _deliver(self) -> None:
        while self._coming and not self._is_paused and not self.closed.is_set():
            data = self._coming.pop(0)
            if data:
                self._protocol.data_received(data)
            elif not self._protocol.eof_received():
                self.close()

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        asyncio.get_running_loop().call_soon(self._deliver)

    def write(self, data: Any) -> None:
        if not self.closed.is_set():
            self.written += bytes(data)

    def close(self) -> None:
        if not self.closed.is_set():
            self.closed.set()
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def can_write_eof(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0


async def talk(pieces: list[bytes], *, plain: bool, pause_s: float) -> tuple[bytes, int]:
    """All that a fresh node answers to ``pieces``, and how many requests were answered the plain way."""
    node = Node()
    taken = 0
    answer = node.application.answer

    def counted(*arguments: Any) -> bool:
        nonlocal taken
        is_taken = answer(*arguments)
        taken += is_taken
        return is_taken

    served = Served(node.application)
    served.worker.asgi = node.application if plain else OnlyGeneral(node.application)
    if plain:
        node.application.answer = counted  # type: ignore[method-assign]
    protocol = Protocol(served.worker)
    wire = Wire(protocol)
    protocol.connection_made(wire)
    for piece in (*pieces, b""):
        wire.send(piece)
        await asyncio.sleep(pause_s)
    await asyncio.wait_for(wire.closed.wait(), 10)
    await asyncio.sleep(0)
    assert served.room.held_bytes == 0
    node.close()
    return re.sub(rb"(?i)(date|raftkv-staleness-ms): [^\r]*", rb"\1: -", wire.written), taken


def both(pieces: list[bytes], pause_s: float = 0.0) -> tuple[bytes, int]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        general, none = runner.run(talk(pieces, plain=False, pause_s=pause_s))
        found, taken = runner.run(talk(pieces, plain=True, pause_s=pause_s))
    assert none == 0
    assert found == general
    return found, taken


BATCH = b'{"operations":[{"op":"put","key":"b","value":"v"},{"op":"get","key":"b"}]}'
SENT = [
    get(),
    put(b"v"),
    put(b"v" * 900),
    put(b"v" * 1100),
    put(b""),
    get(b"%6b"),
    get(b"k?consistency=local"),
    get(b"k?consistency=sometimes"),
    get(b"%zz"),
    get(b"%ff"),
    get(b""),
    get(b"x" * 70),
    get(fields=HOST + b'If-None-Match: "1"\r\n'),
    get(fields=HOST + b"Accept: application/json\r\nConnection: Keep-Alive\r\n"),
    get(fields=HOST + b"Origin: http://evil.example\r\n"),
    get(fields=b"Host: evil.example\r\n"),
    get().replace(b"GET", b"HEAD"),
    get().replace(b"GET", b"DELETE"),
    get().replace(b"/kv/k", b"//kv/k"),
    get().replace(b"/kv/k", b"/livez"),
    get().replace(b"/kv/k", b"/nowhere"),
    get().replace(b"/kv/k", b"/kv?prefix=k"),
    get().replace(b"/kv/k", b"/get/k"),
    put(BATCH).replace(b"PUT /kv/k", b"POST /batch"),
    put(b"{").replace(b"PUT /kv/k", b"POST /batch"),
    *NOT_PLAIN.values(),
    *(request for request in REFUSED.values() if len(request) < 10_000),
]


@pytest.mark.parametrize("request_sent", SENT, ids=map(str, range(len(SENT))))
def test_both_ways_answer_alike_also_where_plain_ones_come_before_and_behind(request_sent: bytes) -> None:
    both([put(b"first") + get() + request_sent + get()])


def test_most_of_what_clients_send_is_answered_the_plain_way() -> None:
    # The first of a host is not known to be harmless yet.
    sent = [get(b"none"), put(b"v"), get(), get().replace(b"GET", b"HEAD"), get(b"k?consistency=local")]
    found, taken = both(sent, pause_s=0.1)
    assert taken == 4
    assert found.count(b"HTTP/1.1 ") == 5


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_both_ways_answer_alike_however_it_is_cut(data: st.DataObject) -> None:
    sent = get(b"none") + b"".join(data.draw(st.lists(st.sampled_from(SENT), min_size=1, max_size=6)))
    cuts = sorted({0, len(sent), *data.draw(st.lists(st.integers(0, len(sent)), max_size=4))})
    both([sent[start:end] for start, end in pairwise(cuts)])


def test_a_worker_that_ends_says_so_and_lets_go_after_the_answer() -> None:
    async def scenario() -> None:
        node = Node()
        async with Served(node.application) as served:
            served.worker.asgi = node.application
            reader, writer = await served.connect()
            writer.write(get())
            await reader.readuntil(b'"applied":"no"}\n')
            waiting: list[Any] = []
            node.submit = lambda *asked: waiting.append(asked) or node.solo.submit(*asked)  # type: ignore[method-assign]
            writer.write(put(b"v"))
            await until(lambda: waiting)
            served.worker.alive = False
            node.solo.work(asyncio.get_running_loop().time())
            found = await asyncio.wait_for(reader.read(), 5)
            assert found.startswith(b"HTTP/1.1 201")
            assert b"\r\nConnection: close\r\n" in found
        node.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


def test_a_connection_that_is_used_stays_and_an_idle_one_is_closed() -> None:
    async def scenario() -> None:
        node = Node()
        async with Served(node.application) as served:
            served.worker.asgi = node.application
            reader, writer = await served.connect()
            await until(lambda: served.made)
            protocol = served.made[-1]()
            assert protocol is not None
            protocol._keepalive = 0.3
            for _ in range(6):
                writer.write(get())
                await reader.readuntil(b'"applied":"no"}\n')
                await asyncio.sleep(0.1)
            assert await asyncio.wait_for(reader.read(), 5) == b""
        node.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
