"""Was one variant linearizable, and if not, what shows it best. Pure.

A single copy never answers with two values at once. Reads that were given siblings are therefore contradictions by
themselves; the checker, which knows single values, is shown all the others. Imports the laboratory's ``checker``.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from raftkv.instruments.lab.checker import GaveUp, Linearizable, NotLinearizable, check
from raftkv.instruments.lab.history import GetAction, History, ObservedOperation, Outcome, PutAction
from raftkv.instruments.lab.wording import clock_for, shown

STEPS_PER_KEY_MAX: Final = 1_000_000
"""A few seconds for each key."""


class Refutation(msgspec.Struct, frozen=True, kw_only=True):
    """Operations on one key that no order explains: at ``moment_ns`` the answer to ``accused`` could not be."""

    kind: str
    sentence: str
    operations: tuple[ObservedOperation, ...]
    accused: int
    moment_ns: int


class HistoryJudgement(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one history; a ``proof`` if it is *not linearizable*."""

    verdict: Literal["linearizable", "not linearizable", "undecided"]
    proof: Refutation | None = None


def judged(history: History) -> HistoryJudgement:
    """Judge everything that clients were told, the last look included."""
    single = History(operation for operation in history if not operation.siblings)
    verdict = check(single, steps_per_key_max=STEPS_PER_KEY_MAX)
    several = next((operation for operation in history if operation.siblings), None)
    if isinstance(verdict, NotLinearizable):
        witness = verdict.witness
        proof = Refutation(
            kind=str(witness.kind),
            sentence=witness.sentence,
            operations=witness.operations,
            accused=witness.accused,
            moment_ns=witness.moment_ns,
        )
        return HistoryJudgement(verdict="not linearizable", proof=proof)
    if several is not None:
        return HistoryJudgement(verdict="not linearizable", proof=_two_at_once(several, history))
    assert isinstance(verdict, Linearizable | GaveUp)
    return HistoryJudgement(verdict="linearizable" if isinstance(verdict, Linearizable) else "undecided")


def _two_at_once(read: ObservedOperation, history: History) -> Refutation:
    """``read`` was given several values: it, and who wrote them."""
    values = [*read.siblings, read.result]
    writers = [
        operation
        for operation in history
        if operation.key == read.key
        and isinstance(operation.action, PutAction)
        and operation.action.value in values
        and operation.outcome is not Outcome.FAILED
    ]
    operations = sorted([*writers, read], key=lambda operation: operation.invoked_ns)
    clock = clock_for(operations, history.operations[0].invoked_ns)
    told = " and ".join(shown(read, value) for value in values if isinstance(value, bytes))
    assert isinstance(read.action, GetAction)
    assert read.returned_ns is not None
    return Refutation(
        kind="siblings",
        sentence=f"client {read.client} was given {told} at once at {clock.seconds(read.returned_ns)} s",
        operations=tuple(operations),
        accused=operations.index(read),
        moment_ns=read.returned_ns,
    )
