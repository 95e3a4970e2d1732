"""Versions of a key and how they merge: stamps, the hybrid clock, and the two ways to settle conflicts. Pure.

What replicas hold of a key is a ``KeyState``, an element of a join-semilattice: merging is idempotent, commutative and
associative, so states may travel in any order, twice, or by way of hints, read repair and anti-entropy, and all
replicas that have seen the same come to hold the same.

``LastWriterWins`` keeps the one version with the highest stamp. ``KeepSiblings`` keeps every version that no other has
seen, by dotted version vectors (Almeida et al., "Scalable and Accurate Causality Tracking for Eventually Consistent
Stores", DAIS 2014): ``seen`` says, for each actor, up to which of its events the state has processed them.

Rules: joins never fail. Imports the standard library and the format of states only (``raftkv.formats.versions``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from raftkv.formats.versions import KeyState, Seen, Stamp, Version

MAX_ACTORS: Final = 64
"""How many actors an event leaves in ``seen``, beside those that have a version there. The one that was idle longest is
forgotten first (as Riak prunes its vector clocks). The price: a replica that has not heard of this key since that actor
replaced something may show the replaced version as a sibling again. Nothing that was written is ever lost by it."""


class HybridClock:
    """Counters that never repeat or go back, and stay near the agreed time (Kulkarni et al. 2014).

    ``next`` is above everything it gave or observed.
    """

    def __init__(self, last: int, now_us: Callable[[], int], *, limit_us: Callable[[], int]) -> None:
        """``last``: no counter up to this one is given again. ``limit_us``: how far the counters of others may go."""
        self.last = last
        self._now_us = now_us
        self._limit_us = limit_us

    def next(self, count: int = 1) -> int:
        """The first of ``count`` counters above all others known here."""
        first = max(self.last + 1, self._now_us())
        self.last = first + count - 1
        return first

    def observe(self, counter: int) -> None:
        """``counter`` was seen; what is written from now on comes after it."""
        self.last = max(self.last, counter)

    def is_too_far_ahead(self, counter: int) -> bool:
        """Is ``counter`` further ahead of the agreed time than any stamp should be?"""
        return counter > self._limit_us()


def visible(state: KeyState, now_ms: int) -> tuple[Version, ...]:
    """The versions with a value that has not expired, by ascending stamp."""
    return tuple(
        [
            version
            for version in state.versions
            if version.value is not None and (not version.expires_at_ms or version.expires_at_ms > now_ms)
        ]
    )


class Conflicts(Protocol):
    """How versions of a key merge. Pure; ``join`` makes a semilattice of states."""

    name: str
    """As the configuration calls it."""

    def join(self, one: KeyState, other: KeyState) -> KeyState:
        """The least state that knows all that either knows."""

    def write(self, current: KeyState | None, version: Version, context: Seen) -> KeyState:
        """``version`` is written on ``current`` by a client that had read ``context``."""


def _rank(version: Version) -> tuple[int, str, bool, bytes, int]:
    """By stamp; the rest decides only if somebody gave two writes one stamp, so that all replicas still agree."""
    return version.counter, version.node, version.value is not None, version.value or b"", version.expires_at_ms


class LastWriterWins:
    """One version: the one with the highest stamp. ``context`` means nothing."""

    name = "lww"

    def join(self, one: KeyState, other: KeyState) -> KeyState:
        """See ``Conflicts``."""
        mine, theirs = one.versions[-1], other.versions[-1]
        if mine.counter != theirs.counter:
            return one if mine.counter > theirs.counter else other
        return one if mine == theirs or _rank(mine) >= _rank(theirs) else other

    def write(self, current: KeyState | None, version: Version, context: Seen) -> KeyState:  # noqa: ARG002
        """See ``Conflicts``."""
        written = KeyState((version,))
        return written if current is None else self.join(current, written)


class KeepSiblings:
    """Every version that no other has seen.

    The invariant: ``seen`` covers an event only if the state has processed it. An actor therefore writes on one row of
    one disk, one event after the other, and whoever has lost the row is another actor from then on.
    """

    name = "siblings"

    def join(self, one: KeyState, other: KeyState) -> KeyState:
        """See ``Conflicts``: what both hold stays, and what one holds stays if the other has not seen it."""
        if one == other:
            return one
        kept: dict[Stamp, Version] = {}
        for mine, theirs in ((one, other), (other, one)):
            held, seen = {version.stamp for version in theirs.versions}, dict(theirs.seen)
            for version in mine.versions:
                stamp = version.stamp
                if stamp in held or version.counter > seen.get(version.node, 0):
                    kept[stamp] = max(kept.get(stamp, version), version, key=_rank)
        if not kept:
            # Two states that replace each other: only contexts that no read ever gave can make them.
            newest = max(one.versions[-1], other.versions[-1], key=_rank)
            kept[newest.stamp] = newest
        return _state(kept.values(), _united(one.seen, other.seen))

    def write(self, current: KeyState | None, version: Version, context: Seen) -> KeyState:
        """See ``Conflicts``: versions that ``context`` covers are replaced, the others stay beside the new one."""
        held = () if current is None else current.versions
        seen = _united(() if current is None else current.seen, context)
        covered = dict(context)
        assert version.counter > seen.get(version.node, 0)
        seen[version.node] = version.counter
        kept = [*(old for old in held if old.counter > covered.get(old.node, 0)), version]
        return _state(kept, _pruned(seen, {each.node for each in kept}))


def _united(one: Seen, other: Seen) -> dict[str, int]:
    united = dict(one)
    for actor, counter in other:
        united[actor] = max(united.get(actor, 0), counter)
    return united


def _pruned(seen: dict[str, int], needed: set[str]) -> dict[str, int]:
    if len(seen) <= MAX_ACTORS:
        return seen
    idle = sorted((counter, actor) for actor, counter in seen.items() if actor not in needed)
    kept = needed.union(actor for _, actor in idle[max(0, len(idle) - MAX_ACTORS) :])
    return {actor: counter for actor, counter in seen.items() if actor in kept}


def _state(versions: Iterable[Version], seen: dict[str, int]) -> KeyState:
    return KeyState(tuple(sorted(versions, key=lambda version: version.stamp)), tuple(sorted(seen.items())))


_BOTH: Final[tuple[Conflicts, ...]] = (LastWriterWins(), KeepSiblings())
CONFLICTS: Final = {conflicts.name: conflicts for conflicts in _BOTH}
