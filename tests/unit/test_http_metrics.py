"""What is counted as it happens, against the page that is made of it."""

from __future__ import annotations

from time import monotonic
from types import SimpleNamespace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from raftkv.http.door.room import HeldBytes
from raftkv.http.door.streaming import Streams
from raftkv.http.metrics import Metrics

CONTEXT: Any = SimpleNamespace(status=lambda: None, feed=SimpleNamespace(listener_count=0))
STREAMS = Streams(HeldBytes(0, monotonic_s=monotonic), limit=1)
LABELS = ("route", "method", "status", "le")
NAME = "raftkv_http_request_duration_seconds"


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample of the page by its name and the values of its labels."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (one.name, *(one.labels[name] for name in LABELS if name in one.labels)): one.value
        for family in families
        for one in family.samples
    }


def test_answers_are_counted_by_route_method_and_class_of_status() -> None:
    metrics = Metrics(CONTEXT, STREAMS)
    for status in (200, 201, 404, 200):
        metrics.observe("/kv/{key}", "GET", status, monotonic())
    metrics.observe("/kv/{key}", "PUT", 200, monotonic())
    found = samples(metrics)

    assert found["raftkv_http_requests_total", "/kv/{key}", "GET", "2xx"] == 3
    assert found["raftkv_http_requests_total", "/kv/{key}", "GET", "4xx"] == 1
    assert found["raftkv_http_requests_total", "/kv/{key}", "PUT", "2xx"] == 1


def test_durations_fall_into_cumulative_buckets_and_add_up() -> None:
    metrics = Metrics(CONTEXT, STREAMS)
    for taken_s in (0.0, 0.3, 0.3, 60.0):
        metrics.observe("/kv/{key}", "GET", 200, monotonic() - taken_s)
    found = samples(metrics)
    buckets = {labels[-1]: value for labels, value in found.items() if labels[0] == f"{NAME}_bucket"}

    assert buckets["0.25"] == 1
    assert buckets["0.5"] == buckets["10.0"] == 3
    assert buckets["+Inf"] == found[f"{NAME}_count", "/kv/{key}", "GET"] == 4
    assert 60.6 <= found[f"{NAME}_sum", "/kv/{key}", "GET"] < 61.6


def test_requests_being_worked_on_are_shown() -> None:
    metrics = Metrics(CONTEXT, STREAMS)
    metrics.in_flight += 2

    assert samples(metrics)["raftkv_http_in_flight",] == 2


def test_who_hears_of_changes_is_counted() -> None:
    context: Any = SimpleNamespace(status=lambda: None, feed=SimpleNamespace(listener_count=7))

    assert samples(Metrics(context, STREAMS))["raftkv_listeners",] == 7
