"""The client against a cluster without a leader: replicas, siblings, contexts, and writes that no key protects."""

import pytest

from raftkv import DefiniteError, IndefiniteError, SiblingsFound
from tests.unit.fake_server import CUT, json, problem, unused_url

STORED = json({"key": "k", "version": 7, "revision": 7, "node": "n2"}, 201, {"Raftkv-Durability": "w=2"})
NO_KEYS = problem(400, "not_supported", "no")
NO_QUORUM = problem(503, "quorum_unreachable", "no")
READ = {
    "Raftkv-Node": "n1",
    "Raftkv-Consistency": "eventual",
    "Raftkv-Replicas": "n1,n3",
    "Raftkv-Context": "c2Vlbg",
    "Raftkv-Staleness-Ms": "unknown",
}
RECORD = json({"key": "k", "value": "v", "version": 7, "revision": 7, "create_revision": 7, "node": "n2"}, 200, READ)
SIBLINGS = json(
    {
        "key": "k",
        "siblings": [
            {"value": "one", "version": 3, "revision": 3, "node": "n1"},
            {"value": {"base64": "/w=="}, "version": 4, "revision": 4, "node": "n2"},
        ],
    },
    300,
    READ,
)


def query(asked):
    return asked.target.partition("?")[2].partition("timeout=")[0].rstrip("&")


def test_reads_and_writes_name_their_replicas(client, serve):
    server = serve(RECORD, STORED, STORED)
    with client(server, idempotent=False) as store:
        store.get("k", r=1, n=2, sloppy=False)
        store.set("k", "v", acks=3, n=3, sloppy=True)
        store.delete("k", acks="all", sloppy=False)

    assert [query(asked) for asked in server.asked] == ["r=1&n=2&sloppy=0", "w=3&n=3&sloppy=1", "w=all&sloppy=0"]


def test_a_record_says_who_made_it_and_who_answered(client, serve):
    with client(serve(RECORD)) as store:
        record = store.get_record("k")

    assert (record.value, record.revision, record.writer, record.node) == (b"v", 7, "n2", "n1")
    assert (record.replicas, record.context, record.consistency) == (("n1", "n3"), "c2Vlbg", "eventual")
    assert record.staleness_ms is None


def test_siblings_are_never_taken_for_one_value(client, serve):
    with client(serve(SIBLINGS)) as store:
        records = store.get_records("k")
        for read in (store.get, store.get_record, store.__getitem__):
            with pytest.raises(SiblingsFound) as found:
                read("k")
            assert found.value.records == records
        assert "k" in store

    assert [(one.value, one.revision, one.writer) for one in records] == [(b"one", 3, "n1"), (b"\xff", 4, "n2")]
    assert {one.context for one in records} == {"c2Vlbg"}


def test_a_write_brings_the_context_it_is_given(client, serve):
    server = serve(STORED)
    with client(server, idempotent=False) as store:
        store.set("k", "v", context="c2Vlbg")
        store.delete("k", context="c2Vlbg")
        store.set("k", "v")

    assert [asked.headers.get("raftkv-context") for asked in server.asked] == ["c2Vlbg", "c2Vlbg", None]


def test_where_keys_of_idempotency_are_refused_writes_go_without_and_it_is_remembered(client, serve):
    server = serve(NO_KEYS, STORED)
    with client(server) as store:
        assert store.set("k", "v") == 7
        assert store.durability == "w=2"
        store.set("k", "w")

    assert ["idempotency-key" in asked.headers for asked in server.asked] == [True, False, False]


def test_what_is_refused_without_a_key_as_well_was_not_refused_for_the_key(client, serve):
    server = serve(NO_KEYS, NO_KEYS, STORED)
    with client(server) as store:
        with pytest.raises(DefiniteError, match="not_supported"):
            store.set("k", "v", if_revision=3)
        store.set("k", "v")

    assert ["idempotency-key" in asked.headers for asked in server.asked] == [True, False, True]


def test_doubt_about_a_write_without_a_key_is_raised_at_once(client, serve):
    server = serve(NO_KEYS, CUT)
    with client(server) as store:
        for _ in range(2):
            with pytest.raises(IndefiniteError):
                store.set("k", "v")

    assert ["idempotency-key" in asked.headers for asked in server.asked] == [True, False, False]


@pytest.mark.parametrize("is_first", [True, False])
def test_what_a_server_said_counts_for_more_than_one_that_is_gone(client, serve, is_first):
    server = serve(NO_QUORUM)
    servers = [server, unused_url()] if is_first else [unused_url(), server]
    with client(*servers, timeout_s=0.8) as store:
        for call in (lambda: store.get("k"), lambda: store.set("k", "v")):
            with pytest.raises(DefiniteError) as failed:
                call()
            assert failed.value.code == "quorum_unreachable"


MEMBER = {"id": "n1", "http": "h:1", "peer": "h:2", "reachable": None, "of a newer server": 1}


def test_members_come_and_go(client, serve):
    members = json({"members": [MEMBER], "leader": None})
    server = serve(members)
    with client(server) as store:
        assert store.members()["members"] == [MEMBER]
        store.add_member("n4", http="h:1", peer="h:2", zone="z")
        store.remove_member("n 4")

    assert [(asked.method, asked.target.partition("?")[0]) for asked in server.asked] == [
        ("GET", "/cluster/members"),
        ("POST", "/cluster/members"),
        ("DELETE", "/cluster/members/n%204"),
    ]
    assert server.asked[1].body == b'{"id":"n4","http":"h:1","peer":"h:2","zone":"z"}'


def test_who_is_not_there_cannot_leave(client, serve):
    server = serve(problem(404, "not_found", "no"))
    with client(server) as store, pytest.raises(DefiniteError, match="it is not_found"):
        store.remove_member("n9")


def test_a_repair_is_asked_for_once(client, serve):
    server = serve(CUT)
    with client(server) as store, pytest.raises(IndefiniteError):
        store.repair()

    assert [asked.target.partition("?")[0] for asked in server.asked] == ["/cluster/repair"]
