"""How a variant served its clients over time, beside what was done to it: answers, latency, faults. Pure.

Time is cut into slices of equal length; an operation belongs to the slice it was invoked in. Imports its neighbours
``harm`` and ``measures``, and ``history`` and ``nemesis`` of the laboratory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from raftkv.instruments.lab.history import History, ObservedOperation, Outcome
from raftkv.instruments.lab.nemesis import FaultEvent
from raftkv.instruments.lab.report.harm import Harm, answered, without_last_look
from raftkv.instruments.lab.report.measures import counted, latency

SLICES: Final = 64
SLICE_S_MIN: Final = 0.1


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """Operations, each counted once: ``good`` answers are neither stale nor of writes that are ``lost`` in the end."""

    good: int = 0
    stale: int = 0
    lost: int = 0
    refused: int = 0
    unknown: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.good + self.stale + self.lost + self.refused + self.unknown


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """Operations invoked within one slice of time; latency is that of the answered ones."""

    tally: Tally
    ms_p50: float | None
    ms_p99: float | None


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """A fault, from its beginning to its end, in seconds since the traffic began."""

    words: str
    from_s: float
    until_s: float


class PaceSlices(msgspec.Struct, frozen=True, kw_only=True):
    """``whole`` is the cluster's slices, ``by_node`` the operations of each slice at each node that was asked.

    ``answered_in_faults`` of ``operations_in_faults`` were invoked while some fault lasted.
    """

    slice_s: float
    duration_s: float
    whole: tuple[Slice, ...]
    by_node: dict[str, tuple[Tally, ...]]
    bands: tuple[Band, ...]
    answered_in_faults: int
    operations_in_faults: int


def paced(history: History, harm: Harm, events: Sequence[FaultEvent], *, began_ns: int, ended_ns: int) -> PaceSlices:
    """``history``, to which ``harm`` was done, in slices, from ``began_ns`` to ``ended_ns``."""
    stale, lost = {each.read for each in harm.stale}, {*harm.lost, *harm.dropped}

    def tally(operations: Iterable[ObservedOperation]) -> Tally:
        return Tally(**Counter(_fate(each, stale, lost) for each in operations))

    duration_s = (ended_ns - began_ns) / 1e9
    slice_s = max(SLICE_S_MIN, duration_s / SLICES)
    count = max(1, round(duration_s / slice_s))
    slices: list[list[ObservedOperation]] = [[] for _ in range(count)]
    traffic = without_last_look(history)
    for operation in traffic:
        slices[min(count - 1, max(0, int((operation.invoked_ns - began_ns) / 1e9 / slice_s)))].append(operation)
    bands = _bands(events, began_ns, ended_ns)
    disturbed = [
        operation
        for operation in traffic
        if any(band.from_s <= (operation.invoked_ns - began_ns) / 1e9 < band.until_s for band in bands)
    ]
    return PaceSlices(
        slice_s=slice_s,
        duration_s=duration_s,
        whole=tuple(_slice(operations, tally(operations)) for operations in slices),
        by_node={
            node: tuple(tally(each for each in operations if each.node == node) for operations in slices)
            for node in sorted({operation.node for operation in traffic})
        },
        bands=bands,
        answered_in_faults=counted(disturbed)[0],
        operations_in_faults=len(disturbed),
    )


def _fate(
    operation: ObservedOperation, stale: AbstractSet[ObservedOperation], lost: AbstractSet[ObservedOperation]
) -> str:
    """Under which name of a tally it counts."""
    if operation.outcome is not Outcome.OK:
        return "refused" if operation.outcome is Outcome.FAILED else "unknown"
    return "stale" if operation in stale else "lost" if operation in lost else "good"


def _slice(operations: Sequence[ObservedOperation], tally: Tally) -> Slice:
    took = latency(answered(operations))
    return Slice(tally=tally, ms_p50=took.ms_p50, ms_p99=took.ms_p99)


def _bands(events: Sequence[FaultEvent], began_ns: int, ended_ns: int) -> tuple[Band, ...]:
    """Each beginning with its end, which is the next one of an equal fault; or the end of the traffic."""
    found = []
    ends = [event for event in events if event.what == "end"]
    for event in events:
        if event.what == "begin":
            end = next((other for other in ends if other.fault == event.fault and other.at_ns >= event.at_ns), None)
            if end is not None:
                ends.remove(end)
            until_ns = ended_ns if end is None else min(end.at_ns, ended_ns)
            from_s = max(0.0, (event.at_ns - began_ns) / 1e9)
            found.append(Band(words=event.fault.words, from_s=from_s, until_s=(until_ns - began_ns) / 1e9))
    return tuple(found)
