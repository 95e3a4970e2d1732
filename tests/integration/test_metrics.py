"""``/metrics`` of real nodes: sums over workers, and every metric of the list in the mode that it is of."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from raftkv.instruments.local.nodes import wait_until
from tests.integration.processes import RealCluster, running, workers

pytestmark = pytest.mark.integration

WORKERS = 3
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
