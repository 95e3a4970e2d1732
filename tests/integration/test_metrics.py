"""``/metrics`` of real nodes: sums over workers, and every metric of the list in the mode that it is of."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from raftkv.api.metrics import ALIASES, BY_NAME, METERS
from raftkv.instruments.local.nodes import wait_until
from tests.integration.processes import RealCluster, running, workers

pytestmark = pytest.mark.integration

PROMTOOL = shutil.which("promtool")
WORKERS = 3
OF_TLS = {"raftkv_certificate_end_timestamp_seconds"}
PUT = {"route": "/kv/{key}", "method": "PUT", "code": "201"}


def samples(cluster: RealCluster, node: str = "n1") -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """A scrape over a connection of its own, which any worker may get."""
    page = requests.get(cluster.url(node, "/metrics"), timeout=10).text
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(page)
        for one in family.samples
    }


def value(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def put_each(cluster: RealCluster, keys: Iterator[int], count: int) -> None:
    """Every write over a connection of its own, so that all workers get some."""
    for key in [next(keys) for _ in range(count)]:
        assert cluster.put("n1", f"k{key}").status_code == 201


def test_every_worker_tells_the_sum_over_all_and_none_goes_back_when_one_is_replaced(tmp_path) -> None:
    keys = iter(range(10_000))
    with running(tmp_path, 1, f"[http]\nworkers = {WORKERS}\n") as cluster:
        put_each(cluster, keys, 60)
        for _ in range(3 * WORKERS):
            found = samples(cluster)
            assert value(found, "raftkv_http_requests_total", **PUT) == 60
            assert value(found, "raftkv_http_request_duration_seconds_count", **PUT) == 60
            assert value(found, "raftkv_http_workers") == WORKERS

        gone, *_ = before = workers(cluster, "n1")
        os.kill(gone, signal.SIGKILL)
        wait_until(lambda: len(set(workers(cluster, "n1")) - set(before)) == 1, "another worker")
        wait_until(lambda: value(samples(cluster), "raftkv_http_workers") == WORKERS, "it counts")
        put_each(cluster, keys, 30)

        assert {value(samples(cluster), "raftkv_http_requests_total", **PUT) for _ in range(3 * WORKERS)} == {90}
        wait_until(lambda: value(samples(cluster), "raftkv_http_in_flight") == 1, "the others to tell that they rest")


def family_names(cluster: RealCluster, node: str) -> set[str]:
    """The metrics that the node tells of, by the names of the list."""
    page = requests.get(cluster.url(node, "/metrics"), timeout=10).text
    return {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in text_string_to_metric_families(page)
    }


@pytest.mark.parametrize("mode", ["raft", "quorum"])
def test_nodes_tell_all_that_the_list_has_for_their_mode_and_nothing_else(tmp_path, mode) -> None:
    expected = {meter.name for meter in METERS if meter.mode in {"", mode}} - OF_TLS
    always = {meter.name for meter in METERS if meter.mode in {"", mode} and not meter.is_occasional}
    with running(tmp_path, 3, "[backup]\ninterval_s = 1.0\n", mode=mode) as cluster:
        if mode == "raft":
            assert cluster.request("POST", "n1", "/leases", json={"ttl": 600}).ok
        for key in range(5):
            assert cluster.put("n1", f"k{key}").ok
        wait_until(lambda: set.union(*(family_names(cluster, node) for node in cluster.nodes)) == expected, "all names")
        told = {node: family_names(cluster, node) for node in cluster.nodes}
        flush = "raftkv_log_flush_duration_seconds" if mode == "raft" else "raftkv_store_commit_duration_seconds"
        found = samples(cluster)

    assert all(always <= names <= expected for names in told.values())
    assert value(found, f"{flush}_count") >= 1
    assert value(found, f"{flush}_bucket", le="+Inf") == value(found, f"{flush}_count")
    assert value(found, f"{flush}_sum") > 0
    assert {value(found, "raftkv_peer_reachable", peer=peer) for peer in ("n2", "n3")} == {1}
    if mode == "raft":
        assert value(found, "raftkv_proposal_duration_seconds_count") >= 1
        assert value(found, "raftkv_leader_changes_total") >= 1
        assert value(found, "raftkv_state_bytes") > 0
        assert (value(found, "raftkv_keys"), value(found, "raftkv_leases")) == (5, 1)
        assert value(found, "raftkv_events") >= 5
        for alias, source in ALIASES.items():
            for suffix in ("_count", "_sum") if BY_NAME[source].kind == "histogram" else ("",):
                assert value(found, alias + suffix) == value(found, source + suffix)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
@pytest.mark.parametrize("mode", ["raft", "quorum"])
def test_prometheus_own_tool_finds_nothing_to_say_of_the_page(tmp_path, mode) -> None:
    assert PROMTOOL is not None
    with running(tmp_path, 1 if mode == "raft" else 3, mode=mode) as cluster:
        assert cluster.put("n1", "k").ok
        page = requests.get(cluster.url("n1", "/metrics"), timeout=10).content
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=page, capture_output=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_leader_tells_how_far_behind_a_stopped_follower_is_and_writes_without_a_majority_fail(tmp_path) -> None:
    with running(tmp_path, 3) as cluster:
        leader = wait_until(cluster.leader_now, "a leader")
        first, second = (node for node in cluster.nodes if node != leader)
        cluster.processes[first].send_signal(signal.SIGSTOP)
        for key in range(20):
            assert cluster.put(leader, f"k{key}").ok
        wait_until(lambda: value(samples(cluster, leader), "raftkv_peer_lag_entries", peer=first) >= 20, "its lag")
        lagging = samples(cluster, leader)
        cluster.processes[second].send_signal(signal.SIGSTOP)
        failed = cluster.put(leader, "in-vain", params={"timeout": "0.5"})
        wait_until(lambda: value(samples(cluster, leader), "raftkv_proposals_failed_total") >= 1, "the failure")
        for node in (first, second):
            cluster.processes[node].send_signal(signal.SIGCONT)
        wait_until(lambda: value(samples(cluster, leader), "raftkv_proposals_pending") == 0, "an outcome")

    assert value(lagging, "raftkv_peer_lag_entries", peer=second) <= 1
    assert not failed.ok
    assert value(lagging, "raftkv_proposals_failed_total") == 0
