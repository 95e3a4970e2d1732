"""The one way in for what others hold: every state is looked at before it is joined into this node's own.

Rules: nothing that needs room is taken while the disk is full, nor a version whose stamp is further ahead of the
agreed time than any stamp should be (one wild clock would otherwise drag everyone's along: Kulkarni et al. 2014,
section 4); and what is taken was observed by the clock, so that whatever is written here from now on comes after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from raftkv.core.errors import Code, Refused
from raftkv.formats.versions import KeyState, MalformedStateError, Seen, Stamp
from raftkv.quorum.data.store import Joined, Store
from raftkv.quorum.data.versions import HybridClock
from raftkv.quorum.settings import DISK_FULL, QuorumSettings


class TakesStates(Protocol):
    """Knows how full the disk is."""

    def takes(self, *, makes_room: bool) -> bool:
        """May a state be taken, one that ``makes_room`` or one that needs it?"""


class Intake:
    """Stages states that come from elsewhere, or says why not."""

    def __init__(self, settings: QuorumSettings, *, store: Store, clock: HybridClock, room: TakesStates) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._room = room

    def take(self, key: bytes, state: KeyState) -> Joined | Refused:
        """Join ``state`` into what this node holds of ``key``."""
        refusal = self._look_at(state.newest, makes_room=_is_deletion(state))
        return self._store.stage(key, state) if refusal is None else refusal

    def take_rows(self, rows: Sequence[tuple[bytes, KeyState]], stands_for: str) -> list[Joined] | Refused:
        """Join all states of ``rows``, or none; into the hints kept for ``stands_for`` if that is not empty.

        Raises ``MalformedStateError`` for several that may not be taken together.
        """
        if stands_for and self._store.hints_pending + len(rows) > self._settings.max_hints:
            detail = "this node keeps as many hints as it may"
            return Refused(code=Code.OVERLOADED, detail=detail, retry_after_s=5.0)
        _, latest = max(rows, key=lambda row: row[1].versions[-1].counter)
        makes_room = all(_is_deletion(state) for _, state in rows)
        refusal = self._look_at(latest.newest, makes_room=makes_room)
        if refusal is not None:
            return refusal
        taken: list[Joined] = []
        for key, state in rows:
            joined = self._store.stage_hint(stands_for, key, state) if stands_for else self._store.stage(key, state)
            if not isinstance(joined, Refused):
                taken.append(joined)
            elif len(rows) == 1:
                return joined
            else:
                raise MalformedStateError("siblings, which may be refused one by one, do not travel together")
        return taken

    def _look_at(self, newest: Stamp, *, makes_room: bool) -> Refused | None:
        """May states up to ``newest`` be taken? If so, the clock is past it from now on."""
        if not self._room.takes(makes_room=makes_room):
            return DISK_FULL
        return self._observe(newest.counter, f"the clock of node {newest.node}")

    def look_at_context(self, context: Seen, *, makes_room: bool) -> Refused | None:
        """May what comes after ``context`` be taken, if it ``makes_room`` or needs it? Then the clock is past it."""
        if not self._room.takes(makes_room=makes_room):
            return DISK_FULL
        newest = max((counter for _, counter in context), default=0)
        return self._observe(newest, "the causal context")

    def _observe(self, counter: int, whose: str) -> Refused | None:
        if self._clock.is_too_far_ahead(counter):
            detail = f"{whose} is more than {self._settings.clock_ahead_s:g} s ahead of the agreed time"
            return Refused(code=Code.QUORUM_UNREACHABLE, detail=detail)
        self._clock.observe(counter)
        return None


def _is_deletion(state: KeyState) -> bool:
    return all(version.value is None for version in state.versions)
