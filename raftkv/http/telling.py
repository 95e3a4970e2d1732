"""What those who look at the cluster through one front-end are told: each piece is made once, for all of them.

How the node stands is told when that has changed, which is looked at once a second, and every ``STANDING_S`` seconds
because of what changes all the time; what clients ask of it, every ``TRAFFIC_S``. Times are values, monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from raftkv.api.cluster_answers import StandingTold, TrafficTold
from raftkv.core.sights import View

STANDING_S: Final = 5.0
LOOK_S: Final = 1.0
TRAFFIC_S: Final = 2.0

_encode = msgspec.json.Encoder().encode


class Telling:
    """The newest of each piece, as JSON."""

    def __init__(self) -> None:
        self._view: View | None = None
        self._sights = self._standing = self._traffic = b""
        self._stood: object = None
        self._looked_s = self._stood_s = self._counted_s = float("-inf")

    def sights(self, view: View) -> bytes:
        """What is seen of all nodes."""
        if view is not self._view:
            self._view, self._sights = view, _encode(view)
        return self._sights

    def standing(self, now_s: float, stands: Callable[[], object], tell: Callable[[], StandingTold]) -> bytes:
        """How the node stands; ``stands`` is what of it is worth to be told at once."""
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s, standing = now_s, stands()
            if standing != self._stood or now_s - self._stood_s >= STANDING_S:
                self._stood, self._stood_s, self._standing = standing, now_s, _encode(tell())
        return self._standing

    def traffic(self, now_s: float, tell: Callable[[], TrafficTold]) -> bytes:
        """What clients ask of it."""
        if now_s - self._counted_s >= TRAFFIC_S:
            self._counted_s, self._traffic = now_s, _encode(tell())
        return self._traffic
