"""A contradiction that a person can read: a handful of operations on one key, a sentence, and a picture in text.

``named_witness``, ``unnamed_witness`` and ``siblings_witness`` find one; ``render`` draws it. Pure. Imports its
neighbours ``flaw``, ``history``, ``lanes``, ``reduction`` and ``wording``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from raftkv.instruments.lab.flaw import Flaw, FlawKind, recognised, two_at_once, unnamed
from raftkv.instruments.lab.history import ObservedOperation, Outcome
from raftkv.instruments.lab.lanes import Moment, begin_of, end_of, lanes, places
from raftkv.instruments.lab.reduction import reduced
from raftkv.instruments.lab.wording import Clock, clock_for, described, sentence

COLUMNS_MAX: Final = 100

_LABEL_CHARACTERS: Final = (60, 40, 28, 20, 14, 10, 7, 0)
"""How long the words in the bars may be: the first that fits is taken. The list below the bars has them in full."""

_LISTED_MAX: Final = 60
"""Nobody reads more than that; the witness has them all."""


class Witness(msgspec.Struct, frozen=True, kw_only=True):
    """Operations on ``key`` that no order explains, in order of invocation.

    Operations that failed had no effect and are there because the ``sentence`` speaks of them. ``accused`` is the
    index of the one whose answer cannot be; it came at ``moment_ns``. A compare-and-set of which it only matters that
    it was done stands there as a put, and its note says so. Moments in the sentence are seconds since ``origin_ns``,
    the beginning of the history.
    """

    key: bytes
    kind: FlawKind
    sentence: str
    operations: tuple[ObservedOperation, ...]
    accused: int
    moment_ns: int
    origin_ns: int


def named_witness(operations: Sequence[ObservedOperation], *, origin_ns: int) -> Witness | None:
    """The contradiction in ``operations`` of one key that showed first, if it is one that has a name: no search."""
    flaw = recognised(operations)
    return None if flaw is None else _witness(flaw, origin_ns)


def unnamed_witness(operations: Sequence[ObservedOperation], *, origin_ns: int, is_certain: bool) -> Witness | None:
    """The smallest contradiction found in ``operations`` of one key, if any was found.

    ``is_certain`` says that there is one: then the witness is all of them if no smaller one was found.
    """
    contradiction = reduced(operations)
    if contradiction is None and is_certain:
        contradiction = tuple(operation for operation in operations if operation.outcome is not Outcome.FAILED)
    return None if contradiction is None else _witness(unnamed(contradiction), origin_ns)


def siblings_witness(operations: Sequence[ObservedOperation], *, origin_ns: int) -> Witness | None:
    """The first of ``operations`` that was given several values at once, and who wrote them."""
    flaw = two_at_once(operations)
    return None if flaw is None else _witness(flaw, origin_ns)


def _witness(flaw: Flaw, origin_ns: int) -> Witness:
    operations = sorted((*flaw.operations, *flaw.refused), key=lambda operation: operation.invoked_ns)
    assert flaw.accused.returned_ns is not None
    return Witness(
        key=flaw.accused.key,
        kind=flaw.kind,
        sentence=sentence(flaw, clock_for(operations, origin_ns)),
        operations=tuple(operations),
        accused=operations.index(flaw.accused),
        moment_ns=flaw.accused.returned_ns,
        origin_ns=origin_ns,
    )


def render(witness: Witness) -> str:
    """The witness as text of at most ``COLUMNS_MAX`` columns: a row of bars per client, ``^`` where it went wrong.

    Bars show the order of events, not how long they took: a bar ends with ``]`` where the answer was known, with ``>``
    where it never was, and with ``x`` where the operation had failed. Below are the operations with their moments.
    """
    clock = clock_for(witness.operations, witness.origin_ns)
    lines = [f"key '{witness.key.decode(errors='backslashreplace')}': {witness.kind}"]
    lines += [*_wrapped(witness.sentence), "", *_bars(witness), ""]
    for number, operation in enumerate(witness.operations[:_LISTED_MAX], start=1):
        lines += _wrapped(f"{number:>2}  {_story(operation, clock)}", indent="    ")
    if len(witness.operations) > _LISTED_MAX:
        lines.append(f"    and {len(witness.operations) - _LISTED_MAX} more")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _story(operation: ObservedOperation, clock: Clock) -> str:
    """One operation in full."""
    until = clock.seconds(operation.returned_ns) if operation.outcome is not Outcome.UNKNOWN else "?"
    story = f"{clock.seconds(operation.invoked_ns)} to {until} s  client {operation.client}  {described(operation)}"
    story += "" if operation.outcome is Outcome.OK else f"  {operation.outcome}"
    story += f"  at {operation.node}" if operation.node else ""
    return story + (f"  ({operation.note})" if operation.note else "")


def _bars(witness: Witness) -> list[str]:
    """The rows of the picture; empty when there is too much for the width."""
    too_many = ["(too many operations for a picture)"]
    operations = witness.operations
    if len(operations) > _LISTED_MAX:
        return too_many
    rows = sorted(lanes(operations), key=lambda row: row[0].client)
    names = [f"client {row[0].client}" for row in rows]
    margin = max(map(len, names)) + 2
    for characters in _LABEL_CHARACTERS:
        labels = {id(each): _label(number, each, characters) for number, each in enumerate(operations, start=1)}
        columns = _columns(witness, labels)
        if margin + max(columns.values()) < COLUMNS_MAX:
            break
    else:
        return too_many
    lines = []
    for name, row in zip(names, rows, strict=True):
        line = name.ljust(margin)
        for operation in row:
            start, end = columns[begin_of(operation)], columns[end_of(operation)]
            closing = {Outcome.OK: "]", Outcome.UNKNOWN: ">", Outcome.FAILED: "x"}[operation.outcome]
            line = line.ljust(margin + start) + f"[{labels[id(operation)]}".ljust(end - start, "-") + closing
        lines.append(line)
    return [*lines, " " * (margin + columns[witness.moment_ns, 1]) + "^"]


def _label(number: int, operation: ObservedOperation, characters: int) -> str:
    words = described(operation)
    if len(words) > characters:
        words = f"{words[: characters - 1]}…" if characters else ""
    return f"{number} {words}".rstrip()


def _columns(witness: Witness, labels: Mapping[int, str]) -> dict[Moment, int]:
    """The column of each event, those that were never told last."""
    moments = [(witness.moment_ns, 1), *map(end_of, witness.operations)]
    found = places(witness.operations, moments, first=0, step=2, room=lambda each: len(labels[id(each)]) + 1)
    return {event: round(place) for event, place in found.items()}


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, COLUMNS_MAX, subsequent_indent=indent, break_long_words=True)
