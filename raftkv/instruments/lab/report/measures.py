"""Numbers of one variant, counted from its raw history and from nothing else. Pure.

What the words mean is written beside each number. Reads of the last look, when all was healed, are no part of the
traffic: they only tell what was lost for good. Imports its neighbour ``reading``, and ``additions`` and ``history`` of
the laboratory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from raftkv.instruments.lab.additions import LIST_PREFIX, added, merged
from raftkv.instruments.lab.history import (
    LAST_LOOK,
    CompareAndSet,
    DeleteAction,
    GetAction,
    History,
    ObservedOperation,
    Outcome,
)
from raftkv.instruments.lab.report.reading import KeyHistory, shown


class KindLatency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of the answered operations of one kind; ``None`` when there were none."""

    ms_p50: float | None
    ms_p99: float | None
    ms_max: float | None


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """One variant in numbers.

    Operations: ``answered`` had their result, ``refused`` certainly had no effect, ``unknown`` may have had one.

    Reads that were answered: ``stale_reads`` left out a write that had been acknowledged before they began, the worst
    of them one that had been acknowledged ``stalest_s`` seconds before. Of these, ``own_writes_missed`` left out a
    write of the same client (read your writes), and ``deleted_reads`` showed what had been deleted. ``backwards_reads``
    showed something older than the same client had read before (monotonic reads). ``sibling_reads`` were given several
    values, at most ``siblings_max``.

    At the last look: ``lost_writes`` of the ``acknowledged_writes`` (but for lists) are newer than what is left.
    ``resurrected_deletes`` were acknowledged, and an older value is there. ``lost_additions`` of the
    ``acknowledged_additions`` to lists are not there. ``sibling_keys`` still have several values.
    """

    operations: int
    answered: int
    refused: int
    unknown: int
    reads: int
    stale_reads: int
    stalest_s: float
    own_writes_missed: int
    backwards_reads: int
    deleted_reads: int
    sibling_reads: int
    siblings_max: int
    acknowledged_writes: int
    lost_writes: int
    resurrected_deletes: int
    acknowledged_additions: int
    lost_additions: int
    sibling_keys: int
    read: KindLatency
    write: KindLatency

    @property
    def availability(self) -> float:
        """The share of operations that had an answer; 1 when there were none."""
        return self.answered / self.operations if self.operations else 1.0


def measured(history: History) -> Measures:
    """All numbers of ``history``."""
    traffic = without_last_look(history)
    answered = [operation for operation in traffic if operation.outcome is Outcome.OK]
    reads = [operation for operation in answered if isinstance(operation.action, GetAction)]
    keys = {key: KeyHistory(part) for key, part in history.by_key().items()}
    stale = [(read, writes) for read in reads if (writes := keys[read.key].missed(read))]
    looks = [operation for operation in history if operation.note == LAST_LOOK]
    ages_s = [(read.invoked_ns - min(write.returned_ns or 0 for write in writes)) / 1e9 for read, writes in stale]
    additions = acknowledged_additions(traffic)
    lost = [write for look in looks if not _is_list(look) for write in keys[look.key].missed(look)]
    answered_count, refused_count, unknown_count = counted(traffic)
    return Measures(
        operations=len(traffic),
        answered=answered_count,
        refused=refused_count,
        unknown=unknown_count,
        reads=len(reads),
        stale_reads=len(stale),
        stalest_s=max(ages_s, default=0.0),
        own_writes_missed=sum(any(write.client == read.client for write in writes) for read, writes in stale),
        backwards_reads=_backwards(reads, keys),
        deleted_reads=sum(
            read.result is not None and any(_is_delete(write) for write in writes) for read, writes in stale
        ),
        sibling_reads=sum(bool(read.siblings) for read in reads),
        siblings_max=max((len(shown(read)) for read in reads if read.siblings), default=0),
        acknowledged_writes=sum(len(part.writes) for key, part in keys.items() if not key.startswith(LIST_PREFIX)),
        lost_writes=sum(not _is_delete(write) for write in lost),
        resurrected_deletes=sum(_is_delete(write) for write in lost),
        acknowledged_additions=len(additions),
        lost_additions=len(additions - _present(looks)),
        sibling_keys=sum(bool(look.siblings) for look in looks),
        read=latency(reads),
        write=latency(operation for operation in answered if not isinstance(operation.action, GetAction)),
    )


def without_last_look(history: History) -> list[ObservedOperation]:
    """What the clients of the workload did."""
    return [operation for operation in history if operation.note != LAST_LOOK]


def counted(operations: Iterable[ObservedOperation]) -> tuple[int, int, int]:
    """How many were answered, how many refused, and of how many nobody knows."""
    outcomes = Counter(operation.outcome for operation in operations)
    return outcomes[Outcome.OK], outcomes[Outcome.FAILED], outcomes[Outcome.UNKNOWN]


def acknowledged_additions(operations: Iterable[ObservedOperation]) -> set[tuple[bytes, bytes]]:
    """Lists and the elements that somebody was told are in them now."""
    found = set()
    for operation in operations:
        element = added(operation)
        if element is not None and operation.outcome is Outcome.OK and operation.result is not False:
            found.add((operation.key, element))
    return found


def latency(operations: Iterable[ObservedOperation]) -> KindLatency:
    """How long ``operations``, all answered, took."""
    ms = sorted((each.returned_ns - each.invoked_ns) / 1e6 for each in operations if each.returned_ns is not None)
    return KindLatency(ms_p50=_quantile(ms, 0.5), ms_p99=_quantile(ms, 0.99), ms_max=_quantile(ms, 1.0))


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest of ``ordered`` values that ``share`` of them do not exceed; ``None`` when there are none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _present(looks: Iterable[ObservedOperation]) -> set[tuple[bytes, bytes]]:
    """Lists and the elements that are in any of their values."""
    return {
        (look.key, element)
        for look in looks
        if _is_list(look)
        for element in merged(value for value in shown(look) if value is not None)
    }


def _backwards(reads: Iterable[ObservedOperation], keys: dict[bytes, KeyHistory]) -> int:
    count = 0
    seen_ns: dict[tuple[int, bytes], float] = {}
    for read in reads:  # in order of invocation, and one client reads one after the other
        part, session = keys[read.key], (read.client, read.key)
        count += part.newest_shown_ns(read) < seen_ns.get(session, -math.inf)
        seen_ns[session] = max(seen_ns.get(session, -math.inf), part.begun_ns(read))
    return count


def _is_list(operation: ObservedOperation) -> bool:
    return operation.key.startswith(LIST_PREFIX)


def _is_delete(write: ObservedOperation) -> bool:
    return isinstance(write.action, DeleteAction) or (
        isinstance(write.action, CompareAndSet) and write.action.value is None
    )
