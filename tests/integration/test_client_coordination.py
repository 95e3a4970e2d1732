"""What both clients offer beside keys, against real nodes."""

import threading

import pytest

from raftkv import Client, DefiniteError, LockHeld, LockLost, RequirementFailed, RevisionCompacted
from tests.integration.processes import RealCluster, running
from tests.unit.awaited import Awaited

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def raft(tmp_path_factory):
    with running(tmp_path_factory.mktemp("raft")) as cluster:
        yield cluster


def servers(cluster: RealCluster) -> list[str]:
    return [cluster.url(node, "") for node in cluster.nodes]


@pytest.fixture(params=[Client, Awaited], ids=["blocking", "asyncio"])
def store(request, raft):
    with request.param(servers(raft), timeout_s=20.0) as opened:
        opened.set("begun", b"")  # history begins with the first write after all read it
        yield opened
        for record in opened.list(keys_only=True):
            opened.delete(record.key)


def test_the_past_is_read_until_it_is_compacted(store):
    first = store.set("p/a", b"1")
    second = store.set("p/a", b"2")
    store.set("p/b", b"3")

    assert store.get("p/a", revision=first) == b"1"
    assert [(one.key, one.value) for one in store.list("p/", revision=second)] == [("p/a", b"2")]
    assert store.delete_prefix("p/") == 2
    assert [one.key for one in store.list("p/")] == []
    assert store.compact(second) == second
    with pytest.raises(RevisionCompacted) as failed:
        store.get("p/a", revision=first)
    assert failed.value.oldest == second


def test_a_counter_counts_within_its_bounds(store):
    assert [store.increment("n", by) for by in (1, 5, -2)] == [1, 6, 4]
    assert store.get("n") == b"4"
    with pytest.raises(DefiniteError) as failed:
        store.increment("n", maximum=4)
    assert failed.value.code == "out_of_bounds"


def test_a_touch_prolongs_a_life_and_changes_no_revision(store):
    revision = store.set("t", b"v", ttl=30)

    assert store.touch("t", 1000)
    record = store.get_record("t")
    assert record.revision == revision
    assert record.ttl_left > 500
    assert store.touch("t", None)
    assert store.get_record("t").ttl_left is None
    assert not store.touch("nobody", 5)


def test_a_transaction_is_done_together_or_not_at_all(store):
    revision = store.set("a", b"1")
    with store.transaction() as t:
        t.require("a", revision=revision, value="1")
        t.require(prefix="none/", exists=False)
        t.set("a", b"\xff")
        t.get("a")
        t.increment("n", 3)
        t.list("a")
        t.delete("gone")

    assert t.succeeded
    assert [one.status for one in t.results] == [200, 200, 201, 200, 404]
    assert t.results[1].value == b"\xff"
    assert t.results[2].count == 3
    assert t.results[3].records[0].key == "a"
    assert store.get_record("a").revision == t.revision == revision + 1

    t = store.transaction()
    t.require("a", revision=revision)
    t.delete("a")
    with pytest.raises(RequirementFailed) as failed, t:
        pass
    assert failed.value.revision == t.revision
    with store.transaction() as t:
        t.require("a", revision=revision)
        t.otherwise().get("a")
    assert (t.succeeded, t.results[0].value) == (False, b"\xff")


def test_a_lease_takes_its_keys_with_it(store):
    with store.lease(10) as lease:
        with_it = getattr(lease, "awaited", lease)
        store.set("service/1", b"here", lease=with_it)
        assert store.get_record("service/1").lease == lease.id
        assert 0 < lease.left_s() < 10
    assert store.get("service/1") is None


def test_a_lock_has_one_holder_and_a_token_that_grows(store):
    with store.lock("job", holder="first") as first:
        with pytest.raises(LockHeld) as failed, store.lock("job", wait=0):
            pass
        assert [(one.holder, one.token) for one in failed.value.holders] == [("first", first.token)]
        token = first.token
    with store.lock("job", wait=20) as second:
        assert second.token > token


def test_a_lock_is_waited_for(store, raft):
    order = []
    with Client(servers(raft), timeout_s=20.0) as other:
        first = other.lock("turn")
        first.acquire()
        timer = threading.Timer(1.0, lambda: (order.append("released"), first.release()))
        timer.start()
        with store.lock("turn", wait=60):
            order.append("held")
        timer.join()

    assert order == ["released", "held"]


def test_a_semaphore_has_as_many_holders_as_permits(store):
    third = store.semaphore("pool", 2, wait=0)
    with store.semaphore("pool", 2), store.semaphore("pool", 2), pytest.raises(LockHeld):
        third.acquire()
    with store.semaphore("pool", 2, wait=0) as permit:
        assert permit.token


