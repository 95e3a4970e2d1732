"""What is counted as it happens, against the page that is made of it."""

from __future__ import annotations

import copy
import os
import re
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from raftkv.api.metrics import BY_NAME, METERS
from raftkv.http.counts import OTHER, UNROUTED, Counts
from raftkv.http.door.room import HeldBytes
from raftkv.http.door.streaming import Streams
from raftkv.http.exposition import text
from raftkv.http.metrics import Metrics, requests_of
from raftkv.http.routes import ROUTES

CONTEXT: Any = SimpleNamespace(
    status=lambda: None,
    last_status=lambda: None,
    version="1",
    certificate_ends=lambda: {"http": 5.0},
    counted=dict,
    feed=SimpleNamespace(listener_count=0),
)
STREAMS = Streams(HeldBytes(0, monotonic_s=monotonic), limit=1)
LABELS = ("route", "method", "code", "how", "process", "le")
NAME = "raftkv_http_request_duration_seconds"


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample of the page by its name and the values of its labels."""
    families = text_string_to_metric_families(text(metrics).decode())
    return {
        (one.name, *(one.labels[name] for name in LABELS if name in one.labels)): one.value
        for family in families
        for one in family.samples
    }


def test_answers_are_counted_by_route_method_and_code() -> None:
    metrics = Metrics(CONTEXT, STREAMS)
    for status in (200, 201, 404, 200):
        metrics.observe("/kv/{key}", "GET", status, 0.0)
    metrics.observe("/kv/{key}", "PUT", 200, 0.0)
    found = samples(metrics)

    assert found["raftkv_http_requests_total", "/kv/{key}", "GET", "200"] == 2
    assert found["raftkv_http_requests_total", "/kv/{key}", "GET", "201"] == 1
    assert found["raftkv_http_requests_total", "/kv/{key}", "GET", "404"] == 1
    assert found["raftkv_http_requests_total", "/kv/{key}", "PUT", "200"] == 1


def test_durations_fall_into_cumulative_buckets_and_add_up() -> None:
    metrics = Metrics(CONTEXT, STREAMS)
    for taken_s in (0.0, 0.3, 0.3, 60.0):
        metrics.observe("/kv/{key}", "GET", 200, taken_s)
    found = samples(metrics)
    buckets = {labels[-1]: value for labels, value in found.items() if labels[0] == f"{NAME}_bucket"}

    assert buckets["0.25"] == 1
    assert buckets["0.5"] == buckets["10.0"] == 3
    assert buckets["+Inf"] == found[f"{NAME}_count", "/kv/{key}", "GET", "200"] == 4
    assert found[f"{NAME}_sum", "/kv/{key}", "GET", "200"] == pytest.approx(60.6)


def test_requests_being_worked_on_are_shown() -> None:
    metrics = Metrics(CONTEXT, STREAMS)
    metrics.in_flight += 2

    assert samples(metrics)["raftkv_http_in_flight",] == 2


def test_who_hears_of_changes_is_counted() -> None:
    context: Any = SimpleNamespace(**{**vars(CONTEXT), "feed": SimpleNamespace(listener_count=7)})

    assert samples(Metrics(context, STREAMS))["raftkv_listeners",] == 7


def test_a_request_of_no_route_that_there_is_counts_among_those_without() -> None:
    metrics = Metrics(CONTEXT, STREAMS)
    metrics.observe("/never", "BREW", 404, 0.0)

    assert samples(metrics)["raftkv_http_requests_total", UNROUTED, OTHER, "404"] == 1


# -- several workers ----------------------------------------------------------------------------------------------


class Workers:
    """Processes that share their counts, as gunicorn makes them, here and there in one."""

    def __init__(self, slots: int = 4) -> None:
        self.counts = Counts(requests_of(ROUTES), slots=slots)

    def start(self, name: str) -> Metrics:
        """A worker; it works on its slot, whichever is given after it."""
        self.counts.give(name)
        return Metrics(CONTEXT, STREAMS, copy.copy(self.counts))


def test_whichever_worker_is_asked_tells_the_sum() -> None:
    workers = Workers()
    first, second = workers.start("a"), workers.start("b")
    for metrics, times in ((first, 3), (second, 4)):
        metrics.in_flight = times
        metrics.publish()
        for _ in range(times):
            metrics.observe("/kv/{key}", "GET", 200, 0.0)

    for metrics in (first, second):
        found = samples(metrics)
        assert found["raftkv_http_requests_total", "/kv/{key}", "GET", "200"] == 7
        assert found[f"{NAME}_bucket", "/kv/{key}", "GET", "200", "+Inf"] == 7
        assert found["raftkv_http_in_flight",] == 7


def test_what_a_worker_has_counted_outlives_it_and_what_it_held_does_not() -> None:
    workers = Workers(slots=2)
    first, second = workers.start("a"), workers.start("b")
    for metrics in (first, second):
        metrics.in_flight = 1
        metrics.observe("/kv/{key}", "GET", 200, 0.0)
        metrics.publish()
    workers.counts.take_back("a")
    alone = samples(second)
    third = workers.start("c")
    third.observe("/kv/{key}", "GET", 200, 0.0)

    assert alone["raftkv_http_in_flight",] == alone["raftkv_http_workers",] == 1
    assert alone["raftkv_http_requests_total", "/kv/{key}", "GET", "200"] == 2
    assert samples(third)["raftkv_http_requests_total", "/kv/{key}", "GET", "200"] == 3


def test_counts_are_shared_with_processes_that_are_forked() -> None:
    counts = Counts(requests_of(ROUTES), slots=2)
    counts.give("child")
    child = os.fork()
    if child == 0:
        counts.observe("/kv/{key}", "PUT", 201, 0.003)
        os._exit(0)
    os.waitpid(child, 0)
    (found,) = counts.answers()

    assert (found.route, found.method, found.code, found.buckets[-1]) == ("/kv/{key}", "PUT", 201, 1)
    assert found.total_s == 0.003


# -- the list -----------------------------------------------------------------------------------------------------


def test_no_name_is_told_that_the_list_lacks() -> None:
    for family in text_string_to_metric_families(text(Metrics(CONTEXT, STREAMS)).decode()):
        meter = BY_NAME.get(family.name) or BY_NAME[f"{family.name}_total"]

        assert meter.kind == family.type
        assert all({*one.labels} - {"le"} == {*meter.labels} for one in family.samples)


def test_names_are_as_prometheus_wants_them() -> None:
    for meter in METERS:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", meter.name)
        assert (meter.kind == "counter") == meter.name.endswith("_total"), meter.name
        assert meter.kind != "histogram" or meter.name.endswith("_seconds")
