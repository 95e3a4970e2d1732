"""Those who look at the cluster through one front-end, and what they are shown, a few times a second.

The replica is asked for sights while anybody looks, and not otherwise; all are shown the same frames. A frame is made
once, and only the newest is held: whoever takes it late, or has just come, is shown instead all that is known, with
what has happened so far, so nothing is missed and nothing piles up. Samples are of the newest frame only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from raftkv.core.errors import Refused, Unknown
from raftkv.core.replicator import Replicator
from raftkv.core.requests import ShowSights
from raftkv.core.results import Outcome
from raftkv.core.sights import Happening, Sight, SightsShown, View

SURVEY_S: Final = 0.25
"""How often the replica is asked."""

PEERS_S: Final = 0.05
"""After its first answer it is asked again so soon: by then most of the other nodes have shown themselves to it."""

ANSWER_WITHIN_S: Final = 2.0

HAPPENINGS_MAX: Final = 500
"""So many are known of each life of a node."""

LIVES_MAX: Final = 100
"""Of so many lives; the one that was heard of last the longest ago is forgotten first."""

Schedule = Callable[[float, Callable[[], None]], object]
"""Call something in so many seconds."""


class Onlooker:
    """One who looks, until ``leave``; made by ``Onlookers.join``."""

    def __init__(self, onlookers: Onlookers, wake: Callable[[], None]) -> None:
        self._onlookers = onlookers
        self._seen = -1
        self.wake = wake

    def take(self) -> View | None:
        """What is new; ``None``: nothing is, and ``wake`` will be called."""
        seen, self._seen = self._seen, self._onlookers.number
        return self._onlookers.shown_after(seen)

    def leave(self) -> None:
        """Look no more; any number of times."""
        self._onlookers.left(self)


class Onlookers:
    """Those of one front-end. ``now_s`` is the clock of deadlines (monotonic, seconds)."""

    def __init__(self, replicator: Replicator, *, now_s: Callable[[], float], schedule: Schedule) -> None:
        self._replicator = replicator
        self._now_s = now_s
        self._schedule = schedule
        self._present: dict[Onlooker, None] = {}
        self._is_asking = False
        self._newest = View()
        self._known: dict[str, deque[Happening]] = {}
        self._sampled: dict[str, int] = {}
        self.number = 0
        """That of the newest frame; 0 before there is one."""

    @property
    def count(self) -> int:
        """How many look."""
        return len(self._present)

    def join(self, wake: Callable[[], None], shown: SightsShown) -> Onlooker:
        """Look, given what the replica has just ``shown``; ``wake`` is called when there is something new to take."""
        onlooker = Onlooker(self, wake)
        self._present[onlooker] = None
        if not self._is_asking:
            self._is_asking = True
            self._learn(shown.sights)  # of others it tells little: they were only just asked
            self._schedule(PEERS_S, self._ask)
        return onlooker

    def left(self, onlooker: Onlooker) -> None:
        """See ``Onlooker.leave``."""
        self._present.pop(onlooker, None)

    def shown_after(self, number: int) -> View | None:
        """What somebody is shown who has seen frame ``number``."""
        if number == self.number:
            return None
        return self._newest if number == self.number - 1 and number > 0 else self._whole()

    def _whole(self) -> View | None:
        if not self.number:
            return None
        sights = [
            msgspec.structs.replace(sight, happenings=tuple(self._known.get(_life(sight), ())))
            for sight in self._newest.sights
        ]
        return View(sights=tuple(sights), silence=self._newest.silence)

    def _ask(self) -> None:
        if not self._present:
            self._is_asking = False
            return
        after = {life: known[-1].number for life, known in self._known.items() if known}
        after |= {f"{life}/samples": number for life, number in self._sampled.items()}
        pending = self._replicator.submit(ShowSights(after=after), self._now_s() + ANSWER_WITHIN_S)
        pending.when_done(self._answered)

    def _answered(self, outcome: Outcome) -> None:
        if isinstance(outcome, SightsShown):
            self._learn(outcome.sights)
            self._newest = View(sights=outcome.sights)
        elif isinstance(outcome, Refused | Unknown):
            self._newest = View(sights=self._newest.sights, silence=outcome.detail)
        self.number += 1
        for onlooker in tuple(self._present):
            onlooker.wake()
        self._schedule(SURVEY_S, self._ask)

    def _learn(self, sights: Iterable[Sight]) -> None:
        for sight in sights:
            life = _life(sight)
            known = self._known.pop(life, None) or deque(maxlen=HAPPENINGS_MAX)
            self._known[life] = known
            last = known[-1].number if known else 0
            known.extend([one for one in sight.happenings if one.number > last])
            if sight.work is not None and sight.work.samples:
                self._sampled[life] = sight.work.samples[-1].number
        while len(self._known) > LIVES_MAX:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._sampled.pop(oldest, None)


def _life(sight: Sight) -> str:
    return f"{sight.node}/{sight.life}"
