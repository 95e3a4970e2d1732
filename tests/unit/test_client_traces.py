"""Which trace the requests of a client say they are part of, and what its spans say."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from raftkv import AsyncClient, Client, traced
from raftkv.core.errors import UsageError
from tests.unit.fake_server import FakeServer, json

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{PARENT}-01"
STORED = json({"key": "k", "version": 1, "revision": 1}, 201)


def test_a_trace_that_is_given_is_sent_within_its_block_only_by_both_clients() -> None:
    async def put(url: str) -> None:
        async with AsyncClient(url) as client:
            with traced(GIVEN, "vendor=1"):
                await client.set("k", "v")
            await client.set("k", "v")

    with FakeServer(STORED, STORED) as server:
        with Client(server.url) as client, traced(GIVEN):
            client.set("k", "v")
        with Client(server.url) as client:
            client.set("k", "v")
        sent = [request.headers.get("traceparent") for request in server.asked]
    with FakeServer(STORED, STORED) as server:
        asyncio.run(put(server.url))
        states = [request.headers.get("tracestate") for request in server.asked]

    assert sent == [GIVEN, None]
    assert states == ["vendor=1", None]


def test_what_is_no_trace_is_refused() -> None:
    with pytest.raises(UsageError, match="traceparent"), traced("00-abc"):
        pass


def test_without_opentelemetry_nothing_of_it_is_imported() -> None:
    program = "import sys, raftkv; raftkv.Client; print([name for name in sys.modules if 'opentelemetry' in name])"

    assert subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, check=True).stdout == b"[]\n"
