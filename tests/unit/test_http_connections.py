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

import uvloop
from gunicorn.config import Config

from raftkv.http.server import settings
from raftkv.http.worker import Protocol

GET = b"GET /kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Served:
    """A listener whose connections are ``Protocol``, as gunicorn's worker makes them, over ``application``."""

    def __init__(self, application: Callable[..., Awaitable[None]], connections_max: int = 100) -> None:
        cfg = Config()
        chosen = settings([0], name="test", workers=1, max_key_bytes=1024, max_connections=connections_max)
        for name, value in chosen.items():
            if name != "worker_class":
                cfg.set(name, value)
        self.made: list[weakref.ref[Protocol]] = []
        self.worker = SimpleNamespace(
            cfg=cfg,
            log=SimpleNamespace(
                access_log_enabled=False, debug=logging.debug, exception=logging.exception, error=logging.error
            ),
            asgi=application,
            loop=asyncio.get_running_loop(),
            nr_conns=0,
            nr=0,
            max_requests=1 << 60,
            worker_connections=connections_max,
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
