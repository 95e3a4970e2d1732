"""Is a history linearizable: could a single copy that does one thing at a time have given all these answers?

Each key is checked by itself, which is enough because linearizability is local (Herlihy and Wing, "Linearizability: A
Correctness Condition for Concurrent Objects", 1990, theorem 1). The answer is never guessed: when the steps do not
suffice, the checker says so. Equal histories give equal answers: there is no clock here. Reads that were given several
values at once are contradictions by themselves; of the others, which are checked first, one may be easier to read.

Pure. Imports its neighbours ``history``, ``search`` and ``witness``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from raftkv.instruments.lab.history import History
from raftkv.instruments.lab.search import SearchEnd, search
from raftkv.instruments.lab.witness import Witness, named_witness, siblings_witness, unnamed_witness

STEPS_PER_KEY_MAX: Final = 5_000_000
"""Looks at an operation. A thousand ordinary operations on a key take about ten thousand; giving up, half a minute."""


class Linearizable(msgspec.Struct, frozen=True, kw_only=True):
    """There is an order that explains everything; ``steps`` is what it took to find it."""

    steps: int


class NotLinearizable(msgspec.Struct, frozen=True, kw_only=True):
    """There is none: ``witness`` shows why, on the first such ``key``. Other keys may be contradictory as well."""

    key: bytes
    witness: Witness
    steps: int


class GaveUp(msgspec.Struct, frozen=True, kw_only=True):
    """The steps did not suffice for the keys ``undecided``; no other key is contradictory."""

    undecided: tuple[bytes, ...]
    steps: int


Verdict = Linearizable | NotLinearizable | GaveUp


def check(history: History, *, steps_per_key_max: int = STEPS_PER_KEY_MAX) -> Verdict:
    """Judge ``history``, every key of which was absent when it began."""
    steps = 0
    undecided = []
    origin_ns = history.operations[0].invoked_ns if history else 0
    single = History(operation for operation in history if not operation.siblings)
    for key, part in single.by_key().items():
        operations = part.operations
        witness = named_witness(operations, origin_ns=origin_ns)
        if witness is None:
            conclusion = search(operations, steps_max=steps_per_key_max)
            steps += conclusion.steps
            if conclusion.finding is SearchEnd.EXPLAINED:
                continue
            # What is too much to search as a whole may still contain a contradiction that is small.
            is_certain = conclusion.finding is SearchEnd.CONTRADICTION
            witness = unnamed_witness(operations, origin_ns=origin_ns, is_certain=is_certain)
        if witness is not None:
            return NotLinearizable(key=key, witness=witness, steps=steps)
        undecided.append(key)
    witness = siblings_witness(history.operations, origin_ns=origin_ns)
    if witness is not None:
        return NotLinearizable(key=witness.key, witness=witness, steps=steps)
    return GaveUp(undecided=tuple(undecided), steps=steps) if undecided else Linearizable(steps=steps)
