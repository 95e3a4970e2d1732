"""One variant in plain words, for the cards at the top of a report. Pure."""

from __future__ import annotations

from raftkv.instruments.lab.report.results import VariantResults


def verdict(each: VariantResults) -> str:
    """The verdict in a few words, with what it was worth before."""
    if each.is_promise_broken:
        return "NOT linearizable, against its promise"
    if each.judgement.verdict != "linearizable":
        return each.judgement.verdict
    this_time = "" if each.variant.promises_linearizable else ", this time"
    return f"linearizable{this_time}" + (", but additions were lost" if is_harmed(each) else "")


def verdict_meaning(each: VariantResults) -> str:
    """What the verdict says."""
    if each.is_promise_broken:
        return "This is a defect of raftkv: please report it with this folder."
    if each.judgement.verdict == "undecided":
        return "The checker gave up: too many operations at once on one key."
    if each.judgement.verdict == "not linearizable":
        return "No single copy of the data could have given these answers."
    if is_harmed(each):
        return "Every answer was right, but between a client's read and its write another client had written."
    if each.variant.promises_linearizable:
        return "Every answer is what a single copy of the data would have said."
    return "No contradiction showed in this run. It is not promised, and another run may show one."


def damage(each: VariantResults) -> str:
    """What went wrong, counted; or that nothing did."""
    found = each.measures
    parts = []
    if found.stale_reads:
        worst = duration(found.stalest_s)
        parts.append(f"{found.stale_reads:,} of {found.reads:,} reads were stale, the worst by {worst}")
    if found.own_writes_missed:
        parts.append(f"{_times(found.own_writes_missed)} a client missed its own write")
    if found.lost_writes:
        parts.append(f"{found.lost_writes:,} of {found.acknowledged_writes:,} acknowledged writes were lost for good")
    if found.lost_additions:
        parts.append(f"{found.lost_additions:,} of {found.acknowledged_additions:,} acknowledged additions were lost")
    if found.resurrected_deletes:
        parts.append(f"{found.resurrected_deletes:,} deletes came undone")
    if found.sibling_reads:
        parts.append(f"{found.sibling_reads:,} reads had to choose between siblings")
    if not parts:
        return "Nothing stale, nothing lost."
    kept = found.acknowledged_additions and not found.lost_additions
    sentence = "; ".join(parts) + (f"; all {found.acknowledged_additions:,} additions were kept" if kept else "")
    return sentence[0].upper() + sentence[1:] + "."


def service(each: VariantResults) -> str:
    """How well it served."""
    found, pace = each.measures, each.pace
    during = pace.answered_in_faults / pace.operations_in_faults if pace.operations_in_faults else None
    parts = [f"{found.availability:.1%} of requests were answered"]
    if during is not None:
        parts.append(f"{during:.1%} during faults")
    sentence = ", ".join(parts) + "."
    if found.read.ms_p50 is not None and found.write.ms_p50 is not None:
        sentence += f" Half of the reads took {found.read.ms_p50:.1f} ms, of the writes {found.write.ms_p50:.1f} ms."
    return sentence


def is_harmed(each: VariantResults) -> bool:
    """Was anything that had been acknowledged lost, or undone?"""
    return each.measures.lost_writes + each.measures.lost_additions + each.measures.resurrected_deletes > 0


def duration(seconds: float) -> str:
    """``seconds`` with as many digits as a person wants."""
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds * 1000:.1f} ms"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")
