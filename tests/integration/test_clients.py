"""Both clients against real nodes: one story, told by each, so that neither promises what the other does not keep."""

import asyncio
import threading

import pytest

from raftkv import AsyncClient, Client, DefiniteError, IndefiniteError, PreconditionFailed, SiblingsFound
from tests.integration.processes import RealCluster, running
from tests.unit.awaited import Awaited

pytestmark = pytest.mark.integration

KINDS = pytest.mark.parametrize("kind", [Client, Awaited], ids=["blocking", "asyncio"])


@pytest.fixture(scope="module")
def raft(tmp_path_factory):
    with running(tmp_path_factory.mktemp("raft")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def leaderless(tmp_path_factory):
    home = tmp_path_factory.mktemp("leaderless")
    with running(home, mode="quorum", sections='[quorum]\nconflicts = "siblings"\n') as cluster:
        yield cluster


def servers(cluster: RealCluster) -> list[str]:
    return [cluster.url(node, "") for node in cluster.nodes]


@KINDS
def test_a_key_is_written_read_compared_and_removed(raft, kind):
    with kind(servers(raft), timeout_s=20.0) as store:
        store.delete("k")
        first = store.set("k", b"\x00\xff", if_absent=True)
        second = store.set("k", "ä", if_revision=first, acks="all")

        assert store.durability == "all"
        assert store.get("k") == "ä".encode()
        record = store.get_record("k", consistency="lease")
        assert (record.revision, record.create_revision, record.version) == (second, first, 2)
        with pytest.raises(PreconditionFailed) as failed:
            store.set("k", b"", if_revision=first)
        assert failed.value.revision == second
        assert "k" in store
        assert store.delete("k")
        assert not store.delete("k")
        assert store.get("k", b"none") == b"none"


@KINDS
def test_many_keys_are_written_at_once_and_listed_page_by_page(raft, kind, monkeypatch):
    monkeypatch.setattr("raftkv.client.portions.PAGE_LIMIT", 7)
    keys = [f"many/{number:02}" for number in range(20)]
    with kind(servers(raft), timeout_s=20.0) as store:
        results = store.batch([{"op": "put", "key": key, "value": key.encode()} for key in keys])

        assert {one["status"] for one in results} <= {200, 201}
        assert [one.key for one in store.list("many/")] == keys
        assert [one.value for one in store.list("many/", limit=10)] == [key.encode() for key in keys[:10]]
        assert store.page("many/", limit=3, keys_only=True).next is not None


@KINDS
def test_the_status_is_told_and_followed(raft, kind):
    with kind(servers(raft), timeout_s=20.0) as store:
        told, followed = store.status(), store.follow()

        assert told["mode"] == "raft"
        assert next(followed)["node"] in raft.nodes
        followed.close()
        assert {one["id"] for one in store.members()["members"]} == set(raft.nodes)


@KINDS
def test_a_node_that_stops_is_passed_over_and_no_write_is_lost_or_applied_twice(tmp_path, kind):
    with running(tmp_path) as cluster, kind(servers(cluster), timeout_s=30.0) as store:
        first = store.set("counted", b"0")
        killer = threading.Timer(0.3, lambda: cluster.kill(cluster.leader()))
        killer.start()
        for number in range(1, 200):
            store.set("counted", b"%d" % number)
        killer.join()
        record = store.get_record("counted")

        assert record.value == b"199"
        assert record.version == 200
        assert record.revision - first == 199


@KINDS
def test_without_a_majority_a_write_fails_as_definite_or_unknown_and_never_as_done(tmp_path, kind):
    with running(tmp_path) as cluster, kind(servers(cluster), timeout_s=3.0) as store:
        store.set("k", b"before")
        cluster.kill(*cluster.followers())
        with pytest.raises((DefiniteError, IndefiniteError)):
            store.set("k", b"after")
        assert store.get("k", consistency="local") == b"before"


@KINDS
def test_siblings_are_found_and_joined(leaderless, kind):
    with kind(servers(leaderless), timeout_s=20.0) as store:
        key = f"cart-{kind.__name__}"
        for value in (b"a", b"b"):
            store.set(key, value, acks=3)

        assert store.durability == "w=3"
        with pytest.raises(SiblingsFound) as found:
            store.get(key)
        store.set(key, b"a,b", acks=3, context=found.value.records[0].context)
        assert store.get(key, r=3) == b"a,b"


def test_tasks_by_the_hundred_share_one_client(raft):
    async def run():
        async with AsyncClient(servers(raft), timeout_s=30.0) as store:
            await asyncio.gather(*[store.set(f"task/{number}", f"{number}") for number in range(300)])
            found = await asyncio.gather(*[store.get(f"task/{number}") for number in range(300)])
            return [int(one) for one in found]

    assert asyncio.run(run()) == list(range(300))
