"""How likely a read is stale, some time after a write was acknowledged: measured, and predicted. Pure.

Measured: every answered read that began after some write of its key had been acknowledged counts at the time since the
latest such write, as stale if it was too old for that write.

Predicted: probabilistically bounded staleness (Bailis et al., VLDB 2012, section 5: the WARS model), by Monte Carlo.
The coordinator of each request is a node drawn evenly, and one of the key's N replicas. A write reaches replica i after
W_i, its acknowledgement takes A_i more, and it is acknowledged after the W-th of these sums, at time c. A read that
begins t later reaches replica j after R_j and is answered after S_j more; the first R answers count. It is stale if
W_j > c + t + R_j for all of them. For the coordinator's own replica all four are 0. The W_i of one trial are those of
one write at this coordinator that was measured before the workload, together, for they depend on each other; A, R and S
are half of what a read at that node took longer for two replicas than for one. Repair, losses and other writes are not
in the model.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

import msgspec

from raftkv.instruments.lab.history import History, ObservedOperation
from raftkv.instruments.lab.record import MeasuredDelay
from raftkv.instruments.lab.report.harm import without_last_look
from raftkv.instruments.lab.report.reading import KeyHistory

TRIALS: Final = 20_000
POINTS: Final = 80
BINS_PER_DECADE: Final = 8
READS_PER_BIN_MIN: Final = 30
"""Fewer say nothing. At the very end fewer may be left over; they are not shown."""


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """Reads that began between ``from_ms`` and ``until_ms`` after the write; half of them before ``ms_p50``."""

    from_ms: float
    until_ms: float
    ms_p50: float
    reads: int
    stale: int


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """Probabilities of a stale read at ``ms`` since the write; ``fresh_ms_p999``: by then 99.9 % of reads are fresh."""

    ms: tuple[float, ...]
    stale: tuple[float, ...]
    fresh_ms_p999: float


def curve(history: History) -> tuple[Bin, ...]:
    """The measured curve, in bins that are about equally wide on a logarithmic scale, and hold enough reads."""
    bins: list[Bin] = []
    waiting: list[tuple[float, bool]] = []
    points = sorted(_points(history))
    for number, point in enumerate(points):
        waiting.append(point)
        is_last_of_step = number + 1 == len(points) or _step(points[number + 1][0]) != _step(point[0])
        if is_last_of_step and len(waiting) >= READS_PER_BIN_MIN:
            bins.append(_bin(waiting))
            waiting = []
    return tuple(bins)


def _step(ms: float) -> int:
    return max(0, int(math.log10(max(ms, 1.0)) * BINS_PER_DECADE))


def _bin(points: Sequence[tuple[float, bool]]) -> Bin:
    times_ms = [ms for ms, _ in points]
    return Bin(
        from_ms=times_ms[0],
        until_ms=times_ms[-1],
        ms_p50=times_ms[len(times_ms) // 2],
        reads=len(points),
        stale=sum(is_stale for _, is_stale in points),
    )


def _points(history: History) -> list[tuple[float, bool]]:
    """Milliseconds since the last acknowledged write, and whether the read was too old for it."""
    found = []
    traffic = History(without_last_look(history))
    for part in traffic.by_key().values():
        key = KeyHistory(part)
        writes = sorted(key.writes, key=_returned_ns)
        for read in key.reads:
            before = bisect.bisect_left(writes, read.invoked_ns, key=_returned_ns)
            if before:
                last = writes[before - 1]
                is_stale = last.invoked_ns > key.newest_shown_ns(read)
                found.append(((read.invoked_ns - _returned_ns(last)) / 1e6, is_stale))
    return found


def _returned_ns(operation: ObservedOperation) -> int:
    assert operation.returned_ns is not None
    return operation.returned_ns


def predicted(delays: Sequence[MeasuredDelay], *, r: int, w: int, random: Random) -> Prediction | None:
    """The prediction for ``r`` and ``w`` of the nodes that ``delays`` were measured between, all of them replicas."""
    nodes = sorted({delay.origin for delay in delays})
    if not nodes or max(r, w) > len(nodes):
        return None
    writes_ms = {origin: _writes_ms([delay for delay in delays if delay.origin == origin]) for origin in nodes}
    if not all(writes_ms.values()):
        return None
    measured = _Measured(writes_ms, {node: _one_way_ms([d for d in delays if d.origin == node]) for node in nodes})
    thresholds_ms = sorted(_threshold_ms(measured, random, r=r, w=w) for _ in range(TRIALS))
    highest_ms = max(10.0, thresholds_ms[-1] * 1.2)
    grid_ms = [highest_ms ** (number / (POINTS - 1)) for number in range(POINTS)]
    return Prediction(
        ms=tuple(grid_ms),
        stale=tuple(1 - bisect.bisect_right(thresholds_ms, ms) / TRIALS for ms in grid_ms),
        fresh_ms_p999=max(0.0, thresholds_ms[math.ceil(0.999 * TRIALS) - 1]),
    )


def _writes_ms(delays: Sequence[MeasuredDelay]) -> list[dict[str, float]]:
    """Of each write that was measured, when every other node had it."""
    found: dict[int, dict[str, float]] = {}
    for delay in delays:
        if delay.kind == "write":
            found.setdefault(delay.number, {})[delay.node] = max(0.0, delay.seconds * 1000)
    return list(found.values())


def _one_way_ms(delays: Sequence[MeasuredDelay]) -> list[float]:
    """Samples of one way over the network, from reads of one replica and of two."""
    alone = sorted(delay.seconds for delay in delays if delay.kind == "read" and delay.replicas == 1)
    both = [delay.seconds for delay in delays if delay.kind == "read" and delay.replicas == 2]
    return [max(0.0, (seconds - alone[len(alone) // 2]) * 1000 / 2) for seconds in both] if alone else [0.0]


class _Measured(NamedTuple):
    """Samples in milliseconds by coordinator: of whole writes, and of one way over the network."""

    writes_ms: dict[str, list[dict[str, float]]]
    one_way_ms: dict[str, list[float]]


def _threshold_ms(measured: _Measured, random: Random, *, r: int, w: int) -> float:
    """One trial: from how long after the acknowledgement on a read would see the write."""
    nodes = list(measured.one_way_ms)
    writer, reader = random.choice(nodes), random.choice(nodes)

    def one_way_ms(origin: str, node: str) -> float:
        return random.choice(measured.one_way_ms[origin]) if node != origin else 0.0

    arrival_ms = random.choice(measured.writes_ms[writer]) | {writer: 0.0}
    acknowledged_ms = sorted(arrival_ms[node] + one_way_ms(writer, node) for node in nodes)[w - 1]
    answers = []
    for node in nodes:
        there_ms, back_ms = one_way_ms(reader, node), one_way_ms(reader, node)
        answers.append((there_ms + back_ms, there_ms, node))
    return min(arrival_ms[node] - acknowledged_ms - there_ms for _, there_ms, node in sorted(answers)[:r])
