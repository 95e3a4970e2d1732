"""Which trace a call is part of: the one that its caller says, or the span that OpenTelemetry is in, if it is there.

Nothing of OpenTelemetry is imported here: a program that has not loaded it is in no span, and pays one look-up. What
travels is ``traceparent`` and ``tracestate`` (W3C Trace Context); keys and values are in no span.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

import msgspec

from raftkv.api.traces import TRACEPARENT, TRACESTATE, trace_parent
from raftkv.client.calls import Call
from raftkv.client.http1 import HttpAnswer
from raftkv.client.steps import Plan
from raftkv.core.errors import UsageError

T = TypeVar("T")

_GIVEN: Final[ContextVar[Mapping[str, str] | None]] = ContextVar("raftkv.trace", default=None)
_CARRIED: Final = (TRACEPARENT, TRACESTATE)


@contextmanager
def traced(traceparent: str, tracestate: str = "") -> Iterator[None]:
    """Send these headers with every call of this thread, or task, within the block; raises ``UsageError`` if malformed.

    Clients take them by themselves from OpenTelemetry's current span: this is for programs that have none.
    """
    if trace_parent(traceparent) is None:
        raise UsageError("traceparent: not of the form 00-<trace id>-<parent id>-<flags>")
    token = _GIVEN.set({TRACEPARENT: traceparent, **({TRACESTATE: tracestate} if tracestate else {})})
    try:
        yield
    finally:
        _GIVEN.reset(token)


def within_trace(call: Call, ask: Callable[[Call], Plan[T]]) -> Plan[T]:
    """``ask(call)``, whose requests say which trace they are part of."""
    given = _GIVEN.get()
    if given:
        return ask(_carrying(call, given))
    trace = sys.modules.get("opentelemetry.trace")
    return ask(call) if trace is None else _spanned(trace, call, ask)


def _carrying(call: Call, headers: Mapping[str, str]) -> Call:
    carried = {name: headers[name] for name in _CARRIED if name in headers}
    return msgspec.structs.replace(call, headers={**call.headers, **carried})


def _spanned(trace: Any, call: Call, ask: Callable[[Call], Plan[T]]) -> Plan[T]:
    """The call as a span of its own, over all its attempts."""
    from opentelemetry import propagate  # noqa: PLC0415  it is loaded, or its neighbour would not be

    span = trace.get_tracer("raftkv").start_span(
        f"raftkv {call.method}", kind=trace.SpanKind.CLIENT, attributes={"http.request.method": call.method}
    )
    headers: dict[str, str] = {}
    propagate.inject(headers, context=trace.set_span_in_context(span))
    try:
        answer = yield from ask(_carrying(call, headers))
    except Exception as error:
        span.set_status(trace.StatusCode.ERROR, type(error).__name__)
        raise
    else:
        if isinstance(answer, HttpAnswer):
            span.set_attribute("http.response.status_code", answer.status)
        return answer
    finally:
        span.end()
