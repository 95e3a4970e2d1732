"""What is counted, in plain numbers as it happens, and in the text format of Prometheus when somebody asks.

A front-end worker counts for itself: with several workers, ``/metrics`` shows those of the one that answers.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from time import monotonic

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from raftkv.core.results import QuorumStatus, RaftStatus, Status
from raftkv.http.door.streaming import Streams
from raftkv.http.handlers.cluster import unready
from raftkv.http.handlers.handler import Context
from raftkv.process.streams import lines_dropped

_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BOUNDS = (*(str(bound_s) for bound_s in _BUCKETS_S), "+Inf")


class _Tally:
    """The answers of one route and method: how many of each status, and how long they took."""

    __slots__ = ("answers", "durations", "total_s")

    def __init__(self) -> None:
        self.answers: dict[int, int] = {}
        self.durations = [0] * (len(_BUCKETS_S) + 1)
        self.total_s = 0.0


class Metrics:
    """The counters of one worker; ``in_flight`` is how many requests are being worked on."""

    def __init__(self, context: Context, streams: Streams) -> None:
        self.in_flight = 0
        self._context = context
        self._streams = streams
        self._tallies: dict[tuple[str, str], _Tally] = {}
        self._registry = CollectorRegistry()
        self._registry.register(_StatusCollector(context))
        self._registry.register(_RequestCollector(self))

    def observe(self, route: str, method: str, status: int, started_s: float) -> None:
        """Count one answer; ``route`` and ``method`` come from the list of routes, so that the labels stay few."""
        tally = self._tallies.get((route, method))
        if tally is None:
            tally = self._tallies[route, method] = _Tally()
        taken_s = monotonic() - started_s
        tally.answers[status] = tally.answers.get(status, 0) + 1
        tally.durations[bisect_left(_BUCKETS_S, taken_s)] += 1
        tally.total_s += taken_s

    def families(self) -> Iterable[Metric]:
        """What was counted so far."""
        count = CounterMetricFamily("raftkv_http_requests", "Requests answered.", labels=("route", "method", "status"))
        latency = HistogramMetricFamily(
            "raftkv_http_request_duration_seconds",
            "From the request's last byte to its response.",
            labels=("route", "method"),
        )
        for labels, tally in self._tallies.items():
            classes: dict[str, int] = {}
            for status, answers in tally.answers.items():
                kind = f"{status // 100}xx"
                classes[kind] = classes.get(kind, 0) + answers
            for kind, answers in classes.items():
                count.add_metric((*labels, kind), answers)
            counts = accumulate(tally.durations)
            latency.add_metric(labels, list(zip(_BOUNDS, counts, strict=True)), tally.total_s)
        yield count
        yield latency
        yield GaugeMetricFamily(
            "raftkv_http_in_flight", "Requests being worked on, open streams included.", value=float(self.in_flight)
        )
        yield GaugeMetricFamily("raftkv_http_streams", "Open streams.", value=float(self._streams.open_count))
        listeners = float(self._context.feed.listener_count)
        yield GaugeMetricFamily("raftkv_listeners", "Who hears of changes: watchers, and who waits.", value=listeners)
        ends = CounterMetricFamily("raftkv_http_streams_ended", "Streams that are over.", labels=("how",))
        for how, ended in self._streams.ended.items():
            ends.add_metric((how,), ended)
        yield ends

    def text(self) -> bytes:
        """The page."""
        return generate_latest(self._registry)


class _RequestCollector(Collector):
    """What one worker counted, made when somebody asks."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.families()


class _StatusCollector(Collector):
    """The replica's last status as gauges, made when somebody asks."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def collect(self) -> Iterable[Metric]:
        status = self._context.status()
        yield GaugeMetricFamily("raftkv_replica_up", "Does the replica answer?", value=float(status is not None))
        ready = status is not None and unready(status, time.monotonic()) is None
        yield GaugeMetricFamily("raftkv_ready", "Can this node serve?", value=float(ready))
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
    if isinstance(status, QuorumStatus):
        yield "hints_pending", "Writes that this node keeps for others.", status.hints_pending
        yield "repaired_keys", "Versions that repair brought to this node since it started.", status.repaired_keys
    log = status if isinstance(status, RaftStatus) else None
    yield from (
        ("is_leader", "Is this node the leader?", status.leader == status.node),
        ("has_leader", "Does this node know a leader?", status.leader is not None),
        ("term", "The term.", 0 if log is None else log.term),
        ("commit_index", "The commit index.", 0 if log is None else log.commit_index),
        ("applied_index", "The applied index.", 0 if log is None else log.applied_index),
        ("revision", "The store's revision.", status.revision),
        ("cluster_size", "Replicas that vote.", status.cluster_size),
        ("peers_reachable", "Peers with a live link.", sum(peer.reachable for peer in status.peers)),
        ("can_write", "Are writes taken, as far as disks are concerned?", status.can_write),
        ("diverged", "Did this node stop because its state differs from others'?", log is not None and log.diverged),
        ("has_room", "Is there room on this node's disk for writes?", status.has_room),
    )