def test_an_election_has_one_leader_who_is_known(store):
    election = store.election("workers")
    assert election.leader() is None
    with election.campaign("one") as lead:
        assert election.leader().value == b"one"
        assert election.leader().token == lead.token
        lead.proclaim("uno")
        assert election.leader().value == b"uno"
        with pytest.raises(LockHeld), election.campaign("two", wait=0):
            pass
    assert election.leader() is None


@pytest.mark.parametrize("kind", [Client, Awaited], ids=["blocking", "asyncio"])
def test_a_lock_survives_the_leader_and_is_lost_without_a_majority_before_its_end(tmp_path, kind):
    with running(tmp_path) as cluster, kind(servers(cluster), timeout_s=20.0) as store:
        store.set("begun", b"")
        lost = threading.Event()
        lock = store.lock("job", ttl=8, on_lost=lost.set)
        lock.acquire()
        cluster.kill(cluster.leader())
        store.set("k", b"v")
        assert not lock.is_lost

        cluster.kill(cluster.leader())
        assert lost.wait(60)
        with pytest.raises(LockLost):
            lock.check()


def test_what_changes_is_told_in_order_and_a_transaction_whole(store):
    begun = store.set("w/a", b"1")
    with store.transaction() as t:
        t.set("w/a", b"2")
        t.set("w/b", b"3")
    store.delete("w/a")
    with store.watch(prefix="w/", from_revision=begun, previous=True) as watch:
        found = [next(watch) for _ in range(4)]

    assert [(one.type, one.key, one.value, one.previous) for one in found] == [
        ("put", "w/a", b"1", None),
        ("put", "w/a", b"2", b"1"),
        ("put", "w/b", b"3", None),
        ("delete", "w/a", None, b"2"),
    ]
    assert found[1].revision == found[2].revision == t.revision


def test_a_watch_of_a_forgotten_revision_says_which_is_the_oldest(store):
    store.set("w/a", b"1")
    newest = store.set("w/a", b"2")
    store.compact(newest)
    with pytest.raises(RevisionCompacted) as failed:
        next(store.watch(prefix="w/", from_revision=1))
    assert failed.value.oldest == newest


def test_a_mirror_is_the_state_and_all_that_follows(store):
    store.set("m/a", b"1")
    with store.mirror("m/") as states:
        assert next(states) == {"m/a": b"1"}
        store.set("m/b", b"2")
        assert next(states) == {"m/a": b"1", "m/b": b"2"}
        store.delete_prefix("m/")
        assert next(states) == {}


@pytest.mark.parametrize("kind", [Client, Awaited], ids=["blocking", "asyncio"])
def test_a_watch_goes_on_without_a_gap_while_each_node_is_killed_in_turn(tmp_path, kind):
    with running(tmp_path) as cluster, kind(servers(cluster), timeout_s=30.0) as store:
        first = store.set("w/n", b"0")
        watch = store.watch(prefix="w/", from_revision=first)
        found = [next(watch).value]
        for number, node in enumerate(cluster.nodes):
            cluster.kill(node)
            for step in range(10):
                store.set("w/n", b"%d" % (10 * number + step + 1))
            found += [next(watch).value for _ in range(10)]
            cluster.start(node)
            cluster.wait_ready()
        watch.close()

    assert [int(value) for value in found] == list(range(31))


@pytest.mark.parametrize("kind", [Client, Awaited], ids=["blocking", "asyncio"])
def test_every_leader_is_observed_in_order_while_the_node_that_tells_of_it_and_leads_is_killed(tmp_path, kind):
    with running(tmp_path) as cluster, kind(servers(cluster), timeout_s=30.0) as store:
        store.set("begun", b"")
        first = cluster.leader()
        election, tokens = store.election("workers"), []
        told = [cluster.url(node, "") for node in (first, *cluster.followers())]
        with kind(told, timeout_s=30.0) as other, other.election("workers").observe() as observed:
            assert next(observed) is None
            for number in range(6):
                if number == 3:
                    cluster.kill(first)
                with election.campaign(f"host-{number}") as lead:
                    lead.proclaim(f"ready-{number}")
                    tokens.append(lead.token)
            found = [next(observed) for _ in range(18)]

        shown = [None if one is None else (one.value.decode(), one.token) for one in found]
        assert tokens == sorted(set(tokens))
        assert shown == [
            told
            for number, token in enumerate(tokens)
            for told in ((f"host-{number}", token), (f"ready-{number}", token), None)
        ]
