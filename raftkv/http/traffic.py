"""What clients ask of this node, in a few numbers: sums over its routes, for who wants to see them move.

Made of the same counts as ``/metrics``, but for what pages of the console ask. Knows routes by name only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from raftkv.api import paths
from raftkv.api.cluster_answers import ClientTraffic
from raftkv.core.status import Status
from raftkv.http.counts import BOUNDS, GRPC, PAGES, Counts

_UNCOUNTED: Final = frozenset({paths.STATUS, paths.MEMBERS, paths.LIVE, paths.METRICS, paths.LIVEZ, paths.READYZ})
_DISK: Final = ("log_flush_duration_seconds", "store_commit_duration_seconds")


def is_counted(route: str) -> bool:
    """Is an answer of this route traffic of clients, and not of those who look on?"""
    return route not in _UNCOUNTED and not route.startswith(paths.CONSOLE)


def traffic(counts: Counts, status: Status | None, now_s: float) -> ClientTraffic:
    """As it stands."""
    errors: Counter[str] = Counter()
    took: Counter[str] = Counter()
    for found in counts.answers():
        if not is_counted(found.route):
            continue
        sign = -1 if found.method == PAGES else 1
        is_error = found.code > 0 if found.method == GRPC else found.code >= 400
        if is_error:
            errors[f"gRPC {found.code}" if found.method == GRPC else str(found.code)] += sign * found.buckets[-1]
        _add(took, [sign * count for count in found.buckets])
    disk: Counter[str] = Counter()
    for name in _DISK:
        measured = None if status is None else status.measures.durations.get(name)
        if measured is not None:
            _add(disk, accumulate(measured.counts))
    return ClientTraffic(
        at_s=now_s, requests=took[BOUNDS[-1]], errors=+errors, took=took, disk=disk, streams=counts.sum("streams")
    )


def _add(to: Counter[str], buckets: Iterable[int]) -> None:
    for bound, count in zip(BOUNDS, buckets, strict=True):
        to[bound] += count
