"""What clients ask of this node, in a few numbers: sums over its routes, for who wants to see them move.

Made of the same counts as ``/metrics``. Knows routes by name only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from raftkv.api import paths
from raftkv.api.cluster_answers import ClientTraffic
from raftkv.core.status import Status
from raftkv.http.counts import BOUNDS, GRPC, Counts

_UNCOUNTED: Final = frozenset({paths.STATUS, paths.MEMBERS, paths.LIVE, paths.METRICS, paths.LIVEZ, paths.READYZ})
_DISK: Final = ("log_flush_duration_seconds", "store_commit_duration_seconds")


def traffic(counts: Counts, status: Status | None, now_s: float) -> ClientTraffic:
    """As it stands."""
    errors: Counter[str] = Counter()
    took: Counter[str] = Counter()
    for found in counts.answers():
        if found.route in _UNCOUNTED or found.route.startswith(paths.CONSOLE):
            continue
        is_error = found.code > 0 if found.method == GRPC else found.code >= 400
        if is_error:
            errors[f"gRPC {found.code}" if found.method == GRPC else str(found.code)] += found.buckets[-1]
        _add(took, found.buckets)
    disk: Counter[str] = Counter()
    for name in _DISK:
        measured = None if status is None else status.measures.durations.get(name)
        if measured is not None:
            _add(disk, accumulate(measured.counts))
    return ClientTraffic(
        at_s=now_s, requests=took[BOUNDS[-1]], errors=errors, took=took, disk=disk, streams=counts.sum("streams")
    )


def _add(to: Counter[str], buckets: Iterable[int]) -> None:
    for bound, count in zip(BOUNDS, buckets, strict=True):
        to[bound] += count
