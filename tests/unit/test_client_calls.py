"""The client against servers that behave, misbehave, and are not there."""

import subprocess
import sys
import time

import msgspec
import pytest

import raftkv
from raftkv import DefiniteError, IndefiniteError, PreconditionFailed
from tests.unit.fake_server import CUT, HANG, Dripping, Told, json, problem, unused_url

STORED = json({"key": "k", "version": 1, "revision": 7}, 201)
NO_LEADER = problem(503, "no_leader", "no")
UNKNOWN = problem(504, "outcome_unknown", "unknown")
MISSING = problem(404, "not_found", "no", {"Raftkv-Node": "n1"})


def test_importing_a_layer_does_not_import_the_client(client):
    code = "import sys, raftkv.core.requests; sys.exit('requests' in sys.modules or 'raftkv.client' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_package_exports_what_it_names():
    assert all(getattr(raftkv, name) for name in raftkv.__all__)
    with pytest.raises(AttributeError):
        _ = raftkv.nothing


def test_values_are_bytes_and_text_is_utf_8(client, serve):
    server = serve(STORED)
    with client(server) as store:
        assert store.set("k", "ä") == 7
        store.set("k", b"\x00\xff")
        store.set("k", b"")

    assert [asked.body for asked in server.asked] == ["ä".encode(), b"\x00\xff", b""]
    assert server.connections == 1
    with pytest.raises(TypeError):
        store.set("k", 7)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a/b", "/kv/a%2Fb"),
        ("..", "/kv/.."),
        (".", "/kv/."),
        ("ä ?#%", "/kv/%C3%A4%20%3F%23%25"),
        (b"k", "/kv/k"),
        (b"\xff/\xc3", "/kv/%FF%2F%C3"),
        ("\udcff", "/kv/%FF"),
    ],
)
def test_any_key_reaches_the_server_as_it_is(client, serve, key, path):
    server = serve(Told(200, b"v"))

    assert client(server).get(key) == b"v"
    assert server.asked[0].target.partition("?")[0] == path


def test_an_empty_key_is_refused_before_it_would_mean_another_path(client, serve):
    with pytest.raises(ValueError, match="empty"):
        client(serve(STORED)).set("", b"")


def test_a_missing_key_is_a_default_or_a_key_error(client, serve):
    store = client(serve(MISSING))

    assert store.get("k") is None
    assert store.get("k", b"d") == b"d"
    assert store.get_record("k") is None
    assert store.delete("k") is False
    assert "k" not in store
    with pytest.raises(KeyError):
        store["k"]
    with pytest.raises(KeyError):
        del store["k"]


def test_mapping_style(client, serve):
    server = serve(STORED, Told(200, b"v"), Told(200, b""), json({"deleted": 1, "revision": 8}))
    store = client(server)
    store["k"] = b"v"

    assert store["k"] == b"v"
    assert "k" in store
    del store["k"]
    assert [asked.method for asked in server.asked] == ["PUT", "GET", "HEAD", "DELETE"]
    with pytest.raises(TypeError):
        len(store)


def test_a_record_tells_what_it_is(client, serve):
    headers = {"Raftkv-Node": "n2", "Raftkv-Consistency": "local", "Raftkv-Staleness-Ms": "12"}
    shown = {"key": "k", "value": {"base64": "AP8="}, "version": 2, "revision": 9, "create_revision": 4}
    record = client(serve(json(shown, headers=headers))).get_record("k", consistency="local")

    assert record.value == b"\x00\xff"
    assert (record.version, record.revision, record.create_revision) == (2, 9, 4)
    assert (record.node, record.consistency, record.staleness_ms) == ("n2", "local", 12)


def test_a_record_tells_how_long_it_has_left(client, serve):
    shown = {"key": "k", "value": "v", "version": 1, "revision": 1, "create_revision": 1}
    page = {"items": [{**shown, "ttl_left": 9.5}, shown], "next": None, "revision": 1}
    store = client(serve(json({**shown, "ttl_left": 59.25}), json(page)))

    assert store.get_record("k").ttl_left == 59.25
    assert [record.ttl_left for record in store.list()] == [9.5, None]


def test_a_listing_goes_from_page_to_page(client, serve):
    def item(key):
        return {"key": key, "value": key, "version": 1, "revision": 1, "create_revision": 1}

    pages = [
        {"items": [item("a"), item("b")], "next": "c", "revision": 5},
        {"items": [item("c")], "next": None, "revision": 6},
    ]
    server = serve(json(pages[0]), json(pages[1]), json(pages[0]))
    store = client(server)

    assert [(one.key, one.value) for one in store.list("", limit=3)] == [("a", b"a"), ("b", b"b"), ("c", b"c")]
    assert "start=c" in server.asked[1].target
    assert "limit=1&" in server.asked[1].target
    assert store.page().next == "c"


