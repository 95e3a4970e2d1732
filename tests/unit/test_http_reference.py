"""The endpoints of the reference systems, and batches."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.core.requests import Configure, Consistency, Read
from tests.unit.http_node import Node, is_problem

pytestmark = pytest.mark.usefixtures("both_ways")


# -- batches


def test_a_batch_answers_each_operation(node: Node) -> None:
    node("PUT", "/kv/old", b"\xff")
    operations = [
        {"op": "put", "key": "new", "value": "v", "ttl": 60},
        {"op": "put", "key": "new", "value": {"base64": "/w=="}, "if_revision": 9},
        {"op": "get", "key": "old"},
        {"op": "delete", "key": "old", "if_revision": 1},
        {"op": "delete", "key": "none"},
    ]

    answer = node("POST", "/batch", {"operations": operations}, content_type="application/json; charset=utf-8")

    assert answer.status == 200
    assert answer.json == {
        "results": [
            {"op": "put", "key": "new", "status": 201, "version": 1, "revision": 2},
            {"op": "put", "key": "new", "status": 412, "code": "precondition_failed", "revision": 2},
            {
                "op": "get",
                "key": "old",
                "status": 200,
                "value": {"base64": "/w=="},
                "version": 1,
                "revision": 1,
                "create_revision": 1,
            },
            {"op": "delete", "key": "old", "status": 200, "deleted": 1, "revision": 2},
            {"op": "delete", "key": "none", "status": 404, "code": "not_found"},
        ],
        "revision": 2,
    }


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff", "JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (100_000 * b"[", "body"),
        ({}, "operations"),
        ({"operations": []}, "operations"),
        ({"operations": 6 * [{"op": "get", "key": "a"}]}, "1 to 5"),
        ({"operations": [{"key": "a"}]}, "op"),
        ({"operations": [{"op": "rename", "key": "a"}]}, "rename"),
        ({"operations": [{"op": "get"}]}, "key"),
        ({"operations": [{"op": "get", "key": 1}]}, "operations[0].key"),
        ({"operations": [{"op": "get", "key": ""}]}, "operations[0].key"),
        ({"operations": [{"op": "get", "key": "a", "valu": 1}]}, "valu"),
        ({"operations": [{"op": "put", "key": "a"}]}, "value"),
        ({"operations": [{"op": "put", "key": "a", "value": 1}]}, "value"),
        ({"operations": [{"op": "put", "key": "a", "value": {"base64": "!"}}]}, "base64"),
        ({"operations": [{"op": "put", "key": "a", "value": "v", "ttl": 0}]}, "ttl"),
        ({"operations": [{"op": "put", "key": "a", "value": "v", "if_revision": -1}]}, "if_revision"),
        ({"operations": [{"op": "put", "key": "a", "value": "v", "if_revision": "1"}]}, "if_revision"),
        (b'{"operations": [{"op": "get", "key": "\\ud800"}]}', ""),
        ({"operations": [], "more": 1}, "more"),
    ],
)
def test_bad_batches(node: Node, body: Any, word: str) -> None:
    assert is_problem(node("POST", "/batch", body, content_type="application/json"), 400, "bad_request", word)
    assert node.solo.submitted == []


def test_sizes_in_a_batch(node: Node) -> None:
    large_value = {"operations": [{"op": "put", "key": "a", "value": 1001 * "v"}]}
    large_key = {"operations": [{"op": "get", "key": 65 * "k"}]}

    assert is_problem(node("POST", "/batch", large_value), 413, "value_too_large")
    assert is_problem(node("POST", "/batch", large_key), 414, "key_too_large", "operations[0].key")
    assert is_problem(node("POST", "/batch", (3 << 20) * b" "), 413, "value_too_large")


def test_only_json_is_taken(node: Node) -> None:
    batch = {"operations": [{"op": "get", "key": "a"}]}

    assert node("POST", "/batch", batch).status == 200
    assert node("POST", "/batch", batch, content_type="application/vnd.x+json").status == 200
    for content_type in ("text/plain", "application/x-www-form-urlencoded"):
        answer = node("POST", "/batch", batch, content_type=content_type)
        assert is_problem(answer, 415, "unsupported_media_type", content_type)


# -- the reference systems


FORM = {"content_type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("headers", [{"content_type": "application/json"}, {}, FORM])
def test_reference_put(node: Node, method: str, headers: dict[str, str]) -> None:
    answer = node(method, "/put", {"key": "k", "value": "v"}, **headers)

    assert (answer.status, answer.json) == (200, {"result": "ok", "acks": 0, "key": "k", "version": 1})
    assert node("GET", "/kv/k").body == b"v"


@pytest.mark.parametrize("target", ["/get?key=a/b", "/get?key=a%2Fb", "/get/a/b", "/get/a%2Fb", "/get/key=a/b"])
def test_reference_get(node: Node, target: str) -> None:
    node("PUT", "/kv/a/b", b"v")

    answer = node("GET", target)

    assert (answer.status, answer.json) == (200, {"key": "a/b", "value": "v", "version": 1, "timestamp": 1})
    assert answer.headers["raftkv-consistency"] == "linearizable"


def test_reference_get_at_another_level_and_of_nothing(node: Node) -> None:
    assert node("GET", "/get?key=none&consistency=lease").headers["raftkv-consistency"] == "lease"
    assert is_problem(node("GET", "/get?key=none"), 404, "not_found")
    assert node("GET", "/get/none").json["detail"] == "there is no key 'none'"
    assert is_problem(node("GET", "/local_read?key=none"), 404, "not_found", "there is no key 'none' on this node")
    assert is_problem(node("DELETE", "/delete?key=none"), 404, "not_found")


def test_reference_local_read(node: Node) -> None:
    node("PUT", "/kv/k", b"\xff")

    answer = node("GET", "/local_read?key=k")

    assert (answer.status, answer.json) == (
        200,
        {"key": "k", "value": {"base64": "/w=="}, "version": 1, "timestamp": 1},
    )
    assert isinstance(node.solo.submitted[-1], Read)
    assert node.solo.submitted[-1].consistency is Consistency.LOCAL


def test_reference_delete(node: Node) -> None:
    node("PUT", "/kv/k", b"v")

    answer = node("DELETE", "/delete?key=k")

    assert (answer.status, answer.json) == (200, {"deleted": 1, "key": "k", "revision": 2})


@pytest.mark.parametrize(
    ("target", "key", "value"),
    [
        ("/set/k/v", "k", "v"),
        ("/set/a%2Fb/c/d", "a/b", "c/d"),
        ("/set/k/", "k", ""),
        ("/set/k/%FF", "k", {"base64": "/w=="}),
    ],
)
def test_reference_set_in_the_path(node: Node, target: str, key: str, value: Any) -> None:
    answer = node("POST", target)

    assert (answer.status, answer.json) == (201, {"key": key, "value": value, "version": 1, "status": "created"})


def test_reference_set(node: Node) -> None:
    node("POST", "/set", {"key": "k", "value": ""})
    answer = node("POST", "/set", {"key": "k", "value": {"base64": "/w=="}}, **FORM)

    expected = {"key": "k", "value": {"base64": "/w=="}, "version": 2, "status": "created"}
    assert (answer.status, answer.json) == (201, expected)


@pytest.mark.parametrize("target", ["/put", "/set"])
@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"", 400, "JSON"),
        (b"{", 400, "JSON"),
        ({"key": "k"}, 400, "value"),
        ({"value": "v"}, 400, "key"),
        ({"key": "", "value": "v"}, 400, "key"),
        ({"key": 1, "value": "v"}, 400, "key"),
        ({"key": "k", "value": 1}, 400, "value"),
        ({"key": "k", "value": None}, 400, "value"),
        ({"key": "k", "value": {"base64": 1}}, 400, "value.base64"),
        ({"key": "k", "value": "v", "tll": 1}, 400, "tll"),
        ({"key": 65 * "k", "value": "v"}, 414, "key"),
        ({"key": "k", "value": 1001 * "v"}, 413, "value"),
    ],
)
def test_reference_writes_with_bad_bodies(node: Node, target: str, body: Any, status: int, word: str) -> None:
    answer = node("POST", target, body, content_type="application/json")

    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert word in answer.json["detail"]
    assert node.solo.submitted == []


def test_a_form_is_no_json(node: Node) -> None:
    assert is_problem(node("POST", "/set", b"key=k&value=v", **FORM), 415, "unsupported_media_type")
    assert is_problem(node("POST", "/set", b'{"key":', **FORM), 400, "bad_request", "JSON")


def test_reference_health_and_config(node: Node) -> None:
    told = {"status": "healthy", "time": "1970-01-01T00:00:00.000+00:00"}
    assert node("GET", "/health").json == {**told, "health": "true", "reason": ""}
    node.reachable_peers = 0
    assert node("GET", "/health").json == {**told, "health": "false", "reason": "no quorum: 1 of 3"}
    assert node("GET", "/config").json == {"n": 3, "r": 2, "w": 2}
    assert is_problem(node("POST", "/config", {"n": 3}), 400, "not_supported")
    assert node.solo.submitted[-1] == Configure(n=3)
