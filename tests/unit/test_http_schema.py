"""What ``/openapi.json`` says is what is answered: every described status is seen, and every answer has its type."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftkv.core.replicator import Pending
from raftkv.core.requests import Consistency
from raftkv.core.results import Written
from raftkv.http.routes import ROUTES, Route
from tests.unit.test_http_api import Node

BATCH = {
    "operations": [
        {"op": "put", "key": "b", "value": "v"},
        {"op": "get", "key": "b"},
        {"op": "delete", "key": "b"},
        {"op": "get", "key": "b"},
        {"op": "put", "key": "b", "value": {"base64": "/w=="}, "if_revision": 9},
    ]
}
SET = {"key": "s", "value": "v"}
RAW = {"key": "r", "value": {"base64": "/w=="}}

# Together these see every described status of every route; each runs on a node of its own where "k" stands already.
REQUESTS: list[tuple[str, str, str, Any, dict[str, str]]] = [
    ("PUT", "/kv/{key*}", "/kv/new", b"v", {}),
    ("PUT", "/kv/{key*}", "/kv/k", b"v", {}),
    ("PUT", "/kv/{key*}", "/kv/k?w=leader", b"v", {}),
    ("GET", "/kv/{key*}", "/kv/k", b"", {}),
    ("GET", "/kv/{key*}", "/kv/k", b"", {"accept": "application/json"}),
    ("GET", "/kv/{key*}", "/kv/k", b"", {"if-none-match": "*"}),
    ("DELETE", "/kv/{key*}", "/kv/k", b"", {}),
    ("DELETE", "/kv/{key*}", "/kv/k?w=1", b"", {}),
    ("GET", "/kv", "/kv", b"", {}),
    ("GET", "/kv", "/kv?keys_only&limit=1", b"", {}),
    ("POST", "/batch", "/batch", BATCH, {}),
    ("POST", "/batch", "/batch?w=leader", BATCH, {}),
    ("POST", "/put", "/put", SET, {}),
    ("PUT", "/put", "/put?w=leader", RAW, {}),
    ("GET", "/get", "/get?key=k", b"", {}),
    ("GET", "/get/{key*}", "/get/k", b"", {}),
    ("DELETE", "/delete", "/delete?key=k", b"", {}),
    ("DELETE", "/delete", "/delete?key=k&w=leader", b"", {}),
    ("POST", "/set/{key}/{value*}", "/set/s/v", b"", {}),
    ("POST", "/set", "/set", RAW, {}),
    ("POST", "/set", "/set?w=leader", SET, {}),
    ("GET", "/local_read", "/local_read?key=k", b"", {}),
    ("GET", "/health", "/health", b"", {}),
    ("GET", "/config", "/config", b"", {}),
    ("GET", "/status", "/status", b"", {}),
    ("GET", "/cluster/members", "/cluster/members", b"", {}),
    ("GET", "/livez", "/livez", b"", {}),
    ("GET", "/readyz", "/readyz", b"", {}),
]


def uncommitted(node: Node) -> None:
    """Answer writes that do not wait for a majority as the leader does."""
    submit = node.solo.submit

    def answer(request: Any, deadline_s: float) -> Any:
        if getattr(request, "acks", 0) != 1:
            return submit(request, deadline_s)
        pending = Pending()
        pending.resolve(Written(results=(), revision=0, acks=1, committed=False))
        return pending

    node.solo.submit = answer  # type: ignore[method-assign]


def route_of(method: str, path: str) -> Route:
    return next(route for route in ROUTES if (route.method, route.path) == (method, path))


def ask(method: str, path: str, target: str, body: Any, headers: dict[str, str]) -> tuple[Route, Any]:
    node = Node()
    assert node("PUT", "/kv/k", b"v").status == 201
    uncommitted(node)
    return route_of(method, path), node(method, target, body, **headers)


@pytest.mark.parametrize(("method", "path", "target", "body", "headers"), REQUESTS)
def test_answers_are_of_the_described_type(
    method: str, path: str, target: str, body: Any, headers: dict[str, str]
) -> None:
    route, answer = ask(method, path, target, body, headers)

    assert answer.status in route.answers, answer.body
    types = route.answers[answer.status]
    if not types:
        assert answer.body == b""
    elif answer.headers["content-type"] == "application/octet-stream":
        assert bytes in types
    else:
        (described,) = set(types) - {bytes}
        assert msgspec.to_builtins(msgspec.convert(answer.json, described)) == answer.json


def test_every_described_status_is_seen() -> None:
    described = {(route.method, route.path, status) for route in ROUTES for status in route.answers}

    seen = {(*request[:2], ask(*request)[1].status) for request in REQUESTS}

    assert seen == described


def test_the_description_names_statuses_types_and_limits() -> None:
    document = Node()("GET", "/openapi.json").json

    put = document["paths"]["/kv/{key}"]["put"]
    assert set(put["responses"]) == {"200", "201", "202", "307", "4XX", "5XX"}
    assert put["responses"]["201"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Stored"}
    query = {one["name"]: one for one in document["paths"]["/kv"]["get"]["parameters"]}
    assert query["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 3}
    assert query["consistency"]["schema"]["enum"] == [level.value for level in Consistency]
    get = {one["name"]: one for one in document["paths"]["/get"]["get"]["parameters"]}
    assert get["key"]["required"]
    assert set(document["paths"]["/txn"]["post"]["responses"]) == {"4XX", "5XX"}


def test_every_reference_in_the_description_leads_somewhere() -> None:
    document = Node()("GET", "/openapi.json").json

    def references(part: Any) -> set[str]:
        if isinstance(part, list):
            return {one for item in part for one in references(item)}
        if not isinstance(part, dict):
            return set()
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own | {one for item in part.values() for one in references(item)}

    found = references(document)

    assert len(found) > 10
    assert {one.removeprefix("#/components/schemas/") for one in found} <= set(document["components"]["schemas"])
