"""The table that compares variants: a row for each number, harm first, and a column for each variant. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from raftkv.instruments.lab.report.results import Results, VariantResults
from raftkv.instruments.lab.report.sentences import Tone, duration


class Row(NamedTuple):
    """What a number is, what it means, how it reads for each variant, and how bad that is."""

    name: str
    meaning: str
    cells: tuple[str, ...]
    tones: tuple[Tone, ...]


_Cell = tuple[str, Tone]
"""How it reads, and how bad that is."""


_VERDICTS: Final = {"linearizable": "yes", "not linearizable": "no", "undecided": "undecided"}


def rows(results: Results) -> list[Row]:
    """The table; rows that say nothing about any variant are left out."""
    found = []
    for lines in zip(*map(_column, results.variants), strict=True):
        (name, meaning, _), cells = lines[0], [cell for _, _, cell in lines]
        if any(text not in ("-", "0") for text, _ in cells):
            found.append(Row(name, meaning, tuple(text for text, _ in cells), tuple(tone for _, tone in cells)))
    return found


def _column(each: VariantResults) -> list[tuple[str, str, _Cell]]:
    """Every number of one variant: its name, what it means, and how it reads."""
    m, pace, variant = each.measures, each.pace, each.variant
    late = Tone.HARM if variant.promises_fresh_reads else Tone.ALLOWED
    verdict = _VERDICTS[each.judgement.verdict], Tone.HARM if each.is_promise_broken else Tone.FINE
    additions = _of(m.lost_additions, m.acknowledged_additions, Tone.HARM)
    behind = f"{m.behind_max:,}" if m.stale_reads else "-", Tone.FINE
    stalest = duration(m.stalest_s) if m.stale_reads else "-", Tone.FINE
    disturbed = _share(pace.answered_in_faults, pace.operations_in_faults)
    return [
        ("lost additions", "were acknowledged, and are not in their list in the end", additions),
        ("lost writes", "were acknowledged, and are newer than what is there in the end",
         _of(m.lost_writes, m.acknowledged_writes, Tone.HARM)),
        ("lost deletions", "were acknowledged, and what they deleted is back in the end",
         _count(m.resurrected_deletes, Tone.HARM)),
        ("stale reads", "left out a write that had been acknowledged before they began",
         _of(m.stale_reads, m.reads, late)),
        ("writes behind", "how many acknowledged writes the worst of them left out", behind),
        ("overwritten for", "how long ago at most, when a read began, what it showed had been overwritten", stalest),
        ("own write missed", "stale reads that left out a write of the same client", _count(m.own_writes_missed, late)),
        ("deleted, but read", "stale reads that showed what had been deleted", _count(m.deleted_reads, late)),
        ("back in time", "reads of something older than the same client had read before",
         _count(m.backwards_reads, late)),
        ("answered", "of all that clients asked", _share(m.answered, m.operations)),
        ("in faults", "of what they asked while something was broken", disturbed),
        ("unknown outcome", "requests that nobody can say of whether they took effect", _count(m.unknown, Tone.FINE)),
        ("read p50", "half of the answered reads took no longer", _ms(m.read.ms_p50)),
        ("read p99", "99 % of the answered reads took no longer", _ms(m.read.ms_p99)),
        ("write p50", "half of the answered writes took no longer", _ms(m.write.ms_p50)),
        ("write p99", "99 % of the answered writes took no longer", _ms(m.write.ms_p99)),
        ("sibling reads", "were given several values at once", _count(m.sibling_reads, Tone.FINE)),
        ("sibling keys", "have several values in the end", _count(m.sibling_keys, Tone.FINE)),
        ("linearizable", "could one copy that does one thing at a time have given all these answers?", verdict),
        ("operations", "all that clients began", _count(m.operations, Tone.FINE)),
    ]  # fmt: skip


def _count(count: int, bad: Tone) -> _Cell:
    return f"{count:,}", bad if count else Tone.FINE


def _of(count: int, total: int, bad: Tone) -> _Cell:
    return f"{count:,} of {total:,}" if total else "-", bad if count else Tone.FINE


def _share(part: int, total: int) -> _Cell:
    return f"{part / total:.1%}" if total else "-", Tone.FINE


def _ms(ms: float | None) -> _Cell:
    return "-" if ms is None else f"{ms:,.{1 if ms < 99.95 else 0}f} ms", Tone.FINE
