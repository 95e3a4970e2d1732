"""All results of a run, computed from its evidence: what the page, the pictures and the table show, and nothing more.

Pure but for ``of_run``, which reads the run's folder. Equal evidence gives equal results.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Final, Literal
from urllib.parse import parse_qsl

import msgspec

from raftkv.instruments.lab.checker import Linearizable, NotLinearizable, check
from raftkv.instruments.lab.history import History, ObservedOperation
from raftkv.instruments.lab.record import Evidence, LabRun, read_evidence, read_run
from raftkv.instruments.lab.report.harm import harmed, without_last_look
from raftkv.instruments.lab.report.losses import LostWrite, plainest_loss
from raftkv.instruments.lab.report.measures import Measures, measured
from raftkv.instruments.lab.report.pace import PaceSlices, paced
from raftkv.instruments.lab.report.staleness import Bin, Prediction, curve, predicted
from raftkv.instruments.lab.scenario import Variant
from raftkv.instruments.lab.witness import Witness

STEPS_PER_KEY_MAX: Final = 1_000_000
"""A few seconds for each key."""


class HistoryJudgement(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one history; a ``proof`` if it is *not linearizable*."""

    verdict: Literal["linearizable", "not linearizable", "undecided"]
    proof: Witness | None = None


class VariantResults(msgspec.Struct, frozen=True, kw_only=True):
    """One variant; ``origin_ns`` is the moment from which its seconds are counted.

    ``loss`` is one of the writes that were lost. ``operations`` are all that clients did, where they were few and told
    a story, with those of them that were ``stale`` or ``lost``; otherwise the history has them.
    """

    variant: Variant
    judgement: HistoryJudgement
    measures: Measures
    pace: PaceSlices
    curve: tuple[Bin, ...]
    prediction: Prediction | None
    deaths: list[tuple[str, int]]
    origin_ns: int
    loss: LostWrite | None
    operations: tuple[ObservedOperation, ...] = ()
    stale: frozenset[ObservedOperation] = frozenset()
    lost: frozenset[ObservedOperation] = frozenset()

    @property
    def is_promise_broken(self) -> bool:
        """Was it not linearizable although it promises to be?"""
        return self.variant.promises_linearizable and self.judgement.verdict == "not linearizable"


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run."""

    run: LabRun
    variants: tuple[VariantResults, ...]


def of_run(folder: Path) -> Results:
    """Compute everything from what lies in ``folder``; raises ``OSError`` and ``ValueError``."""
    run = read_run(folder)
    return Results(run=run, variants=tuple(_of(run, read_evidence(folder, each)) for each in run.performed))


def _of(run: LabRun, evidence: Evidence) -> VariantResults:
    performed, history = evidence.performed, evidence.history
    began_ns = history.operations[0].invoked_ns if history else performed.began_ns
    is_told = bool(run.story) and not run.by_hand  # by its operations, which are few
    harm = harmed(history)
    return VariantResults(
        variant=performed.variant,
        judgement=judged(history),
        measures=measured(history, harm),
        pace=paced(history, harm, evidence.events, began_ns=began_ns, ended_ns=performed.ended_ns),
        curve=curve(history),
        prediction=_prediction(run, evidence),
        deaths=performed.deaths,
        origin_ns=began_ns,
        loss=plainest_loss(history, harm, origin_ns=began_ns),
        operations=tuple(without_last_look(history)) if is_told else (),
        stale=frozenset(each.read for each in harm.stale) if is_told else frozenset(),
        lost=frozenset([*harm.lost, *harm.dropped]) if is_told else frozenset(),
    )


def judged(history: History) -> HistoryJudgement:
    """Judge everything that clients were told, the last look included."""
    verdict = check(history, steps_per_key_max=STEPS_PER_KEY_MAX)
    if isinstance(verdict, NotLinearizable):
        return HistoryJudgement(verdict="not linearizable", proof=verdict.witness)
    return HistoryJudgement(verdict="linearizable" if isinstance(verdict, Linearizable) else "undecided")


def _prediction(run: LabRun, evidence: Evidence) -> Prediction | None:
    """For the replicas that reads and writes of this variant wait for; ``None`` where no delays were measured."""
    variant = evidence.performed.variant
    section = variant.config.get("quorum", {})
    r, w = dict(parse_qsl(variant.read)).get("r", section.get("r", 2)), section.get("w", 2)
    w = dict(parse_qsl(variant.write)).get("w", w)
    if not evidence.delays or not (str(r).isdigit() and str(w).isdigit()):
        return None
    return predicted(evidence.delays, r=int(r), w=int(w), random=Random(run.scenario.seed))  # noqa: S311  a simulation
