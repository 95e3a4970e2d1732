"""What both clients do with revisions, counters and transactions, by what a server is asked and how it answers."""

import contextlib

import msgspec
import pytest

from raftkv import DefiniteError, IndefiniteError, RequirementFailed, RevisionCompacted
from tests.unit.fake_server import CUT, Told, json, problem

DONE = {"succeeded": True, "revision": 9, "results": []}


def body(asked):
    return msgspec.json.decode(asked.body)


def test_a_key_and_a_listing_are_read_as_they_stood(client, serve):
    page = {"items": [], "next": None, "revision": 9}
    server = serve(Told(200, b"v"), json(page))
    store = client(server)

    assert store.get("k", revision=7) == b"v"
    assert list(store.list("p/", revision=7)) == []
    assert ["revision=7" in asked.target for asked in server.asked] == [True, True]


def test_a_revision_that_is_forgotten_is_told_with_the_oldest_there_is(client, serve):
    store = client(serve(problem(410, "compacted", "no", compacted_revision=5)))

    with pytest.raises(RevisionCompacted) as failed:
        store.get("k", revision=3)
    assert failed.value.oldest == 5


def test_a_counter_a_touch_a_prefix_and_a_lease_are_one_request_each(client, serve):
    counted = json({"key": "a/b", "value": 12, "version": 2, "revision": 8})
    server = serve(
        counted,
        json({"key": "k", "revision": 8, "ttl_left": 5.0}),
        problem(404, "not_found", "no"),
        json({"deleted": 3, "revision": 9}),
        json({"key": "k", "version": 1, "revision": 10}, status=201),
        json({"compacted_revision": 4}),
    )
    store = client(server)

    assert store.increment("a/b", 2, maximum=20) == 12
    assert store.touch("k", 5) is True
    assert store.touch("k", None) is False
    assert store.delete_prefix("p/") == 3
    assert store.set("k", "v", lease=77) == 10
    assert store.compact(4) == 4
    assert [asked.target.partition("?")[0] for asked in server.asked[:3]] == [
        "/kv/a%2Fb/increment",
        "/kv/k/touch",
        "/kv/k/touch",
    ]
    assert body(server.asked[0]) == {"by": 2, "max": 20}
    assert "prefix=p%2F" in server.asked[3].target
    assert "lease=77" in server.asked[4].target
    assert all("idempotency-key" in asked.headers for asked in server.asked[:5])


def test_a_counter_whose_answer_was_lost_is_sent_again_with_the_same_key(client, serve):
    server = serve(CUT, json({"key": "k", "value": 1, "version": 1, "revision": 8}))

    assert client(server).increment("k") == 1
    first, second = server.asked
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


def test_what_the_state_decided_is_definite_though_an_earlier_attempt_was_in_doubt(client, serve):
    store = client(serve(CUT, problem(409, "out_of_bounds", "no")))

    with pytest.raises(DefiniteError) as failed:
        store.increment("k", maximum=0)
    assert failed.value.code == "out_of_bounds"


def test_a_transaction_is_one_request_when_its_block_is_left(client, serve):
    results = [
        {"op": "put", "key": "k", "status": 201, "version": 1, "revision": 9},
        {"op": "get", "key": "g", "status": 404, "code": "not_found"},
        {"op": "increment", "key": "n", "status": 200, "value": 4, "version": 2, "revision": 9},
        {"op": "get", "key": "b", "status": 200, "value": {"base64": "/w=="}, "version": 1, "revision": 3},
        {"op": "txn", "status": 200, "succeeded": False, "results": []},
    ]
    server = serve(json({**DONE, "results": results}))
    with client(server).transaction() as t:
        t.require("k", revision=0)
        t.require(prefix="p/", op="<", version=3)
        t.require("v", value=b"\xff", exists=True)
        t.set("k", "v", lease=7)
        t.get("g")
        t.increment("n")
        t.get("b")
        within = t.transaction()
        within.require("x", exists=False)
        within.delete("x")
        assert server.asked == []

    (asked,) = server.asked
    assert asked.target.startswith("/txn?")
    assert "idempotency-key" in asked.headers
    sent = body(asked)
    assert [(one["target"], one.get("op", "=="), one["with"]) for one in sent["compare"]] == [
        ("revision", "==", 0),
        ("version", "<", 3),
        ("value", "==", {"base64": "/w=="}),
        ("exists", "==", True),
    ]
    assert [one["op"] for one in sent["success"]] == ["put", "get", "increment", "get", "txn"]
    assert sent["success"][4]["compare"][0]["with"] is False
    assert (t.succeeded, t.revision) == (True, 9)
    assert [one.status for one in t.results] == [201, 404, 200, 200, 200]
    assert (t.results[2].count, t.results[3].value, t.results[4].succeeded) == (4, b"\xff", False)


def test_what_is_required_and_does_not_hold_is_raised_unless_there_is_another_branch(client, serve):
    store = client(serve(json({**DONE, "succeeded": False})))
    with pytest.raises(RequirementFailed) as failed, store.transaction() as t:
        t.require("k", exists=True)
    assert (failed.value.revision, t.succeeded) == (9, False)

    with store.transaction() as t:
        t.require("k", exists=True)
        t.otherwise()
    assert t.succeeded is False


def test_an_exception_in_the_block_sends_nothing(client, serve):
    server = serve(json(DONE))
    t = client(server).transaction()
    with contextlib.suppress(KeyError), t:
        t.set("k", "v")
        raise KeyError

    assert server.asked == []
    assert t.succeeded is None


def test_an_answer_that_is_no_transactions_leaves_it_in_doubt(client, serve):
    store = client(serve(json({**DONE, "results": [{"status": 200}]})))

    with pytest.raises(IndefiniteError), store.transaction() as t:
        t.set("k", "v")


@pytest.mark.parametrize("wrong", [{}, {"key": "k"}, {"key": "k", "prefix": "p", "version": 1}, {"version": 1}])
def test_a_requirement_that_makes_no_sense_is_told_before_anything_is_sent(client, serve, wrong):
    server = serve(json(DONE))
    with pytest.raises(ValueError, match="name"), client(server).transaction() as t:
        t.require(**wrong)
    assert server.asked == []