def test_keys_that_are_no_text_are_told_as_names_of_files_are_and_taken_so(client, serve):
    told = {"base64": "Yf8="}
    item = {"key": told, "value": "v", "version": 1, "revision": 1, "create_revision": 1}
    result = {"op": "get", "status": 200, **item}
    server = serve(
        json(item),
        json({"items": [item], "next": told, "revision": 5}),
        json({"items": [item], "next": None, "revision": 5}),
        json({"results": [result], "revision": 5}),
        json({"succeeded": True, "revision": 5, "results": [result]}),
    )
    store = client(server)
    record = store.get_record(b"a\xff")
    listed = list(store.list("a\udcff"))
    batch = store.batch([{"op": "get", "key": b"a\xff"}])
    with store.transaction() as transaction:
        transaction.require(key=record.key, value="v")
        transaction.get(record.key)
        transaction.list(prefix="a\udcff")

    assert record.key.encode(errors="surrogateescape") == b"a\xff"
    assert [one.key for one in listed] == [record.key, record.key]
    assert ["prefix=a%FF" in one.target for one in server.asked[1:3]] == [True, True]
    assert "start=a%FF" in server.asked[2].target
    assert batch[0]["key"] == transaction.results[0].key == record.key
    assert msgspec.json.decode(server.asked[3].body)["operations"] == [{"op": "get", "key": told}]
    sent = msgspec.json.decode(server.asked[4].body)
    assert [sent["compare"][0]["key"], sent["success"][0]["key"], sent["success"][1]["prefix"]] == [told, told, told]


def test_preconditions_time_to_live_and_acknowledgements_travel(client, serve):
    server = serve(STORED)
    store = client(server)
    store.set("k", b"", if_revision=7, ttl=1.5, acks="all")
    store.set("k", b"", if_absent=True)

    assert server.asked[0].headers["if-match"] == '"7"'
    assert "ttl=1.5&w=all" in server.asked[0].target
    assert server.asked[1].headers["if-none-match"] == "*"
    with pytest.raises(ValueError, match="exclude"):
        store.set("k", b"", if_absent=True, if_revision=1)


def test_a_failed_precondition_says_where_the_key_stands_and_is_not_retried(client, serve):
    server = serve(problem(412, "precondition_failed", "no", revision=9))

    with pytest.raises(PreconditionFailed) as failed:
        client(server).set("k", b"", if_revision=7)
    assert failed.value.revision == 9
    assert len(server.asked) == 1


def test_a_batch_carries_bytes_both_ways(client, serve):
    answer = {
        "results": [
            {"op": "put", "status": 201},
            {"op": "get", "status": 200, "value": {"base64": "AP8="}},
            {"op": "increment", "status": 200, "value": 8},
        ],
        "revision": 3,
    }
    server = serve(json(answer))
    results = client(server).batch([{"op": "put", "key": "a", "value": b"\x00\xff"}, {"op": "get", "key": "a"}])

    assert b'{"base64":"AP8="}' in server.asked[0].body
    assert results[1]["value"] == b"\x00\xff"
    assert results[2]["value"] == 8


def test_the_next_server_is_asked_when_one_is_down_and_is_stayed_with(client, serve):
    server = serve(Told(200, b"v"))
    store = client(unused_url(), server)

    assert store.get("k") == b"v"
    assert store.get("k") == b"v"
    assert server.connections == 1


@pytest.mark.parametrize("failure", [NO_LEADER, UNKNOWN, CUT])
def test_a_write_is_retried_with_the_same_idempotency_key(client, serve, failure):
    first, second = serve(failure), serve(STORED)

    assert client(first, second).set("k", b"v") == 7
    assert first.asked[0].headers["idempotency-key"] == second.asked[0].headers["idempotency-key"]


def test_two_writes_have_two_idempotency_keys(client, serve):
    server = serve(STORED)
    store = client(server)
    store.set("k", b"v")
    store.set("k", b"v")

    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 2


