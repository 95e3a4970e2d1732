"""The table that compares variants: one row for each number, one column for each variant. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from raftkv.instruments.lab.report.measures import KindLatency
from raftkv.instruments.lab.report.results import Results, VariantResults
from raftkv.instruments.lab.report.sentences import duration


class Row(NamedTuple):
    """What a number is, what it means, and how it reads for each variant; ``bad`` says where it should worry."""

    name: str
    meaning: str
    cells: tuple[str, ...]
    bad: tuple[bool, ...]


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,}" if total else "-"


def _ms(latency: KindLatency) -> str:
    if latency.ms_p50 is None or latency.ms_p99 is None:
        return "-"
    return " / ".join(f"{ms:,.{1 if ms < 99.95 else 0}f}" for ms in (latency.ms_p50, latency.ms_p99)) + " ms"


def _share(part: int, total: int) -> str:
    return f"{part / total:.1%}" if total else "-"


_Cell = Callable[[VariantResults], tuple[str, bool]]

_ROWS: tuple[tuple[str, str, _Cell], ...] = (
    (
        "verdict",
        "could one copy that does one thing at a time have given all these answers?",
        lambda each: (each.judgement.verdict, each.judgement.verdict == "not linearizable"),
    ),
    (
        "answered",
        "operations that had an answer",
        lambda each: (_share(each.measures.answered, each.measures.operations), False),
    ),
    (
        "answered during faults",
        "of those that began while something was broken",
        lambda each: (_share(each.pace.answered_in_faults, each.pace.operations_in_faults), False),
    ),
    (
        "unknown outcomes",
        "writes that may or may not have happened",
        lambda each: (f"{each.measures.unknown:,}", False),
    ),
    (
        "stale reads",
        "left out a write that had been acknowledged before they began",
        lambda each: (_of(each.measures.stale_reads, each.measures.reads), each.measures.stale_reads > 0),
    ),
    (
        "stalest read",
        "how long ago the write had been acknowledged that it left out",
        lambda each: (duration(each.measures.stalest_s) if each.measures.stale_reads else "-", False),
    ),
    (
        "own writes missed",
        "a client did not see what it had written itself",
        lambda each: (f"{each.measures.own_writes_missed:,}", each.measures.own_writes_missed > 0),
    ),
    (
        "reads that went back",
        "a client saw something older than it had seen before",
        lambda each: (f"{each.measures.backwards_reads:,}", each.measures.backwards_reads > 0),
    ),
    (
        "lost writes",
        "acknowledged, newer than what is left in the end",
        lambda each: (_of(each.measures.lost_writes, each.measures.acknowledged_writes), each.measures.lost_writes > 0),
    ),
    (
        "lost additions",
        "acknowledged additions to a list that are not in it in the end",
        lambda each: (
            _of(each.measures.lost_additions, each.measures.acknowledged_additions),
            each.measures.lost_additions > 0,
        ),
    ),
    (
        "resurrected deletes",
        "deleted, and back in the end; in brackets: reads that saw something deleted",
        lambda each: (
            f"{each.measures.resurrected_deletes:,} ({each.measures.deleted_reads:,})",
            each.measures.resurrected_deletes + each.measures.deleted_reads > 0,
        ),
    ),
    (
        "reads with siblings",
        "were given several values at once; in brackets: keys that still have several",
        lambda each: (f"{each.measures.sibling_reads:,} ({each.measures.sibling_keys:,})", False),
    ),
    (
        "read latency",
        "half, and 99 %, of the answered reads took no longer",
        lambda each: (_ms(each.measures.read), False),
    ),
    (
        "write latency",
        "half, and 99 %, of the answered writes took no longer",
        lambda each: (_ms(each.measures.write), False),
    ),
    ("operations", "all that clients began", lambda each: (f"{each.measures.operations:,}", False)),
)


def rows(results: Results) -> list[Row]:
    """The table; rows that say nothing about any variant are left out."""
    found = []
    for name, meaning, cell in _ROWS:
        cells = [cell(each) for each in results.variants]
        if any(text not in ("-", "0", "0 (0)") for text, _ in cells):
            found.append(Row(name, meaning, tuple(text for text, _ in cells), tuple(bad for _, bad in cells)))
    return found
