"""The table that compares variants: one row for each number, one column for each variant. Pure."""

from __future__ import annotations

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


_Cell = tuple[str, bool]
"""How it reads, and whether it should worry."""


def rows(results: Results) -> list[Row]:
    """The table; rows that say nothing about any variant are left out."""
    found = []
    for lines in zip(*map(_column, results.variants), strict=True):
        (name, meaning, _), cells = lines[0], [cell for _, _, cell in lines]
        if any(text not in ("-", "0", "0 (0)") for text, _ in cells):
            found.append(Row(name, meaning, tuple(text for text, _ in cells), tuple(bad for _, bad in cells)))
    return found


def _column(each: VariantResults) -> list[tuple[str, str, _Cell]]:
    """Every number of one variant: its name, what it means, and how it reads."""
    m, pace, verdict = each.measures, each.pace, each.judgement.verdict
    judged = verdict, verdict == "not linearizable"
    stalest = duration(m.stalest_s) if m.stale_reads else "-"
    resurrected = f"{m.resurrected_deletes:,} ({m.deleted_reads:,})", m.resurrected_deletes + m.deleted_reads > 0
    siblings = f"{m.sibling_reads:,} ({m.sibling_keys:,})"
    disturbed = _share(pace.answered_in_faults, pace.operations_in_faults)
    additions = _of(m.lost_additions, m.acknowledged_additions)
    return [
        ("verdict", "could one copy that does one thing at a time have given all these answers?", judged),
        ("answered", "operations that had an answer", _share(m.answered, m.operations)),
        ("answered during faults", "of those that began while something was broken", disturbed),
        ("unknown outcomes", "writes that may or may not have happened", (f"{m.unknown:,}", False)),
        ("stale reads", "left out a write that had been acknowledged before they began", _of(m.stale_reads, m.reads)),
        ("stalest read", "how long ago the write had been acknowledged that it left out", (stalest, False)),
        ("own writes missed", "a client did not see what it had written itself", _count(m.own_writes_missed)),
        ("reads that went back", "a client saw something older than it had seen before", _count(m.backwards_reads)),
        ("lost writes", "acknowledged, newer than what is left in the end", _of(m.lost_writes, m.acknowledged_writes)),
        ("lost additions", "acknowledged additions to a list that are not in it in the end", additions),
        (
            "resurrected deletes",
            "deleted, and back in the end; in brackets: reads that saw something deleted",
            resurrected,
        ),
        (
            "reads with siblings",
            "were given several values at once; in brackets: keys that still have several",
            (siblings, False),
        ),
        ("read latency", "half, and 99 %, of the answered reads took no longer", _ms(m.read)),
        ("write latency", "half, and 99 %, of the answered writes took no longer", _ms(m.write)),
        ("operations", "all that clients began", (f"{m.operations:,}", False)),
    ]


def _count(count: int) -> _Cell:
    return f"{count:,}", count > 0


def _of(count: int, total: int) -> _Cell:
    return f"{count:,} of {total:,}" if total else "-", count > 0


def _share(part: int, total: int) -> _Cell:
    return f"{part / total:.1%}" if total else "-", False


def _ms(latency: KindLatency) -> _Cell:
    if latency.ms_p50 is None or latency.ms_p99 is None:
        return "-", False
    return " / ".join(f"{ms:,.{1 if ms < 99.95 else 0}f}" for ms in (latency.ms_p50, latency.ms_p99)) + " ms", False
