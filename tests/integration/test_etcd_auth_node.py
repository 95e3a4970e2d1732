"""Who is let in by etcd's API of one node: what its configuration says, certificates, tokens whose time is over."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from raftkv.core.requests import Grant, Write
from raftkv.core.rights import CLUSTER, Caller
from raftkv.etcd.admitting import admitted
from raftkv.etcd.gateway import Gateway
from raftkv.etcd.methods import AUTH
from raftkv.http.door.asgi import Application
from raftkv.http.door.beside import Beside
from raftkv.http.messages import HttpRequest
from raftkv.http.needs import Needs
from tests.integration.test_etcd_auth import ALICE_PASSWORD, ONE_KEY
from tests.unit.guarded_node import GuardedNode
from tests.unit.http_node import Node

pytestmark = pytest.mark.integration


def gateway_of(node: Node) -> Node:
    node.application = Application(node, node.application._context, beside=Beside(Gateway("3.5.1").routes))
    return node


def answered(node: Node, path: str, body: Any, **headers: str) -> tuple[int, str]:
    answer = node("POST", f"/v3/{path}", body, **headers)
    return answer.status, json.loads(answer.body).get("message", "")


def test_without_authentication_users_are_the_operators_affair() -> None:
    node = gateway_of(Node())
    assert answered(node, "auth/user/add", {"name": "ann", "password": ALICE_PASSWORD}) == (200, "")
    node.client = "10.0.0.1"

    open_to_all = {"/v3/auth/status", "/v3/auth/authenticate"}
    for method in AUTH:
        (path,) = method.gateway
        if path not in open_to_all:
            assert answered(node, path[4:], {"name": "ann"}) == (403, "etcdserver: permission denied"), path


def test_a_node_whose_configuration_wants_authentication_does_not_let_it_be_off() -> None:
    node = gateway_of(GuardedNode())
    node.callers.is_demanded = True
    shown = node.by("root").shown

    status, told = answered(node, "auth/disable", {}, authorization=shown.removeprefix("Bearer "))
    assert (status, told[:40]) == (400, "etcdserver: this node's configuration sa")


def test_a_node_that_waits_for_its_first_user_serves_nobody() -> None:
    node = gateway_of(Node())
    node.callers.is_demanded = True

    for path in ("kv/range", "auth/user/add", "lease/grant"):
        status, told = answered(node, path, {})
        assert (status, told[:49]) == (503, "etcdserver: authentication is on, but there is no")


def test_a_certificate_says_who_asks_where_no_token_does() -> None:
    node = GuardedNode()

    def found(certificate: str, headers: dict[bytes, bytes]) -> Caller | None:
        request = HttpRequest(method="POST", path=b"/", headers=headers)
        plan = admitted(request, Needs.USER, node.application._context, certificate)
        with pytest.raises(StopIteration) as end:
            next(plan)
        return end.value.value

    token = node.by("root").shown.removeprefix("Bearer ").encode()
    assert found("alice", {}) == Caller("alice", 2)
    assert found("alice", {b"token": token}) == Caller("root", 1)


def test_a_lease_is_kept_alive_with_a_token_whose_time_is_over_but_not_with_one_of_another_password() -> None:
    node = gateway_of(GuardedNode())
    node.callers.tokens.ttl_ms = -1
    shown = {"authorization": node.by("alice").shown.removeprefix("Bearer ")}
    node.shown = None
    node.solo.submit(Write(operations=(Grant(ttl_ms=60_000, lease=7),), caller=CLUSTER), time.monotonic() + 60)

    assert answered(node, "kv/range", ONE_KEY, **shown) == (401, "etcdserver: invalid auth token")
    answer = node("POST", "/v3/lease/keepalive", {"ID": 7}, **shown)
    assert json.loads(answer.body)["result"]["TTL"] == "60"
    node.callers.tokens.ttl_ms = 60_000
    node.by("root")("POST", "/auth/users/alice/password", {"password": "down the hole"})
    node.shown = None
    assert answered(node, "lease/keepalive", {"ID": 7}, **shown) == (401, "etcdserver: invalid auth token")
    assert answered(node, "lease/keepalive", {"ID": 7}) == (400, "etcdserver: user name is empty")
