"""``GET /watch`` over a real machine: what is told, where it begins and ends, and what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from raftkv.api.answers import ChangesTold
from raftkv.core.errors import KEEPS_NO_HISTORY
from raftkv.core.requests import Compact
from raftkv.http.handlers import watching
from raftkv.http.handlers.handler import Conversation, begin
from raftkv.http.messages import BodyStream, HttpRequest, HttpResponse
from tests.unit.http_node import Node
from tests.unit.leaderless import LeaderlessNode

LINES = "application/x-ndjson"


async def watch(node: Node, query: str = "", accept: str = LINES, **headers: str) -> HttpResponse:
    names = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    request = HttpRequest(
        method="GET", path=b"/watch", query=query.encode(), headers={b"accept": accept.encode(), **names}
    )
    conversation = begin(watching.WATCH, request, node.application._context)
    if isinstance(conversation, HttpResponse):
        return conversation
    assert isinstance(conversation, Conversation)
    return await node.application.conversations.carry(conversation, None)


def body_of(response: HttpResponse) -> BodyStream:
    assert response.status == 200
    assert isinstance(response.body, BodyStream)
    return response.body


async def chunks_of(node: Node, query: str = "", **more: str) -> AsyncGenerator[bytes]:
    return body_of(await watch(node, query, **more)).chunks


async def read(chunks: AsyncGenerator[bytes], count: int) -> list[Any]:
    """So many messages, which may come together."""
    found: list[Any] = []
    while len(found) < count:
        chunk = await asyncio.wait_for(anext(chunks), 5)
        found += [json.loads(line) for line in chunk.splitlines()]
    assert [msgspec.to_builtins(msgspec.convert(one, ChangesTold)) for one in found] == found
    assert len(found) == count
    return found


def run(scenario: Callable[[Node], Awaitable[None]]) -> None:
    async def whole() -> None:
        await scenario(Node())

    asyncio.run(whole())


def problem_of(response: HttpResponse) -> Any:
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


def test_changes_are_told_whole_revision_by_revision_in_order_from_now_on() -> None:
    async def scenario(node: Node) -> None:
        await node.ask("PUT", "/kv/before", b"x")
        async with aclosing(await chunks_of(node)) as chunks:
            waiting = asyncio.ensure_future(anext(chunks))
            await node.ask("PUT", "/kv/a", b"1")
            first = json.loads(await asyncio.wait_for(waiting, 5))
            assert first == {
                "revision": 2,
                "time_ms": node.solo.machine.clock_ms,
                "changes": [
                    {"type": "put", "key": "a", "value": "1", "version": 1, "create_revision": 2, "revision": 2}
                ],
            }
            body = {"success": [{"op": "put", "key": "b", "value": {"base64": "/w=="}}, {"op": "delete", "key": "a"}]}
            await node.ask("POST", "/txn", json.dumps(body).encode(), content_type="application/json")
            assert (await read(chunks, 1))[0]["changes"] == [
                {
                    "type": "put",
                    "key": "b",
                    "value": {"base64": "/w=="},
                    "version": 1,
                    "create_revision": 3,
                    "revision": 3,
                },
                {"type": "delete", "key": "a", "revision": 3},
            ]

    run(scenario)


def test_it_begins_at_a_revision_or_after_the_last_event_that_was_had() -> None:
    async def scenario(node: Node) -> None:
        for number in range(1, 6):
            await node.ask("PUT", f"/kv/{number % 2}", str(number).encode())
        for query, headers, revisions in (
            ("from_revision=2", {}, [2, 3, 4, 5]),
            ("from_revision=1&key=1", {}, [1, 3, 5]),
            ("from_revision=2&previous=1", {"last_event_id": "4"}, [5]),
            ("", {"last_event_id": "0"}, [1, 2, 3, 4, 5]),
        ):
            async with aclosing(await chunks_of(node, query, **headers)) as chunks:
                assert [one["revision"] for one in await read(chunks, len(revisions))] == revisions
        async with aclosing(await chunks_of(node, "from_revision=5&previous=1")) as chunks:
            (message,) = await read(chunks, 1)
            assert message["changes"][0]["previous"] == {
                "value": "3",
                "version": 2,
                "create_revision": 1,
                "revision": 3,
            }
        async with aclosing(await chunks_of(node, "from_revision=6")) as chunks:
            await node.ask("PUT", "/kv/6", b"")
            assert [one["revision"] for one in await read(chunks, 1)] == [6]

    run(scenario)


def test_server_sent_events_carry_the_revision_as_their_id_and_are_the_usual_form() -> None:
    async def scenario(node: Node) -> None:
        response = await watch(node, "prefix=a", accept="*/*")
        assert dict(response.headers)[b"content-type"] == b"text/event-stream"
        async with aclosing(body_of(response).chunks) as chunks:
            waiting = asyncio.ensure_future(anext(chunks))
            await node.ask("PUT", "/kv/b", b"")
            await node.ask("PUT", "/kv/a", b"v")
            chunk = await asyncio.wait_for(waiting, 5)
            head, data, *rest = chunk.split(b"\ndata: ")
            assert (head, rest) == (b"id: 2\nevent: changes", [])
            assert data.endswith(b"}\n\n")

    run(scenario)


def test_who_is_told_nothing_hears_how_far_it_has_seen_and_nothing_while_more_is_on_its_way() -> None:
    async def scenario(node: Node) -> None:
        node.now_s = 0.0
        body = body_of(await watch(node, "prefix=quiet&progress_s=2", accept="text/event-stream"))
        assert body.idle_s == 2
        assert callable(body.idle)
        assert body.idle() == b":\n\n"  # it has not begun
        async with aclosing(body.chunks) as chunks:
            waiting = asyncio.ensure_future(anext(chunks))
            await node.ask("PUT", "/kv/loud", b"")
            await asyncio.sleep(0.2)
            assert body.idle() == b":\n\n"  # too early
            node.now_s = 2.0
            assert body.idle() == b'id: 1\nevent: progress\ndata: {"revision":1}\n\n'
            assert body.idle() == b":\n\n"
            node.now_s = 4.0
            await node.ask("PUT", "/kv/quiet", b"")
            await asyncio.wait_for(waiting, 5)
            node.now_s = 9.0
            assert body.idle() == b":\n\n"  # that message may not have been sent yet

    run(scenario)


def test_what_the_connection_takes_at_once_is_written_and_what_follows_waits_for_who_is_slow() -> None:
    async def scenario(node: Node) -> None:
        body = body_of(await watch(node))
        written: list[bytes] = []
        takes_more = [True, True, False]

        def write(chunk: bytes) -> bool:
            written.append(chunk)
            return takes_more.pop(0)

        assert body.offer is not None
        body.offer(write)
        async with aclosing(body.chunks) as chunks:
            waiting = asyncio.ensure_future(anext(chunks))
            for number in (1, 2, 3):
                await node.ask("PUT", "/kv/a", b"")
                await asyncio.sleep(0.05)
                assert waiting.done() == (number == 3)
            assert await waiting == b""
            await node.ask("PUT", "/kv/a", b"")
            await asyncio.sleep(0.05)
            assert [json.loads(one)["revision"] for one in written] == [1, 2, 3]
            takes_more.append(True)
            waiting = asyncio.ensure_future(anext(chunks))
            await asyncio.sleep(0.05)
            assert [json.loads(one)["revision"] for one in written] == [1, 2, 3, 4]
            assert not waiting.done()
            waiting.cancel()
            await asyncio.wait((waiting,))
            assert node.application._context.feed.listener_count == 0

    run(scenario)


def test_what_is_forgotten_is_410_at_the_beginning_and_an_end_with_the_problem_later() -> None:
    async def scenario(node: Node) -> None:
        async with aclosing(await chunks_of(node, "prefix=a", accept="text/event-stream")) as chunks:
            waiting = asyncio.ensure_future(anext(chunks))
            await node.ask("PUT", "/kv/a", b"")
            await asyncio.wait_for(waiting, 5)
            for _ in range(5):
                await node.ask("PUT", "/kv/a", b"")
            node.solo._carry_out(Compact(revision=5))
            late = await watch(node, "from_revision=3")
            assert late.status == 410
            assert problem_of(late)["compacted_revision"] == 5
            end = (await asyncio.wait_for(anext(chunks), 5)).decode()
            kind, data, *_ = end.splitlines()
            assert kind == "event: end"
            assert json.loads(data.removeprefix("data: "))["compacted_revision"] == 5
            with pytest.raises(StopAsyncIteration):
                await anext(chunks)
        assert node.application._context.feed.listener_count == 0

    run(scenario)


@pytest.mark.parametrize(
    ("query", "headers", "said"),
    [
        ("from_revision=9", {}, "the store is at revision 0"),
        ("", {"last_event_id": "9"}, "the store is at revision 0"),
        ("from_revision=0", {}, "from_revision"),
        ("from_revision=x", {}, "from_revision"),
        ("", {"last_event_id": "1;2"}, "Last-Event-ID"),
        ("only=get", {}, "only"),
        ("progress_s=0", {}, "progress_s"),
        ("key=a&prefix=b", {}, "key"),
        ("key=", {}, "key"),
        ("consistency=local", {}, "consistency"),
    ],
)
def test_bad_watches_are_refused_with_what_is_wrong(query: str, headers: dict[str, str], said: str) -> None:
    async def scenario(node: Node) -> None:
        response = await watch(node, query, **headers)
        assert response.status == 400
        assert said in problem_of(response)["detail"]

    run(scenario)


def test_a_leaderless_cluster_refuses_with_a_sentence() -> None:
    async def scenario() -> None:
        response = await watch(LeaderlessNode(), "prefix=a")
        assert response.status == 400
        assert problem_of(response)["code"] == "not_supported"

    asyncio.run(scenario())


@pytest.mark.parametrize("query", ["prefix=a", "prefix=a&from_revision=1", "prefix=a&from_revision=2"])
def test_a_cluster_that_keeps_no_history_yet_says_so_instead_of_a_watch_that_would_end(query: str) -> None:
    async def scenario() -> None:
        node = Node(keeps_history=False)
        await node.ask("PUT", "/kv/a", b"1")
        response = await watch(node, query)
        assert response.status == 400
        assert problem_of(response)["code"] == "not_supported"
        assert problem_of(response)["detail"] == KEEPS_NO_HISTORY.detail

    asyncio.run(scenario())
