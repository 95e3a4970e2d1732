"""Bodies that are made while they are read, over real sockets: flow, ends of every kind, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from raftkv.http.door import streaming
from raftkv.http.door.room import SHORT_PATIENCE_S, HeldBytes
from raftkv.http.door.streaming import Streams
from raftkv.http.messages import BodyStream, HttpResponse, StreamCutError
from tests.unit.test_http_connections import Served, reset, run, until

GET = b"GET /watch HTTP/1.1\r\nHost: localhost\r\n\r\n"
OLD = b"GET /watch HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
CHUNK = bytes(1 << 16)


class Source:
    """Chunks that count how often they were asked for, and whether they were closed."""

    def __init__(self, chunks: int | None = None, *, size: int = 1 << 16, fails: Exception | None = None) -> None:
        self.limit = chunks
        self.chunk = bytes(size)
        self.fails = fails
        self.asked = 0
        self.closed = 0
        self.waits = asyncio.Event()

    async def chunks(self) -> AsyncGenerator[bytes]:
        try:
            while self.limit is None or self.asked < self.limit:
                self.asked += 1
                yield self.chunk
            if self.fails is not None:
                raise self.fails
        finally:
            self.closed += 1

    async def silence(self) -> AsyncGenerator[bytes]:
        try:
            self.asked += 1
            await self.waits.wait()
            yield b"done"
        finally:
            self.closed += 1


class Streaming:
    """An application that answers everything with a stream."""

    def __init__(
        self, make: Callable[[], AsyncGenerator[bytes]], idle: bytes = b"", limit: int = 1000, offer: Any = None
    ) -> None:
        self._make = make
        self._idle = idle
        self._offer = offer
        self._limit = limit
        self.streams: Streams | None = None

    def over(self, room: HeldBytes) -> Streams:
        self.streams = Streams(room, limit=self._limit)
        return self.streams

    async def __call__(self, scope: Any, _: Any, send: Any) -> None:
        assert self.streams is not None
        response = HttpResponse(status=200, body=BodyStream(chunks=self._make(), idle=self._idle, offer=self._offer))
        await self.streams.carry(response, scope, send)


def serve(app: Streaming, **more: Any) -> Served:
    served = Served(app, **more)
    app.over(served.room)
    return served


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def read_chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readline(), 16)
    return (await reader.readexactly(size + 2))[:-2]


async def read_body(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while chunk := await read_chunk(reader):
        body += chunk
    return body


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)  # sources that never pause may go first


def test_the_next_chunk_is_asked_for_when_the_socket_has_taken_the_last_and_nothing_is_lost_to_a_slow_reader() -> None:
    async def scenario() -> None:
        source = Source(chunks=400)
        async with serve(Streaming(source.chunks)) as served:
            reader, writer = await served.connect()
            writer.write(GET)
            await read_head(reader)
            writer.transport.pause_reading()
            await asyncio.sleep(0.3)
            asked = source.asked
            await asyncio.sleep(0.3)
            assert source.asked == asked < 300  # what sockets hold between two processes, and no more
            assert 0 < served.room.held_bytes < 4 * len(CHUNK)
            writer.transport.resume_reading()

            assert len(await read_body(reader)) == 400 * len(CHUNK)
            assert source.closed == 1
            writer.write(GET)  # the connection goes on
            assert (await read_head(reader)).startswith(b"HTTP/1.1 200")
            writer.close()

    run(scenario)


def test_who_never_reads_is_let_go_when_room_is_short_and_others_are_not_asked_for_more_meanwhile() -> None:
    async def scenario() -> None:
        source, other = Source(), Source(size=1000)
        sources = [source, other]
        app = Streaming(lambda: sources.pop(0).chunks())
        async with serve(app) as served:
            _, silent = await served.connect()
            silent.transport.pause_reading()
            silent.write(GET)
            await until(lambda: served.room.held_bytes > 0)
            await asyncio.sleep(0.2)
            served.room.limit_bytes = 1
            reader, writer = await served.connect()
            writer.write(GET)
            await read_head(reader)
            await read_chunk(reader)
            asked = other.asked
            await asyncio.sleep(0.2)
            assert other.asked == asked == 1
            await until(lambda: source.closed, SHORT_PATIENCE_S + 2)
            await until(lambda: other.asked > 10)
            assert app.streams is not None
            assert app.streams.ended == {"complete": 0, "left": 1, "cut": 0}
            reset(writer)
            await until(lambda: served.room.held_bytes == 0 and app.streams.open_count == 0)  # type: ignore[union-attr]

    run(scenario)


def test_a_client_that_has_closed_its_half_has_its_whole_stream() -> None:
    async def scenario() -> None:
        source = Source(chunks=100)
        async with serve(Streaming(source.chunks, idle=b"-")) as served:
            reader, writer = await served.connect()
            writer.write(GET)
            writer.write_eof()
            await read_head(reader)

            assert len(await read_body(reader)) == 100 * len(CHUNK)
            assert await reader.read() == b""

    run(scenario)


@pytest.mark.parametrize("leave", [reset, lambda writer: writer.close()])
def test_a_stream_is_closed_at_once_when_its_client_leaves_though_it_has_nothing_to_say(
    leave: Callable[[asyncio.StreamWriter], None],
) -> None:
    async def scenario() -> None:
        source = Source()
        app = Streaming(source.silence, idle=b":\n\n")
        async with serve(app) as served:
            reader, writer = await served.connect()
            writer.write(GET)
            await read_head(reader)  # before any chunk
            assert not source.closed
            leave(writer)
            await until(lambda: source.closed, 3 * streaming.LEAVING_S)

            await until(lambda: served.worker.nr_conns == 0)
            assert app.streams is not None
            assert app.streams.ended == {"complete": 0, "left": 1, "cut": 0}

    run(scenario)


def test_a_half_closed_client_that_stays_is_told_that_nothing_happens_and_then_what_does() -> None:
    async def scenario() -> None:
        source = Source()
        async with serve(Streaming(source.silence, idle=b":\n\n")) as served:
            reader, writer = await served.connect()
            writer.write(GET)
            await read_head(reader)
            writer.write_eof()
            assert [await read_chunk(reader) for _ in range(3)] == 3 * [b":\n\n"]
            source.waits.set()
            rest = await reader.read()

            assert rest.endswith(b"4\r\ndone\r\n0\r\n\r\n")

    run(scenario)


def test_silence_is_broken_now_and_then_but_not_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "IDLE_S", 0.05)

    async def scenario() -> None:
        source = Source()
        async with serve(Streaming(source.silence, idle=b"\n")) as served:
            reader, writer = await served.connect()
            writer.write(GET)
            await read_head(reader)
            assert [await read_chunk(reader) for _ in range(3)] == 3 * [b"\n"]
            source.waits.set()
            assert (await read_body(reader)).strip(b"\n") == b"done"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.2)
            writer.close()

    run(scenario)


class WritingSource:
    """Writes numbered chunks by itself while it is asked, as many as are taken, and yields when it has to wait."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.written = 0
        self.waited = 0
        self.write: Callable[[bytes], bool] = lambda _: False

    def offer(self, write: Callable[[bytes], bool]) -> None:
        self.write = write

    async def chunks(self) -> AsyncGenerator[bytes]:
        while self.written < self.count:
            self.written += 1
            if self.write(b"%08d" % self.written + CHUNK):
                await asyncio.sleep(0)
            else:
                self.waited += 1
                yield b""
        yield b"done"


