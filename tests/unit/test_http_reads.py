"""A read is never in doubt: every route that only reads, both modes, whatever the replica says or does."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.core.errors import Unknown
from raftkv.core.replicator import Pending
from raftkv.core.requests import Delete, Get, Put, Read, Write, is_read
from raftkv.http.routes import ROUTES
from tests.unit.http_node import Node, is_problem
from tests.unit.leaderless import LeaderlessNode

pytestmark = pytest.mark.usefixtures("both_ways")

GETS = {"operations": [{"op": "get", "key": "a"}, {"op": "get", "key": "b"}]}
MIXED = {"operations": [{"op": "get", "key": "a"}, {"op": "put", "key": "b", "value": "1"}]}
EXAMPLES = {
    "/kv": "/kv?consistency=local",
    "/kv/{key*}": "/kv/a",
    "/get": "/get?key=a",
    "/get/{key*}": "/get/a",
    "/local_read": "/local_read?key=a",
    "/internal/read": "/internal/read?key=a",
    "/leases/{id}": "/leases/1",
}
OF_A_LEADER = ("/locks", "/elections", "/watch")
"""What a leaderless cluster refuses without asking its replica."""

AT_ONCE = {"/health", "/livez", "/readyz", "/cluster/members"}
READS = [
    ("GET", EXAMPLES.get(route.path, route.path), b"")
    for route in ROUTES
    if route.method == "GET" and route.answers and route.path not in AT_ONCE
] + [("POST", "/batch", GETS)]


def in_doubt(request: Any, deadline_s: float) -> Pending:
    pending = Pending()
    pending.resolve(Unknown(detail="nobody knows"))
    return pending


def broken(request: Any, deadline_s: float) -> Pending:
    raise RuntimeError("a defect")


@pytest.mark.parametrize("kind", [Node, LeaderlessNode])
@pytest.mark.parametrize(("method", "target", "body"), READS)
def test_a_read_that_the_replica_is_in_doubt_about_is_refused(
    kind: type[Node], method: str, target: str, body: Any
) -> None:
    node = kind()
    if kind is Node and target.startswith(("/internal", "/cluster/ring")):
        return
    (node.replicator if isinstance(node, LeaderlessNode) else node).submit = in_doubt  # type: ignore[method-assign]

    answer = node(method, target, body)

    if kind is LeaderlessNode and target.startswith(OF_A_LEADER):
        assert is_problem(answer, 400, "not_supported")
    else:
        assert is_problem(answer, 503, "quorum_unreachable", "nobody knows")
    assert answer.json["applied"] == "no"


@pytest.mark.parametrize(("method", "target"), [("GET", "/kv/a"), ("GET", "/status"), ("HEAD", "/kv/a")])
def test_a_defect_under_a_read_applied_nothing(method: str, target: str) -> None:
    node = Node()
    node.submit = broken  # type: ignore[method-assign]

    answer = node(method, target)

    assert answer.status == 500
    assert method == "HEAD" or answer.json["applied"] == "no"


def test_what_also_writes_stays_in_doubt() -> None:
    node = Node()
    node.submit = in_doubt  # type: ignore[method-assign]

    assert is_problem(node("POST", "/batch", MIXED), 504, "outcome_unknown")


def test_what_a_read_is() -> None:
    get, put, delete = Get(key=b"a"), Put(key=b"a", value=b""), Delete(key=b"a")

    assert is_read(Read(query=get))
    assert is_read(Write(operations=(get, get)))
    assert not is_read(Write(operations=(get, put)))
    assert not is_read(Write(operations=(delete,)))


def test_a_key_and_a_page_are_read_as_they_stood_at_a_time() -> None:
    node = Node()
    times = []
    for value in (b"one", b"two"):
        node("PUT", "/kv/a", value)
        times.append(node.solo.machine.clock_ms)
        node.solo.now_ms += 10

    assert times[0] < times[1]
    assert [node("GET", f"/kv/a?at_ms={time_ms}").body for time_ms in (*times, times[1] + 10**9)] == [
        b"one",
        b"two",
        b"two",
    ]
    assert node("GET", f"/kv?at_ms={times[0]}").json["items"][0]["value"] == "one"
    assert node("GET", f"/kv/a?at_ms={times[0] - 1}").status == 404
    node("POST", "/compact", {"revision": 2})
    gone = node("GET", f"/kv/a?at_ms={times[0]}")
    assert is_problem(gone, 410, "compacted")
    assert gone.json["compacted_revision"] == 2


@pytest.mark.parametrize("query", ["at_ms=0", "at_ms=soon", "at_ms=1&revision=1", f"at_ms={1 << 49}"])
def test_a_time_that_makes_no_sense_is_refused(query: str) -> None:
    assert is_problem(Node()("GET", f"/kv/a?{query}"), 400, "bad_request")
