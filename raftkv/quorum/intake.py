"""The one way in for what others hold: every state is looked at before it is joined into this node's own.

Rules: nothing is taken while the disk is full, nor a version whose stamp is further ahead of this node's clock than any
clock should be (one wild clock would otherwise drag everyone's along: Kulkarni et al. 2014, section 4); and what is
taken was observed by the clock, so that whatever is written here from now on comes after it.
"""

from __future__ import annotations

from collections.abc import Callable

from raftkv.core.errors import Code, Refused
from raftkv.quorum.settings import DISK_FULL, QuorumSettings
from raftkv.quorum.store import Joined, Store
from raftkv.quorum.versions import HybridClock, Seen, State


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
        refusal = self.look_at(state)
        return self._store.stage(key, state) if refusal is None else refusal

    def take_hint(self, target: str, key: bytes, state: State) -> Joined | Refused:
        """Join ``state`` into the hint that is kept for ``target``."""
        if self._store.hints_pending >= self._settings.max_hints:
            detail = "this node keeps as many hints as it may"
            return Refused(code=Code.OVERLOADED, detail=detail, retry_after_s=5.0)
        refusal = self.look_at(state)
        return self._store.stage_hint(target, key, state) if refusal is None else refusal

    def look_at(self, state: State) -> Refused | None:
        """May ``state`` be taken? If so, the clock is past it from now on."""
        newest = state.newest
        return self._observe(newest.counter, f"the clock of node {newest.node}")

    def look_at_context(self, context: Seen) -> Refused | None:
        """As ``look_at``, for what a client has seen."""
        newest = max((counter for _, counter in context), default=0)
        return self._observe(newest, "the causal context")

    def _observe(self, counter: int, whose: str) -> Refused | None:
        if self._is_full():
            return DISK_FULL
        if self._clock.is_too_far_ahead(counter):
            detail = f"{whose} is more than {self._settings.clock_ahead_s:g} s ahead"
            return Refused(code=Code.QUORUM_UNREACHABLE, detail=detail)
        self._clock.observe(counter)
        return None
