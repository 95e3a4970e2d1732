"""The status of a node as a stream: in process in both modes, then over the real front-end, whose processes end."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raftkv.api.cluster_answers import NodeStatus
from raftkv.core.config import HttpSection
from raftkv.http.handlers import following
from raftkv.http.handlers.handler import begin
from raftkv.http.messages import BodyStream, HttpRequest, HttpResponse
from tests.unit.front_end import FrontEnd, until
from tests.unit.http_node import Node
from tests.unit.leaderless import LeaderlessNode

SSE = "text/event-stream"
LINES = "application/x-ndjson"


def following_of(node: Node, accept: str = LINES, query: bytes = b"") -> HttpResponse:
    request = HttpRequest(method="GET", path=b"/status", query=query, headers={b"accept": accept.encode()})
    response = begin(following.STATUS, request, node.application._context)
    assert isinstance(response, HttpResponse)
    return response


def chunks_of(node: Node, accept: str = LINES) -> AsyncGenerator[bytes]:
    body = following_of(node, accept).body
    assert isinstance(body, BodyStream)
    return body.chunks


async def next_of(chunks: AsyncGenerator[bytes], limit_s: float = 3.0) -> Any:
    return json.loads(await asyncio.wait_for(anext(chunks), limit_s))


@pytest.mark.parametrize("make", [Node, LeaderlessNode])
def test_the_status_comes_at_once_and_whenever_it_changes_and_is_what_a_get_shows(make: Callable[[], Any]) -> None:
    async def scenario() -> None:
        node = make()
        async with aclosing(chunks_of(node)) as chunks:
            first = await next_of(chunks)
            plain = json.loads((await node.ask("GET", "/status")).body)
            assert first.keys() == plain.keys()
            assert msgspec.to_builtins(msgspec.convert(first, NodeStatus)) == first
            await node.ask("PUT", "/kv/a", b"v")
            assert (await next_of(chunks))["revision"] == first["revision"] + 1
            subscribers = getattr(node, "replicator", node.solo).subscribers
            assert len(subscribers) == 1
        assert not subscribers

    asyncio.run(scenario())


def test_many_changes_in_a_short_time_are_one_event_and_none_of_heartbeats_is_any() -> None:
    async def scenario() -> None:
        node = Node()
        async with aclosing(chunks_of(node)) as chunks:
            await next_of(chunks)
            for _ in range(50):
                await node.ask("PUT", "/kv/a", b"v")
            assert (await next_of(chunks))["revision"] == 50
            waiting = asyncio.ensure_future(anext(chunks))
            for _ in range(5):
                node.solo.level_at_s = time.monotonic()
                node.solo.subscribers.tell(node.solo.subscribers.latest)
                await asyncio.sleep(following.EVENT_S)
            assert not waiting.done()
            node.reachable_peers = 1
            node.solo.subscribers.tell(node.solo.subscribers.latest)
            event = json.loads(await asyncio.wait_for(waiting, 3))
            assert [peer["reachable"] for peer in event["peers"]] == [True, False]

    asyncio.run(scenario())


def test_a_replica_that_is_lost_or_silent_is_a_problem_and_its_return_is_a_status() -> None:
    async def scenario() -> None:
        node = Node()
        async with aclosing(chunks_of(node, SSE)) as chunks:
            assert (await anext(chunks)).startswith(b"event: status\ndata: {")
            node.replica_is_up = False  # and nobody is told
            event = await asyncio.wait_for(anext(chunks), 3)
            kind, data = event.removesuffix(b"\n\n").split(b"\n")
            assert kind == b"event: problem"
            assert json.loads(data.removeprefix(b"data: "))["code"] == "no_leader"
            node.replica_is_up = True
            node.solo.subscribers.tell(None)
            assert (await asyncio.wait_for(anext(chunks), 3)).startswith(b"event: status\n")
        node.replica_is_up = False
        assert following_of(node).status == 503

    asyncio.run(scenario())


def test_a_timeout_is_for_the_beginning_and_json_is_given_to_who_accepts_anything() -> None:
    node = Node()

    assert node("GET", "/status?timeout=3").status == 200
    assert node("HEAD", "/status?timeout=3", accept=SSE).status == 200
    assert node("GET", "/status?timeout=none", accept=SSE).status == 400
    assert node("GET", "/status?time=3", accept=SSE).status == 400
    assert node("GET", "/status", accept="*/*").headers["content-type"] == "application/json"
    assert node("HEAD", "/status", accept=f"text/html, {SSE};q=0.9").headers["content-type"] == SSE
    assert not node.solo.subscribers
    content = node("GET", "/openapi.json").json["paths"]["/status"]["get"]["responses"]["200"]["content"]
    assert set(content) == {"application/json", SSE, LINES}


def test_streams_have_half_of_the_connections() -> None:
    node = Node(HttpSection(max_connections=2))
    node.application.streams._open[object()] = None  # type: ignore[index]

    assert node("GET", "/status", accept=LINES).status == 429
    assert not node.solo.subscribers


# -- the real front-end ------------------------------------------------------------------------------------------------


@pytest.fixture
def front_end(tmp_path: Path) -> Iterator[FrontEnd]:
    made = FrontEnd(tmp_path).wait_until_ready()
    yield made
    made.stop()


class Follower:
    """A client of the stream, line by line."""

    def __init__(self, front_end: FrontEnd, accept: str = LINES) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", front_end.port, timeout=10)
        self.connection.request("GET", "/status", headers={"Accept": accept})
        self.response = self.connection.getresponse()
        assert self.response.status == 200
        assert self.response.headers["content-type"] == accept
        assert self.response.headers["raftkv-node"] == "n1"
        assert self.response.headers["content-length"] is None

    def next(self) -> Any:
        while not (line := self.response.readline().strip()):
            pass
        return json.loads(line)

    def until(self, condition: Callable[[Any], bool]) -> Any:
        while not condition(found := self.next()):
            pass
        return found

    def close(self) -> None:
        self.connection.close()


def metric(front_end: FrontEnd, name: str) -> float:
    page = front_end.ask("GET", "/metrics")[1].decode()
    return next(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(name))


@pytest.mark.integration
def test_who_follows_hears_of_writes_of_a_lost_replica_and_of_the_next(front_end: FrontEnd) -> None:
    follower = Follower(front_end)
    assert follower.next()["node"] == "n1"
    assert front_end.ask("PUT", "/kv/a", b"v")[0] == 201
    started_s = time.monotonic()
    assert follower.until(lambda found: found["revision"] == 1)
    assert time.monotonic() - started_s < 1
    front_end.replica.send_signal(signal.SIGKILL)
    front_end.replica.wait()
    assert follower.until(lambda found: "code" in found)["code"] == "no_leader"
    front_end.replica = front_end.start_replica()
    assert follower.until(lambda found: "node" in found)["revision"] == 0
    follower.close()
    until(lambda: metric(front_end, "raftkv_http_streams ") == 0)

    assert metric(front_end, 'raftkv_http_streams_ended_total{how="left"}') == 1
    assert metric(front_end, 'raftkv_http_requests_total{code="200",method="GET",route="/status"}') == 1


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stream_ends_with_its_worker_and_not_as_if_it_were_over(front_end: FrontEnd, number: int) -> None:
    follower = Follower(front_end)
    follower.next()
    (worker,) = front_end.workers
    os.kill(worker, number)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        follower.response.read()

    until(lambda: front_end.try_get("/readyz") == 200)
    assert front_end.ask("GET", "/kv/none")[0] == 404


@pytest.mark.integration
def test_two_hundred_followers_come_and_go(front_end: FrontEnd) -> None:
    (worker,) = front_end.workers

    def descriptors() -> int:
        return len(list(Path(f"/proc/{worker}/fd").iterdir()))

    before = descriptors()
    for number in range(200):
        follower = Follower(front_end, SSE if number % 2 else LINES)
        if number % 3:
            follower.response.readline()
        follower.close()
    until(lambda: metric(front_end, "raftkv_http_streams ") == 0)
    until(lambda: descriptors() <= before)

    assert metric(front_end, 'raftkv_http_streams_ended_total{how="left"}') == 200
    assert front_end.said() == ""


@pytest.mark.integration
def test_http_1_0_head_and_half_a_connection(front_end: FrontEnd) -> None:
    ask = b"GET /status HTTP/1.0\r\nAccept: application/x-ndjson\r\nConnection: keep-alive\r\n\r\n"
    client = socket.create_connection(("127.0.0.1", front_end.port), timeout=10)
    with client, client.makefile("rb") as reader:
        client.sendall(ask)
        client.shutdown(socket.SHUT_WR)
        lines = filter(None, map(bytes.strip, reader))
        while not (line := next(lines)).startswith(b"{"):
            assert b"transfer-encoding" not in line.lower()
        assert json.loads(line)["node"] == "n1"
        front_end.ask("PUT", "/kv/a", b"v")
        assert json.loads(next(lines))["revision"] == 1
    head = ask.replace(b"GET", b"HEAD").replace(b"1.0", b"1.1\r\nHost: localhost", 1).replace(b"keep-alive", b"close")
    assert front_end.raw(head).startswith(b"HTTP/1.1 200 ")
    until(lambda: metric(front_end, "raftkv_http_streams ") == 0)
