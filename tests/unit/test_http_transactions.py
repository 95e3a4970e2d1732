"""What is wrong with a transaction, a count or a range is told by its place, and nothing of it is done."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.core.config import HttpSection
from tests.unit.http_node import Node, is_problem

pytestmark = pytest.mark.usefixtures("both_ways")

PUT = {"op": "put", "key": "k", "value": "v"}


@pytest.fixture
def node() -> Node:
    return Node(HttpSection(max_batch_operations=10))


def deep(count: int) -> dict[str, Any]:
    """A write in so many transactions."""
    return PUT if count == 0 else {"op": "txn", "success": [deep(count - 1)]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"success": [PUT, PUT]}, "a transaction writes the key 'k' twice in one branch"),
        ({"success": [PUT, {"op": "delete_prefix", "prefix": "k"}]}, "'k' twice"),
        ({"success": [deep(8)]}, "8 deep"),
        ({"success": [PUT] * 11}, "success: one request has 10 comparisons and operations at most"),
        ({"compare": [{"key": "k", "target": "version", "with": 0}] * 11}, "compare: one request has 10"),
        ({"success": [PUT] * 6, "failure": [PUT] * 6}, "failure: one request has 10"),
        ({"success": [{"op": "txn", "failure": [PUT] * 10}]}, "success[0].failure: one request has 10"),
        ({"success": [{**PUT, "if_revision": 1}]}, "success[0].if_revision: in a transaction, compare"),
        ({"success": [{**PUT, "ttl": 1, "lease": 1}]}, "success[0]: ttl and lease exclude each other"),
        ({"success": [{**PUT, "key": ""}]}, "success[0].key: must not be empty"),
        ({"success": [{**PUT, "value": {"base64": "!"}}]}, "success[0].value: not valid base64"),
        ({"success": [{"op": "delete_prefix", "prefix": ""}]}, "success[0].prefix: must not be empty"),
        ({"success": [{"op": "grant", "ttl": 1}]}, "success[0].op: Invalid value 'grant'"),
        ({"compare": [{"target": "version", "with": 0}]}, "compare[0]: it takes either key or prefix"),
        ({"compare": [{"key": "k", "prefix": "k", "target": "version", "with": 0}]}, "either key or prefix"),
        ({"compare": [{"key": "k", "target": "value", "with": 1}]}, "compare[0].with: a value is text or base64"),
        ({"compare": [{"key": "k", "target": "exists", "with": 1}]}, "exists is compared with true or false"),
        ({"compare": [{"key": "k", "target": "version", "with": True}]}, "version is compared with a number"),
        ({"compare": [{"key": "k", "target": "version", "with": 1 << 63}]}, "compare[0].with: Expected"),
    ],
)
def test_a_transaction_that_makes_no_sense(node: Node, body: Any, words: str) -> None:
    assert is_problem(node("POST", "/txn", body), 400, "bad_request", words)
    assert node("GET", "/kv?prefix=").json == {"items": [], "next": None, "revision": 0}


@pytest.mark.parametrize("header", ["if_match", "if_none_match"])
@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/kv/n/increment", b""),
        ("POST", "/kv/n/touch", {"ttl": 5}),
        ("DELETE", "/kv?prefix=n", b""),
    ],
)
def test_a_precondition_is_refused_where_it_would_not_be_looked_at(
    node: Node, header: str, method: str, target: str, body: Any
) -> None:
    node("PUT", "/kv/n", b"1")

    assert is_problem(node(method, target, body, **{header: "*"}), 400, "bad_request", "POST /txn")
    assert node("GET", "/kv/n").body == b"1"
    assert node(method, target, body).status == 200


@pytest.mark.parametrize("target", ["/kv?", "/kv?prefix=", "/kv?start="])
def test_nobody_deletes_everything_without_a_word(node: Node, target: str) -> None:
    node("PUT", "/kv/n", b"1")

    assert is_problem(node("DELETE", target), 400, "bad_request", "name what to delete")
    assert node("GET", "/kv/n").status == 200


def test_a_key_may_be_named_like_what_is_done_to_keys(node: Node) -> None:
    assert node("PUT", "/kv/a/increment", b"7").status == 201
    assert node("POST", "/kv/a/increment/increment").json["value"] == 8
    assert node("POST", "/kv/a%2Fincrement/increment").json == {
        "key": "a/increment",
        "value": 9,
        "version": 3,
        "revision": 3,
    }
    assert node("GET", "/kv/a/increment").body == b"9"
    assert node("GET", "/kv/a").status == 404
    assert is_problem(node("POST", "/kv/increment"), 400, "bad_request", "key: must not be empty")


@pytest.mark.parametrize(
    ("target", "body", "other"),
    [
        ("/kv/n/increment", {"by": 2}, {"by": 3}),
        ("/leases", {"ttl": 5}, {"ttl": 6}),
        ("/txn", {"success": [PUT]}, {"failure": [PUT]}),
    ],
)
def test_a_repeat_is_told_the_first_outcome_and_a_key_is_of_one_request(
    node: Node, target: str, body: Any, other: Any
) -> None:
    first, again = (node("POST", target, body, idempotency_key="once") for _ in range(2))

    assert (first.status, first.body) == (again.status, again.body)
    assert first.status in (200, 201)
    assert is_problem(node("POST", target, other, idempotency_key="once"), 400, "bad_request", "used before")


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/leases", {"ttl": 5}),
        ("/txn", {"success": [PUT]}),
        ("/kv/n/increment", {"by": 5}),
        ("/kv/n/touch", {"ttl": 5}),
        ("/compact", {"revision": 1}),
        ("/leases/keepalive", {"ids": [1]}),
    ],
)
def test_what_curl_says_without_a_header_is_let_pass(node: Node, target: str, body: Any) -> None:
    node("PUT", "/kv/n", b"1")

    assert node("POST", target, body, content_type="application/x-www-form-urlencoded").status in (200, 201)
    assert is_problem(node("POST", target, b"by=5", content_type="text/plain"), 415, "unsupported_media_type")
