"""What leaderless nodes show of what they do is what they did: samples of what happened, exact counts, bounded."""

from itertools import pairwise

from raftkv.core.errors import Refused, Unknown
from raftkv.core.requests import Put, Write
from raftkv.core.sights import Fate, SampleKind
from raftkv.quorum.data.store import Store
from raftkv.quorum.data.versions import CONFLICTS
from raftkv.quorum.sampling import PACE_S, SAMPLES_MAX, WATCHED_S
from tests.simulation.leaderless import Leaderless


def samples_of(cluster, node, kind, after=0):
    return [one for one in cluster.replica(node).show_work(after).samples if one.kind is kind]


def fates(sample):
    return {one.node: one.fate for one in sample.asked}


def tried(cluster, node, key, **more):
    return cluster.ask(node, Write(operations=(Put(key=key, value=b"v"),), **more))


def test_nothing_is_sampled_while_nobody_looks_and_all_is_counted():
    cluster = Leaderless(3)
    for number in range(20):
        cluster.put("n1", b"key %d" % number, b"v")
        cluster.get("n1", b"key %d" % number)

    work = cluster.replica("n1").show_work(0)

    assert (work.samples, work.tally.writes, work.tally.reads) == ((), 20, 20)
    assert (work.tally.writes_failed, work.tally.reads_failed) == (0, 0)


def test_a_sample_says_who_took_the_write_and_tells_of_no_key():
    cluster = Leaderless(3)
    cluster.replica("n1").show_work(0)
    cluster.put("n1", b"a secret name", b"a secret value")
    cluster.run(0.1)

    (sample,) = samples_of(cluster, "n1", SampleKind.WRITE)

    assert fates(sample) == dict.fromkeys(("n1", "n2", "n3"), Fate.HOLDS)
    assert (sample.done, sample.needed, sample.count) == (True, 2, 1)
    assert b"secret" not in repr(sample).encode()
    assert round(sample.turn, 3) == sample.turn


def test_a_write_that_nobody_took_is_told_as_none():
    cluster = Leaderless(3, sloppy=False)
    cluster.isolate("n1")
    cluster.run(5.0)
    cluster.replica("n1").show_work(0)

    outcome = tried(cluster, "n1", b"k")

    assert isinstance(outcome, Refused)
    (sample,) = samples_of(cluster, "n1", SampleKind.WRITE)
    assert (sample.done, sample.asked) == (False, ())
    tally = cluster.replica("n1").show_work(0).tally
    assert (tally.writes, tally.writes_failed) == (0, 1)


def test_a_write_whose_replicas_fall_silent_is_told_as_not_done():
    cluster = Leaderless(3, sloppy=False)
    cluster.replica("n1").show_work(0)
    cluster.isolate("n1")

    outcome = tried(cluster, "n1", b"k")

    assert isinstance(outcome, Unknown)
    (sample,) = samples_of(cluster, "n1", SampleKind.WRITE)
    assert not sample.done
    assert {fates(sample)[node] for node in ("n2", "n3")} <= {Fate.SILENT, Fate.LOST}


def test_hints_are_seen_to_come_and_to_be_handed_over():
    cluster = Leaderless(3)
    cluster.isolate("n3")
    cluster.run(5.0)
    for node in ("n1", "n2"):
        cluster.replica(node).show_work(0)
    for number in range(5):
        cluster.put("n1", b"key %d" % number, b"v" * 100)
    cluster.run(0.2)
    sample = samples_of(cluster, "n1", SampleKind.WRITE)[0]
    (kept,) = [one for one in cluster.replica("n1").status().members if one.id == "n3"]
    assert (sample.hinted, kept.hints) == (("n3",), 5)
    assert 5 * 100 < kept.hint_bytes < 5 * 200
    assert cluster.replica("n1").show_work(0).tally.hints_kept == 5

    cluster.heal()
    handed = []
    for _ in range(50):
        cluster.run(0.2)
        known = handed[-1].number if handed else 0
        handed += samples_of(cluster, "n1", SampleKind.HINTS, known)

    assert sum(one.count for one in handed) == 5
    assert all(fates(one) == {"n3": Fate.HOLDS} for one in handed)
    (kept,) = [one for one in cluster.replica("n1").status().members if one.id == "n3"]
    assert (kept.hints, kept.hint_bytes) == (0, 0)
    assert cluster.replica("n1").show_work(0).tally.hints_given == 5


