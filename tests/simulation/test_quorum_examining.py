"""What each node holds of a key, side by side: who is behind, what is kept for whom, who is silent, and who may ask."""

import pytest

from raftkv.core.requests import ShowReplicas, ShowRing
from raftkv.core.sights import Fate
from raftkv.core.status import ReplicaPart
from raftkv.frontend import wire
from raftkv.quorum.coordination.examining import HEAD_BYTES
from raftkv.quorum.membership.ring import turn_of
from tests.simulation.leaderless import Leaderless


def carried(outcome):
    """As a front-end in another process is given it."""
    frames = wire.reply_frames([wire.encode_item(wire.Reply(1, outcome))])
    ((reply,),) = [wire.decode_message(body).replies for body in wire.FrameReader().feed(frames)]
    return reply.outcome


def looked(cluster, node, key=b"k"):
    return carried(cluster.ask(node, ShowReplicas(key=key)))


def by_node(shown):
    return {one.node: one for one in shown.nodes}


def values(replica):
    return [one.head for one in replica.versions]


def test_all_replicas_are_shown_and_none_is_behind():
    cluster = Leaderless(5)
    cluster.put("n1", b"k", b"v", w=3)

    shown = looked(cluster, "n2")

    owners = cluster.replica("n1").owners(b"k")
    assert [one.node for one in shown.nodes[:3]] == list(owners)
    assert [one.part for one in shown.nodes] == [ReplicaPart.REPLICA] * 3 + [ReplicaPart.OTHER] * 2
    assert [values(one) for one in shown.nodes] == [[b"v"]] * 3 + [[]] * 2
    assert not any(one.is_behind for one in shown.nodes)
    assert (shown.turn, shown.n) == (turn_of(b"k"), 3)


def test_who_was_away_is_behind_and_who_keeps_it_for_it_says_so():
    cluster = Leaderless(3)
    cluster.put("n1", b"k", b"old", w=3)
    cluster.isolate("n3")
    cluster.run(5.0)
    cluster.put("n1", b"k", b"new")
    cluster.run(0.2)
    while_away = by_node(looked(cluster, "n1"))
    cluster.heal()
    cluster.run(0.05)

    assert while_away["n3"].fate is Fate.LOST
    (hint,) = while_away["n1"].hints
    assert (hint.target, hint.counter) == ("n3", while_away["n1"].versions[-1].counter)
    cluster.run_until_level()
    level = by_node(looked(cluster, "n1"))
    assert [values(one) for one in level.values()] == [[b"new"]] * 3
    assert all(one.hints == () for one in level.values())


def test_who_holds_less_is_behind_and_looking_repairs_nothing():
    cluster = Leaderless(3, max_hints=0, anti_entropy_s=3600.0)
    cluster.isolate("n3")
    cluster.run(5.0)
    cluster.put("n1", b"k", b"v")
    cluster.heal()
    cluster.run(2.0)

    for _ in range(3):
        shown = by_node(looked(cluster, "n1"))
        cluster.run(0.5)

    assert {node: one.is_behind for node, one in shown.items()} == {"n1": False, "n2": False, "n3": True}
    assert cluster.held("n3") == {}
    cluster.get("n1", b"k", r=3)
    cluster.run(0.5)
    assert not any(one.is_behind for one in looked(cluster, "n1").nodes)


def test_siblings_are_shown_with_what_each_replica_has_seen():
    cluster = Leaderless(3, conflicts="siblings")
    cluster.put("n1", b"k", b"one")
    cluster.put("n2", b"k", b"two")
    cluster.run_until_level()

    shown = looked(cluster, "n3")

    assert all(sorted(values(one)) == [b"one", b"two"] for one in shown.nodes)
    assert all(len(one.seen) == 2 for one in shown.nodes)
    assert not any(one.is_behind for one in shown.nodes)


def test_a_deletion_is_shown_as_one_and_a_long_value_by_its_head():
    cluster = Leaderless(3)
    cluster.put("n1", b"long", "é".encode() * 5000, w=3)
    cluster.put("n1", b"k", b"v", w=3)
    cluster.delete("n1", b"k", w=3)

    (long,) = looked(cluster, "n1", b"long").nodes[0].versions
    assert values(looked(cluster, "n1").nodes[0]) == [None]
    assert long.size_bytes == 10_000
    assert long.head.decode() == "é" * (HEAD_BYTES // 2)


def test_who_is_silent_is_told_as_silent_and_the_answer_comes_all_the_same():
    cluster = Leaderless(3)
    cluster.put("n1", b"k", b"v", w=3)
    cluster.isolate("n3")

    shown = by_node(looked(cluster, "n1"))

    assert shown["n3"].fate in (Fate.SILENT, Fate.LOST)
    assert [shown[node].fate for node in ("n1", "n2")] == [Fate.HOLDS, Fate.HOLDS]


@pytest.mark.parametrize("protocol", [0, 4])
def test_nodes_of_older_versions_are_asked_as_a_read_does(protocol):
    cluster = Leaderless(3)
    cluster.put("n1", b"k", b"v", w=3)
    requests = cluster.replica("n1").parts.requests
    requests.speaks = lambda peer: protocol if peer == "n3" else 5

    shown = by_node(looked(cluster, "n1"))

    assert [values(one) for one in shown.values()] == [[b"v"]] * 3
    assert {node: one.hints for node, one in shown.items()} == {"n1": (), "n2": (), "n3": None}


def test_one_alone_answers_for_itself_and_its_ring_is_all_of_it():
    cluster = Leaderless(1, n=1, r=1, w=1)
    cluster.put("n1", b"k", b"v")

    ring = carried(cluster.ask("n1", ShowRing()))

    assert [one.node for one in looked(cluster, "n1").nodes] == ["n1"]
    assert (ring.nodes, {place for _, place in ring.tokens}, ring.n) == (("n1",), {0}, 1)
    assert list(ring.tokens) == sorted(ring.tokens)
    assert all(0 <= turn < 1 for turn, _ in ring.tokens)


def test_the_ring_says_whose_a_key_is():
    cluster = Leaderless(5)
    ring = carried(cluster.ask("n1", ShowRing()))
    for number in range(50):
        key = b"key %d" % number
        where = turn_of(key)
        after = [place for token, place in ring.tokens if token >= where] + [place for _, place in ring.tokens]
        owners = list(dict.fromkeys(ring.nodes[place] for place in after))[: ring.n]

        assert tuple(owners) == cluster.replica("n1").owners(key)
