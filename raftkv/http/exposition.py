"""The page ``/metrics``: what the workers of this front-end have counted, and what the replica said of itself last.

Made when somebody asks, in the text format of Prometheus. Every name is of the list in ``raftkv.api.metrics``: another
cannot be told.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from raftkv.api.metrics import ALIASES, BY_NAME
from raftkv.core.status import QuorumStatus, RaftStatus, Status
from raftkv.http.counts import BOUNDS, GRPC, PAGES, Answered
from raftkv.http.door.streaming import ENDS
from raftkv.http.handlers.cluster import unready
from raftkv.http.metrics import Metrics
from raftkv.process.usage import parent_of, usage

Sample = tuple[tuple[str, ...], float]


def text(metrics: Metrics) -> bytes:
    """The page."""
    metrics.publish()
    registry = CollectorRegistry()
    registry.register(_Page(metrics))
    return generate_latest(registry)


class _Page(Collector):
    """All there is to tell."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """See ``prometheus_client``. What has another name in etcd is told by both."""
        own = {family.name: family for family in self._own_families()}
        yield from own.values()
        for alias, source in ALIASES.items():
            family = own.get(source.removesuffix("_total"))
            if family is not None:
                yield _renamed(family, source, alias)

    def _own_families(self) -> Iterator[Metric]:
        counts, context = self._metrics.counts, self._metrics.context
        status, known = context.status(), context.last_status()
        mode = "" if known is None else known.mode
        yield _family("raftkv_build_info", [((context.version, platform.python_version(), mode), 1)])
        yield _single("raftkv_replica_up", status is not None)
        yield _single("raftkv_ready", status is not None and unready(status, time.monotonic()) is None)
        yield from self._of_requests()
        yield _single("raftkv_http_in_flight", counts.sum("in_flight"))
        yield _single("raftkv_http_streams", counts.sum("streams"))
        yield _family("raftkv_http_streams_ended_total", [((how,), counts.sum(f"streams_{how}")) for how in ENDS])
        yield _single("raftkv_http_workers", len(counts.pids()))
        yield _single("raftkv_listeners", counts.sum("listeners"))
        dropped: list[Sample] = [(("frontend",), counts.sum("lines_dropped"))]
        if status is not None:
            dropped.append((("replica",), status.log_lines_dropped))
        yield _family("raftkv_log_lines_dropped_total", dropped)
        if status is not None:
            yield from _of_replica(status)
        for name, count in context.counted().items():
            yield _single(f"raftkv_{name}", count)
        yield from self._of_processes()
        ends = context.certificate_ends()
        if ends:
            yield _family(
                "raftkv_certificate_end_timestamp_seconds", [((name,), end_s) for name, end_s in ends.items()]
            )

    def _of_requests(self) -> Iterator[Metric]:
        answers: list[tuple[tuple[str, ...], Answered]] = []
        calls: list[tuple[tuple[str, ...], Answered]] = []
        for found in self._metrics.counts.answers():
            if found.method == PAGES:
                continue
            if found.method == GRPC:
                calls.append(((found.route, str(found.code)), found))
            else:
                answers.append(((found.route, found.method, str(found.code)), found))
        yield from _answered("raftkv_http_requests_total", "raftkv_http_request_duration_seconds", answers)
        yield from _answered("raftkv_grpc_calls_total", "raftkv_grpc_call_duration_seconds", calls)

    def _of_processes(self) -> Iterator[Metric]:
        arbiter = os.getppid()
        replica, frontend = [parent_of(arbiter)], [arbiter, *self._metrics.counts.pids()]
        found = {"replica": usage(replica), "frontend": usage(frontend)}
        together = usage([*replica, *frontend])
        fields = (
            ("process_cpu_seconds_total", "cpu_s"),
            ("process_resident_memory_bytes", "resident_bytes"),
            ("process_open_fds", "open_fds"),
            ("process_max_fds", "max_fds"),
            ("process_start_time_seconds", "started_at_s"),
        )
        for name, field in fields:
            several = [((which,), getattr(one, field)) for which, one in found.items() if one is not None]
            yield _family(f"raftkv_{name}", several)
            if together is not None:
                yield _single(name, getattr(together, field))


def _answered(count: str, duration: str, answers: Sequence[tuple[tuple[str, ...], Answered]]) -> Iterator[Metric]:
    """How many there were, and how long they took."""
    yield _family(count, [(labels, found.buckets[-1]) for labels, found in answers])
    durations = _histogram(duration)
    for labels, found in answers:
        durations.add_metric(labels, list(zip(BOUNDS, found.buckets, strict=True)), found.total_s)
    yield durations


def _bytes_below(directory: Path) -> int:
    """What the files in ``directory`` take up on the disk; one that goes away while it is looked at takes nothing."""
    with contextlib.suppress(FileNotFoundError):
        return sum(file.stat().st_blocks * 512 for file in directory.iterdir())
    return 0


def _of_replica(status: Status) -> Iterator[Metric]:
    """All that the replica told."""
    for name, value in _numbers(status):
        yield _single(name, value)
    for name, value in status.measures.numbers.items():
        yield _single(f"raftkv_{name}", value)
    for name, found in status.measures.durations.items():
        duration = _histogram(f"raftkv_{name}")
        duration.add_metric((), list(zip(BOUNDS, accumulate(found.counts), strict=True)), found.total_s)
        yield duration
    for name, samples in _of_peers(status).items():
        yield _family(name, samples)
    if status.state_path:
        yield _single("raftkv_state_bytes", _bytes_below(Path(status.state_path)))


def _of_peers(status: Status) -> dict[str, list[Sample]]:
    """By metric what is known of each peer."""
    told: dict[str, list[Sample]] = {}

    def tell(name: str, peer: str, value: float | None) -> None:
        if value is not None:
            told.setdefault(f"raftkv_peer_{name}", []).append(((peer,), value))

    for peer in status.peers:
        tell("reachable", peer.id, peer.reachable)
        tell("outstanding_bytes", peer.id, peer.outstanding_bytes)
        tell("clock_ahead_seconds", peer.id, peer.clock_ahead_s)
        if isinstance(status, RaftStatus) and peer.match_index is not None:
            tell("match_index", peer.id, peer.match_index)
            tell("lag_entries", peer.id, max(0, status.commit_index - peer.match_index))
    if isinstance(status, QuorumStatus):
        for member in status.members:
            if member.id != status.node:
                tell("hints", member.id, member.hints)
    return told


def _numbers(status: Status) -> Iterator[tuple[str, float]]:
    """The replica's word, where it is one number."""
    yield "raftkv_can_write", status.can_write
    yield "raftkv_has_room", status.has_room
    yield "raftkv_cluster_size", status.cluster_size
    yield "raftkv_peers_reachable", sum(peer.reachable for peer in status.peers)
    yield "raftkv_revision", status.revision
    if isinstance(status, QuorumStatus):
        yield "raftkv_hints_pending", status.hints_pending
        yield "raftkv_repaired_keys_total", status.repaired_keys
        yield "raftkv_speculative_reads_total", status.speculative_reads
        yield "raftkv_short_share_ratio", status.short_share
        yield "raftkv_clock_fault", bool(status.clock_fault)
    if isinstance(status, RaftStatus):
        yield "raftkv_has_leader", status.leader is not None
        yield "raftkv_is_leader", status.leader == status.node
        yield "raftkv_term", status.term
        yield "raftkv_commit_index", status.commit_index
        yield "raftkv_applied_index", status.applied_index
        yield "raftkv_diverged", status.diverged


def _histogram(name: str) -> HistogramMetricFamily:
    meter = BY_NAME[name]
    return HistogramMetricFamily(name, meter.means, labels=meter.labels)


def _family(name: str, samples: Iterable[Sample]) -> Metric:
    """A counter or a gauge with labels."""
    meter = BY_NAME[name]
    kind = CounterMetricFamily if meter.kind == "counter" else GaugeMetricFamily
    family = kind(name, meter.means, labels=meter.labels)
    for labels, value in samples:
        family.add_metric(labels, float(value))
    return family


def _renamed(family: Metric, source: str, alias: str) -> Metric:
    """``family`` of the metric ``source`` as ``alias``, which may be a counter where that is a gauge."""
    meter = BY_NAME[alias]
    renamed = Metric(alias.removesuffix("_total"), meter.means, meter.kind)
    for sample in family.samples:
        renamed.add_sample(alias + sample.name.removeprefix(source), sample.labels, sample.value)
    return renamed


def _single(name: str, value: float) -> Metric:
    """A counter or a gauge without."""
    return _family(name, [((), value)])
