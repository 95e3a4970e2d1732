"""Who is no member learns nothing, holds nobody up, and leaves nothing behind."""

import asyncio
import contextlib
import random
import socket

import pytest

from raftkv.core.config import Address
from raftkv.instruments.local.nodes import free_ports
from raftkv.peers.listener import STRANGER_LIMIT
from tests.unit.peers_stage import Puppet, still_works, until


@pytest.mark.parametrize(
    "opening",
    [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xff", b"\x00\x00\x10\x01", b"\x00\x00\x00\x00", bytes(1 << 20)],
)
def test_a_stranger_with_garbage_is_closed_in_time_and_hears_nothing(play, opening):
    async def scenario(stage):
        await stage.pair()
        reader, writer = await stage.knock()
        heard = b"?"
        with contextlib.suppress(OSError):
            writer.write(opening)
            heard = b""
            async with asyncio.timeout(3.0):
                heard = await reader.read()
        assert heard == b""
        await still_works(stage)
        assert stage.recorders["n2"].changes("n1") == ["up"]

    play(scenario)


def test_random_bytes_from_many_strangers_change_nothing(play):
    async def scenario(stage):
        await stage.pair()
        source = random.Random(7)
        for _ in range(200):
            _, writer = await stage.knock()
            with contextlib.suppress(OSError):
                writer.write(source.randbytes(source.randrange(200)))
                await writer.drain()
            if source.random() < 0.5:
                writer.transport.abort()
            else:
                writer.close()
        await still_works(stage)

        assert stage.recorders["n2"].changes("n1") == ["up"]
        assert all(payload == b"ping" for payload in stage.recorders["n2"].payloads)

    play(scenario)


def test_a_puppet_with_the_wrong_secret_hears_nothing(play):
    async def scenario(stage):
        await stage.add("n2")
        stage.members["n1"] = Address("127.0.0.1", 1)
        puppet = await Puppet(stage, secret=b"a guess").connect()
        heard = b""
        with contextlib.suppress(OSError):
            heard = await puppet.reader.read()

        assert heard == b""
        assert stage.recorders["n2"].events == []

    play(scenario)


def test_a_slow_stranger_is_closed_at_the_deadline(play):
    async def scenario(stage):
        await stage.add("n2")
        loop = asyncio.get_running_loop()
        puppet = Puppet(stage)
        reader, writer = await stage.knock()
        began_s = loop.time()
        closed = loop.create_task(reader.read())
        for byte in puppet.session.take_output():
            writer.write(bytes([byte]))
            await asyncio.wait([closed], timeout=0.1)
            if closed.done():
                break
        assert closed.done()
        closed.exception()

        assert loop.time() - began_s > 1.8  # and before it had said all, which takes longer than the deadline

    play(scenario)


def test_two_hundred_silent_connections_neither_pile_up_nor_keep_a_member_out(play):
    async def scenario(stage):
        link, _ = await stage.add("n2")
        strangers = [await stage.knock() for _ in range(200)]
        await until(lambda: link._listener.stranger_count() == STRANGER_LIMIT)
        await asyncio.sleep(0.1)
        gone = sum(reader.at_eof() or reader.exception() is not None for reader, _ in strangers)
        assert gone == 200 - STRANGER_LIMIT
        stage.members["n1"] = Address("127.0.0.1", free_ports(1)[0])
        first, _ = await stage.add("n1")
        await until(lambda: first.is_up("n2"), timeout_s=1.0)
        await still_works(stage)
        await until(lambda: link._listener.stranger_count() == 0)
        assert len(link._connections) == 1

    play(scenario)


def test_stopping_leaves_no_task_and_no_socket_behind(play):
    async def scenario(stage):
        first, second = await stage.pair()
        before = asyncio.all_tasks()
        await stage.knock()
        await asyncio.sleep(0.05)
        assert second._listener.stranger_count() == 1
        await first.stop()
        await second.stop()
        await asyncio.sleep(0.05)

        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert before > asyncio.all_tasks()
        assert not first._connections
        assert not second._connections
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", stage.members["n2"].port)) != 0

    play(scenario)


def test_strangers_drive_out_nobody_from_where_a_member_has_proven_itself(play):
    """Over a slow network a member's handshake takes longer than a flood needs to fill every place."""

    async def scenario(stage):
        link, _ = await stage.pair()
        at = stage.members["n1"] if link is stage.links["n1"] else stage.members["n2"]
        reader, writer = await asyncio.open_connection(at.host, at.port)
        await until(lambda: link._listener.stranger_count() == 1)
        flood = [
            await asyncio.open_connection(at.host, at.port, local_addr=("127.0.0.2", 0))
            for _ in range(2 * STRANGER_LIMIT)
        ]
        await until(lambda: sum(one.at_eof() or one.exception() is not None for one, _ in flood) > STRANGER_LIMIT)

        assert not reader.at_eof()
        assert reader.exception() is None
        for _, one in [*flood, (reader, writer)]:
            one.close()

    play(scenario)
