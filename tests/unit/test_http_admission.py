"""Who may change the cluster or ask one replica alone: over the ASGI application, in both modes, every such route."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raftkv.core.proof import Prover, Verifier
from raftkv.http.door.admission import Admission
from raftkv.http.needs import Needs
from raftkv.http.routes import ROUTES
from tests.unit.http_node import is_problem
from tests.unit.leaderless import LeaderlessNode

KEY = b"0123456789abcdef" * 4
NOW_MS = 1_700_000_000_000

GUARDED: list[tuple[str, str, Any]] = [
    ("POST", "/internal/write", {"key": "a", "value": "v"}),
    ("POST", "/internal/kv", {"key": "a", "value": "v"}),
    ("GET", "/internal/read?key=a", None),
    ("POST", "/cluster/members", {"id": "n4", "http": "127.0.0.1:8004", "peer": "127.0.0.1:9004"}),
    ("DELETE", "/cluster/members/n3", None),
    ("POST", "/cluster/repair", None),
    ("POST", "/config", {"r": 1}),
]
FORWARDED = [
    {"x_forwarded_for": "127.0.0.1"},
    {"x_forwarded_host": "kv"},
    {"forwarded": "for=1.2.3.4"},
    {"via": "1.1 p"},
]
OF_DATA = ("/kv", "/kv/{key*}", "/batch", "/put", "/get", "/get/{key*}", "/delete", "/set", "/set/{key}/{value*}")
OF_DATA += ("/kv/{key*}/increment", "/kv/{key*}/touch", "/txn", "/compact")
OF_DATA += ("/locks/{name*}", *(f"/elections/{{name*}}/{what}" for what in ("campaign", "proclaim", "resign")))
OF_DATA += ("/auth/login",)  # which changes nothing, and who asks is what it is to find out
OF_DATA += ("/leases", "/leases/{id}", "/leases/{id}/keepalive", "/leases/keepalive")


def guarded(*, is_open: bool, client: str = "127.0.0.1") -> LeaderlessNode:
    return LeaderlessNode(
        admission=Admission(Verifier(KEY, "ours", wall_ms=lambda: NOW_MS), is_open=is_open), client=client
    )


def ask(node: LeaderlessNode, request: tuple[str, str, Any], key: bytes | None = None, **headers: str) -> Any:
    method, target, content = request
    body = b"" if content is None else json.dumps(content).encode()
    if key is not None:
        headers["authorization"] = Prover(key, "ours", wall_ms=lambda: NOW_MS).authorization(method, target, body)
    if body:
        headers.setdefault("content_type", "application/json")
    return node(method, target, body, **headers)


@pytest.mark.parametrize("request_", GUARDED)
@pytest.mark.parametrize("client", ["127.0.0.1", "10.0.0.1", ""])
def test_where_a_secret_is_configured_nothing_but_its_proof_lets_in(request_: Any, client: str) -> None:
    node = guarded(is_open=False, client=client)

    refused = ask(node, request_)
    assert is_problem(refused, 401, "unauthenticated", "--config")
    assert refused.json["applied"] == "no"
    assert refused.headers["www-authenticate"] == f'Raftkv time="{NOW_MS}"'
    assert is_problem(ask(node, request_, b"another"), 403, "forbidden", "another secret")
    assert node.replicator.submitted == []
    assert ask(node, request_, KEY).status in (200, 201, 404)
    assert len(node.replicator.submitted) == 1


@pytest.mark.parametrize("request_", GUARDED)
@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_without_a_secret_this_machine_is_let_in_as_the_references_type_it(request_: Any, client: str) -> None:
    assert ask(guarded(is_open=True, client=client), request_).status in (200, 201, 404)


@pytest.mark.parametrize("request_", GUARDED)
def test_without_a_secret_other_machines_are_not_let_in(request_: Any) -> None:
    for client in ("10.0.0.1", "", "nowhere"):
        node = guarded(is_open=True, client=client)

        assert is_problem(ask(node, request_), 401, "unauthenticated")
        assert node.replicator.submitted == []


@pytest.mark.parametrize("request_", GUARDED)
@pytest.mark.parametrize("headers", FORWARDED)
def test_what_was_forwarded_is_not_from_this_machine(request_: Any, headers: dict[str, str]) -> None:
    node = guarded(is_open=True)

    assert is_problem(ask(node, request_, **headers), 401, "unauthenticated", "forwarded")
    assert node.replicator.submitted == []
    assert ask(node, request_, KEY, **headers).status in (200, 201, 404)


def test_a_proof_is_good_once() -> None:
    node = guarded(is_open=False)

    assert ask(node, GUARDED[-1], KEY).status == 200
    assert is_problem(ask(node, GUARDED[-1], KEY), 401, "unauthenticated", "used before")


def test_every_route_that_is_not_of_data_only_looks_or_needs_the_proof() -> None:
    """A new route that changes the cluster cannot slip in without it."""
    unbuilt = {route.path for route in ROUTES if not route.answers}
    changing = {
        (route.method, route.path)
        for route in ROUTES
        if route.path not in OF_DATA and route.path not in unbuilt and route.method != "GET"
    }
    proven = {(route.method, route.path) for route in ROUTES if route.handler.needs in (Needs.OPERATOR, Needs.OWNER)}

    assert changing <= proven
    shown = ("/backup", "/auth/users", "/auth/users/{name}", "/auth/roles", "/auth/roles/{name}")
    assert proven - changing == {("GET", "/internal/read"), *(("GET", path) for path in shown)}
