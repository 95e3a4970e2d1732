"""Numbers of one variant, counted from its raw history and from nothing else. Pure.

What the words mean is written beside each number. Reads of the last look, when all was healed, are no part of the
traffic: they only tell what was lost for good. Imports its neighbours ``harm`` and ``reading``, and ``additions`` and
``history`` of the laboratory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from raftkv.instruments.lab.additions import LIST_PREFIX
from raftkv.instruments.lab.history import LAST_LOOK, GetAction, History, ObservedOperation, Outcome
from raftkv.instruments.lab.report.harm import Harm, additions, answered, is_delete, without_last_look
from raftkv.instruments.lab.report.reading import KeyHistory, shown


class KindLatency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of the answered operations of one kind; ``None`` when there were none."""

    ms_p50: float | None
    ms_p99: float | None
    ms_max: float | None


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """One variant in numbers.

    Operations: ``answered`` had their result, ``refused`` certainly had no effect, ``unknown`` may have had one.

    Reads that were answered: ``stale_reads`` left out writes that had been acknowledged before they began, at most
    ``behind_max`` of them, the first of which had been acknowledged at most ``stalest_s`` seconds before. Of these,
    ``own_writes_missed`` left out a write of the same client (read your writes), and ``deleted_reads`` showed what had
    been deleted. ``backwards_reads`` showed something older than the same client had read before (monotonic reads).
    ``sibling_reads`` were given several values, at most ``siblings_max``.

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
    behind_max: int
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


def measured(history: History, harm: Harm) -> Measures:
    """All numbers of ``history``, to which ``harm`` was done."""
    traffic = without_last_look(history)
    taken = answered(traffic)
    reads = [operation for operation in taken if isinstance(operation.action, GetAction)]
    keys = {key: KeyHistory(part) for key, part in history.by_key().items()}
    looks = [operation for operation in history if operation.note == LAST_LOOK]
    answered_count, refused_count, unknown_count = counted(traffic)
    return Measures(
        operations=len(traffic),
        answered=answered_count,
        refused=refused_count,
        unknown=unknown_count,
        reads=len(reads),
        stale_reads=len(harm.stale),
        behind_max=max((len(each.missed) for each in harm.stale), default=0),
        stalest_s=max((each.age_s for each in harm.stale), default=0.0),
        own_writes_missed=sum(any(write.client == read.client for write in missed) for read, missed in harm.stale),
        backwards_reads=_backwards(reads, keys),
        deleted_reads=sum(read.result is not None and any(map(is_delete, missed)) for read, missed in harm.stale),
        sibling_reads=sum(bool(read.siblings) for read in reads),
        siblings_max=max((len(shown(read)) for read in reads if read.siblings), default=0),
        acknowledged_writes=sum(len(part.writes) for key, part in keys.items() if not key.startswith(LIST_PREFIX)),
        lost_writes=sum(not is_delete(write) for write in harm.lost),
        resurrected_deletes=sum(map(is_delete, harm.lost)),
        acknowledged_additions=len(additions(traffic)),
        lost_additions=len(harm.dropped),
        sibling_keys=sum(bool(look.siblings) for look in looks),
        read=latency(reads),
        write=latency(operation for operation in taken if not isinstance(operation.action, GetAction)),
    )


def counted(operations: Iterable[ObservedOperation]) -> tuple[int, int, int]:
    """How many were answered, how many refused, and of how many nobody knows."""
    outcomes = Counter(operation.outcome for operation in operations)
    return outcomes[Outcome.OK], outcomes[Outcome.FAILED], outcomes[Outcome.UNKNOWN]


def latency(operations: Iterable[ObservedOperation]) -> KindLatency:
    """How long ``operations``, all answered, took."""
    ms = sorted((each.returned_ns - each.invoked_ns) / 1e6 for each in operations if each.returned_ns is not None)
    return KindLatency(ms_p50=_quantile(ms, 0.5), ms_p99=_quantile(ms, 0.99), ms_max=_quantile(ms, 1.0))


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest of ``ordered`` values that ``share`` of them do not exceed; ``None`` when there are none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _backwards(reads: Iterable[ObservedOperation], keys: dict[bytes, KeyHistory]) -> int:
    count = 0
    seen_ns: dict[tuple[int, bytes], float] = {}
    for read in reads:  # in order of invocation, and one client reads one after the other
        part, session = keys[read.key], (read.client, read.key)
        count += part.newest_shown_ns(read) < seen_ns.get(session, -math.inf)
        seen_ns[session] = max(seen_ns.get(session, -math.inf), part.begun_ns(read))
    return count
