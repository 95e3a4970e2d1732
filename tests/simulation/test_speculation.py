"""Reads that ask R replicas first: who is late, what its late answer is good for, and how long is waited for it."""

import pytest

from raftkv.core.requests import Consistency, Get, Read, StoreHere
from raftkv.quorum.coordination.speculation import ALL_ASKED_EVERY, DELAY_MOST_PART
from tests.simulation.leaderless import Leaderless

LATENCY_S = 0.001
WARMING_COUNT = 40


def calm(**settings):
    """A cluster on an even network, nothing repaired but by reads; who n1 asks first, beside itself, and who last."""
    cluster = Leaderless(3, anti_entropy_s=1000.0, max_hints=0, **settings)
    cluster.network.latency_s = (LATENCY_S, LATENCY_S)
    cluster.put("n1", b"k", b"old", w=3)
    for _ in range(WARMING_COUNT):
        cluster.read("n1", b"k")
    first, last = asked_of(cluster)
    return cluster, first, last


def asked_of(cluster):
    """Who is asked first, beside n1, and who is left; of three reads one at most asks all."""
    seen = [cluster.read("n1", b"k").replicas for _ in range(3)]
    return tuple(sorted(["n2", "n3"], key=lambda node: -sum(node in replicas for replicas in seen)))


def speculation_of(cluster):
    return cluster.replica("n1").parts.speculation


def timed(cluster, key=b"k"):
    """A read at n1: its answer, and how long it took."""
    began_s = cluster.now_s
    pending = cluster.submit("n1", Read(query=Get(key=key), consistency=Consistency.EVENTUAL), 5.0)
    cluster.run_until(lambda: pending.outcome is not None)
    return pending.outcome, cluster.now_s - began_s


def hold(cluster, node, value):
    """``node`` alone takes ``value``."""
    cluster.ask(node, StoreHere(key=b"k", value=value))


def test_when_the_first_replica_is_slow_another_is_asked_and_that_one_asked_last_until_it_is_quick_again():
    cluster, first, last = calm()
    cluster.network.slow(first, "n1", 100.0)
    before_count = speculation_of(cluster).asked_count
    answer, took_s = timed(cluster)
    afterwards = [cluster.read("n1", b"k").replicas for _ in range(5)]

    assert set(answer.replicas) == {"n1", last}
    assert took_s < cluster.mode.settings.silence_s * DELAY_MOST_PART
    assert all(last in replicas for replicas in afterwards)
    assert speculation_of(cluster).asked_count == before_count + 1
    assert cluster.replica("n1").status().speculative_reads == before_count + 1

    cluster.network.slow(first, "n1", 1.0)
    cluster.run(1.0)
    for _ in range(2 * ALL_ASKED_EVERY):
        cluster.read("n1", b"k")

    assert asked_of(cluster) == (first, last)


@pytest.mark.parametrize("fault", ["paused", "cut off", "ended"])
def test_when_the_first_replica_does_not_answer_another_is_asked_before_it_counts_as_silent(fault):
    cluster, first, last = calm(sloppy=False)
    if fault == "paused":
        cluster.pause(first)
    elif fault == "cut off":
        cluster.isolate(first)
    else:
        cluster.kill(first, power=True)
    answer, took_s = timed(cluster)

    assert set(answer.replicas) == {"n1", last}
    assert took_s < cluster.mode.settings.silence_s / 2


def test_when_nobody_else_answers_a_read_is_refused_as_soon_as_the_first_counts_as_silent():
    cluster, _, _ = calm(sloppy=False)
    cluster.isolate("n1")
    refused, took_s = timed(cluster)

    assert refused.detail == "too many replicas were lost, silent or declined: 1 of 2 replicas have answered"
    assert took_s < 2 * cluster.mode.settings.silence_s


def test_an_answer_that_comes_after_that_of_another_is_still_used_to_repair():
    cluster, first, last = calm()
    hold(cluster, first, b"new")
    cluster.network.slow(first, "n1", 60.0)
    answer, _ = timed(cluster)
    cluster.run(1.0)

    assert set(answer.replicas) == {"n1", last}
    assert answer.content.value == b"old"
    assert cluster.held("n1") == cluster.held(last) == {b"k": b"new"}


def test_where_the_answers_differ_the_others_are_asked_as_well_and_repaired():
    cluster, first, last = calm()
    hold(cluster, first, b"new")
    answer, _ = timed(cluster)
    cluster.run(1.0)

    assert set(answer.replicas) == {"n1", first}
    assert answer.content.value == b"new"
    assert cluster.held("n1") == cluster.held(last) == {b"k": b"new"}


def test_a_replica_that_reads_pass_over_is_compared_now_and_then():
    cluster, _, last = calm()
    cluster.isolate(last)
    cluster.run(4.0)
    cluster.put("n1", b"k", b"new", w=2, sloppy=False)
    cluster.heal()
    cluster.run(4.0)
    before = cluster.held(last)
    for _ in range(ALL_ASKED_EVERY):
        cluster.read("n1", b"k")
    cluster.run(1.0)

    assert before == {b"k": b"old"}
    assert cluster.held(last) == {b"k": b"new"}


def test_how_long_is_waited_follows_the_answers_within_bounds():
    cluster, _, _ = calm()
    speculation, most_s = speculation_of(cluster), cluster.mode.settings.silence_s * DELAY_MOST_PART
    quick_s = speculation.delay_s
    cluster.network.latency_s = (0.01, 0.01)
    for _ in range(WARMING_COUNT):
        cluster.read("n1", b"k")
    before_count, slower_s = speculation.asked_count, speculation.delay_s
    for _ in range(WARMING_COUNT):
        cluster.read("n1", b"k")

    assert 2 * LATENCY_S <= quick_s < 0.02 < slower_s < most_s
    assert speculation.asked_count == before_count

    cluster.network.latency_s = (0.06, 0.06)
    for _ in range(WARMING_COUNT):
        cluster.read("n1", b"k")

    assert speculation.delay_s == most_s
