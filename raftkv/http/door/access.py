"""What is told of a request once it is answered: a line of the log, for those who asked for one.

A line says by which route, never which key; who asked, never by what proof; and the trace that the request is part of.
It is lost rather than waited for, and counted then (``raftkv.process.sink``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from raftkv.api.traces import TRACEPARENT, TraceParent, trace_parent
from raftkv.process.loggers import get_logger

log_line = get_logger("raftkv.access")


class Exchanged(NamedTuple):
    """A request and what became of it. ``sent_bytes`` of a stream is 0: it is told of when it begins."""

    method: str
    route: str
    status: int
    taken_s: float
    taken_bytes: int
    sent_bytes: int
    client: str
    user: str
    headers: Mapping[bytes, bytes]

    @property
    def parent(self) -> TraceParent | None:
        """The trace that it is part of, if its client said so."""
        return trace_parent(self.headers.get(TRACEPARENT.encode(), b"").decode("latin-1"))


Hears = Callable[[Exchanged], None]
"""Is told of every request; must neither raise nor block."""


def tell(exchanged: Exchanged) -> None:
    """Write the line."""
    more = {}
    if exchanged.user:
        more["user"] = exchanged.user
    parent = exchanged.parent
    if parent is not None:
        more["trace"] = parent.trace_id
    log_line.info(
        "request",
        method=exchanged.method,
        route=exchanged.route,
        status=exchanged.status,
        ms=round(exchanged.taken_s * 1000, 3),
        taken_bytes=exchanged.taken_bytes,
        sent_bytes=exchanged.sent_bytes,
        client=exchanged.client,
        **more,
    )
