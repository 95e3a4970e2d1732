"""What the workers of a front-end count, while things happen: plain integers (``raftkv.http.counts``), shared by all.

``raftkv.http.exposition`` makes a page of them when somebody asks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Final

from raftkv.api import paths
from raftkv.http.counts import GRPC, OTHER, PAGES, UNROUTED, Counts
from raftkv.http.door.streaming import ENDS, Streams
from raftkv.http.handlers.handler import Context
from raftkv.http.routes import ROUTES, Route
from raftkv.http.traffic import is_counted
from raftkv.process.streams import lines_dropped

METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"})
_READS: Final = ("GET", "HEAD")


def requests_of(routes: Iterable[Route], calls: Sequence[str] = ()) -> tuple[tuple[str, str], ...]:
    """Everything that is counted by itself: the labels stay few, whatever clients ask for."""
    return (
        *((one.name, method) for one in routes for method in (_READS if one.method == "GET" else (one.method,))),
        *((page, method) for page in (paths.OPENAPI, paths.DOCS, paths.METRICS) for method in _READS),
        *((path, GRPC) for path in ((*calls, UNROUTED) if calls else ())),
        (PAGES, PAGES),
        *((UNROUTED, method) for method in (*sorted(METHODS), OTHER)),
    )


class Metrics:
    """What one worker counts, and what all have counted (``counts``)."""

    def __init__(self, context: Context, streams: Streams, counts: Counts | None = None) -> None:
        """``counts`` are shared with the other workers, where there are any."""
        self.context = context
        self._streams = streams
        self.counts = Counts(requests_of(ROUTES)) if counts is None else counts
        self._published: dict[str, int] = {}
        self.observe = self.counts.observe
        self.in_flight = 0
        """How many requests are being worked on here."""

    def observe_page(self, route: str, code: int, taken_s: float) -> None:
        """An answer that was counted went to a page of the console."""
        if is_counted(route):
            self.observe(PAGES, PAGES, code, taken_s)

    def publish(self) -> None:
        """Let the other workers see what is counted here and not in what they share."""
        counts, streams = self.counts, self._streams
        counts.set("pid", os.getpid())
        counts.set("in_flight", self.in_flight)
        counts.set("streams", streams.open_count)
        counts.set("listeners", self.context.feed.listener_count)
        totals = {f"streams_{how}": streams.ended[how] for how in ENDS} | {"lines_dropped": lines_dropped()}
        for name, total in totals.items():
            counts.change(name, total - self._published.get(name, 0))
        self._published = totals