@pytest.mark.parametrize("request_bytes", [GET, OLD])
def test_what_a_source_writes_by_itself_waits_for_a_slow_reader_and_comes_whole_in_order(request_bytes: bytes) -> None:
    async def scenario() -> None:
        source = WritingSource(300)
        app = Streaming(source.chunks, offer=source.offer)
        async with serve(app) as served:
            reader, writer = await served.connect()
            writer.transport.pause_reading()
            writer.write(request_bytes)
            await until(lambda: source.waited > 0)
            await asyncio.sleep(0.2)
            written = source.written
            await asyncio.sleep(0.2)
            assert source.written == written < 200
            assert 0 < served.room.held_bytes < 4 * len(CHUNK)
            writer.transport.resume_reading()
            await read_head(reader)

            body = await (reader.read() if request_bytes is OLD else read_body(reader))
            expected = b"".join(b"%08d" % number + CHUNK for number in range(1, 301)) + b"done"
            assert body == expected
            await until(lambda: served.room.held_bytes == 0)
            assert app.streams is not None
            assert app.streams.ended == {"complete": 1, "left": 0, "cut": 0}
            writer.close()

    run(scenario)


def test_while_room_is_short_who_writes_by_itself_is_held_up_too() -> None:
    async def scenario() -> None:
        source = WritingSource(100)
        async with serve(Streaming(source.chunks, offer=source.offer)) as served:
            served.room.limit_bytes = -1
            reader, writer = await served.connect()
            writer.write(GET)
            await read_head(reader)
            await read_chunk(reader)
            await asyncio.sleep(0.2)
            assert source.written == 1
            served.room.limit_bytes = 1 << 20

            assert (await read_body(reader)).endswith(b"done")
            writer.close()

    run(scenario)


