"""Which choice for which ratio, and why: computed from the results by rules that are written down here. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from raftkv.instruments.lab.reference4.choices import MAJORITY, Choice
from raftkv.instruments.lab.reference4.runs import ReferenceRun
from raftkv.instruments.load.plan import Ratio
from raftkv.instruments.load.samples import RequestKind

ERRORS_MAX: Final = 0.01
ALIKE: Final = 0.10

_SUCCEEDS: Final = f"A choice is out where more than {ERRORS_MAX:.0%} of its operations failed."
_FRESH: Final = (
    "Where reads must be fresh, a choice is out as soon as one of its reads was stale: it returned less than the "
    "newest write that was acknowledged before the read began."
)
_FASTEST: Final = (
    f"Of the others the fastest wins. Those within {ALIKE:.0%} of it count as equally fast; of these the one wins that "
    "goes on, reading and writing, with more nodes down, and if that is equal too, the faster one."
)
_REASON: Final = (
    "The reason is the mean time of one operation, that of reads and writes weighted as they occurred: a client that "
    "waits for its answers does no more than its inverse."
)
RULES: Final = (_SUCCEEDS, _FRESH, _FASTEST, _REASON)


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of one operation goes, on average: ``mean_ms`` is the sum of the two shares."""

    read_ms: float
    write_ms: float
    write_share: float

    @property
    def reads_part_ms(self) -> float:
        """What reads add."""
        return self.read_ms * (1 - self.write_share)

    @property
    def writes_part_ms(self) -> float:
        """What writes add."""
        return self.write_ms * self.write_share

    @property
    def mean_ms(self) -> float:
        """Of an operation of either kind."""
        return self.reads_part_ms + self.writes_part_ms


def cost(run: ReferenceRun) -> Cost:
    """The cost of an operation in ``run``, as measured; a kind that never occurred costs nothing."""
    means = {kind: found.mean_ms for kind, found in run.result.latency.items()}
    counts = {kind: found.count for kind, found in run.result.latency.items()}
    total = sum(counts.values())
    return Cost(
        read_ms=means.get(RequestKind.READ, 0.0),
        write_ms=means.get(RequestKind.WRITE, 0.0),
        write_share=counts.get(RequestKind.WRITE, 0) / total if total else 0.0,
    )


def works(run: ReferenceRun) -> bool:
    """Did nearly everything succeed?"""
    errors = run.result.error_count
    done = sum(found.count for found in run.result.latency.values())
    return done > 0 and errors <= ERRORS_MAX * (errors + done)


def is_fresh(run: ReferenceRun) -> bool:
    """Was no read stale?"""
    return run.result.freshness.stale == 0


def best(runs: Sequence[ReferenceRun]) -> ReferenceRun | None:
    """The winner among ``runs``, by the last rules but one."""
    if not runs:
        return None
    fastest = max(run.result.per_second for run in runs)
    alike = [run for run in runs if run.result.per_second >= fastest * (1 - ALIKE)]
    return max(alike, key=lambda run: (_down(run.choice), run.result.per_second))


def _down(choice: Choice) -> int:
    return min(choice.down_for_reads, choice.down_for_writes)


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """For one ratio: the choice where reads must be fresh, the choice where they need not be, and the reasons."""

    ratio: Ratio
    fresh: ReferenceRun | None
    any: ReferenceRun | None
    reasons: tuple[str, ...]


def answer(runs: Sequence[ReferenceRun]) -> Recommendation:
    """The answer for ``runs``, which are all of one ratio."""
    (ratio,) = {run.ratio for run in runs}
    working = [run for run in runs if works(run)]
    fresh = best([run for run in working if is_fresh(run)])
    fastest = best(working)
    return Recommendation(ratio=ratio, fresh=fresh, any=fastest, reasons=tuple(_reasons(runs, fresh, fastest)))


def _reasons(runs: Sequence[ReferenceRun], fresh: ReferenceRun | None, fastest: ReferenceRun | None) -> list[str]:
    reasons = []
    if fresh is None:
        reasons.append("No choice had fresh reads throughout.")
    else:
        reasons.append(f"{fresh.choice.title}: {_why(fresh)} None of its reads was stale. {_backward(fresh)}")
    if fastest is not None and fastest is not fresh:
        reasons.append(f"{fastest.choice.title}: {_why(fastest)} {_staleness(fastest)} {_durability(fastest.choice)}")
    others = [run for run in runs if run is not fresh and run is not fastest]
    others.sort(key=lambda run: -run.result.per_second)
    return reasons + [f"Not {run.choice.title}: {_why_not(run, fresh)}" for run in others]


def _why(run: ReferenceRun) -> str:
    found = cost(run)
    parts = f"writes {found.writes_part_ms:.0f} ms of it, reads {found.reads_part_ms:.0f} ms"
    return (
        f"{run.result.per_second:.0f} operations per second; one takes {found.mean_ms:.0f} ms on average, {parts} "
        f"(a write {found.write_ms:.0f} ms, a read {found.read_ms:.0f} ms)."
    )


def _why_not(run: ReferenceRun, fresh: ReferenceRun | None) -> str:
    if not works(run):
        return f"{run.result.error_count} operations failed."
    if not is_fresh(run):
        return f"{_why(run)} {_staleness(run)}"
    slower = ""
    if fresh is not None and run.result.per_second < fresh.result.per_second:
        slower = f" That is {fresh.result.per_second / run.result.per_second:.1f} times slower."
    return f"{_why(run)}{slower} {_availability(run.choice)}"


def _backward(run: ReferenceRun) -> str:
    fresh = run.result.freshness
    if not fresh.backward:
        return f"None of the {fresh.reads} went back behind what another read had returned before."
    return (
        f"But {fresh.backward} of {fresh.reads} went back behind what another read had returned before, while a write "
        "was on its way to all nodes."
    )


def _staleness(run: ReferenceRun) -> str:
    fresh, choice = run.result.freshness, run.choice
    told = f"{fresh.stale} of its {fresh.reads} reads were stale ({fresh.stale_share:.1%})."
    if fresh.stale and choice.mode == "raft" and choice.r + choice.w > choice.n and choice.w < MAJORITY:
        told += (
            " That R + W exceeds N does not help here: where there is a leader, reads show what is committed, and a "
            "write that is acknowledged by fewer than a majority is not yet."
        )
    if fresh.stale and choice.mode == "quorum" and choice.r + choice.w > choice.n:
        told += (
            " R + W exceeds N, but writes of one key were under way together: one that meets a newer stamp is stamped "
            "again, so that a value which was already seen and replaced came back."
        )
    return told


def _durability(choice: Choice) -> str:
    if choice.survives:
        return f"An acknowledged write survives the loss of {choice.survives} nodes."
    return "An acknowledged write is lost with the one node that has it."


def _availability(choice: Choice) -> str:
    return f"It writes with {choice.down_for_writes} and reads with {choice.down_for_reads} nodes down."
