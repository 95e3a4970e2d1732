"""The one way in for what others hold: every state is looked at before it is joined into this node's own.

Rules: nothing is taken while the disk is full, nor a version whose stamp is further ahead of the agreed time than any
stamp should be (one wild clock would otherwise drag everyone's along: Kulkarni et al. 2014, section 4); and what is
taken was observed by the clock, so that whatever is written here from now on comes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raftkv.core.errors import Code, Refused
from raftkv.quorum.settings import DISK_FULL, QuorumSettings
from raftkv.quorum.store import Joined, Store
from raftkv.quorum.versions import HybridClock, MalformedStateError, Seen, Stamp, State


class Intake:
    """Stages states that come from elsewhere, or says why not."""

    def __init__(
        self, settings: QuorumSettings, *, store: Store, clock: HybridClock, is_full: Callable[[], bool]
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._is_full = is_full

    def take(self, key: bytes, state: State) -> Joined | Refused:
        """Join ``state`` into what this node holds of ``key``."""
        refusal = self._look_at(state.newest)
        return self._store.stage(key, state) if refusal is None else refusal

    def take_rows(self, rows: Sequence[tuple[bytes, State]], stands_for: str) -> list[Joined] | Refused:
        """Join all states of ``rows``, or none; into the hints kept for ``stands_for`` if that is not empty.

        Raises ``MalformedStateError`` for several that may not be taken together.
        """
        if stands_for and self._store.hints_pending + len(rows) > self._settings.max_hints:
            detail = "this node keeps as many hints as it may"
            return Refused(code=Code.OVERLOADED, detail=detail, retry_after_s=5.0)
        _, latest = max(rows, key=lambda row: row[1].versions[-1].counter)
        refusal = self._look_at(latest.newest)
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

    def _look_at(self, newest: Stamp) -> Refused | None:
        """May states up to ``newest`` be taken? If so, the clock is past it from now on."""
        return self._observe(newest.counter, f"the clock of node {newest.node}")

    def look_at_context(self, context: Seen) -> Refused | None:
        """May what comes after ``context`` be taken? If so, the clock is past it from now on."""
        newest = max((counter for _, counter in context), default=0)
        return self._observe(newest, "the causal context")

    def _observe(self, counter: int, whose: str) -> Refused | None:
        if self._is_full():
            return DISK_FULL
        if self._clock.is_too_far_ahead(counter):
            detail = f"{whose} is more than {self._settings.clock_ahead_s:g} s ahead of the agreed time"
            return Refused(code=Code.QUORUM_UNREACHABLE, detail=detail)
        self._clock.observe(counter)
        return None
