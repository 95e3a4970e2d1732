"""Every request as a span of OpenTelemetry, sent to a collector: only where the configuration names one.

The module imports what ``raftkv[otel]`` installs; nobody imports it unless ``log.otlp`` is set. Spans wait in a queue
that is bounded, and a thread of OpenTelemetry's own sends them; what finds no room there is lost. Must not be made
before the worker is forked.
"""

from __future__ import annotations

import time
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from raftkv.http.counts import GRPC
from raftkv.http.door.access import Exchanged, Hears

_OF_THE_SERVER: Final = frozenset({2, 4, 12, 13, 14, 15})
"""Codes of gRPC that OpenTelemetry counts as errors of a server."""

TRACES: Final = "/v1/traces"
"""Where a collector takes spans (OTLP over HTTP)."""


def spans_to(collector: str, *, node: str, version: str) -> Hears:
    """Tell ``collector`` (a base URL) of every request to ``node``, from its head to its answer."""
    provider = TracerProvider(
        resource=Resource.create(
            {"service.name": "raftkv", "service.version": version, "service.instance.id": node},
        )
    )
    exporter = OTLPSpanExporter(endpoint=collector.rstrip("/") + TRACES)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("raftkv")

    def hear(exchanged: Exchanged) -> None:
        parent, context = exchanged.parent, None
        if parent is not None:
            numbers = int(parent.trace_id, 16), int(parent.parent_id, 16)
            asker = SpanContext(*numbers, is_remote=True, trace_flags=TraceFlags(parent.flags))
            context = set_span_in_context(NonRecordingSpan(asker))
        ended_ns = time.time_ns()
        is_call = exchanged.method == GRPC
        attributes: dict[str, str | int] = {"client.address": exchanged.client}
        if is_call:
            attributes |= {"rpc.system": "grpc", "rpc.method": exchanged.route}
            attributes["rpc.grpc.status_code"] = exchanged.status
        else:
            attributes |= {"http.request.method": exchanged.method, "http.route": exchanged.route}
            attributes["http.response.status_code"] = exchanged.status
        if exchanged.user:
            attributes["user.name"] = exchanged.user
        span = tracer.start_span(
            f"{exchanged.method} {exchanged.route}",
            context=context,
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=ended_ns - round(exchanged.taken_s * 1e9),
        )
        if exchanged.status in _OF_THE_SERVER if is_call else exchanged.status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(ended_ns)

    return hear
