"""Locks and elections as clients see them, driven through the ASGI application in process."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from raftkv.core.config import HttpSection
from raftkv.core.requests import Write
from raftkv.http.handlers import holding
from tests.unit.http_node import LIMITS, Answer, Node, is_problem
from tests.unit.leaderless import LeaderlessNode


def lease_of(node: Node, ttl: float = 100) -> int:
    found: int = node("POST", "/leases", {"ttl": ttl}).json["id"]
    return found


# -- locks --------------------------------------------------------------------------------------------------------


def test_a_lock_is_held_with_a_token_until_that_is_let_go(node: Node) -> None:
    first = node("POST", "/locks/jobs%2Fnightly", {"ttl": 10, "holder": "host-1"})
    second = node("POST", "/locks/jobs%2Fnightly", {"ttl": 10})

    assert (first.status, first.json["name"]) == (200, "jobs/nightly")
    lease, token = first.json["lease"], first.json["token"]
    assert is_problem(second, 409, "held")
    assert second.json["holders"] == [{"holder": "host-1", "lease": lease, "token": token}]

    shown = node("GET", "/locks/jobs/nightly").json
    assert shown["permits"] == 1
    (holder,) = shown["holders"]
    assert holder.pop("left") > 0
    assert holder == {"holder": "host-1", "lease": lease, "token": token}
    assert shown["waiting"] == []

    released = node("DELETE", f"/locks/jobs%2Fnightly?token={token}")
    assert (released.status, released.json["token"]) == (200, token)
    assert is_problem(node("DELETE", f"/locks/jobs%2Fnightly?token={token}"), 404, "not_found", str(token))
    assert is_problem(node("GET", "/locks/jobs%2Fnightly"), 404, "not_found")
    assert is_problem(node("GET", f"/leases/{lease}"), 404, "lease_not_found")
    assert node("POST", "/locks/jobs%2Fnightly", {"ttl": 10}).json["token"] > token


def test_a_lease_of_the_client_outlives_its_lock_and_names_it_meanwhile(node: Node) -> None:
    lease = lease_of(node)
    node("PUT", f"/kv/mine?lease={lease}", b"1")
    token = node("POST", "/locks/é", {"lease": lease}).json["token"]
    node("POST", "/elections/e/campaign", {"lease": lease, "value": "v"})

    shown = node("GET", f"/leases/{lease}").json
    assert (shown["keys"], shown["locks"], shown["elections"]) == (["mine"], ["é"], ["e"])
    assert shown["key_count"] == 3
    assert node("POST", "/locks/é", {"lease": lease}).json["token"] == token

    node("DELETE", f"/locks/é?token={token}")
    assert node("GET", f"/leases/{lease}").json["locks"] == []


def test_the_cluster_keeps_its_own_keys_from_everybody(node: Node) -> None:
    node("PUT", "/kv/a", b"1")
    node("POST", "/locks/l", {"ttl": 10})

    assert [one["key"] for one in node("GET", "/kv").json["items"]] == ["a"]
    listed = {"success": [{"op": "list"}], "compare": [{"prefix": "", "target": "version", "op": "==", "with": 1}]}
    answer = node("POST", "/txn", listed).json
    assert answer["succeeded"]
    assert [one["key"] for one in answer["results"][0]["items"]] == ["a"]
    assert node("DELETE", "/kv?start=a").json["deleted"] == 1
    assert len(node("GET", "/locks/l").json["holders"]) == 1
    assert is_problem(node("GET", "/kv/%FF%FFlock%FFl%00"), 400, "bad_request", "ff ff")


def test_locks_are_listed_by_name(node: Node) -> None:
    for name in ("a", "b", "b2", "c"):
        node("POST", f"/locks/{name}", {"ttl": 10, "permits": 2, "holder": name})
    node("POST", "/locks/b", {"ttl": 10, "permits": 2})

    page = node("GET", "/locks?limit=2").json
    assert [(one["name"], len(one["holders"]), one["waiting"]) for one in page["locks"]] == [("a", 1, 0), ("b", 2, 0)]
    assert page["next"] == "b2"
    rest = node("GET", "/locks?start=b2").json
    assert [one["name"] for one in rest["locks"]] == ["b2", "c"]
    assert rest["next"] is None
    assert [one["name"] for one in node("GET", "/locks?prefix=b").json["locks"]] == ["b", "b2"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, ["lease or ttl"]),
        ({"ttl": 5, "lease": 1}, ["lease or ttl"]),
        ({"ttl": 5, "wait": -1}, ["wait"]),
        ({"ttl": 5, "wait": 3601}, ["wait"]),
        ({"ttl": 0}, ["ttl"]),
        ({"ttl": 5, "permits": 0}, ["permits"]),
        ({"ttl": 5, "permits": 101}, ["permits"]),
        ({"ttl": 5, "holder": "h" * 257}, ["holder", "256"]),
        ({"ttl": 5, "hodler": "h"}, ["hodler"]),
    ],
)
def test_what_makes_no_sense_is_refused(node: Node, body: Any, words: list[str]) -> None:
    assert is_problem(node("POST", "/locks/l", body), 400, "bad_request", *words)


def test_names_are_checked_as_keys_are(node: Node) -> None:
    assert is_problem(node("POST", "/locks/", {"ttl": 5}), 400, "bad_request", "name")
    assert is_problem(node("POST", "/locks/%FF", {"ttl": 5}), 400, "bad_request", "name", "UTF-8")
    assert is_problem(node("POST", "/locks/" + "n" * 65, {"ttl": 5}), 414, "key_too_large", "name")
    assert is_problem(node("POST", "/locks/a%00b", {"ttl": 5}), 400, "bad_request", "name", "NUL")
    wide = Node(HttpSection(max_key_bytes=4096))
    assert is_problem(wide("POST", "/locks/" + "n" * 1025, {"ttl": 5}), 414, "key_too_large", "name", "1024")
    assert is_problem(node("DELETE", "/locks/l"), 400, "bad_request", "token")
    assert is_problem(node("DELETE", "/locks/l?token=x"), 400, "bad_request", "token")


def test_elections_are_listed_with_who_leads_and_who_waits(node: Node) -> None:
    first = node("POST", "/elections/b/campaign", {"ttl": 10, "value": "one"}).json
    node("POST", "/elections/c/campaign", {"ttl": 10, "value": "two"})
    node("POST", "/locks/a", {"ttl": 10})
    page = node("GET", "/elections?limit=1").json

    assert page["next"] == "c"
    (shown,) = page["elections"]
    assert (shown["name"], shown["leader"]["value"], shown["leader"]["token"]) == ("b", "one", first["token"])
    assert shown["waiting"] == []
    assert [one["name"] for one in node("GET", "/elections?start=c").json["elections"]] == ["c"]
    assert node("GET", "/elections?prefix=x").json == {"elections": [], "next": None}


def test_a_lease_that_has_ended_holds_nothing(node: Node) -> None:
    assert is_problem(node("POST", "/locks/l", {"lease": 7}), 404, "lease_not_found")
    assert is_problem(node("POST", "/elections/e/campaign", {"lease": 7}), 404, "lease_not_found")


def test_all_who_contend_say_the_same_number_of_permits(node: Node) -> None:
    node("POST", "/locks/l", {"ttl": 10, "permits": 2})

    assert is_problem(node("POST", "/locks/l", {"ttl": 10, "permits": 3}), 409, "held", "2 permits")


def test_a_retry_by_the_same_idempotency_key_has_the_same_lease_and_token(node: Node) -> None:
    first = node("POST", "/locks/l", {"ttl": 10}, idempotency_key="k")
    again = node("POST", "/locks/l", {"ttl": 10}, idempotency_key="k")

    assert again.json == first.json


def test_an_outcome_in_doubt_says_so(node: Node) -> None:
    lease = lease_of(node)
    node.solo.held = True

    assert is_problem(node("POST", "/locks/l?timeout=0.05", {"lease": lease}), 504, "outcome_unknown")


def test_without_a_leader_nothing_is_begun(node: Node) -> None:
    lease = lease_of(node)
    node.solo.leader = None

    assert is_problem(node("POST", "/locks/l", {"lease": lease}), 503, "no_leader")
    assert is_problem(node("POST", "/elections/l/campaign", {"ttl": 5}), 503, "no_leader")


def test_leaderless_clusters_have_none() -> None:
    node = LeaderlessNode()

    for method, target, body in (
        ("POST", "/locks/l", {"ttl": 5}),
        ("GET", "/locks/l", None),
        ("GET", "/locks", None),
        ("GET", "/elections", None),
        ("DELETE", "/locks/l?token=1", None),
        ("POST", "/elections/e/campaign", {"ttl": 5}),
        ("POST", "/elections/e/proclaim", {"token": 1, "value": ""}),
        ("POST", "/elections/e/resign", {"token": 1}),
        ("GET", "/elections/e", None),
    ):
        answer = node(method, target, b"" if body is None else body)
        assert is_problem(answer, 400, "not_supported", "leader"), (method, target)


# -- waiting ------------------------------------------------------------------------------------------------------


async def waiting(node: Node, name: str = "l", query: str = "", **body: Any) -> asyncio.Task[Answer]:
    """A request that waits for the lock, once it does."""
    queued = len(await contenders(node, name)) + 1
    body = {"ttl": 100, "wait": 60, **body}
    task = asyncio.create_task(node.ask("POST", f"/locks/{name}{query}", json.dumps(body).encode()))
    await until(node, name, queued)
    return task


async def contenders(node: Node, name: str = "l") -> list[Any]:
    answer = await node.ask("GET", f"/locks/{name}")
    return [] if answer.status == 404 else [*answer.json["holders"], *answer.json["waiting"]]


async def until(node: Node, name: str, count: int) -> None:
    async with asyncio.timeout(10):
        while len(await contenders(node, name)) != count:  # noqa: ASYNC110  requests are asked, nobody tells
            await asyncio.sleep(0.01)


def test_who_waits_is_granted_in_turn(node: Node) -> None:
    async def run() -> None:
        held = (await node.ask("POST", "/locks/l", b'{"ttl": 100}')).json
        first = await waiting(node)
        second = await waiting(node)

        await node.ask("DELETE", f"/locks/l?token={held['token']}")
        granted = (await first).json
        assert granted["token"] > held["token"]
        assert not second.done()
        await node.ask("DELETE", f"/locks/l?token={granted['token']}")
        assert (await second).json["token"] > granted["token"]

    asyncio.run(run())


def test_who_waits_in_vain_hears_who_holds(node: Node) -> None:
    node("POST", "/locks/l", {"ttl": 100, "holder": "other"})

    answer = node("POST", "/locks/l", {"ttl": 100, "wait": 0.05})

    assert is_problem(answer, 409, "held", "wait is over")
    assert [one["holder"] for one in answer.json["holders"]] == ["other"]
    assert node("GET", "/locks/l").json["waiting"] == []


def test_who_leaves_while_waiting_leaves_nothing_behind(node: Node) -> None:
    async def run() -> None:
        await node.ask("POST", "/locks/l", b'{"ttl": 100}')
        task = await waiting(node)

        task.cancel()
        await until(node, "l", 1)
        assert node.application.conversations.open_count <= 1

    asyncio.run(run())


def test_whoever_waits_as_the_worker_ends_is_taken_back_and_told(node: Node) -> None:
    async def run() -> None:
        await node.ask("POST", "/locks/l", b'{"ttl": 100}')
        task = await waiting(node)

        node.application.leave()
        assert is_problem(await task, 409, "held")
        assert len(await contenders(node)) == 1

    asyncio.run(run())


def test_so_many_wait_and_no_more_and_others_are_served() -> None:
    node = Node(HttpSection(max_connections=8))

    async def run() -> None:
        held = (await node.ask("POST", "/locks/l", b'{"ttl": 100}')).json
        first, second = await waiting(node), await waiting(node)

        assert is_problem(await node.ask("POST", "/locks/l", b'{"ttl": 100, "wait": 5}'), 429, "overloaded", "2")
        assert (await node.ask("DELETE", f"/locks/l?token={held['token']}")).status == 200
        token = (await first).json["token"]
        await node.ask("DELETE", f"/locks/l?token={token}")
        assert (await second).status == 200

    asyncio.run(run())


def test_a_wait_without_a_majority_is_in_doubt_in_the_end(node: Node) -> None:
    async def run() -> None:
        await node.ask("POST", "/locks/l", b'{"ttl": 100}')
        task = await waiting(node, query="?timeout=0.05", wait=0.1)
        node.solo.held = True

        assert is_problem(await task, 504, "outcome_unknown", "lease")

    asyncio.run(run())


# -- elections ----------------------------------------------------------------------------------------------------


def test_a_leader_is_known_by_its_value_until_it_resigns(node: Node) -> None:
    won = node("POST", "/elections/e/campaign", {"ttl": 10, "value": "n1:80"}).json
    assert is_problem(node("POST", "/elections/e/campaign", {"ttl": 10, "value": "n2"}), 409, "held")

    shown = node("GET", "/elections/e").json
    assert shown == {**won, "value": "n1:80", "revision": won["token"]}

    told = node("POST", "/elections/e/proclaim", {"token": won["token"], "value": {"base64": "/w=="}}).json
    assert told["revision"] > won["token"]
    shown = node("GET", "/elections/e").json
    assert (shown["value"], shown["token"], shown["revision"]) == ({"base64": "/w=="}, won["token"], told["revision"])

    assert node("POST", "/elections/e/resign", {"token": won["token"]}).status == 200
    assert is_problem(node("GET", "/elections/e"), 404, "not_found")
    assert is_problem(node("POST", "/elections/e/proclaim", {"token": won["token"], "value": ""}), 404, "not_found")
    assert is_problem(node("POST", "/elections/e/resign", {"token": won["token"]}), 404, "not_found")
    assert is_problem(node("GET", f"/leases/{won['lease']}"), 404, "lease_not_found")


def test_candidates_are_listed_by_their_values_in_turn_as_far_as_one_answer_has_room(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "WAITING_BYTES_MAX", 8)

    async def run() -> None:
        await node.ask("POST", "/elections/e/campaign", b'{"ttl": 100, "value": "leads, by whatever value"}')
        standing = []
        for value in ("n2:80", {"base64": "/w=="}, "n4:80"):
            body = json.dumps({"ttl": 100, "wait": 60, "value": value}).encode()
            standing.append(asyncio.create_task(node.ask("POST", "/elections/e/campaign", body)))
            async with asyncio.timeout(10):
                while len(shown := await waiting_for_election(node)) < len(standing):  # noqa: ASYNC110  nobody tells
                    await asyncio.sleep(0.01)

        assert [one.get("value") for one in shown] == ["n2:80", {"base64": "/w=="}, None]
        assert all(one["lease"] and one["token"] for one in shown)
        for task in standing:
            task.cancel()

    asyncio.run(run())


async def waiting_for_election(node: Node) -> list[Any]:
    (election,) = (await node.ask("GET", "/elections")).json["elections"]
    found: list[Any] = election["waiting"]
    return found


def test_a_value_is_bounded(node: Node) -> None:
    large = {"ttl": 10, "value": "v" * 65_537}

    assert is_problem(node("POST", "/elections/e/campaign", large), 413, "value_too_large", "65536")
    assert is_problem(node("POST", "/elections/e/campaign", {"ttl": 5, "value": {"base64": "?"}}), 400, "bad_request")


def test_nothing_of_it_asks_for_a_stale_answer(node: Node) -> None:
    from raftkv.core.requests import Consistency, Read

    held = node("POST", "/locks/l", {"ttl": 10, "wait": 0}).json
    node("GET", "/locks/l")
    node("GET", "/locks")
    node("DELETE", f"/locks/l?token={held['token']}")

    levels = {one.consistency for one in node.solo.submitted if isinstance(one, Read)}
    assert levels == {Consistency.LINEARIZABLE}
    assert any(isinstance(one, Write) for one in node.solo.submitted)
    assert LIMITS.max_list_limit < 100, "which is no limit for it"


def test_what_curl_says_of_names_without_a_header_is_let_pass(node: Node) -> None:
    token = None
    for target, body in [
        ("/locks/l", {"ttl": 10}),
        ("/elections/e/campaign", {"ttl": 10, "value": "v"}),
        ("/elections/e/proclaim", {"value": "w"}),
        ("/elections/e/resign", {}),
    ]:
        told = body if "ttl" in body else {**body, "token": token}
        answer = node("POST", target, told, content_type="application/x-www-form-urlencoded")

        assert answer.status == 200, target
        assert is_problem(node("POST", target, b"ttl=5", content_type="text/plain"), 415, "unsupported_media_type")
        token = answer.json["token"]
