"""The write coordinator: plain arithmetic over the answers of replicas (Dynamo, section 4.5; Riak's put core).

``begin`` and ``fail`` say whom to ask, ``add`` takes an answer, ``enough`` says whether the client can be told, and
``outcome`` what. Timers, messages and stamps live with whoever drives it. Pure.

Two promises are computed here. A write counts as done once ``needed`` distinct replicas hold it durably. And a write
that loses is not called done by mistake: when an answer shows a stamp above the write's own, the stamp came from a
clock that was behind, and the write is made once more with a newer one. One repetition is enough: whatever was
acknowledged before this write began was seen by the answers to the first attempt (if W + W > N), so a stamp that is
higher even than the second one belongs to a concurrent write, and last-writer-wins may choose that one.
"""

from __future__ import annotations

import enum

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.quorum.targets import Target, Targets
from raftkv.quorum.versions import Stamp


class Step(enum.Enum):
    """What an answer led to."""

    WAIT = "wait"
    STAMP_AGAIN = "stamp again"
    DONE = "done"


class WriteCoordinator:
    """One write of one key. ``needed`` is W, and one more for each node that the key is moving to."""

    __slots__ = (
        "_declined",
        "_lost",
        "_needed",
        "_repeated",
        "_sent",
        "_targets",
        "acknowledged",
        "newest",
        "replaced",
        "stamp",
    )

    def __init__(self, targets: Targets, *, needed: int) -> None:
        self._targets = targets
        self._needed = needed
        self._declined: dict[str, Refused] = {}
        self._lost: set[str] = set()
        self._repeated = False
        self._sent = False
        self.stamp = self.newest = Stamp(0, "")
        self.acknowledged: dict[str, Target] = {}
        self.replaced = False

    @property
    def is_hopeless(self) -> bool:
        """Can ``needed`` replicas not be reached any more? Those that are merely silent may still answer."""
        return len(self._targets.asked) - len(self._declined) - len(self._lost) < self._needed

    @property
    def waiting(self) -> tuple[str, ...]:
        """Who was asked and has not answered in any way."""
        done = self.acknowledged.keys() | self._declined.keys() | self._lost
        return tuple(node for node in self._targets.asked if node not in done)

    def begin(self, stamp: Stamp) -> tuple[Target, ...]:
        """Make the write with ``stamp``; whom to ask."""
        assert not self.is_hopeless
        self._sent = True
        self.stamp = self.newest = stamp
        return tuple(self._targets.asked.values())

    def add(self, node: str, standing: Stamp, *, replaced: bool) -> Step:
        """``node`` answers; ``standing`` is the newest stamp it holds of the key durably.

        One below the write's own stamp is a late answer to the first attempt, and says nothing about the second.
        """
        target = self._targets.asked.get(node)
        if target is None or node in self.acknowledged or standing < self.stamp:
            return Step.WAIT
        self.acknowledged[node] = target
        self.replaced |= replaced
        self.newest = max(self.newest, standing)
        if len(self.acknowledged) != self._needed:
            return Step.WAIT
        if self.newest > self.stamp and not self._repeated:
            return Step.STAMP_AGAIN
        return Step.DONE

    def again(self, stamp: Stamp) -> tuple[Target, ...]:
        """Make the write once more with ``stamp``; whom to ask."""
        assert stamp > self.newest
        assert not self._repeated
        self._repeated = True
        self.stamp = self.newest = stamp
        self.acknowledged.clear()
        gone = self._declined.keys() | self._lost
        return tuple(target for target in self._targets.asked.values() if target.node not in gone)

    def silent(self, node: str) -> Target | None:
        """``node`` takes too long: whom to ask in its place, if anyone. Its answer still counts if it comes."""
        return self._targets.replace(node) if node in self.waiting else None

    def lost(self, node: str) -> Target | None:
        """The connection to ``node`` is gone, and with it its answer: whom to ask in its place, if anyone."""
        if node not in self.waiting:
            return None
        self._lost.add(node)
        return self._targets.replace(node)

    def declined(self, node: str, refusal: Refused) -> Target | None:
        """``node`` has not taken the write and will not: whom to ask in its place, if anyone."""
        if node not in self.waiting:
            return None
        self._declined[node] = refusal
        return self._targets.replace(node)

    def failure(self, reason: str) -> Refused | Unknown:
        """Why the write is not done: definite only if no replica can have taken it."""
        count, asked = len(self.acknowledged), len(self._targets.asked)
        if not self._sent:
            detail = f"{self._needed} replicas must take the write, but only {asked} can be reached; none was asked"
            return Refused(code=Code.QUORUM_UNREACHABLE, detail=detail, retry_after_s=1.0)
        if self._declined and len(self._declined) == asked and not self._repeated:
            return next(iter(self._declined.values()))
        return Unknown(detail=f"{reason}: {count} of {self._needed} replicas have acknowledged the write")
