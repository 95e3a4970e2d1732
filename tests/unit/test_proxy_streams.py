"""Streams through the proxy, over real sockets on both sides: flow, ends of every kind, and nothing left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from typing import Any, Self

import pytest

from raftkv.core.config import parse_address
from raftkv.http.door import streaming
from raftkv.http.messages import StreamCutError
from raftkv.proxy import forwarding
from raftkv.proxy.application import ProxyApplication
from raftkv.proxy.cluster import Cluster
from raftkv.proxy.view import ClusterView, Node
from tests.unit.test_http_connections import Served, reset, run, until
from tests.unit.test_http_streams import CHUNK, Source, Streaming, read_body, read_chunk, read_head, serve

FOLLOW = b"GET /status HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
EVENTS = ((b"content-type", b"text/event-stream"), (b"raftkv-node", b"n1"))


class Passing(Streaming):
    """A node whose every answer is a stream of events."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
            await send({**message, "headers": EVENTS} if message["type"] == "http.response.start" else message)

        await super().__call__(scope, receive, with_headers)


class Front:
    """A proxy in front of ``nodes``, which are asked in that order."""

    def __init__(self, *nodes: Any) -> None:
        self.nodes = [node if isinstance(node, Served) else serve(node) for node in nodes]

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        for node in self.nodes:
            await self._stack.enter_async_context(node)
        addresses = [parse_address(f"127.0.0.1:{node.port}") for node in self.nodes]
        self.cluster = Cluster(addresses, tls=None, monotonic_s=time.monotonic)
        found = tuple(Node(id=f"n{place}", http=address) for place, address in enumerate(addresses, 1))
        self.cluster.view = ClusterView(nodes=found)
        self.cluster.candidates = lambda key, *, is_read: found  # type: ignore[method-assign]
        self.application = ProxyApplication(self.cluster, timeout_s=5.0, version="1", monotonic_s=time.monotonic)
        self.served = Served(self.application)
        self.served.worker.asgi = self.application
        await self._stack.enter_async_context(self.served)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cluster.close()
        await self._stack.aclose()

    async def follow(self, request: bytes = FOLLOW) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
        reader, writer = await self.served.connect()
        writer.write(request)
        return reader, writer, await read_head(reader)

    @property
    def in_use(self) -> int:
        return sum(channels.in_use for channels in self.cluster._channels.values())


def test_a_stream_passes_with_its_head_as_it_comes_and_as_its_reader_takes_it() -> None:
    async def scenario() -> None:
        source = Source(chunks=400)
        async with Front(Passing(source.chunks)) as front:
            reader, writer, head = await front.follow()
            assert b"\r\nraftkv-node: n1\r\n" in head
            assert b"\r\nvia: 1.1 raftkv-proxy\r\n" in head
            assert b"content-length" not in head.lower()
            writer.transport.pause_reading()
            await asyncio.sleep(0.4)
            asked = source.asked
            await asyncio.sleep(0.3)
            assert source.asked == asked < 350
            assert front.application.room.held_bytes < 8 * len(CHUNK)
            writer.transport.resume_reading()
            assert len(await read_body(reader)) == 400 * len(CHUNK)
            assert source.closed == 1
            writer.write(FOLLOW)  # the connection goes on, and so does the proxy's
            await read_head(reader)
            assert len(front.nodes[0].made) == 1
            writer.close()

    run(scenario)


def test_what_has_begun_is_passed_on_before_the_rest_comes() -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()

        async def events() -> AsyncGenerator[bytes]:
            yield b"data: 1\n\n"
            await go_on.wait()
            yield b"data: 2\n\n"

        async with Front(Passing(events)) as front:
            reader, writer, _ = await front.follow()
            assert await read_chunk(reader) == b"data: 1\n\n"
            go_on.set()
            assert await read_body(reader) == b"data: 2\n\n"
            writer.close()

    run(scenario)


