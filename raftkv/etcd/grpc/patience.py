"""How much a peer may ask that is of no use to anybody: floods of pings, settings, resets, empty frames.

All of that is allowed, and each is cheap; what harms is much of it without any work between. So there is one account
for a connection: what is of no use costs, time and finished work pay. Pure.
"""

from __future__ import annotations

from typing import Final

PATIENCE: Final = 4_000.0
"""What a peer may spend at once: as many cancelled calls as it may have open, and a thousand pings."""

REGAINED_PER_S: Final = 500.0


class Patience:
    """One peer's account."""

    __slots__ = ("_left", "_seen_s")

    def __init__(self, now_s: float) -> None:
        self._left = PATIENCE
        self._seen_s = now_s

    def regain(self, cost: float) -> None:
        """Something of use was done."""
        self._left = min(PATIENCE, self._left + cost)

    def spend(self, cost: float, now_s: float) -> bool:
        """Something of no use was asked; false: it was too much."""
        self._left = min(PATIENCE, self._left + (now_s - self._seen_s) * REGAINED_PER_S) - cost
        self._seen_s = now_s
        return self._left >= 0
