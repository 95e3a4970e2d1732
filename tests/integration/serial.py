"""Is there one order of transactions and increments that explains all answers? They name it: their revisions.

So nothing is searched for. The writes, in the order of their revisions, are done over on a plain dictionary: each must
have found what it says it found. Who was answered before another began must come before it (strict serializability).
Every outcome must be known; clients send a write again under its idempotency key until it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction or increment as its client saw it, with the revision that it was told.

    ``found`` is what its comparisons required, or what it counted from; ``wrote`` what it left. One that ``failed`` has
    written nothing: some of ``found`` was otherwise.
    """

    invoked_ns: int
    returned_ns: int
    revision: int
    found: Mapping[str, Any]
    wrote: Mapping[str, Any]
    failed: bool = False


def contradictions(history: Iterable[Answered], begin: Mapping[str, Any], end: Mapping[str, Any]) -> list[str]:
    """What no order by revisions explains, from the state ``begin`` to the state ``end``."""
    ordered = sorted(history, key=lambda one: (one.revision, one.failed))
    said, state, last = [], dict(begin), 0
    for one in ordered:
        holds = all(state.get(key) == value for key, value in one.found.items())
        if one.failed:
            said += [f"it was told that this does not hold, which holds: {one}"] if holds else []
            continue
        said += [] if holds else [f"it found what was not there, which is {state}: {one}"]
        said += [] if one.revision > last else [f"two writes have one revision: {one}"]
        last = one.revision
        state |= one.wrote
    said += [] if state == end else [f"in the end there is {end}, not {state}"]
    return said + _out_of_time(ordered)


def _out_of_time(ordered: list[Answered]) -> list[str]:
    """Those that come before, by revision, what had been answered when they began."""
    said, returned = [], sorted(ordered, key=lambda one: one.returned_ns)
    newest, place = 0, 0
    for one in sorted(ordered, key=lambda one: one.invoked_ns):
        while place < len(returned) and returned[place].returned_ns < one.invoked_ns:
            newest = max(newest, returned[place].revision)
            place += 1
        if one.revision < newest or (one.revision == newest and not one.failed):
            said.append(f"revision {newest} had been answered before this began: {one}")
    return said