def test_hints_are_counted_again_after_it_is_opened_again():
    cluster = Leaderless(3)
    cluster.isolate("n3")
    cluster.run(5.0)
    for number in range(5):
        cluster.put("n1", b"key %d" % number, b"v" * 100)
    cluster.run(0.2)
    store = cluster.replica("n1").store

    again = Store(cluster.machines["n1"].keeps.engine, CONFLICTS["lww"])

    assert again.hint_count("n3") == store.hint_count("n3") == 5
    assert again.hint_bytes("n3") == store.hint_bytes("n3") > 500


def test_a_read_that_mends_a_replica_says_which():
    cluster = Leaderless(3, max_hints=0, anti_entropy_s=3600.0)
    cluster.isolate("n3")
    cluster.run(5.0)
    cluster.put("n1", b"k", b"v")
    cluster.heal()
    cluster.run(2.0)
    cluster.replica("n1").show_work(0)
    assert cluster.held("n3") == {}

    cluster.get("n1", b"k", r=3)
    cluster.run(0.2)

    (sample,) = samples_of(cluster, "n1", SampleKind.READ)
    assert fates(sample) == {"n1": Fate.HOLDS, "n2": Fate.HOLDS, "n3": Fate.BEHIND}
    assert cluster.held("n3") == {b"k": b"v"}
    assert cluster.replica("n1").show_work(0).tally.repairs == 1


def test_a_read_that_asks_who_stands_in_for_another_mends_nobody():
    cluster = Leaderless(5)
    cluster.put("n1", b"k", b"v", w=3)
    owners = cluster.replica("n1").owners(b"k")
    reader = next(name for name in cluster.machines if name not in owners)
    for name in owners[:2]:
        cluster.isolate(name)
    cluster.run(5.0)
    cluster.replica(reader).show_work(0)

    assert cluster.get(reader, b"k") == b"v"
    cluster.run(0.5)

    (sample,) = samples_of(cluster, reader, SampleKind.READ)
    asked = {one.fate for one in sample.asked if one.stands_for}
    assert asked
    assert asked <= {Fate.ANSWERED, Fate.ASKED}
    assert cluster.replica(reader).show_work(0).tally.repairs == 0


def test_an_exchange_says_what_it_moved():
    cluster = Leaderless(2, n=2, r=1, w=1, max_hints=0)
    cluster.isolate("n1")
    cluster.run(4.0)
    for number in range(7):
        cluster.put("n2", b"key %d" % number, b"v")
    cluster.heal()
    moved = []
    for _ in range(50):
        cluster.run(0.2)
        for node in ("n1", "n2"):
            moved += [one for one in samples_of(cluster, node, SampleKind.EXCHANGE) if one.received or one.sent]

    tallies = [cluster.replica(node).show_work(0).tally for node in ("n1", "n2")]
    assert len(cluster.held("n1")) == 7
    assert 7 <= tallies[0].received + tallies[1].sent <= 14  # both may have found it out at once
    assert (tallies[0].sent, tallies[1].received) == (0, 0)
    assert moved
    assert all(0 < one.differing <= one.ranges for one in moved)


def test_what_is_kept_of_samples_is_bounded_and_paced():
    cluster = Leaderless(3)
    for number in range(8 * SAMPLES_MAX):
        cluster.replica("n1").show_work(0)
        cluster.put("n1", b"key %d" % (number % 10), b"v")
        cluster.run(PACE_S / 4)

    work = cluster.replica("n1").show_work(0)
    times_ms = [one.at_ms for one in work.samples if one.kind is SampleKind.WRITE]

    assert len(work.samples) == SAMPLES_MAX
    assert work.tally.writes == 8 * SAMPLES_MAX
    assert min(after - before for before, after in pairwise(times_ms)) >= 1000 * PACE_S - 1
    cluster.run(WATCHED_S + 1.0)
    known = cluster.replica("n1").parts.sampling._number
    cluster.put("n1", b"later", b"v")
    cluster.run(3.0)
    assert cluster.replica("n1").show_work(known).samples == ()
