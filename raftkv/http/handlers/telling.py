"""What those who look at the cluster through one front-end are told: each piece is made once, for all of them.

How the node stands is told when that has changed, once a second at most, and every ``STANDING_S`` seconds because of
what changes all the time; what clients ask of it, every ``TRAFFIC_S``. Must not import Flask.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from weakref import WeakKeyDictionary

import msgspec

from raftkv.api.cluster_answers import StandingTold, TrafficTold
from raftkv.coordination.onlookers import Onlookers
from raftkv.core.sights import View
from raftkv.http.choices import Looking
from raftkv.http.handlers import cluster
from raftkv.http.handlers.following import standing_of
from raftkv.http.handlers.handler import Context
from raftkv.http.traffic import traffic

STANDING_S: Final = 5.0
LOOK_S: Final = 1.0
TRAFFIC_S: Final = 2.0

Event = tuple[bytes, bytes]
"""Its kind, and its content."""

_encode = msgspec.json.Encoder().encode


class Telling:
    """The newest of each piece, for one front-end."""

    def __init__(self) -> None:
        self._view: View | None = None
        self._sights = self._standing = self._traffic = b""
        self._stood: object = None
        self._looked_s = self._stood_s = self._counted_s = float("-inf")

    def events(self, view: View, chosen: Looking, context: Context, told: dict[bytes, bytes]) -> Iterator[Event]:
        """What one of them is told who has been ``told`` the last of each kind; that is kept there."""
        if view is not self._view:
            self._view, self._sights = view, _encode(view)
        yield b"sights", self._sights
        found = (
            (b"standing", chosen.standing and self._newest_standing(context)),
            (b"traffic", chosen.traffic and self._newest_traffic(context)),
        )
        for kind, content in found:
            if content and told.get(kind) is not content:
                told[kind] = content
                yield kind, content

    def _newest_standing(self, context: Context) -> bytes:
        now_s = context.monotonic_s()
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            status = context.status()
            stands = None if status is None else standing_of(status, context)
            if stands != self._stood or now_s - self._stood_s >= STANDING_S:
                self._stood, self._stood_s = stands, now_s
                shown = None if status is None else cluster.node_status(status, context)
                self._standing = _encode(StandingTold(shown, cluster.member_list(context).members))
        return self._standing

    def _newest_traffic(self, context: Context) -> bytes:
        now_s = context.monotonic_s()
        if context.counts is not None and now_s - self._counted_s >= TRAFFIC_S:
            self._counted_s = now_s
            self._traffic = _encode(TrafficTold(traffic(context.counts, context.status(), now_s)))
        return self._traffic


_TELLINGS: Final[WeakKeyDictionary[Onlookers, Telling]] = WeakKeyDictionary()


def telling(context: Context) -> Telling:
    """That of the front-end."""
    return _TELLINGS.setdefault(context.onlookers, Telling())
