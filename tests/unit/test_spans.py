"""Spans of OpenTelemetry at the client and at the front-end, where it is installed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from raftkv import Client
from raftkv.api.traces import trace_parent
from raftkv.core.errors import RaftkvError
from raftkv.http.door.access import Exchanged
from tests.unit.fake_server import FakeServer, json, problem

pytest.importorskip("opentelemetry.sdk")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from raftkv.http.door.spans import spans_to

STORED = json({"key": "k", "version": 1, "revision": 1}, 201)
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """What the program's own spans come to; there is one provider for a process, and for good."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def test_a_call_is_a_span_of_the_programs_trace_and_its_requests_are_below_it(exporter: InMemorySpanExporter) -> None:
    exporter.clear()
    refused = problem(503, "no_leader", "no", {"Retry-After": "0"})
    with FakeServer(refused, STORED) as server, Client(server.url) as client:
        with trace.get_tracer("test").start_as_current_span("program"):
            client.set("my-secret-key", "v")
        sent = [trace_parent(request.headers["traceparent"]) for request in server.asked]
    call, program = exporter.get_finished_spans()

    assert (call.name, call.parent) == ("raftkv PUT", program.context)
    assert call.attributes == {"http.request.method": "PUT", "http.response.status_code": 201}
    assert len(sent) == 2  # one call, whatever it took
    assert {(one.trace_id, one.parent_id) for one in sent if one is not None} == {
        (f"{call.context.trace_id:032x}", f"{call.context.span_id:016x}")
    }


def test_a_call_that_fails_is_a_span_that_says_so(exporter: InMemorySpanExporter) -> None:
    exporter.clear()
    refused = problem(400, "bad_request", "no")
    with FakeServer(refused) as server, Client(server.url) as client, pytest.raises(RaftkvError):
        client.set("k", "v")
    (call,) = exporter.get_finished_spans()

    assert not call.status.is_ok


@pytest.fixture
def collector() -> Iterator[Any]:
    """A server that takes spans; ``spans`` are those that came."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            server.told.append((self.path, found))  # type: ignore[attr-defined]
            self.send_response(200)
            self.end_headers()
            server.heard.set()  # type: ignore[attr-defined]

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.told, server.heard = [], threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()


def test_requests_are_told_to_the_collector_as_parts_of_the_traces_they_name(collector: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    hear = spans_to(f"http://127.0.0.1:{collector.server_port}/", node="n1", version="1.2")
    exchanged = Exchanged(
        method="PUT",
        route="/kv/{key}",
        status=503,
        taken_s=0.25,
        taken_bytes=1,
        sent_bytes=2,
        client="127.0.0.1",
        user="ann",
        headers={b"traceparent": f"00-{TRACE}-{PARENT}-01".encode(), b"authorization": b"secret"},
    )
    hear(exchanged)
    hear(exchanged._replace(headers={b"traceparent": f"00-{TRACE}-{PARENT}-00".encode()}))  # which is not sampled
    assert collector.heard.wait(10)
    ((path, told),) = collector.told
    (resource,) = told.resource_spans
    ((span,),) = [scope.spans for scope in resource.scope_spans]

    assert path == "/v1/traces"
    assert {"service.name", "service.instance.id"} <= {one.key for one in resource.resource.attributes}
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("PUT /kv/{key}", TRACE, PARENT)
    assert span.end_time_unix_nano - span.start_time_unix_nano == 250_000_000
    assert {one.key: one.value for one in span.attributes}["user.name"].string_value == "ann"
    assert span.status.code == 2
    assert "secret" not in str(told)
