"""A request of the laboratory is sent at most once, and its sender learns whether it may have arrived."""

import asyncio
import contextlib

import pytest

from raftkv.client.async_channels import ANSWER_BYTES_MAX
from raftkv.client.reach import UnheardError, UnopenedError
from raftkv.core.config import Address
from raftkv.instruments.lab.exchange import channel


def with_server(handle, scenario):
    """Run ``scenario`` with a connection to a server that handles each of its connections by ``handle``."""

    async def run():
        async def connected(reader, writer):
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await handle(reader, writer)
            writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        connection = channel(Address("127.0.0.1", server.sockets[0].getsockname()[1]))
        try:
            return await scenario(connection)
        finally:
            connection.close()
            server.close()

    return asyncio.run(run())


async def put(connection, timeout_s=5.0):
    return await connection.exchange("PUT", "/kv/k", headers=[("X", "y")], body=b"value", timeout_s=timeout_s)


async def read_request(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    return head, await reader.readexactly(5)


def test_requests_share_one_connection_and_bodies_of_both_kinds_arrive():
    seen = []

    async def handle(reader, writer):
        seen.append("connection")
        seen.append(await read_request(reader))
        writer.write(b'HTTP/1.1 201 Created\r\nETag: "7"\r\nContent-Length: 2\r\n\r\nok')
        seen.append(await read_request(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        await writer.drain()
        await reader.read()

    async def scenario(connection):
        return await put(connection), await put(connection)

    first, second = with_server(handle, scenario)

    assert (first.status, first.header("etag"), first.body) == (201, '"7"', b"ok")
    assert (second.status, second.body) == (200, b"abcde")
    assert seen.count("connection") == 1
    assert b"X: y\r\n" in seen[1][0]


def test_a_request_to_nobody_was_not_sent():
    async def scenario():
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        server.close()
        await server.wait_closed()
        with pytest.raises(UnopenedError):
            await put(channel(address))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (ANSWER_BYTES_MAX + 1),
        b"SSH-2.0-Server\r\n\r\n",
    ],
)
def test_a_request_without_a_whole_answer_may_have_arrived_and_is_not_sent_again(answer):
    requests = []

    async def handle(reader, writer):
        requests.append(await read_request(reader))
        writer.write(answer)
        await writer.drain()

    async def scenario(connection):
        with pytest.raises(UnheardError):
            await put(connection)

    with_server(handle, scenario)

    assert len(requests) == 1


def test_an_answer_that_does_not_come_in_time_is_unheard_and_its_connection_is_not_used_again():
    connections = []

    async def handle(reader, writer):
        connections.append(writer)
        await read_request(reader)
        if len(connections) == 2:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async def scenario(connection):
        with pytest.raises(UnheardError):
            await put(connection, timeout_s=0.1)
        return await put(connection)

    assert with_server(handle, scenario).status == 200
    assert len(connections) == 2


def test_a_connection_that_the_server_closed_meanwhile_is_made_anew_before_anything_is_sent():
    served = []

    async def handle(reader, writer):
        served.append(await read_request(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def scenario(connection):
        await put(connection)
        async with asyncio.timeout(5):
            while connection._idle[0].is_open:  # noqa: ASYNC110  there is nothing else to wait for
                await asyncio.sleep(0.01)
        return await put(connection)

    assert with_server(handle, scenario).status == 200
    assert len(served) == 2
