"""Connections that send nothing twice and say how far a request came."""

import asyncio
import socket

import pytest

from raftkv.client import async_channels, http1
from raftkv.client.async_channels import AsyncChannels
from raftkv.client.reach import Host, UnheardError, UnopenedError, host_of
from tests.unit.fake_server import CUT, HANG, FakeServer, Told, unused_url


def pool_of(url, limit=4, connect_s=1.0):
    return AsyncChannels(host_of(url), tls=None, limit=limit, connect_s=connect_s)


async def ask(pool, method="GET", target="/x", body=b"", timeout_s=5.0):
    headers = [("x-one", "1"), ("x-one", "2")]
    return await pool.exchange(method, target, headers=headers, body=body, timeout_s=timeout_s)


async def serve_raw(answers, asked):
    """A server that answers with bytes as told, one for each request, closing after ``None``."""
    left = list(answers)

    async def handle(reader, writer):
        while left:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            answer = left.pop(0)
            if answer is None:
                break
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    return server, AsyncChannels(Host("127.0.0.1", server.sockets[0].getsockname()[1]), tls=None, limit=4)


def exchange_raw(*answers, method="GET", times=1):
    async def run():
        asked = []
        server, pool = await serve_raw(answers, asked)
        async with server:
            found = [await ask(pool, method) for _ in range(times)]
            pool.close()
        return found, asked

    return asyncio.run(run())


def test_requests_leave_as_they_are_and_connections_are_kept():
    async def run(url):
        pool = pool_of(url)
        first = await ask(pool, "PUT", "/kv/a%2Fb/..?x=1", b"\x00\xff")
        second = await ask(pool, "HEAD")
        pool.close()
        return first, second

    with FakeServer(Told(201, b"done", {"X-Answer": "yes"})) as server:
        first, second = asyncio.run(run(server.url))

    assert (first.status, first.body, first.header("x-answer"), first.header("none")) == (201, b"done", "yes", "")
    assert (second.status, second.body, second.header("content-length")) == (201, b"", "4")
    assert [(one.method, one.target, one.body) for one in server.asked] == [
        ("PUT", "/kv/a%2Fb/..?x=1", b"\x00\xff"),
        ("HEAD", "/x", b""),
    ]
    assert server.connections == 1


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", 200, b"abcde"),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", 304, b""),
    ],
)
def test_answers_of_every_form_are_read_to_their_end(raw, status, body):
    found, asked = exchange_raw(raw, raw, times=2)

    assert [(one.status, one.body) for one in found] == [(status, body)] * 2
    assert len(asked) == 2


def test_headers_that_come_twice_stay_two():
    ((answer,), _) = exchange_raw(b"HTTP/1.1 200 OK\r\nA: 1\r\na: 2\r\ncontent-length: 0\r\n\r\n")

    assert answer.headers == [(b"a", b"1"), (b"a", b"2"), (b"content-length", b"0")]


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"SSH-2.0-Server\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffff\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * http1.HEAD_BYTES_MAX * 2 + b"\r\n\r\n",
        None,
    ],
)
def test_an_answer_that_is_none_leaves_the_request_unheard(raw):
    with pytest.raises(UnheardError):
        exchange_raw(raw)


def test_a_request_that_went_out_is_never_sent_again():
    async def run(url):
        pool = pool_of(url)
        await ask(pool, "PUT")
        for _ in range(2):
            with pytest.raises(UnheardError):
                await ask(pool, "PUT")

    with FakeServer(Told(200), CUT) as server:
        asyncio.run(run(server.url))

    assert len(server.asked) == 3


def test_a_connection_that_was_closed_while_idle_is_not_used():
    async def run():
        connections = []

        async def handle(reader, writer):
            connections.append(writer)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with server:
            pool = AsyncChannels(Host("127.0.0.1", server.sockets[0].getsockname()[1]), tls=None, limit=1)
            await ask(pool, "PUT")
            async with asyncio.timeout(5):
                while pool._idle[0].is_open:  # noqa: ASYNC110  there is nothing else to wait for
                    await asyncio.sleep(0.01)
            await ask(pool, "PUT")
        return len(connections)

    assert asyncio.run(run()) == 2


def test_a_connection_that_was_idle_for_long_is_made_anew(monkeypatch):
    async def run(url):
        pool = pool_of(url)
        for _ in range(2):
            await ask(pool)

    monkeypatch.setattr(async_channels, "IDLE_S", -1.0)
    with FakeServer(Told(200)) as server:
        asyncio.run(run(server.url))

    assert server.connections == 2


def test_nobody_there_means_that_nothing_was_sent():
    with pytest.raises(UnopenedError):
        asyncio.run(ask(pool_of(unused_url())))


def test_a_machine_that_takes_no_connection_means_that_nothing_was_sent():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            with pytest.raises(UnopenedError):
                asyncio.run(ask(pool_of(f"http://127.0.0.1:{port}", connect_s=0.2)))
        finally:
            for filler in fillers:
                filler.close()


def test_no_answer_in_time_leaves_the_request_unheard_and_its_connection_is_not_used_again():
    async def run(url):
        pool = pool_of(url, limit=1)
        for _ in range(2):
            with pytest.raises(UnheardError):
                await ask(pool, timeout_s=0.2)

    with FakeServer(HANG) as server:
        asyncio.run(run(server.url))

    assert server.connections == 2


def test_connections_are_bounded():
    async def run(url):
        pool = pool_of(url, limit=2, connect_s=0.2)
        first = [asyncio.create_task(ask(pool)) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert pool.in_use == 2
        with pytest.raises(UnopenedError, match="in use"):
            await ask(pool)
        for task in first:
            task.cancel()
        await asyncio.gather(*first, return_exceptions=True)
        assert pool.in_use == 0

    with FakeServer(HANG) as server:
        asyncio.run(run(server.url))


def test_an_answer_of_no_length_is_read_until_the_server_closes():
    ((answer,), _) = exchange_raw(b"HTTP/1.1 200 OK\r\n\r\nabc")

    assert answer.body == b"abc"


def test_a_server_that_closes_is_believed():
    async def run(url):
        pool = pool_of(url)
        for _ in range(2):
            await ask(pool)

    with FakeServer(Told(200, b"", {"Connection": "close"})) as server:
        asyncio.run(run(server.url))

    assert server.connections == 2
