"""What ``/openapi.json`` says is what is answered: every described status is seen, and every answer has its type."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftkv.api.problems import TABLE
from raftkv.core.replicator import Pending
from raftkv.core.requests import Consistency
from raftkv.core.results import Written
from raftkv.http.routes import ROUTES, Route
from tests.unit.http_node import Node
from tests.unit.leaderless import LeaderlessNode

BATCH = {
    "operations": [
        {"op": "put", "key": "b", "value": "v"},
        {"op": "get", "key": "b"},
        {"op": "delete", "key": "b"},
        {"op": "get", "key": "b"},
        {"op": "put", "key": "b", "value": {"base64": "/w=="}, "if_revision": 9},
    ]
}
TRANSACTION = {
    "compare": [{"prefix": "k", "target": "value", "op": "!=", "with": "other"}],
    "success": [
        {"op": "increment", "key": "n"},
        {"op": "list", "prefix": "a", "limit": 1},
        {"op": "txn", "success": [{"op": "get", "key": "k"}]},
    ],
}
SET = {"key": "s", "value": "v"}
OPEN = {"access": "both", "start": "b"}
RAW = {"key": "r", "value": {"base64": "/w=="}}

# Together these see every described status of every route; each runs on a node of its own where "k" stands already,
# with a lease, a lock and a leader, and those in CONCURRENT on one without a leader, where "s" has two siblings.
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
    ("DELETE", "/kv", "/kv?prefix=k", b"", {}),
    ("POST", "/kv/{key*}/increment", "/kv/n/increment", b"", {}),
    ("POST", "/kv/{key*}/touch", "/kv/k/touch", {"ttl": 9}, {}),
    ("POST", "/txn", "/txn", TRANSACTION, {}),
    ("POST", "/leases", "/leases", {"ttl": 9, "id": 7}, {}),
    ("GET", "/leases", "/leases", b"", {}),
    ("GET", "/leases/{id}", "/leases/5", b"", {}),
    ("DELETE", "/leases/{id}", "/leases/5", b"", {}),
    ("POST", "/leases/{id}/keepalive", "/leases/5/keepalive", b"", {}),
    ("POST", "/leases/keepalive", "/leases/keepalive", {"ids": [5, 6]}, {}),
    ("GET", "/locks", "/locks", b"", {}),
    ("GET", "/elections", "/elections", b"", {}),
    ("GET", "/locks/{name*}", "/locks/held", b"", {}),
    ("POST", "/locks/{name*}", "/locks/l", {"ttl": 9, "wait": 1, "holder": "h", "permits": 2}, {}),
    ("DELETE", "/locks/{name*}", "/locks/held?token=2", b"", {}),
    ("GET", "/elections/{name*}", "/elections/led", b"", {}),
    ("POST", "/elections/{name*}/campaign", "/elections/led/campaign", {"lease": 5, "value": "v"}, {}),
    ("POST", "/elections/{name*}/proclaim", "/elections/led/proclaim", {"token": 3, "value": "v"}, {}),
    ("POST", "/elections/{name*}/resign", "/elections/led/resign", {"token": 3}, {}),
    ("POST", "/compact", "/compact", {"revision": 1}, {}),
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
    ("GET", "/auth", "/auth", b"", {}),
    ("POST", "/auth/enable", "/auth/enable", b"", {}),
    ("POST", "/auth/disable", "/auth/disable", b"", {}),
    ("GET", "/auth/users", "/auth/users", b"", {}),
    ("GET", "/auth/users/{name}", "/auth/users/root", b"", {}),
    ("PUT", "/auth/users/{name}", "/auth/users/new", {"password": "new to this"}, {}),
    ("PUT", "/auth/users/{name}", "/auth/users/root", {"roles": ["root", "ro"]}, {}),
    ("DELETE", "/auth/users/{name}", "/auth/users/root", b"", {}),
    ("PUT", "/auth/users/{name}/roles/{role}", "/auth/users/root/roles/ro", b"", {}),
    ("DELETE", "/auth/users/{name}/roles/{role}", "/auth/users/root/roles/root", b"", {}),
    ("POST", "/auth/users/{name}/password", "/auth/users/root/password", {"password": "another one"}, {}),
    ("GET", "/auth/roles", "/auth/roles", b"", {}),
    ("GET", "/auth/roles/{name}", "/auth/roles/ro", b"", {}),
    ("PUT", "/auth/roles/{name}", "/auth/roles/new", {"permissions": [OPEN]}, {}),
    ("PUT", "/auth/roles/{name}", "/auth/roles/ro", {}, {}),
    ("DELETE", "/auth/roles/{name}", "/auth/roles/ro", b"", {}),
    ("POST", "/auth/roles/{name}/permissions", "/auth/roles/ro/permissions", OPEN, {}),
    ("DELETE", "/auth/roles/{name}/permissions", "/auth/roles/ro/permissions?access=read&prefix=a", b"", {}),
    ("POST", "/auth/login", "/auth/login", {"user": "root", "password": "correct horse"}, {}),
]
NEW_MEMBER = {"id": "n4", "http": "127.0.0.1:8004", "peer": "127.0.0.1:9004", "zone": "z"}
CONCURRENT: list[tuple[str, str, str, Any, dict[str, str]]] = [
    ("PUT", "/kv/{key*}", "/kv/k", b"v", {}),
    ("GET", "/kv/{key*}", "/kv/k", b"", {"accept": "application/json"}),
    ("GET", "/kv/{key*}", "/kv/s", b"", {}),
    ("GET", "/kv", "/kv", b"", {}),
    ("GET", "/cluster/ring", "/cluster/ring", b"", {}),
    ("GET", "/cluster/ring/{key*}", "/cluster/ring/a/b", b"", {}),
    ("DELETE", "/kv/{key*}", "/kv/k", b"", {}),
    ("POST", "/batch", "/batch", BATCH, {}),
    ("POST", "/put", "/put", SET, {}),
    ("GET", "/get", "/get?key=s", b"", {}),
    ("GET", "/get/{key*}", "/get/s", b"", {}),
    ("GET", "/local_read", "/local_read?key=s", b"", {}),
    ("DELETE", "/delete", "/delete?key=k", b"", {}),
    ("POST", "/config", "/config", {"r": 1}, {}),
    ("GET", "/config", "/config", b"", {}),
    ("POST", "/internal/write", "/internal/write", {**SET, "timestamp": 7}, {}),
    ("POST", "/internal/kv", "/internal/kv", {"key": "s", "value": None}, {}),
    ("GET", "/internal/read", "/internal/read?key=k", b"", {}),
    ("GET", "/internal/read", "/internal/read?key=s", b"", {}),
    ("GET", "/status", "/status", b"", {}),
    ("GET", "/cluster/members", "/cluster/members", b"", {}),
    ("POST", "/cluster/members", "/cluster/members", NEW_MEMBER, {}),
    ("DELETE", "/cluster/members/{id}", "/cluster/members/n3", b"", {}),
    ("PUT", "/cluster/members/{id}", "/cluster/members/n3", {"http": "h:1", "peer": "h:2"}, {}),
    ("POST", "/cluster/members/{id}/promote", "/cluster/members/n3/promote", b"", {}),
    ("POST", "/cluster/transfer", "/cluster/transfer", {"to": "n2"}, {}),
    ("POST", "/cluster/repair", "/cluster/repair", b"", {}),
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


def ask(
    method: str, path: str, target: str, body: Any, headers: dict[str, str], *, concurrent: bool = False
) -> tuple[Route, Any]:
    node = LeaderlessNode() if concurrent else Node()
    assert node("PUT", "/kv/k", b"v").status == 201
    if isinstance(node, LeaderlessNode):
        node.put("s", b"one", b"other")
    else:
        assert node("POST", "/leases", {"ttl": 60, "id": 5}).status == 201
        assert node("POST", "/locks/held", {"lease": 5}).json["token"] == 2
        assert node("POST", "/elections/led/campaign", {"lease": 5}).json["token"] == 3
        uncommitted(node)
        if path.startswith("/auth"):
            assert node("PUT", "/auth/roles/ro", {"permissions": [{"access": "read", "prefix": "a"}]}).status == 201
            assert node("PUT", "/auth/users/root", {"password": "correct horse", "roles": ["root"]}).status == 201
        if path == "/auth/login":
            assert node("POST", "/auth/enable").status == 200
    return route_of(method, path), node(method, target, body, **headers)


@pytest.mark.parametrize(
    ("request_", "concurrent"), [*((one, False) for one in REQUESTS), *((one, True) for one in CONCURRENT)]
)
def test_answers_are_of_the_described_type(
    request_: tuple[str, str, str, Any, dict[str, str]], concurrent: bool
) -> None:
    route, answer = ask(*request_, concurrent=concurrent)

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
    described = {
        (route.method, route.path, status) for route in ROUTES for status in route.answers if not route.endless
    }
    # By processes: tests/integration/test_backup.py and test_console_operations.py.
    described -= {("GET", "/backup", 200), ("POST", "/backup", 200)}

    seen = {(*request[:2], ask(*request)[1].status) for request in REQUESTS}
    seen |= {(*request[:2], ask(*request, concurrent=True)[1].status) for request in CONCURRENT}

    assert seen == described


def test_the_description_names_statuses_types_and_limits() -> None:
    document = Node()("GET", "/openapi.json").json

    problems = {str(kind.status) for kind in TABLE.values()}
    put = document["paths"]["/kv/{key}"]["put"]
    assert set(put["responses"]) == {"200", "201", "202", "307"} | problems
    assert {one["name"] for one in put["parameters"]} >= {"w", "n", "sloppy", "Raftkv-Context", "Idempotency-Key"}
    assert put["responses"]["201"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Stored"}
    query = {one["name"]: one for one in document["paths"]["/kv"]["get"]["parameters"]}
    assert query["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 999_999_999}
    assert "a page has 3 of them" in query["limit"]["description"]
    assert query["consistency"]["schema"]["enum"] == [level.value for level in Consistency]
    get = {one["name"]: one for one in document["paths"]["/get"]["get"]["parameters"]}
    assert get["key"]["required"]
    assert set(document["paths"]["/restore"]["post"]["responses"]) == problems


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
    components = {f"#/components/{kind}/{name}" for kind, named in document["components"].items() for name in named}
    assert found <= components


def test_a_form_is_described_as_one_that_need_not_be_there() -> None:
    document = Node()("GET", "/openapi.json").json

    body = document["paths"]["/backup"]["post"]["requestBody"]
    assert not body["required"]
    assert body["content"] == {
        "application/x-www-form-urlencoded": {"schema": {"$ref": "#/components/schemas/BackupForm"}}
    }
    assert set(document["components"]["schemas"]["BackupForm"]["properties"]) == {"token"}
