"""The protocol of a worker, in this process: what an open connection holds, and that a closed one leaves nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import struct
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Self

import pytest
import uvloop
from gunicorn.config import Config

from raftkv.http.door.general import CHUNK_BYTES_MAX, HEAD_BYTES_MAX
from raftkv.http.door.room import SHORT_PATIENCE_S, SPARE_CONNECTIONS, HeldBytes, Seats
from raftkv.http.door.server import settings
from raftkv.http.door.worker import Protocol

GET = b"GET /kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n"


class App:
    """``application``, with the room that its connections share."""

    def __init__(self, application: Callable[..., Awaitable[None]], room: HeldBytes) -> None:
        self._application = application
        self.room = room

    def answer(self, *_: object) -> bool:
        return False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._application(scope, receive, send)


class Served:
    """A listener whose connections are ``Protocol``, as gunicorn's worker makes them, over ``application``."""

    def __init__(
        self, application: Callable[..., Awaitable[None]], connections_max: int = 100, held_bytes_max: int = 64 << 20
    ) -> None:
        cfg = Config()
        chosen = settings([0], name="test", workers=1, max_key_bytes=1024, max_connections=connections_max)
        for name, value in chosen.items():
            if name != "worker_class":
                cfg.set(name, value)
        self.room = HeldBytes(held_bytes_max, monotonic_s=asyncio.get_running_loop().time)
        self.made: list[weakref.ref[Protocol]] = []
        self.worker = SimpleNamespace(
            cfg=cfg,
            log=SimpleNamespace(
                access_log_enabled=False, debug=logging.debug, exception=logging.exception, error=logging.error
            ),
            asgi=App(application, self.room),
            loop=asyncio.get_running_loop(),
            nr_conns=0,
            nr=0,
            max_requests=1 << 60,
            worker_connections=connections_max,
            seats=Seats(connections_max, monotonic_s=asyncio.get_running_loop().time),
            alive=True,
            state={},
        )

    def _make(self) -> Protocol:
        protocol = Protocol(self.worker)
        self.made.append(weakref.ref(protocol))
        return protocol

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(self._make, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    @property
    def alive(self) -> int:
        return sum(one() is not None for one in self.made)


async def answer(_: Any, __: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
    await send({"type": "http.response.body", "body": b"x"})


async def never(_: Any, __: Any, ___: Any) -> None:
    await asyncio.Event().wait()


def reset(writer: asyncio.StreamWriter) -> None:
    """Leave at once, so that nobody takes it for half a connection that waits for its answer."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())  # type: ignore[arg-type]  # an async function


async def until(condition: Callable[[], object], limit_s: float = 5.0) -> None:
    end_s = asyncio.get_running_loop().time() + limit_s
    while not condition():
        assert asyncio.get_running_loop().time() < end_s, "it never came to be"
        await asyncio.sleep(0.01)


@contextmanager
def no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_a_closed_connection_leaves_nothing_behind_even_before_a_collection() -> None:
    async def scenario() -> None:
        async with Served(answer) as served:
            for close in (True, False):
                for _ in range(20):
                    reader, writer = await served.connect()
                    writer.write(GET)
                    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
                    writer.transport.abort() if close else writer.close()

            await until(lambda: served.worker.nr_conns == 0)
            await until(lambda: served.alive == 0, 1)

    with no_collections():
        run(scenario)


def test_a_client_that_leaves_while_it_waits_or_before_it_asked_leaves_nothing_behind_either() -> None:
    async def scenario() -> None:
        async with Served(never) as served:
            for sent in (GET, GET[:10], b"", GET + GET):
                for _ in range(5):
                    _, writer = await served.connect()
                    writer.write(sent)
                    await asyncio.sleep(0.01)
                    reset(writer)

            await until(lambda: served.worker.nr_conns == 0)
            await until(lambda: served.alive == 0, 1)

    with no_collections():
        run(scenario)


async def large(_: Any, __: Any, send: Any) -> None:
    body = bytes(8 << 20)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def test_answers_that_nobody_reads_are_counted_and_let_go_when_room_is_short() -> None:
    async def scenario() -> None:
        async with Served(large, held_bytes_max=40 << 20) as served:
            silent = [await served.connect() for _ in range(6)]
            for _, writer in silent:
                writer.transport.pause_reading()
                writer.write(GET)
            await until(lambda: served.room.held_bytes > 10 << 20)
            held_bytes = served.room.held_bytes
            served.room.limit_bytes = held_bytes
            assert not served.room.has_room(8 << 20)  # they have their time first
            await asyncio.sleep(SHORT_PATIENCE_S + 0.2)

            assert served.room.has_room(8 << 20)
            assert 0 < served.room.held_bytes < held_bytes  # no more of them than need be
            for _, writer in silent:
                writer.transport.abort()
            await until(lambda: served.room.held_bytes == 0)

    run(scenario)


def test_who_reads_has_its_whole_answer_and_nothing_is_held_after() -> None:
    async def scenario() -> None:
        async with Served(large) as served:
            for _ in range(3):
                reader, writer = await served.connect()
                writer.write(GET + GET)
                found = await reader.readexactly(2 * (8 << 20))
                writer.close()

                assert len(found) == 16 << 20
            await until(lambda: served.room.held_bytes == 0)

    run(scenario)


def test_the_longest_idle_makes_room_and_health_is_answered_when_nobody_is_idle() -> None:
    async def asked(served: Served, request: bytes) -> bytes:
        reader, writer = await served.connect()
        writer.write(request)
        line = await reader.readline()
        writer.close()
        return line

    async def scenario() -> None:
        async with Served(answer, connections_max=4) as served:
            first = await served.connect()
            await asyncio.sleep(1.1)
            others = [await served.connect() for _ in range(3)]
            assert (await asked(served, GET)).startswith(b"HTTP/1.1 200")
            assert await first[0].read() == b""
            await until(lambda: served.worker.nr_conns == 3)
            others.append(await served.connect())
            await until(lambda: served.worker.nr_conns == 4)

            assert (await asked(served, GET)).startswith(b"HTTP/1.1 429")
            silent = [await served.connect() for _ in range(2 * SPARE_CONNECTIONS)]
            assert (await asked(served, GET.replace(b"/kv/a", b"/livez"))).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(1.1)
            assert (await asked(served, GET)).startswith(b"HTTP/1.1 200")
            for _, writer in (*others, *silent):
                writer.close()

    run(scenario)


def test_heads_are_bounded_and_counted_while_they_come() -> None:
    async def scenario() -> None:
        async with Served(answer) as served:
            header = b"x: " + 8000 * b"y" + b"\r\n"
            for request in (GET[:-2] + 9 * header + b"\r\n", GET[:-2] + 15 * header):
                reader, writer = await served.connect()
                writer.write(request)
                assert (await reader.readline()).startswith(b"HTTP/1.1 431")
            reader, writer = await served.connect()
            writer.write(GET[:-2] + 7 * header)
            await until(lambda: served.room.held_bytes > 50_000)
            writer.write(b"\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            assert HEAD_BYTES_MAX > 7 * 8000
            assert served.room.held_bytes == 0

    run(scenario)


def test_a_crlf_before_a_request_is_ignored_and_a_chunk_beyond_all_limits_is_refused_at_once() -> None:
    async def scenario() -> None:
        async with Served(never) as served:
            reader, writer = await served.connect()
            writer.write(
                b"PUT /kv/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + 16 * b"f" + b"\r\n"
            )
            assert (await reader.readline()).startswith(b"HTTP/1.1 413")
        async with Served(answer) as served:
            reader, writer = await served.connect()
            writer.write(b"\r\n" + GET)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")

    run(scenario)


@pytest.mark.parametrize("asked", [None, object()])
@pytest.mark.parametrize("buffered", [b"", b"GET /"])
@pytest.mark.parametrize("chunk_bytes", [None, 7, CHUNK_BYTES_MAX + 1])
@pytest.mark.parametrize("head_bytes", [0, 5])
@pytest.mark.parametrize("counted", [False, True])
def test_what_is_settled_at_a_glance_needs_no_count(
    asked: object, buffered: bytes, chunk_bytes: int | None, head_bytes: int, *, counted: bool
) -> None:
    """The short cut against what it cuts short: where it says settled, the whole check refuses and counts nothing."""
    room = HeldBytes(1 << 20, monotonic_s=lambda: 0.0)
    one: Any = Protocol.__new__(Protocol)
    one.__dict__.update(
        app=SimpleNamespace(room=room),
        cfg=SimpleNamespace(limit_request_line=100),
        transport=None,
        _current_request=asked,
        _head_bytes=head_bytes,
        _incoming=room.hold(lambda: None) if counted else None,
        _callback_parser=SimpleNamespace(
            _buffer=buffered, is_chunked=chunk_bytes is not None, _chunk_size=chunk_bytes or 0
        ),
    )
    one._send_error_response = one._close_transport = lambda *_: None
    settled, held = one._is_settled, one._incoming

    assert not settled or (one._check_pending() and one._incoming is held is None and room.held_bytes == 0)
    assert settled == (asked is not None and not buffered and chunk_bytes is None and not counted)
