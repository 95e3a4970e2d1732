"""The API of a cluster without a leader: levels, replicas, siblings, one replica asked directly, members, repair."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.core.requests import (
    MAJORITY,
    AddMember,
    ChangeMember,
    Configure,
    Consistency,
    Inspect,
    Placing,
    PromoteMember,
    Read,
    RemoveMember,
    Repair,
    StoreHere,
    TransferLeadership,
    Write,
)
from raftkv.core.results import Missing, QuorumWritten
from tests.unit.http_node import Node, is_problem
from tests.unit.leaderless import LeaderlessNode

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.fixture
def node() -> LeaderlessNode:
    return LeaderlessNode()


def last(node: LeaderlessNode, kind: type) -> Any:
    assert isinstance(node.replicator.submitted[-1], kind)
    return node.replicator.submitted[-1]


# -- reads --------------------------------------------------------------------------------------------------------


def test_a_read_that_names_no_level_is_given_the_first_that_the_node_offers(node: LeaderlessNode) -> None:
    node.put("a", b"v")

    answer = node("GET", "/kv/a")

    assert last(node, Read).consistency is Consistency.EVENTUAL
    assert answer.headers["raftkv-consistency"] == "eventual"
    assert answer.headers["raftkv-revision"] == "1@n2"
    assert answer.headers["raftkv-replicas"] == "n1,n3"
    assert answer.headers["etag"] == '"1@n2"'
    assert "raftkv-context" not in answer.headers


@pytest.mark.parametrize("target", ["/kv/a", "/get?key=a", "/get/a", "/kv"])
def test_a_read_names_its_replicas(node: LeaderlessNode, target: str) -> None:
    join = "&" if "?" in target else "?"
    node("GET", f"{target}{join}r=1&n=2&sloppy=0")
    read = last(node, Read)

    assert (read.r, read.placing.n, read.placing.sloppy, read.consistency) == (1, 2, False, Consistency.EVENTUAL)


@pytest.mark.parametrize("level", ["linearizable", "lease"])
def test_a_level_that_needs_a_leader_is_refused(node: LeaderlessNode, level: str) -> None:
    answer = node("GET", f"/kv/a?consistency={level}")

    assert is_problem(answer, 400, "not_supported", level, "eventual, local")
    assert node.replicator.submitted == []


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("r=0", "1 to 3"),
        ("r=4", "1 to 3"),
        ("r=3&n=2", "1 to 2"),
        ("n=4", "1 to 3"),
        ("r=two", "r:"),
        ("sloppy=perhaps", "sloppy"),
        ("consistency=local&r=1", "r: only eventual"),
        ("consistency=local&sloppy=0", "sloppy: only eventual"),
    ],
)
def test_replicas_of_a_read_that_make_no_sense_are_named(node: LeaderlessNode, query: str, word: str) -> None:
    assert is_problem(node("GET", f"/kv/a?{query}"), 400, "bad_request", word)
    assert node.replicator.submitted == []


def test_a_tag_of_a_read_names_both_halves_of_the_stamp(node: LeaderlessNode) -> None:
    node.put("a", b"v")

    assert node("GET", "/kv/a", if_none_match='"1@n2"').status == 304
    assert node("GET", "/kv/a", if_none_match='"1@n1"').status == 200


def test_local_reads_do_not_claim_to_know_how_stale_they_are(node: LeaderlessNode) -> None:
    node.put("a", b"v")

    answer = node("GET", "/local_read?key=a")

    assert (answer.headers["raftkv-consistency"], answer.headers["raftkv-replicas"]) == ("local", "n1")
    assert answer.headers["raftkv-staleness-ms"] == "unknown"


# -- siblings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/kv/a", "/get?key=a", "/get/a", "/local_read?key=a"])
def test_siblings_are_all_shown_with_a_context_that_resolves_them(node: LeaderlessNode, target: str) -> None:
    node.put("a", b"one", b"\xff")
    node.replicator.context = b"\xfb\xff\x00seen"

    answer = node("GET", target)

    assert answer.status == 300
    assert answer.json == {
        "key": "a",
        "siblings": [
            {"value": "one", "version": 1, "revision": 1, "node": "n2"},
            {"value": {"base64": "/w=="}, "version": 2, "revision": 2, "node": "n2"},
        ],
    }
    assert "etag" not in answer.headers
    resolved = node("PUT", "/kv/a", b"both", raftkv_context=answer.headers["raftkv-context"])
    assert (resolved.status, last(node, Write).placing.context) == (200, b"\xfb\xff\x00seen")


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("DELETE", "/kv/a", b""),
        ("POST", "/put", {"key": "a", "value": "v"}),
        ("POST", "/set", {"key": "a", "value": "v"}),
        ("POST", "/set/a/v", b""),
        ("DELETE", "/delete?key=a", b""),
    ],
)
def test_every_write_of_one_key_takes_a_context(node: LeaderlessNode, method: str, target: str, body: Any) -> None:
    node(method, target, body, raftkv_context="c2Vlbg")

    assert last(node, Write).placing.context == b"seen"


def test_a_missing_key_has_a_context_as_well(node: LeaderlessNode) -> None:
    node.replicator.context = b"seen"

    answer = node("GET", "/kv/gone")

    assert (answer.status, answer.headers["raftkv-context"]) == (404, "c2Vlbg")


@pytest.mark.parametrize("text", ["?", "c2Vlbg=x", "c", 8192 * "c2Vl"])
def test_a_context_that_was_changed_is_refused(node: LeaderlessNode, text: str) -> None:
    assert is_problem(node("PUT", "/kv/a", b"v", raftkv_context=text), 400, "bad_request", "Raftkv-Context")
    assert node.replicator.submitted == []


def test_a_batch_takes_no_context(node: LeaderlessNode) -> None:
    answer = node("POST", "/batch", {"operations": [{"op": "get", "key": "a"}]}, raftkv_context="c2Vlbg")

    assert is_problem(answer, 400, "bad_request", "Raftkv-Context")


# -- writes -------------------------------------------------------------------------------------------------------


def test_a_write_says_who_holds_it(node: LeaderlessNode) -> None:
    first, second = node("PUT", "/kv/a", b"1"), node("PUT", "/kv/a", b"2")

    assert (first.status, first.json) == (201, {"key": "a", "version": 1, "revision": 1, "node": "n2"})
    assert second.status == 200
    assert second.headers["etag"] == '"2@n2"'
    assert second.headers["raftkv-durability"] == "w=2"
    assert second.headers["raftkv-replicas"] == "n1,n3"
    assert second.headers["raftkv-hinted"] == "1"


def test_reads_alone_claim_no_durability(node: LeaderlessNode) -> None:
    node.replicator._carry_out = lambda request: QuorumWritten(  # type: ignore[method-assign]
        results=(Missing(key=b"a"),), revision=0, acks=0, replicas=(), hinted=0
    )

    answer = node("POST", "/batch", {"operations": [{"op": "get", "key": "a"}]})

    assert answer.status == 200
    assert "raftkv-durability" not in answer.headers


@pytest.mark.parametrize(
    ("query", "acks", "n", "sloppy"),
    [
        ("", MAJORITY, 0, None),
        ("?w=1", 1, 0, None),
        ("?w=3&sloppy=0", 3, 0, False),
        ("?w=all", 3, 0, None),
        ("?w=all&n=2", 2, 2, None),
        ("?w=majority", 2, 0, None),
        ("?n=1&sloppy", MAJORITY, 1, True),
    ],
)
def test_a_write_names_its_replicas(node: LeaderlessNode, query: str, acks: int, n: int, sloppy: bool | None) -> None:
    node("PUT", f"/kv/a{query}", b"v")
    write = last(node, Write)

    placing = write.placing or Placing()
    assert (write.acks, placing.n, placing.sloppy) == (acks, n, sloppy)


@pytest.mark.parametrize(
    ("query", "code", "word"),
    [
        ("w=4", "bad_request", "1 to 3"),
        ("w=2&n=1", "bad_request", "1 to 1"),
        ("n=0", "bad_request", "1 to 3"),
        ("w=leader", "not_supported", "no leader"),
    ],
)
def test_replicas_of_a_write_that_make_no_sense_are_named(
    node: LeaderlessNode, query: str, code: str, word: str
) -> None:
    assert is_problem(node("PUT", f"/kv/a?{query}", b"v"), 400, code, word)
    assert node.replicator.submitted == []


def test_what_only_a_leader_can_promise_reaches_the_replica_which_refuses_it(node: LeaderlessNode) -> None:
    node("PUT", "/kv/a", b"v", if_none_match="*", idempotency_key="once")
    write = last(node, Write)

    assert (write.operations[0].match, write.idempotency_key) == (0, "once")


def test_a_tag_with_a_node_in_it_cannot_be_compared_and_set(node: LeaderlessNode) -> None:
    assert is_problem(node("PUT", "/kv/a", b"v", if_match='"1@n2"'), 400, "not_supported", "compare and set")
    assert is_problem(Node()("PUT", "/kv/a", b"v", if_match='"1@n2"'), 400, "not_supported", "compare and set")


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", "/kv/a?n=1", {}),
        ("PUT", "/kv/a?n=1", {}),
        ("PUT", "/kv/a?sloppy=0", {}),
        ("PUT", "/kv/a", {"raftkv_context": "c2Vlbg"}),
        ("DELETE", "/delete?key=a&n=3", {}),
    ],
)
def test_with_a_leader_what_belongs_to_a_ring_is_refused(method: str, target: str, headers: dict[str, str]) -> None:
    node = Node(offers=(Consistency.LINEARIZABLE, Consistency.EVENTUAL))

    assert is_problem(node(method, target, b"v" if method == "PUT" else b"", **headers), 400, "not_supported")
    assert node.solo.submitted == []


def test_with_a_leader_r_replicas_may_be_asked_where_that_is_offered() -> None:
    node = Node(offers=(Consistency.LINEARIZABLE, Consistency.EVENTUAL))
    node("GET", "/kv/a?r=2")
    read = node.solo.submitted[-1]

    assert isinstance(read, Read)
    assert (read.r, read.consistency) == (2, Consistency.EVENTUAL)


# -- the reference systems ----------------------------------------------------------------------------------------


def test_the_acknowledgements_of_the_first_reference_system_are_the_replicas(node: LeaderlessNode) -> None:
    answer = node("POST", "/put", {"key": "a", "value": "v"})

    assert answer.json == {"result": "ok", "acks": 2, "key": "a", "version": 1}
    assert node("GET", "/get?key=a").json == {"key": "a", "value": "v", "version": 1, "timestamp": 1}


def test_the_sizes_are_read_and_changed(node: LeaderlessNode) -> None:
    assert node("GET", "/config").json == {"n": 3, "r": 2, "w": 2}

    answer = node("POST", "/config", {"r": 1, "w": 3})

    assert last(node, Configure) == Configure(r=1, w=3)
    assert answer.json == node("GET", "/config").json == {"n": 3, "r": 1, "w": 3}
    assert isinstance(node.replicator.submitted[-1], Inspect)


@pytest.mark.parametrize("body", [{}, {"r": 0}, {"n": "3"}, {"x": 1}, b"", []])
def test_sizes_that_make_no_sense_are_refused(node: LeaderlessNode, body: Any) -> None:
    assert is_problem(node("POST", "/config", body), 400, "bad_request")
    assert node.replicator.submitted == []


# -- one replica asked directly -----------------------------------------------------------------------------------


def test_one_replica_takes_a_version(node: LeaderlessNode) -> None:
    answer = node("POST", "/internal/write", {"key": "a", "value": "v", "timestamp": 7})

    assert last(node, StoreHere) == StoreHere(key=b"a", value=b"v", counter=7)
    assert answer.json == {"result": "ok", "key": "a", "taken": True, "timestamp": 7, "node": "n1"}


def test_one_replica_stamps_and_deletes(node: LeaderlessNode) -> None:
    node("POST", "/internal/kv", {"key": "a", "value": None, "node": "n3"})

    assert last(node, StoreHere) == StoreHere(key=b"a", value=None, node="n3")


def test_one_replica_shows_its_own_copy(node: LeaderlessNode) -> None:
    node.put("a", b"v")

    answer = node("GET", "/internal/read?key=a")

    assert last(node, Read).consistency is Consistency.LOCAL
    assert answer.json == {"key": "a", "value": "v", "version": 1, "timestamp": 1}


@pytest.mark.parametrize(
    "body",
    [
        {"key": "a"},
        {"key": "", "value": "v"},
        {"key": "a", "value": "v", "timestamp": 0},
        {"key": "a", "value": "v", "timestamp": 1.5},
        {"key": "a", "value": "v", "timestamp": 2**54},
    ],
)
def test_versions_that_make_no_sense_are_refused(node: LeaderlessNode, body: Any) -> None:
    assert is_problem(node("POST", "/internal/write", body), 400, "bad_request")
    assert node.replicator.submitted == []


# -- the cluster --------------------------------------------------------------------------------------------------


def test_status_shows_the_ring_and_its_members(node: LeaderlessNode) -> None:
    status = node("GET", "/status").json

    assert (status["mode"], status["role"], status["leader"], status["ready"]) == ("quorum", "replica", None, True)
    assert (status["n"], status["r"], status["w"]) == (3, 2, 2)
    assert (status["ring"], status["hints_pending"], status["repaired_keys"]) == ("abcd", 4, 7)
    assert status["transfer"] == {"ranges_done": 1, "ranges": 4, "keys": 10, "bytes": 1000}
    assert [(one["id"], one["state"], one["reachable"], one["hints"]) for one in status["members"]] == [
        ("n1", "up", True, 2),
        ("n2", "up", True, 2),
        ("n3", "up", True, 2),
    ]


def test_members_come_with_what_places_keys(node: LeaderlessNode) -> None:
    answer = node("GET", "/cluster/members").json

    assert (answer["ring"], answer["vnodes"], answer["n"], answer["leader"]) == ("abcd", 100, 3, None)
    assert answer["members"][1]["http"] == "127.0.0.1:8002"


def test_a_node_joins(node: LeaderlessNode) -> None:
    body = {"id": "n4", "http": "127.0.0.1:8004", "peer": "127.0.0.1:9004"}

    answer = node("POST", "/cluster/members", body)

    assert last(node, AddMember) == AddMember(**body)
    assert answer.status == 201
    assert [(one["id"], one["state"]) for one in answer.json["members"]][-1] == ("n4", "joining")


@pytest.mark.parametrize(
    ("change", "word"), [({"id": "a b"}, "id"), ({"http": "nowhere"}, "http"), ({"peer": "h:0"}, "peer")]
)
def test_a_node_that_cannot_be_is_not_let_in(node: LeaderlessNode, change: dict[str, str], word: str) -> None:
    body = {"id": "n4", "http": "127.0.0.1:8004", "peer": "127.0.0.1:9004", **change}

    assert is_problem(node("POST", "/cluster/members", body), 400, "bad_request", f"{word}: ")
    assert node.replicator.submitted == []


def test_a_node_leaves(node: LeaderlessNode) -> None:
    assert node("DELETE", "/cluster/members/n3").status == 200
    assert last(node, RemoveMember) == RemoveMember(id="n3")
    assert is_problem(node("DELETE", "/cluster/members/n9"), 404, "not_found")


def test_what_an_operator_of_a_leader_asks_reaches_the_replica(node: LeaderlessNode) -> None:
    assert node("PUT", "/cluster/members/n%203", {"http": "h:1", "peer": "h:2"}).status == 200
    assert last(node, ChangeMember) == ChangeMember(id="n 3", http="h:1", peer="h:2")
    assert node("POST", "/cluster/members/n3/promote").status == 200
    assert last(node, PromoteMember) == PromoteMember(id="n3")
    assert node("POST", "/cluster/transfer", {"to": "n2"}).json == {"leader": "n2", "term": 4}
    assert last(node, TransferLeadership) == TransferLeadership(to="n2")
    assert is_problem(node("PUT", "/cluster/members/n3", {"http": "h", "peer": "h:2"}), 400, "bad_request", "http: ")


def test_repair_says_what_it_did(node: LeaderlessNode) -> None:
    answer = node("POST", "/cluster/repair")

    assert isinstance(node.replicator.submitted[-1], Repair)
    assert answer.json == {
        "peers": ["n2"],
        "unreachable": ["n3"],
        "ranges": 8,
        "differing": 2,
        "received": 3,
        "sent": 1,
    }


def test_metrics_tell_of_hints_and_repairs(node: LeaderlessNode) -> None:
    text = node("GET", "/metrics").body.decode()

    assert "raftkv_hints_pending 4.0" in text
    assert "raftkv_repaired_keys_total 7.0" in text