def test_for_head_nothing_is_asked_and_the_connection_goes_on() -> None:
    async def scenario() -> None:
        source, made = Source(), []

        def make() -> AsyncGenerator[bytes]:
            made.append(source.chunks())
            return made[-1]

        async with serve(Streaming(make)) as served:
            reader, writer = await served.connect()
            for _ in range(2):
                writer.write(GET.replace(b"GET", b"HEAD"))
                head = await read_head(reader)

                assert b"transfer-encoding" not in head.lower()
            assert source.asked == 0
            assert all(one.ag_frame is None for one in made)  # closed
            writer.close()

    run(scenario)


def test_http_1_0_has_its_end_with_the_connection_even_if_it_asked_to_keep_it() -> None:
    async def scenario() -> None:
        source = Source(chunks=3)
        async with serve(Streaming(source.chunks)) as served:
            reader, writer = await served.connect()
            writer.write(OLD)
            head = (await read_head(reader)).lower()

            assert b"connection: close" in head
            assert b"transfer-encoding" not in head
            assert len(await reader.read()) == 3 * len(CHUNK)
            writer.close()

    run(scenario)


@pytest.mark.parametrize(("error", "lines"), [(StreamCutError(), 0), (ZeroDivisionError("oh"), 1)])
def test_what_fails_on_its_way_never_looks_like_an_end(
    error: Exception, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        app = Streaming(lambda: Source(chunks=3, size=10, fails=error).chunks())
        async with serve(app) as served:
            reader, writer = await served.connect()
            writer.write(GET)
            await read_head(reader)
            rest = await reader.read()
            assert rest.endswith(b"\r\n")
            assert not rest.endswith(b"0\r\n\r\n")
            reader, writer = await served.connect()
            writer.write(OLD)
            with pytest.raises(ConnectionResetError):
                await reader.read()
            await until(lambda: served.worker.nr_conns == 0)
            assert app.streams is not None
            assert app.streams.ended == {"complete": 0, "left": 0, "cut": 2}

    with caplog.at_level(logging.INFO):
        run(scenario)
    assert len(caplog.records) == 2 * lines


def test_a_worker_that_ends_cuts_its_streams_off() -> None:
    async def scenario() -> None:
        sources = [Source() for _ in range(4)]
        waiting = iter(sources)
        app = Streaming(lambda: next(waiting).silence(), idle=b"\n")
        async with serve(app) as served:
            opened = []
            for request in (GET, GET, OLD, OLD):
                reader, writer = await served.connect()
                writer.write(request)
                await read_head(reader)
                opened.append((reader, writer))
            assert app.streams is not None
            app.streams.end()
            for reader, _ in opened[:2]:
                assert await reader.read() == b""  # without the last chunk
            for reader, _ in opened[2:]:
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            await until(lambda: served.worker.nr_conns == 0)

            assert [source.closed for source in sources] == [1, 1, 1, 1]
            assert app.streams.open_count == 0

    run(scenario)


def test_a_stream_too_many_is_refused_and_closed() -> None:
    async def scenario() -> None:
        source = Source()
        app = Streaming(source.silence, limit=1)
        async with serve(app) as served:
            reader, writer = await served.connect()
            writer.write(GET)
            await read_head(reader)
            assert app.streams is not None
            chunks = source.silence()
            refused = await app.streams.admit(HttpResponse(status=200, body=BodyStream(chunks=chunks)))

            assert refused.status == 429
            assert chunks.ag_frame is None
            reset(writer)
            await until(lambda: app.streams.open_count == 0)  # type: ignore[union-attr]
            response = HttpResponse(status=200, body=BodyStream(chunks=source.silence()))
            assert await app.streams.admit(response) is response

    run(scenario)


def test_two_hundred_streams_opened_and_dropped_leave_nothing_behind() -> None:
    async def scenario() -> None:
        sources: list[Source] = []

        def make() -> AsyncGenerator[bytes]:
            sources.append(Source())
            return sources[-1].silence() if len(sources) % 2 else sources[-1].chunks()

        app = Streaming(make, idle=b"\n")
        async with serve(app) as served:
            gc.collect()  # what tests before this one left
            tasks, files = len(asyncio.all_tasks()), open_files()
            for number in range(200):
                reader, writer = await served.connect()
                writer.write(GET)
                await read_head(reader)
                if number % 4 < 2:
                    reset(writer)
                else:
                    writer.close()
                del reader, writer
            await until(lambda: served.worker.nr_conns == 0, 10)
            await until(lambda: len(asyncio.all_tasks()) == tasks)
            await until(lambda: served.alive == 0, 1)

            assert [source.closed for source in sources] == 200 * [1]
            assert served.room.held_bytes == 0
            assert open_files() <= files
            assert app.streams is not None
            assert app.streams.ended == {"complete": 0, "left": 200, "cut": 0}

    run(scenario)
