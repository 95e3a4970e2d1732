"""A leaderless cluster refuses, with a sentence, what needs one order of all writes; it never approximates it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from raftkv.core.errors import Code, Refused
from raftkv.core.requests import (
    ChangesAfter,
    Compact,
    Consistency,
    Delete,
    DeleteSpan,
    FindLease,
    FindLeases,
    Get,
    Grant,
    Increment,
    KeepAlive,
    List,
    Put,
    Read,
    Request,
    Revoke,
    Touch,
    Transaction,
    Write,
)
from raftkv.core.results import Answer, Missing
from raftkv.http.door.asgi import Application
from raftkv.http.routes import ROUTES
from tests.contract.conftest import MAX_PENDING, Harness
from tests.contract.quorum import QuorumSubject
from tests.unit.http_node import Node, is_problem

OPERATIONS = (
    Put(key=b"a", value=b"v", lease=7),
    Get(key=b"a", revision=1),
    List(start=b"", end=None, limit=9),
    Increment(key=b"a"),
    Touch(key=b"a", ttl_ms=1000),
    DeleteSpan(start=b"a", end=b"b"),
    Grant(ttl_ms=1000),
    Revoke(lease=7),
    Transaction(success=(Put(key=b"a", value=b"v"),)),
)
QUERIES = (
    Get(key=b"a", revision=1),
    List(start=b"", end=None, limit=9, revision=1),
    Get(key=b"a", at_ms=1),
    List(start=b"", end=None, limit=9, at_ms=1),
    ChangesAfter(revision=0),
    FindLease(lease=7),
    FindLeases(),
)
REQUESTS: tuple[Request, ...] = (
    *(Write(operations=(operation,)) for operation in OPERATIONS),
    *(Read(query=query, consistency=level) for query in QUERIES for level in (Consistency.EVENTUAL, Consistency.LOCAL)),
    KeepAlive(leases=(7,)),
    Compact(revision=1),
)

ASKED = (
    ("GET", "/kv/a?revision=1", b""),
    ("GET", "/kv?prefix=a&revision=1", b""),
    ("PUT", "/kv/a?lease=7", b"v"),
    ("DELETE", "/kv?prefix=a", b""),
    ("POST", "/kv/a/increment", b'{"by":1}'),
    ("POST", "/kv/a/touch", b'{"ttl":1}'),
    ("POST", "/batch", b'{"operations":[{"op":"put","key":"a","value":"v","lease":7}]}'),
    ("POST", "/batch", b'{"operations":[{"op":"put","key":"a","value":"v"},{"op":"increment","key":"b"}]}'),
    ("POST", "/batch", b'{"operations":[{"op":"touch","key":"a","ttl":1}]}'),
    ("POST", "/txn", b'{"success":[{"op":"put","key":"a","value":"v"}]}'),
    ("POST", "/leases", b'{"ttl":1}'),
    ("GET", "/leases", b""),
    ("GET", "/leases/7", b""),
    ("DELETE", "/leases/7", b""),
    ("POST", "/leases/7/keepalive", b""),
    ("POST", "/leases/keepalive", b'{"ids":[7]}'),
    ("POST", "/compact", b'{"revision":1}'),
    ("GET", "/watch?prefix=a", b""),
    ("GET", "/watch?from_revision=1", b""),
    ("GET", "/locks", b""),
    ("GET", "/locks/it", b""),
    ("POST", "/locks/it", b'{"ttl":9,"wait":0}'),
    ("DELETE", "/locks/it?token=1", b""),
    ("GET", "/elections", b""),
    ("GET", "/elections/it", b""),
    ("GET", "/elections/it/observe", b""),
    ("POST", "/elections/it/campaign", b'{"ttl":9,"wait":0,"value":"v"}'),
    ("POST", "/elections/it/proclaim", b'{"token":1,"value":"v"}'),
    ("POST", "/elections/it/resign", b'{"token":1}'),
)
"""Every route that needs one order of all writes, and what parameters and bodies of the others do."""


@pytest.fixture
def leaderless() -> Iterator[Harness]:
    subject = QuorumSubject(MAX_PENDING)
    try:
        yield Harness(subject)
    finally:
        subject.stop()


@pytest.fixture
def node(leaderless: Harness) -> Node:
    """The application of one of its nodes."""
    node, replicator = Node(), leaderless.replicator
    context = msgspec.structs.replace(
        node.application._context,
        status=replicator.status,
        subscribe=replicator.subscribe,
        last_status=replicator.status,
    )
    node.application = Application(replicator, context)
    return node


@pytest.mark.parametrize("request_", REQUESTS, ids=repr)
def test_what_needs_one_order_is_refused_and_why_and_what_to_do_instead_is_said(
    leaderless: Harness, request_: Request
) -> None:
    refusal = leaderless.submit(request_).outcome

    assert isinstance(refusal, Refused)
    assert refusal.code is Code.NOT_SUPPORTED
    assert "no one order of writes" in refusal.detail
    assert "run raft mode" in refusal.detail


@pytest.mark.parametrize("operation", OPERATIONS, ids=repr)
def test_nothing_of_a_batch_is_done_that_holds_such_an_operation(leaderless: Harness, operation: Put) -> None:
    leaderless.ask(Write(operations=(Put(key=b"kept", value=b"v"),)))
    refusal = leaderless.ask(Write(operations=(Put(key=b"b", value=b"v"), Delete(key=b"kept"), operation)))
    found = [leaderless.ask(Read(query=Get(key=key), consistency=leaderless.usual)) for key in (b"b", b"kept")]

    assert isinstance(refusal, Refused)
    assert all(isinstance(one, Answer) for one in found)
    assert [isinstance(one.content, Missing) for one in found if isinstance(one, Answer)] == [True, False]


@pytest.mark.parametrize(("method", "target", "body"), ASKED, ids=[f"{asked[0]} {asked[1]}" for asked in ASKED])
def test_it_is_refused_over_http_with_the_same_sentence(node: Node, method: str, target: str, body: bytes) -> None:
    answer = node(method, target, body, content_type="application/json")

    assert is_problem(answer, 400, "not_supported", "no one order of writes", "run raft mode")
    assert answer.json["applied"] == "no"


def test_every_route_of_coordination_is_asked() -> None:
    stems = ("/watch", "/txn", "/leases", "/compact", "/locks", "/elections")
    routes = {(route.method, route.path) for route in ROUTES if route.path.startswith(stems)}
    routes |= {(route.method, route.path) for route in ROUTES if route.path.endswith(("/increment", "/touch"))}
    asked = {
        (
            method,
            target.partition("?")[0].replace("/7", "/{id}").replace("/kv/a", "/kv/{key*}").replace("/it", "/{name*}"),
        )
        for method, target, _ in ASKED
    }

    assert routes <= asked
