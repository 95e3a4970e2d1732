"""What the leaderless mode does not promise, each shown as it happens; ``docs/quorum.rst`` names them.

These tests say what is, not what should be: if one fails, the documents promise too little.
"""

from raftkv.core.results import Written
from tests.simulation.leaderless import Leaderless


def test_a_read_misses_an_acknowledged_write_where_r_and_w_do_not_exceed_n():
    cluster = Leaderless(3, n=3)
    cluster.put("n1", b"k", b"old", w=3)
    cluster.isolate("n3")
    acknowledged = cluster.put("n1", b"k", b"new", w=2)

    assert isinstance(acknowledged, Written)
    assert cluster.get("n3", b"k", r=1) == b"old"


def test_a_client_does_not_read_its_own_write_where_fallbacks_took_it():
    cluster = Leaderless(6, n=3, suspect_after_s=0.5)
    key = b"k"
    primaries = cluster.replica("n1").owners(key)
    others = [name for name in cluster.machines if name not in primaries]
    cluster.put(others[0], key, b"old", w=3)
    cluster.cut(primaries, others)
    cluster.run(4.0)
    acknowledged = cluster.put(others[0], key, b"new", w=2)

    assert acknowledged.hinted == 2
    assert cluster.get(primaries[0], key, r=2) == b"old"

    cluster.heal()
    cluster.run_until_level()

    assert cluster.get(primaries[0], key, r=2) == b"new"


def test_of_two_writers_who_read_the_same_one_is_lost_where_the_last_wins():
    cluster = Leaderless(3)
    cluster.put("n1", b"count", b"1")
    before = [cluster.get(node, b"count", r=2) for node in ("n1", "n2")]
    outcomes = [cluster.put(node, b"count", b"2 by %s" % node.encode()) for node in ("n1", "n2")]

    assert before == [b"1", b"1"]
    assert all(isinstance(outcome, Written) for outcome in outcomes)
    assert cluster.get("n3", b"count", r=2) == b"2 by n2"


def test_both_writers_are_kept_where_siblings_are():
    cluster = Leaderless(3, conflicts="siblings")
    cluster.put("n1", b"count", b"1")
    contexts = [cluster.read(node, b"count", r=2).context for node in ("n1", "n2")]
    for node, context in zip(("n1", "n2"), contexts, strict=True):
        cluster.put(node, b"count", b"2 by %s" % node.encode(), context=context)

    assert cluster.get("n3", b"count", r=2) == [b"2 by n1", b"2 by n2"]


def test_a_write_that_one_replica_acknowledged_is_lost_with_its_disk():
    cluster = Leaderless(3)
    cluster.put("n1", b"k", b"old", w=3)
    cluster.isolate("n1")
    cluster.run(4.0)
    acknowledged = cluster.put("n1", b"k", b"new", w=1, sloppy=False)
    cluster.mode.lose_disk("n1")
    cluster.heal()
    cluster.restart("n1")
    cluster.run_until_level()

    assert acknowledged.replicas == ("n1",)
    assert [cluster.held(node)[b"k"] for node in cluster.machines] == [b"old"] * 3


def test_a_write_is_lost_to_an_earlier_one_where_a_majority_of_clocks_is_ahead_and_w_and_w_do_not_exceed_n():
    cluster = Leaderless(3, clock_ahead_s=10.0)
    cluster.machines["n1"].wall_offset_s = cluster.machines["n2"].wall_offset_s = 5.0
    cluster.run(1.0)
    cluster.isolate("n1")
    cluster.machines["n2"].wall_offset_s = 0.0
    cluster.run(0.5)
    first = cluster.put("n1", b"k", b"first", w=1, sloppy=False)
    cluster.run(1.0)
    second = cluster.put("n2", b"k", b"second", w=1, sloppy=False)
    cluster.heal()
    cluster.run_until_level()

    assert isinstance(first, Written)
    assert isinstance(second, Written)
    assert cluster.get("n3", b"k", r=3) == b"first"


def test_a_deleted_key_comes_back_from_a_replica_that_was_cut_off_for_longer_than_the_grace():
    cluster = Leaderless(3, tombstone_grace_s=4.0)
    cluster.put("n1", b"k", b"value", w=3)
    cluster.isolate("n3")
    cluster.run(4.0)
    cluster.delete("n1", b"k", w=2)

    assert cluster.get("n1", b"k", r=2) is None

    cluster.run(10.0)
    cluster.heal()
    cluster.run_until_level()

    assert cluster.get("n1", b"k", r=2) == b"value"


def test_a_deleted_key_stays_deleted_within_the_grace():
    cluster = Leaderless(3, tombstone_grace_s=400.0)
    cluster.put("n1", b"k", b"value", w=3)
    cluster.isolate("n3")
    cluster.run(4.0)
    cluster.delete("n1", b"k", w=2)
    cluster.run(10.0)
    cluster.heal()
    cluster.run_until_level()

    assert [cluster.held(node)[b"k"] for node in cluster.machines] == [None] * 3
