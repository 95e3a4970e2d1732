"""One variant in plain words, for the cards at the top of a report, the worst first. Pure.

*Harm* is what nobody may do to a client: an acknowledged write that is gone in the end, a stale answer where a fresh
one was promised. A stale answer where none was promised is *allowed*. Whether a history is linearizable is said beside
that: a store may be linearizable and lose what a client meant, or not be so and lose nothing.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from raftkv.instruments.lab.flaw import FlawKind
from raftkv.instruments.lab.report.results import Results, VariantResults


class Tone(enum.StrEnum):
    """How bad it is, the worst first; the value is a class of the page."""

    HARM = "is-harm"
    ALLOWED = "is-allowed"
    FINE = "is-fine"


SIGNS: Final = {Tone.HARM: "✗", Tone.ALLOWED: "!", Tone.FINE: "✓"}

_LIES: Final = (FlawKind.DIRTY_READ, FlawKind.INVENTED_VALUE)
"""A value that nobody wrote, or whose write was refused, is promised by nobody."""


def worst_first(results: Results) -> Results:
    """The variants in order of harm; otherwise as they were run."""
    order = list(Tone)
    variants = sorted(results.variants, key=lambda each: order.index(tone(each)))
    return msgspec.structs.replace(results, variants=tuple(variants))


def tone(each: VariantResults) -> Tone:
    """How bad it is."""
    found, proof = each.measures, each.judgement.proof
    is_lie = proof is not None and proof.kind in _LIES
    if losses(each) or is_lie or each.is_promise_broken or (found.stale_reads and each.variant.promises_fresh_reads):
        return Tone.HARM
    is_odd = proof is not None and proof.kind is not FlawKind.SIBLINGS
    return Tone.ALLOWED if found.stale_reads or found.backwards_reads or is_odd else Tone.FINE


def headline(each: VariantResults) -> str:
    """The worst of it, counted."""
    found, proof = each.measures, each.judgement.proof
    is_allowed = tone(each) is Tone.ALLOWED
    if losses(each):
        return f"Lost: {' and '.join(losses(each))}"
    if tone(each) is Tone.FINE:
        return "Nothing lost, nothing stale"
    if proof is not None and proof.kind in _LIES:
        return f"False: {proof.kind}"
    if found.stale_reads:
        which = "allowed here" if is_allowed else "although fresh answers were promised"
        return f"Stale: {found.stale_reads:,} of {found.reads:,} reads, {which}"
    odd = f"Back in time: {_reads(found.backwards_reads)}" if found.backwards_reads else "No order explains the answers"
    return f"{odd}, allowed here" if is_allowed else "Not linearizable, against its promise"


def losses(each: VariantResults) -> list[str]:
    """What was acknowledged and is gone in the end, kind by kind."""
    found = each.measures
    parts = []
    if found.lost_additions:
        parts.append(f"{found.lost_additions:,} of {found.acknowledged_additions:,} additions")
    if found.lost_writes:
        parts.append(f"{found.lost_writes:,} of {found.acknowledged_writes:,} writes")
    if found.resurrected_deletes:
        parts.append("1 deletion" if found.resurrected_deletes == 1 else f"{found.resurrected_deletes:,} deletions")
    return parts


def explanation(each: VariantResults) -> list[str]:
    """What the headline means, and what else went wrong, sentence by sentence."""
    found = each.measures
    said = []
    if each.is_promise_broken or (tone(each) is Tone.HARM and not losses(each)):
        said.append("This is a defect of raftkv: please report it with this folder.")
    if found.lost_additions:
        said.append("Each was acknowledged, and somebody who had not seen it wrote the list without it.")
    if found.lost_writes:
        said.append("Acknowledged, and in the end something older is there, or nothing.")
    if found.resurrected_deletes:
        said.append("What was deleted is back in the end.")
    if found.stale_reads and losses(each):
        said.append(f"{_reads(found.stale_reads)} of {found.reads:,} were stale.")
    if found.stale_reads:
        said.append(
            f"At worst a read was {_writes(found.behind_max)} behind; what it showed had been overwritten for up to "
            f"{duration(found.stalest_s)}."
        )
    if found.own_writes_missed:
        said.append(f"{_times(found.own_writes_missed)} a client missed its own write.")
    if found.backwards_reads:
        said.append(f"{_times(found.backwards_reads)} a client read something older than it had read before.")
    if found.sibling_reads:
        kept = found.acknowledged_additions and not found.lost_additions
        all_kept = f"; all {found.acknowledged_additions:,} additions were kept" if kept else ""
        said.append(f"{_reads(found.sibling_reads)} had to choose between siblings{all_kept}.")
    return [sentence[0].upper() + sentence[1:] for sentence in said]


def service(each: VariantResults) -> str:
    """How well it served."""
    found, pace = each.measures, each.pace
    parts = [f"{found.availability:.1%} of requests were answered"]
    if pace.operations_in_faults:
        parts.append(f"{pace.answered_in_faults / pace.operations_in_faults:.1%} during faults")
    sentence = ", ".join(parts) + "."
    if found.read.ms_p50 is not None and found.write.ms_p50 is not None:
        sentence += (
            f" Half of the reads took {found.read.ms_p50:.1f} ms or less, of the writes {found.write.ms_p50:.1f} ms."
        )
    return sentence


def tag(each: VariantResults) -> str:
    """Whether it was linearizable, with what that was worth before."""
    promised = each.variant.promises_linearizable
    match each.judgement.verdict:
        case "linearizable":
            return "linearizable, as promised" if promised else "linearizable this time, not promised"
        case "not linearizable":
            return "not linearizable, against its promise" if promised else "not linearizable, nor promised"
        case _:
            return "linearizable? The checker gave up: too many operations at once on one key"


def duration(seconds: float) -> str:
    """``seconds`` with as many digits as a person wants."""
    if seconds >= 0.1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 else "1 ms"


def _reads(count: int) -> str:
    return "1 read" if count == 1 else f"{count:,} reads"


def _writes(count: int) -> str:
    return "1 write" if count == 1 else f"{count:,} writes"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")