@pytest.mark.parametrize("failure", [UNKNOWN, CUT, problem(500, "internal_error", "unknown")])
def test_without_idempotency_a_write_in_doubt_is_never_sent_twice(client, serve, failure):
    first, second = serve(failure), serve(STORED)

    with pytest.raises(IndefiniteError):
        client(first, second, idempotent=False).set("k", b"v")
    assert (len(first.asked), len(second.asked)) == (1, 0)
    assert "idempotency-key" not in first.asked[0].headers


def test_without_idempotency_a_definite_failure_is_still_retried(client, serve):
    assert client(unused_url(), serve(NO_LEADER), serve(STORED), idempotent=False).set("k", b"v") == 7


def test_doubt_outlives_a_definite_failure_of_a_later_attempt(client, serve):
    with pytest.raises(IndefiniteError):
        client(serve(UNKNOWN), serve(NO_LEADER), timeout_s=0.3).set("k", b"v")


def test_a_verdict_of_the_cluster_ends_the_doubt(client, serve):
    with pytest.raises(PreconditionFailed):
        client(serve(CUT), serve(problem(412, "precondition_failed", "no", revision=9))).set("k", b"", if_revision=1)


def test_a_call_ends_by_its_deadline_and_says_what_it_knows(client, serve):
    for failing, kind in (
        (serve(NO_LEADER), DefiniteError),
        (serve(HANG), IndefiniteError),
        (unused_url(), DefiniteError),
    ):
        begun_s = time.monotonic()
        with pytest.raises(kind):
            client(failing, timeout_s=0.5).set("k", b"v")

        assert time.monotonic() - begun_s < 10  # an end, not a hang: a busy machine may take its time


def test_a_read_that_nobody_answers_is_definite(client, serve):
    with pytest.raises(DefiniteError, match="in time"):
        client(serve(HANG), timeout_s=0.3).get("k")


def test_one_hanging_server_does_not_take_the_time_of_the_others(client, serve):
    assert client(serve(HANG), serve(Told(200, b"v")), timeout_s=4.0).get("k") == b"v"


def test_a_hint_beyond_the_deadline_ends_the_call_at_once(client, serve):
    server = serve(problem(503, "disk_full", "no", {"Retry-After": "10"}))
    begun_s = time.monotonic()

    with pytest.raises(DefiniteError, match="disk_full"):
        client(server, timeout_s=9.0).set("k", b"v")
    assert time.monotonic() - begun_s < 8.0
    assert len(server.asked) == 1


def test_retry_after_is_waited_for(client, serve):
    server = serve(problem(429, "overloaded", "no", {"Retry-After": "1"}), STORED)
    begun_s = time.monotonic()
    client(server).set("k", b"v")

    assert time.monotonic() - begun_s >= 1.0


def test_a_mistake_is_not_retried(client, serve):
    server = serve(problem(413, "value_too_large", "no"))

    with pytest.raises(DefiniteError) as failed:
        client(server).set("k", b"v")
    assert failed.value.code == "value_too_large"
    assert len(server.asked) == 1


def test_retries_can_be_switched_off(client, serve):
    server = serve(NO_LEADER)

    with pytest.raises(DefiniteError):
        client(server, unused_url(), retry=False).get("k")
    assert len(server.asked) == 1


def test_an_answer_that_is_not_raftkv_is_told_apart(client, serve):
    for answer in (Told(200, b"<html>"), json({"items": 1}), json([])):
        with pytest.raises(DefiniteError) as failed:
            client(serve(answer)).page()
        assert failed.value.code == "bad_answer"


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.set("k", b"v"),
        lambda store: store.delete("k"),
        lambda store: store.batch([{"op": "delete", "key": "k"}]),
        lambda store: store.repair(),
    ],
)
def test_a_write_that_is_answered_in_other_words_may_have_been_applied(client, serve, write):
    for answer in (Told(200, b"<html>"), Told(200, b'{"deleted":'), json([])):
        with pytest.raises(IndefiniteError, match="may have been applied") as failed:
            write(client(serve(answer)))
        assert failed.value.code == "bad_answer"


def test_a_status_that_is_no_stream_is_told_at_once(client, serve):
    for answer in (json({"node": "n1"}), Told(200, b"<html>"), Dripping([b"a", HANG])):
        with pytest.raises(DefiniteError, match="no stream") as failed:
            next(client(serve(answer)).follow())
        assert failed.value.code == "bad_answer"


def test_redirects_are_not_followed(client, serve):
    elsewhere = serve(STORED)
    server = serve(Told(307, b"", {"Location": elsewhere.url}))

    with pytest.raises(DefiniteError):
        client(server, timeout_s=0.2).get("k")
    assert elsewhere.asked == []
