"""What requests may say beside their key, and what becomes of it."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from raftkv.core.requests import Consistency, Write
from tests.unit.http_node import Node, is_problem

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.mark.parametrize(
    ("method", "target", "word"),
    [
        ("GET", "/kv/a?consistancy=local", "consistancy"),
        ("GET", "/kv/a?consistency=strong", "strong"),
        ("GET", "/kv/a?consistency=", "consistency"),
        ("GET", "/kv/a?consistency=local&consistency=local", "twice"),
        ("GET", "/kv/a?w=1", "'w'"),
        ("GET", "/kv/a?timeout=0", "timeout"),
        ("GET", "/kv/a?timeout=61", "timeout"),
        ("GET", "/cluster/members?timeout=61", "timeout"),
        ("GET", "/kv/a?timeout=nan", "timeout"),
        ("GET", "/kv/a?timeout=1_0", "timeout"),
        ("GET", "/kv/a?timeout=x", "timeout"),
        ("GET", "/kv/a?%FF=1", "UTF-8"),
        ("GET", "/kv/a?consistency=%zz", "percent"),
        ("PUT", "/kv/a?ttl=0", "ttl"),
        ("PUT", "/kv/a?ttl=-1", "up to 315360000"),
        ("PUT", "/kv/a?ttl=inf", "ttl"),
        ("PUT", "/kv/a?ttl=", "ttl"),
        ("PUT", "/kv/a?w=0", "w:"),
        ("PUT", "/kv/a?w=4", "1 to 3"),
        ("PUT", "/kv/a?w=most", "w:"),
        ("PUT", "/kv/a?redirect=perhaps", "redirect"),
        ("PUT", "/kv/a?consistency=local", "consistency"),
        ("DELETE", "/kv/a?ttl=1", "ttl"),
        ("GET", "/kv?limit=0", "limit"),
        ("GET", "/kv?limit=1000000000", "1 to 999999999"),
        ("GET", "/kv?limit=x", "limit"),
        ("GET", "/kv?limit=1&limit=2", "twice"),
        ("GET", "/kv?end=", "end"),
        ("GET", "/kv?keys_only=maybe", "keys_only"),
        ("GET", "/kv?prefx=a", "prefx"),
        ("POST", "/batch?ttl=1", "ttl"),
        ("GET", "/get", "key"),
        ("GET", "/get?key=", "key"),
        ("GET", "/local_read", "key"),
        ("GET", "/local_read?key=a&consistency=local", "consistency"),
        ("DELETE", "/delete", "key"),
        ("GET", "/get?key=a&key=b", "twice"),
        ("GET", "/get/", "key"),
        ("POST", "/set/k", "/set/{key}/{value}"),
        ("POST", "/set//v", "key"),
        ("GET", "/status?x=1", "x"),
        ("GET", "/health?x=1", "x"),
    ],
)
def test_bad_parameters_are_named(node: Node, method: str, target: str, word: str) -> None:
    answer = node(method, target, b'{"operations":[]}' if target.startswith("/batch") else b"")

    assert is_problem(answer, 400, "bad_request", word)
    assert node.solo.submitted == []


@pytest.mark.parametrize("target", ["/kv/a?r=1", "/get?key=a&r=2", "/kv?r=1"])
def test_parameters_of_quorum_mode_are_refused_with_a_sentence(node: Node, target: str) -> None:
    assert is_problem(node("GET", target), 400, "not_supported", "consistency")


def test_an_unoffered_consistency_is_refused() -> None:
    node = Node(offers=(Consistency.LINEARIZABLE,))

    assert is_problem(node("GET", "/kv/a?consistency=lease"), 400, "not_supported", "lease", "linearizable")
    assert node.solo.submitted == []


def test_a_local_read_says_how_stale_it_may_be(node: Node) -> None:
    node("PUT", "/kv/a", b"v")
    node.solo.level_at_s = time.monotonic() - 5

    stale = node("GET", "/kv/a?consistency=local")
    node.solo.level_at_s = None
    unknown = node("GET", "/local_read?key=a")

    assert stale.headers["raftkv-consistency"] == "local"
    assert 5000 <= int(stale.headers["raftkv-staleness-ms"]) < 6000
    assert unknown.headers["raftkv-staleness-ms"] == "unknown"


def test_an_age_is_never_rounded_down(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node("PUT", "/kv/a", b"v")
    monkeypatch.setattr(node, "now_s", 100.0)
    node.solo.level_at_s = 99.9999

    assert node("GET", "/kv/a?consistency=local").headers["raftkv-staleness-ms"] == "1"


def test_every_json_read_says_how_long_a_key_has_left(node: Node) -> None:
    node("PUT", "/kv/a?ttl=100", b"v")
    node("PUT", "/kv/b", b"v")
    record = node("GET", "/kv/a", accept="application/json").json
    first, second = node("GET", "/kv?keys_only=1").json["items"]
    batch = {"operations": [{"op": "get", "key": "a"}]}
    (found,) = node("POST", "/batch", msgspec.json.encode(batch)).json["results"]

    assert 0 < record["ttl_left"] == found["ttl_left"] == first["ttl_left"]
    assert "ttl_left" not in second


def test_ttl_goes_into_the_write(node: Node) -> None:
    node("PUT", "/kv/a?ttl=1.5", b"v")
    node("PUT", "/kv/b?ttl=0.0001", b"v")

    writes = [request for request in node.solo.submitted if isinstance(request, Write)]
    assert [write.operations[0].ttl_ms for write in writes] == [1500, 1]  # type: ignore[union-attr]


@pytest.mark.parametrize(("text", "acks"), [("leader", 1), ("majority", 2), ("all", 3), ("1", 1), ("2", 2), ("3", 3)])
def test_w_becomes_acknowledgements(node: Node, text: str, acks: int) -> None:
    answer = node("PUT", f"/kv/a?w={text}", b"v")

    assert isinstance(node.solo.submitted[0], Write)
    assert node.solo.submitted[0].acks == acks
    assert answer.headers["raftkv-durability"] == ("all" if acks == 3 else "majority")


@pytest.mark.parametrize(
    ("method", "target", "body", "expected"),
    [
        ("PUT", "/kv/a?w=1", b"v", (202, {"key": "a", "version": None, "revision": None})),
        ("DELETE", "/kv/a?w=1", b"", (202, {"deleted": None, "revision": None})),
        ("POST", "/batch?w=1", {"operations": [{"op": "get", "key": "a"}]}, (202, {"results": None, "revision": None})),
        (
            "POST",
            "/put?w=1",
            {"key": "a", "value": "v"},
            (200, {"result": "ok", "acks": 1, "key": "a", "version": None}),
        ),
        (
            "POST",
            "/set?w=1",
            {"key": "a", "value": "v"},
            (201, {"key": "a", "value": "v", "version": None, "status": "created"}),
        ),
        ("DELETE", "/delete?key=a&w=1", b"", (202, {"deleted": None, "key": "a", "revision": None})),
    ],
)
def test_a_write_that_only_the_leader_has_says_so(
    node: Node, method: str, target: str, body: Any, expected: Any
) -> None:
    from raftkv.core.results import Written

    node.solo._carry_out = lambda request: Written(  # type: ignore[method-assign]
        results=(), revision=0, acks=1, committed=False
    )

    answer = node(method, target, body, **({} if isinstance(body, bytes) else {"content_type": "application/json"}))

    assert (answer.status, answer.json) == expected
    assert answer.headers["raftkv-durability"] == "leader"


def test_redirect_sends_a_writer_to_the_leader(node: Node) -> None:
    node.solo.leader = "n2"

    answer = node("PUT", "/kv/a%2Fb?redirect=1&w=all", b"v")

    assert answer.status == 307
    assert answer.headers["location"] == "http://127.0.0.1:8002/kv/a%2Fb?redirect=1&w=all"
    assert node.solo.submitted == []


def test_the_leader_does_not_redirect(node: Node) -> None:
    assert node("PUT", "/kv/a?redirect=1", b"v").status == 201


def test_the_timeout_is_the_deadline(node: Node) -> None:
    node.solo.held = True

    write = node("PUT", "/kv/a?timeout=0.05", b"v")
    read = node("GET", "/kv/a?timeout=0.05")

    assert is_problem(write, 504, "outcome_unknown")
    assert is_problem(read, 503, "quorum_unreachable")
    assert read.headers["retry-after"] == "1"


def test_no_leader_is_told_with_a_hint_when_to_retry(node: Node) -> None:
    node.solo.leader = None

    answer = node("PUT", "/kv/a", b"v")

    assert is_problem(answer, 503, "no_leader")
    assert answer.headers["retry-after"] == "1"


def test_overload_is_told_with_a_hint_when_to_retry() -> None:
    node = Node(max_pending=0)

    answer = node("GET", "/kv/a")

    assert is_problem(answer, 429, "overloaded")
    assert answer.headers["retry-after"] == "1"
