"""Keys by HTTP: put, got and removed under any name, with preconditions, and listed in pages."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.unit.http_node import HALF, Node, is_problem

pytestmark = pytest.mark.usefixtures("both_ways")


# -- the resource


def test_put_creates_then_replaces(node: Node) -> None:
    first = node("PUT", "/kv/a", b"1")
    second = node("PUT", "/kv/a", b"2")

    assert (first.status, first.json) == (201, {"key": "a", "version": 1, "revision": 1})
    assert (second.status, second.json) == (200, {"key": "a", "version": 2, "revision": 2})
    assert second.headers["etag"] == '"2"'
    assert second.headers["raftkv-durability"] == "majority"
    assert second.headers["content-type"] == "application/json"


def test_get_gives_the_bytes_and_says_what_they_are(node: Node) -> None:
    node("PUT", "/kv/a", b"\x00\xff")

    answer = node("GET", "/kv/a")

    assert (answer.status, answer.body) == (200, b"\x00\xff")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == "2"
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["raftkv-node"] == "n1"
    assert answer.headers["raftkv-consistency"] == "linearizable"
    assert answer.headers["raftkv-revision"] == "1"
    assert "raftkv-staleness-ms" not in answer.headers


@pytest.mark.parametrize(("value", "shown"), [(b"text", "text"), (b"", ""), (b"\xff", {"base64": "/w=="})])
def test_get_as_json(node: Node, value: bytes, shown: Any) -> None:
    node("PUT", "/kv/a", value)

    answer = node("GET", "/kv/a", accept="application/json")

    assert answer.json == {"key": "a", "value": shown, "version": 1, "revision": 1, "create_revision": 1}


def test_head_has_the_length_of_the_value_and_no_body(node: Node) -> None:
    node("PUT", "/kv/a", b"12345")

    answer = node("HEAD", "/kv/a")

    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "5")


def test_missing_keys_are_not_found(node: Node) -> None:
    assert is_problem(node("GET", "/kv/none"), 404, "not_found", "none")
    assert is_problem(node("DELETE", "/kv/none"), 404, "not_found", "none")
    assert node("HEAD", "/kv/none").status == 404
    assert node("GET", "/kv/none").headers["raftkv-consistency"] == "linearizable"


def test_delete(node: Node) -> None:
    node("PUT", "/kv/a", b"1")

    answer = node("DELETE", "/kv/a")

    assert (answer.status, answer.json) == (200, {"deleted": 1, "revision": 2})
    assert node("GET", "/kv/a").status == 404


@pytest.mark.parametrize(
    ("one", "other"),
    [("a/b", "a%2Fb"), ("a//b", "a%2f%2Fb"), ("/a", "%2Fa"), ("a/", "a%2F"), ("%C3%A9", "%c3%a9"), ("..", "%2E%2E")],
)
def test_two_spellings_are_one_key(node: Node, one: str, other: str) -> None:
    node("PUT", f"/kv/{one}", b"here")

    assert node("GET", f"/kv/{other}").body == b"here"


@pytest.mark.parametrize(
    ("method", "target", "key"),
    [
        ("PUT", "/%6Bv/a", "a"),
        ("PUT", "/k%76/a%2Fb", "a/b"),
        ("PUT", "//kv/a", "a"),
        ("PUT", "///kv//a", "/a"),
        ("PUT", "/kv/%7E%41%2d%5f", "~A-_"),
        ("POST", "/s%65t/a/v", "a"),
        ("PUT", "http://h:1/%6bv/a", "a"),
    ],
)
def test_however_a_route_is_spelled_the_key_is_the_same(node: Node, method: str, target: str, key: str) -> None:
    assert node(method, target, b"v").json["key"] == key
    assert [item["key"] for item in node("GET", "/kv").json["items"]] == [key]


@pytest.mark.parametrize(
    "target", ["/kv%2Fa", "/%2Fkv/a", "/set%2Fa/b", "/get%2fa", "/status%2F", "/status%00", "/%kv/a"]
)
def test_what_is_percent_encoded_for_a_reason_is_no_route(node: Node, target: str) -> None:
    for method in ("GET", "PUT", "POST", "DELETE"):
        assert is_problem(node(method, target, b"v"), 404, "unknown_route", "no such resource")
    assert node("GET", "/kv").json["items"] == []


def test_a_key_may_hold_anything(node: Node) -> None:
    for escaped in ("%00", "%0A", "%20", "+", "%3F", "%25", "%F0%9F%98%80", "%C3", "%FF", "%FF%FE%FF"):
        assert node("PUT", f"/kv/{escaped}", b"x").status == 201
        assert node("GET", f"/kv/{escaped}").body == b"x"

    keys = [item["key"] for item in node("GET", "/kv?limit=3").json["items"]]
    assert keys == ["\0", "\n", " "]


def base64_of(key: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(key).decode()}


def test_a_key_that_is_no_text_is_base64_in_json_and_comes_where_its_bytes_do(node: Node) -> None:
    stored = node("PUT", "/kv/b%FFc", b"x")
    for escaped in ("b", "b%C3%A9", "b%FFd", "b%FF", "c"):
        node("PUT", f"/kv/{escaped}", b"x")
    first = node("GET", "/kv?keys_only=1&start=b").json
    second = node("GET", "/kv?keys_only=1&start=b%FFc").json
    below = node("GET", "/kv?prefix=b%FF").json
    between = node("GET", "/kv?start=b%FF&end=b%FFd").json
    found = node("GET", "/kv/b%FFc", accept="application/json").json
    missing = node("GET", "/kv/b%FE")
    failed = node("PUT", "/kv/b%FFc", b"y", if_none_match="*")

    assert stored.json["key"] == found["key"] == base64_of(b"b\xffc")
    assert [one["key"] for one in first["items"]] == ["b", "b\u00e9", base64_of(b"b\xff")]
    assert first["next"] == base64_of(b"b\xffc")
    assert [one["key"] for one in second["items"]] == [base64_of(b"b\xffc"), base64_of(b"b\xffd"), "c"]
    assert [one["key"] for one in below["items"]] == [base64_of(b"b\xff" + end) for end in (b"", b"c", b"d")]
    assert [one["key"] for one in between["items"]] == [base64_of(b"b\xff"), base64_of(b"b\xffc")]
    assert is_problem(missing, 404, "not_found", r"'b\xfe'")
    assert is_problem(failed, 412, "precondition_failed", r"'b\xffc'")
    assert node("DELETE", "/kv?prefix=b%FF").json["deleted"] == 3


def test_operations_name_keys_that_are_no_text(node: Node) -> None:
    key, other = base64_of(b"\xffk"), base64_of(b"\xffl")
    operations = [{"op": "put", "key": key, "value": "1"}, {"op": "increment", "key": other}, {"op": "get", "key": key}]
    batch = node("POST", "/batch", {"operations": operations}).json
    done = node(
        "POST",
        "/txn",
        {
            "compare": [
                {"key": key, "target": "value", "with": "1"},
                {"prefix": base64_of(b"\xff"), "target": "exists", "with": True},
            ],
            "success": [
                {"op": "list", "start": base64_of(b"\xff"), "end": other},
                {"op": "delete_prefix", "prefix": base64_of(b"\xff")},
            ],
        },
    ).json

    assert [one["key"] for one in batch["results"]] == [key, other, key]
    assert [one["status"] for one in batch["results"]] == [201, 201, 200]
    assert done["succeeded"]
    assert [one["key"] for one in done["results"][0]["items"]] == [key]
    assert done["results"][1]["deleted"] == 2


def test_a_key_that_expiry_would_take_for_a_lease_expires_with_one_alone(node: Node) -> None:
    refused = node("PUT", "/kv/%FFk?ttl=5", b"x")
    node("PUT", "/kv/%FFk", b"x")
    touched = node("POST", "/kv/%FFk/touch", {"ttl": 5})
    lease = node("POST", "/leases", {"ttl": 60}).json["id"]
    node("PUT", f"/kv/%FFk?lease={lease}", b"y")

    assert is_problem(refused, 400, "bad_request", "lease")
    assert is_problem(touched, 400, "bad_request", "lease")
    assert node("POST", "/kv/%FFk/touch", {"ttl": None}).status == 200
    node("PUT", f"/kv/%FFk?lease={lease}", b"y")
    assert node("GET", f"/leases/{lease}").json["keys"] == [base64_of(b"\xffk")]
    assert node("PUT", "/kv/%FEk?ttl=5", b"x").status == 201


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_bad_keys(node: Node, method: str) -> None:
    for target, status, code in [
        ("/kv/", 400, "bad_request"),
        ("/kv/%FF%FF", 400, "bad_request"),
        ("/kv/%FF%FFauth/enabled", 400, "bad_request"),
        ("/kv/%zz", 400, "bad_request"),
        ("/kv/%", 400, "bad_request"),
        ("/kv/" + 65 * "k", 414, "key_too_large"),
        ("/kv/" + 22 * "%E2%82%AC", 414, "key_too_large"),
    ]:
        answer = node(method, target)
        assert answer.status == status, target
        assert method == "HEAD" or is_problem(answer, status, code, "key")
    assert node("PUT", "/kv/" + 64 * "k").status == 201


def test_a_limit_above_the_servers_own_is_no_mistake_and_next_leads_on(node: Node) -> None:
    for key in "abcd":
        node("PUT", f"/kv/{key}", b"v")
    page = node("GET", "/kv?limit=500").json

    assert [item["key"] for item in page["items"]] == ["a", "b", "c"]
    assert page["next"] == "d"


def test_a_value_may_be_as_large_as_the_limit_and_no_larger(node: Node) -> None:
    assert node("PUT", "/kv/a", 1000 * b"v").status == 201
    assert is_problem(node("PUT", "/kv/b", 1001 * b"v"), 413, "value_too_large", "1000")
    assert is_problem(node("PUT", "/kv/b", [999 * b"v", b"vv"], length=False), 413, "value_too_large", "1000")
    assert node("PUT", "/kv/b", 1001 * b"v").headers["connection"] == "close"
    assert node("GET", "/kv/b").status == 404


def test_a_half_sent_body_has_no_effect(node: Node) -> None:
    answer = node("PUT", "/kv/a", [b"half", HALF])

    assert is_problem(answer, 400, "bad_request", "did not arrive")
    assert node.solo.submitted == []


# -- preconditions


@pytest.mark.parametrize(
    ("headers", "absent", "present"),
    [
        ({}, 201, 200),
        ({"if_match": '"1"'}, 412, 200),
        ({"if_match": 'W/"1"'}, 412, 412),
        ({"if_match": 'W/"7", "1"'}, 412, 200),
        ({"if_match": "1"}, 412, 200),
        ({"if_match": '"9"'}, 412, 412),
        ({"if_match": "*"}, 412, 200),
        ({"if_match": '"0"'}, 201, 412),
        ({"if_match": '"9", "1"'}, 412, 200),
        ({"if_match": '"9", W/"1", "8"'}, 412, 412),
        ({"if_match": '"0", "1"'}, 201, 200),
        ({"if_match": '"1","1"'}, 412, 200),
        ({"if_none_match": "*"}, 201, 412),
    ],
)
def test_preconditions_of_put(headers: dict[str, str], absent: int, present: int) -> None:
    node = Node()
    assert node("PUT", "/kv/a", b"v", **headers).status == absent

    node = Node()
    node("PUT", "/kv/a", b"v")
    answer = node("PUT", "/kv/a", b"w", **headers)
    assert answer.status == present
    if present == 412:
        assert is_problem(answer, 412, "precondition_failed", "'a'")
        assert answer.json["revision"] == 1
        assert answer.headers["etag"] == '"1"'


def test_preconditions_of_delete(node: Node) -> None:
    node("PUT", "/kv/a", b"v")

    assert is_problem(node("DELETE", "/kv/a", if_match='"7"'), 412, "precondition_failed")
    assert is_problem(node("DELETE", "/kv/none", if_match="*"), 412, "precondition_failed", "does not exist")
    assert is_problem(node("DELETE", "/kv/a", if_match='"7", "8"'), 412, "precondition_failed")
    assert node("DELETE", "/kv/a", if_match='"7", "1"').status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"if_match": '"a"'},
        {"if_match": ""},
        {"if_match": '"1", 2@n1'},
        {"if_match": '"1", *'},
        {"if_match": ", ".join(f'"{revision}"' for revision in range(1, 66))},
        {"if_match": '"-1"'},
        {"if_match": '"99999999999999999999"'},
        {"if_none_match": '"1"'},
        {"if_match": '"1"', "if_none_match": "*"},
        {"idempotency_key": ""},
        {"idempotency_key": 256 * "k"},
        {"idempotency_key": "with space"},
        {"idempotency_key": "é"},
    ],
)
def test_bad_headers_of_writes(node: Node, headers: dict[str, str]) -> None:
    assert is_problem(node("PUT", "/kv/a", b"v", **headers), 400, "bad_request")
    assert node.solo.submitted == []


def test_a_reader_that_has_the_value_already_is_told_so(node: Node) -> None:
    node("PUT", "/kv/a", b"v")

    for tag in ('"1"', 'W/"1"', '"8", "1"', "*"):
        answer = node("GET", "/kv/a", if_none_match=tag)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", '"1"')
    assert node("GET", "/kv/a", if_none_match='"2"').status == 200


def test_a_retry_with_an_idempotency_key_returns_the_first_outcome(node: Node) -> None:
    first = node("PUT", "/kv/a", b"v", idempotency_key="once")
    again = node("PUT", "/kv/a", b"v", idempotency_key="once")
    other = node("PUT", "/kv/a", b"w", idempotency_key="once")

    assert (first.status, first.json) == (again.status, again.json)
    assert is_problem(other, 400, "bad_request", "Idempotency-Key")
    assert node("GET", "/kv/a").body == b"v"


# -- lists


def test_pages_follow_each_other(node: Node) -> None:
    for key in ("b/1", "b/2", "b/3", "b/4", "a", "c"):
        node("PUT", f"/kv/{key}", key.encode())

    first = node("GET", "/kv?prefix=b/")
    second = node("GET", f"/kv?prefix=b/&start={first.json['next']}")

    assert [item["key"] for item in first.json["items"]] == ["b/1", "b/2", "b/3"]
    assert first.json["next"] == "b/4"
    assert first.json["revision"] == 6
    assert first.json["items"][0] == {
        "key": "b/1",
        "value": "b/1",
        "version": 1,
        "revision": 1,
        "create_revision": 1,
    }
    assert ([item["key"] for item in second.json["items"]], second.json["next"]) == (["b/4"], None)


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("", ["a", "b", "c"]),
        ("start=b", ["b", "c", "d"]),
        ("end=b", ["a"]),
        ("start=b&end=d", ["b", "c"]),
        ("start=d&end=b", []),
        ("prefix=x", []),
        ("prefix=b&start=a", ["b"]),
        ("prefix=b&end=a", []),
        ("limit=1", ["a"]),
        ("limit=2&start=c&keys_only=0", ["c", "d"]),
    ],
)
def test_ranges(node: Node, query: str, keys: list[str]) -> None:
    for key in "abcd":
        node("PUT", f"/kv/{key}", b"v")

    assert [item["key"] for item in node("GET", f"/kv?{query}").json["items"]] == keys


@pytest.mark.parametrize("query", ["keys_only=1", "keys_only", "keys_only=true"])
def test_keys_only(node: Node, query: str) -> None:
    node("PUT", "/kv/a", b"v")

    answer = node("GET", f"/kv?{query}")

    assert answer.json["items"] == [{"key": "a", "version": 1, "revision": 1, "create_revision": 1}]
    assert answer.headers["raftkv-consistency"] == "linearizable"
