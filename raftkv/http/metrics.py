"""What is counted, in the text format of Prometheus; every labelled child is bound once, so that counting is cheap.

A front-end worker counts for itself: with several workers, ``/metrics`` shows those of the one that answers.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from time import monotonic

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from raftkv.core.results import Status
from raftkv.http.handlers import Context
from raftkv.http.handlers_cluster import unready
from raftkv.process.streams import lines_dropped

_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The counters of one worker."""

    def __init__(self, context: Context) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_StatusCollector(context))
        self._count = Counter(
            "raftkv_http_requests", "Requests answered.", ("route", "method", "status"), registry=self._registry
        )
        self._latency = Histogram(
            "raftkv_http_request_duration_seconds",
            "From the request's last byte to its response.",
            ("route", "method"),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self.in_flight = Gauge("raftkv_http_in_flight", "Requests being worked on.", registry=self._registry)
        self._counts: dict[tuple[str, str, int], Counter] = {}
        self._latencies: dict[tuple[str, str], Histogram] = {}

    def observe(self, route: str, method: str, status: int, started_s: float) -> None:
        """Count one answer; ``route`` and ``method`` come from the list of routes, so that the labels stay few."""
        count = self._counts.get((route, method, status))
        if count is None:
            count = self._count.labels(route, method, f"{status // 100}xx")
            self._counts[route, method, status] = count
        latency = self._latencies.get((route, method))
        if latency is None:
            latency = self._latencies[route, method] = self._latency.labels(route, method)
        count.inc()
        latency.observe(monotonic() - started_s)

    def text(self) -> bytes:
        """The page."""
        return generate_latest(self._registry)


class _StatusCollector(Collector):
    """The replica's last status as gauges, made when somebody asks."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def collect(self) -> Iterable[Metric]:
        status = self._context.status()
        yield GaugeMetricFamily("raftkv_replica_up", "Does the replica answer?", value=float(status is not None))
        yield GaugeMetricFamily(
            "raftkv_ready", "Can this node serve?", value=float(unready(status, time.monotonic()) is None)
        )
        dropped = CounterMetricFamily(
            "raftkv_log_lines_dropped", "Lines of the log that nobody took.", labels=("process",)
        )
        dropped.add_metric(("frontend",), lines_dropped())
        if status is not None:
            dropped.add_metric(("replica",), status.log_lines_dropped)
        yield dropped
        if status is not None:
            for name, what, value in _numbers(status):
                yield GaugeMetricFamily(f"raftkv_{name}", what, value=float(value))


def _numbers(status: Status) -> Iterable[tuple[str, str, float]]:
    quorum = status.quorum
    if quorum is not None:
        yield "hints_pending", "Writes that this node keeps for others.", quorum.hints_pending
        yield "repaired_keys", "Versions that repair brought to this node since it started.", quorum.repaired_keys
    yield from (
        ("is_leader", "Is this node the leader?", status.leader == status.node),
        ("has_leader", "Does this node know a leader?", status.leader is not None),
        ("term", "The term.", status.term),
        ("commit_index", "The commit index.", status.commit_index),
        ("applied_index", "The applied index.", status.applied_index),
        ("revision", "The store's revision.", status.revision),
        ("cluster_size", "Replicas that vote.", status.cluster_size),
        ("peers_reachable", "Peers with a live link.", sum(peer.reachable for peer in status.peers)),
        ("can_write", "Are writes taken, as far as disks are concerned?", status.can_write),
        ("diverged", "Did this node stop because its state differs from others'?", status.diverged),
        ("has_room", "Is there room on this node's disk for writes?", status.has_room),
    )
