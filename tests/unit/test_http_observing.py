"""``GET /elections/{name}/observe`` over a real machine: who is told to lead, and how it begins, goes on and ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from raftkv.api.answers import LeaderTold
from raftkv.core.errors import Code, Refused
from raftkv.core.replicator import Pending
from raftkv.core.requests import Compact, Get, Read
from raftkv.http.handlers import observing
from raftkv.http.handlers.handler import Conversation, begin
from raftkv.http.messages import BodyStream, HttpRequest, HttpResponse
from tests.unit.http_node import Answer, Node

PATH = b"/elections/job/observe"
LINES = "application/x-ndjson"


async def observe(node: Node, query: str = "", accept: str = LINES, **headers: str) -> HttpResponse:
    names = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    request = HttpRequest(method="GET", path=PATH, query=query.encode(), headers={b"accept": accept.encode(), **names})
    conversation = begin(observing.OBSERVE, request, node.application._context)
    if isinstance(conversation, HttpResponse):
        return conversation
    assert isinstance(conversation, Conversation)
    return await node.application.conversations.carry(conversation, None)


def body_of(response: HttpResponse) -> BodyStream:
    assert response.status == 200
    assert isinstance(response.body, BodyStream)
    return response.body


async def chunks_of(node: Node, query: str = "", **more: str) -> AsyncGenerator[bytes]:
    return body_of(await observe(node, query, **more)).chunks


async def read(chunks: AsyncGenerator[bytes]) -> Any:
    found = json.loads(await asyncio.wait_for(anext(chunks), 5))
    assert msgspec.to_builtins(msgspec.convert(found, LeaderTold)) == found
    return found


def run(scenario: Callable[[Node], Awaitable[None]]) -> None:
    async def whole() -> None:
        node = Node()
        await scenario(node)
        assert node.application._context.feed.listener_count == 0

    asyncio.run(whole())


async def post(node: Node, path: str, **body: Any) -> Any:
    content = json.dumps(body).encode()
    answer = await node.ask("POST", path, content, content_type="application/json")
    assert answer.status < 300, answer.body
    return answer.json


async def campaign(node: Node, value: Any) -> Any:
    return await post(node, "/elections/job/campaign", ttl=60, value=value)


async def candidate(node: Node, value: str) -> asyncio.Task[Answer]:
    """One who waits to lead, and has its place."""
    revision, body = node.solo.machine.revision, {"ttl": 60, "wait": 9, "value": value}
    asked = node.ask("POST", "/elections/job/campaign", json.dumps(body).encode(), content_type="application/json")
    task = asyncio.ensure_future(asked)
    while node.solo.machine.revision == revision:  # noqa: ASYNC110  a machine tells nobody
        await asyncio.sleep(0.01)
    return task


async def leader_now(node: Node) -> Any:
    return (await node.ask("GET", "/elections/job")).json


def test_who_leads_is_told_now_and_whenever_that_changes_as_a_get_shows_it() -> None:
    async def scenario(node: Node) -> None:
        async with aclosing(await chunks_of(node)) as chunks:
            assert await read(chunks) == {"revision": 0, "leader": None}
            won = await campaign(node, "a")
            assert await read(chunks) == {"revision": won["token"], "leader": await leader_now(node)}
            said = await post(node, "/elections/job/proclaim", token=won["token"], value={"base64": "/w=="})
            told = await read(chunks)
            assert told == {"revision": said["revision"], "leader": await leader_now(node)}
            assert told["leader"]["value"] == {"base64": "/w=="}
            waiting = await candidate(node, "b")
            left = await post(node, "/elections/job/resign", token=won["token"])
            told = await read(chunks)
            assert told == {"revision": left["revision"], "leader": await leader_now(node)}
            assert told["leader"]["value"] == "b"
            assert told["leader"]["revision"] < told["revision"]
            token = (await waiting).json["token"]
            left = await post(node, "/elections/job/resign", token=token)
            assert await read(chunks) == {"revision": left["revision"], "leader": None}

    run(scenario)


def test_it_goes_on_after_the_last_event_without_telling_it_again() -> None:
    async def scenario(node: Node) -> None:
        first = await campaign(node, "a")
        await post(node, "/elections/job/proclaim", token=first["token"], value="a2")
        await post(node, "/elections/job/resign", token=first["token"])
        second = await campaign(node, "b")
        async with aclosing(await chunks_of(node, last_event_id="0")) as chunks:
            whole = [await read(chunks) for _ in range(4)]
        assert [one["leader"] and one["leader"]["value"] for one in whole] == ["a", "a2", None, "b"]
        for place, one in enumerate(whole[:-1]):
            async with aclosing(await chunks_of(node, last_event_id=str(one["revision"]))) as chunks:
                assert [await read(chunks) for _ in whole[place + 1 :]] == whole[place + 1 :]
        async with aclosing(await chunks_of(node)) as chunks:
            assert (await read(chunks))["leader"]["token"] == second["token"]

    run(scenario)


def test_server_sent_events_have_ids_and_progress_says_how_far_one_has_seen() -> None:
    async def scenario(node: Node) -> None:
        node.now_s = 0.0
        body = body_of(await observe(node, "progress_s=2", accept="*/*"))
        assert callable(body.idle)
        async with aclosing(body.chunks) as chunks:
            assert await anext(chunks) == b'id: 0\nevent: leader\ndata: {"revision":0,"leader":null}\n\n'
            waiting = asyncio.ensure_future(anext(chunks))
            await node.ask("PUT", "/kv/loud", b"")
            await asyncio.sleep(0.2)
            node.now_s = 2.0
            assert body.idle() == b'id: 1\nevent: progress\ndata: {"revision":1}\n\n'
            won = await campaign(node, "a")
            chunk = await asyncio.wait_for(waiting, 5)
            assert chunk.startswith(b"id: %d\nevent: leader\ndata: {" % won["token"])
            node.now_s = 9.0
            assert body.idle() == b":\n\n"

    run(scenario)


def test_what_is_forgotten_is_410_at_the_beginning_and_an_end_later() -> None:
    async def scenario(node: Node) -> None:
        async with aclosing(await chunks_of(node, accept="text/event-stream")) as chunks:
            await anext(chunks)
            for number in range(5):
                await node.ask("PUT", f"/kv/{number}", b"")
            node.solo._carry_out(Compact(revision=4))
            late = await observe(node, last_event_id="3")
            assert late.status == 410
            ahead = await observe(node, last_event_id="9")
            assert ahead.status == 400
            kind, data, *_ = (await asyncio.wait_for(anext(chunks), 5)).decode().splitlines()
            assert kind == "event: end"
            assert json.loads(data.removeprefix("data: "))["compacted_revision"] == 4
            with pytest.raises(StopAsyncIteration):
                await anext(chunks)

    run(scenario)


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_a_value_that_cannot_be_read_is_read_again_and_one_that_is_forgotten_ends_it(is_forgotten: bool) -> None:
    async def scenario(node: Node) -> None:
        won = await campaign(node, "a")
        waiting = await candidate(node, "b")
        really, refused = node.submit, []

        def submit(request: Any, deadline_s: float) -> Any:
            if not refused and isinstance(request, Read) and isinstance(request.query, Get) and request.query.revision:
                refused.append(request)
                if is_forgotten:
                    node.solo._carry_out(Compact(revision=node.solo.machine.revision))
                pending = Pending()
                pending.resolve(Refused(code=Code.NO_LEADER, detail="away"))
                return pending
            return really(request, deadline_s)

        async with aclosing(await chunks_of(node)) as chunks:
            assert (await read(chunks))["leader"]["value"] == "a"
            node.submit = submit  # type: ignore[method-assign]
            await post(node, "/elections/job/resign", token=won["token"])
            await node.ask("PUT", "/kv/more", b"")
            told = json.loads(await asyncio.wait_for(anext(chunks), 5))
            assert len(refused) == 1
            if is_forgotten:
                assert told["code"] == "compacted"
            else:
                assert told["leader"]["value"] == "b"
        await waiting

    run(scenario)


@pytest.mark.parametrize(
    ("query", "headers", "said"),
    [
        ("", {"last_event_id": "x"}, "Last-Event-ID"),
        ("progress_s=0", {}, "progress_s"),
        ("from_revision=3", {}, "from_revision"),
    ],
)
def test_bad_observers_are_refused_with_what_is_wrong(query: str, headers: dict[str, str], said: str) -> None:
    async def scenario(node: Node) -> None:
        response = await observe(node, query, **headers)
        assert response.status == 400
        assert isinstance(response.body, bytes)
        assert said in json.loads(response.body)["detail"]

    run(scenario)
