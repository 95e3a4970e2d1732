"""Both ways through the door give the same answers to whatever is sent, however it is cut."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.http.door.worker import REST_WITHIN_S, Protocol
from tests.fuzz.test_http_raw import REFUSED
from tests.unit.http_node import Node
from tests.unit.test_http_connections import Served, until
from tests.unit.test_http_plain import HOST, NOT_PLAIN, SENT_BY_CLIENTS, get, put


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
    *(head + b"\r\n\r\nv" for head in SENT_BY_CLIENTS.values()),
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


@pytest.mark.parametrize("head", SENT_BY_CLIENTS.values(), ids=SENT_BY_CLIENTS)
def test_what_common_clients_send_is_answered_the_plain_way_in_one_piece_and_in_two(head: bytes) -> None:
    found, taken = both([get(), head + b"\r\n\r\nv", head + b"\r\n\r\n", b"v", get()], pause_s=0.1)
    assert taken == 3
    assert found.count(b"HTTP/1.1 20") == 3


def test_who_takes_long_over_a_body_is_answered_all_the_same() -> None:
    async def scenario() -> None:
        node = Node()
        async with Served(node.application) as served:
            served.worker.asgi = node.application
            for rest, status in ((b"e", b"HTTP/1.1 201"), (b"", b"HTTP/1.1 400")):
                reader, writer = await served.connect()
                writer.write(get() + put(b"value")[:-2])
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(3 * REST_WITHIN_S)  # the general way has it by now
                assert node.application.room.held_bytes
                writer.write(b"u")
                await asyncio.sleep(2 * REST_WITHIN_S)
                writer.write(rest)
                writer.write_eof()
                assert status in await asyncio.wait_for(reader.read(), 10)
        node.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


TARGET = st.from_regex(rb"/[!\"$-~]{0,20}", fullmatch=True)
NAME = st.from_regex(rb"[!#$%&'*+.^`|~0-9A-Za-z-]{1,12}", fullmatch=True)
VALUE = st.from_regex(rb"[\t -~]{0,20}", fullmatch=True)
SAID = st.sampled_from(
    [b"Accept: application/json", b'If-None-Match: "1"', b"Connection: Keep-Alive , upgrade", b"Via: 1.1 x"]
)


@st.composite
def plain_ones(draw: st.DrawFn) -> bytes:
    """Requests of the very form that is plain, of which nobody thought."""
    method = draw(st.sampled_from([b"GET", b"PUT", b"POST", b"DELETE", b"HEAD"]))
    target = draw(TARGET | TARGET.map(lambda found: b"/kv" + found))
    field = st.tuples(NAME, VALUE).map(lambda pair: pair[0] + b":" + pair[1]) | SAID
    fields = [HOST[:-2], *draw(st.lists(field, max_size=4))]
    body = b"" if method in (b"GET", b"HEAD") else draw(st.binary(max_size=20))
    if body or draw(st.booleans()):
        fields.append(
            draw(st.sampled_from([b"Content-Length:", b"content-length: 0", b"CONTENT-LENGTH:\t"])) + b"%d" % len(body)
        )
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", *fields, b"", body])


@settings(max_examples=60, deadline=None)
@given(requests=st.lists(plain_ones(), min_size=1, max_size=3), cut=st.integers(0, 200))
def test_whatever_has_the_form_of_a_plain_request_is_understood_alike(requests: list[bytes], cut: int) -> None:
    sent = get(b"none") + b"".join(requests)
    both([sent[:-cut], sent[-cut:]] if 0 < cut < len(sent) else [sent])


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