@pytest.mark.parametrize("leave", [reset, lambda writer: writer.close()])
def test_a_reader_that_leaves_ends_the_stream_at_the_node_at_once(
    leave: Callable[[asyncio.StreamWriter], None],
) -> None:
    async def scenario() -> None:
        source = Source()
        node = Passing(source.silence, idle=b":\n\n")
        async with Front(node) as front:
            _, writer, _ = await front.follow()
            assert front.in_use == 1
            leave(writer)
            await until(lambda: source.closed, 4 * streaming.LEAVING_S)
            await until(lambda: front.in_use == 0)

            assert node.streams is not None
            assert node.streams.ended["left"] == front.application.streams.ended["left"] == 1

    run(scenario)


def test_what_breaks_off_at_the_node_breaks_off_for_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "SILENCE_S", 0.3)

    async def scenario() -> None:
        broken, silent = Source(chunks=3, size=10, fails=StreamCutError()), Source()
        for chunks in (broken.chunks, silent.silence):
            async with Front(Passing(chunks)) as front:
                reader, writer, _ = await front.follow()
                rest = await asyncio.wait_for(reader.read(), 3)

                assert rest.count(bytes(10)) == (3 if chunks == broken.chunks else 0)
                assert not rest.endswith(b"0\r\n\r\n")
                assert front.application.streams.ended["cut"] == 1
                assert front.in_use == 0
                writer.close()

    run(scenario)


def test_silence_is_broken_between_events_and_never_within_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "IDLE_S", 0.05)

    async def scenario() -> None:
        for begun, breaks in ((b"data: 1\n\n", True), (b"data: 1\n", False)):
            waits = asyncio.Event()

            async def events(begun: bytes = begun, waits: asyncio.Event = waits) -> AsyncGenerator[bytes]:
                yield begun
                await waits.wait()

            async with Front(Passing(events)) as front:
                reader, writer, _ = await front.follow()
                assert await read_chunk(reader) == begun
                await asyncio.sleep(0.3)
                waits.set()
                assert (b":" in await read_body(reader)) == breaks
                writer.close()

    run(scenario)


def test_an_answer_that_is_no_stream_passes_as_any_other_and_the_next_node_is_asked_when_one_cannot() -> None:
    async def refuse(_: Any, __: Any, send: Any) -> None:
        body = b'{"status":503,"code":"no_leader","applied":"no"}'
        headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/problem+json")]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def scenario() -> None:
        source = Source()
        async with Front(Served(refuse), Passing(source.silence)) as front:
            _, writer, head = await front.follow()
            assert head.startswith(b"HTTP/1.1 200 ")
            writer.close()
        async with Front(Served(refuse)) as front:
            reader, writer, head = await front.follow()
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"no_leader" in await reader.read(1000)
            assert front.in_use == 0
            writer.close()

    run(scenario)


def test_its_own_status_is_json_still_and_streams_take_no_connection_from_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("raftkv.proxy.cluster.CONNECTIONS_MAX", 1)

    async def scenario() -> None:
        source = Source()
        async with Front(Passing(source.silence)) as front:
            followers = [await front.follow() for _ in range(5)]
            reader, writer, head = await front.follow(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"application/json" in head
            assert b'"role":"proxy"' in await reader.read(1000)
            address = front.cluster.view.nodes[0].http
            assert front.cluster.channels(address).in_use == 0
            for _, one, _ in (*followers, (reader, writer, head)):
                one.close()

    run(scenario)


def test_two_hundred_streams_opened_and_dropped_leave_nothing_behind() -> None:
    async def scenario() -> None:
        made: list[Source] = []

        def make() -> AsyncGenerator[bytes]:
            made.append(Source())
            return made[-1].silence() if len(made) % 2 else made[-1].chunks()

        node = Passing(make, idle=b":\n\n")
        async with Front(node) as front:
            tasks = len(asyncio.all_tasks())
            for number in range(200):
                _, writer, _ = await front.follow()
                reset(writer) if number % 4 < 2 else writer.close()
                del writer
            await until(lambda: front.in_use == 0 and front.served.worker.nr_conns == 0, 10)
            await until(lambda: all(one.closed for one in made), 10)
            await until(lambda: len(asyncio.all_tasks()) == tasks)

            assert front.application.room.held_bytes == front.nodes[0].room.held_bytes == 0
            assert front.application.streams.ended == {"complete": 0, "left": 200, "cut": 0}

    run(scenario)
