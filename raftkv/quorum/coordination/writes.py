"""The write coordinator: plain arithmetic over the answers of replicas (Dynamo, section 4.5; Riak's put core).

It is of one write, or of some that are made together because they have the same replicas: a replica takes all of them
or none, so an answer counts for each. ``begin`` and ``silent``, ``lost`` and ``declined`` say whom to ask, ``add``
takes an answer and says whether the client can be told, and ``failure`` what otherwise. Timers, messages and stamps
live with whoever drives it. Pure.

Two promises are computed here. A write counts as done once ``needed`` distinct replicas hold it durably. And a write
that loses is not called done by mistake: when an answer shows a stamp above the write's own, the stamp came from a
clock that was behind, and the write is ``overtaken``: it is made once more with a newer one, by another coordinator,
but only if nobody can have seen it. Where ``needed`` replicas show it, all the same, it is done: what was acknowledged
before it began would stand above it at one of them (if W + W > N), so what overtook it is concurrent. In whichever
order the answers came, it is the same. Where fewer show it, or one may, since it did not answer, a reader may have seen
it and what overtook it may be the answer to that, a deletion say: then its outcome is unknown, and it is made no more.
One repetition is enough: whatever was acknowledged before this write began was seen by the answers to the first attempt
(if W + W > N), so a stamp that is higher even than the second one belongs to a concurrent write, and last-writer-wins
may choose that one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import or_

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.sights import Fate, ReplicaAsked
from raftkv.formats.versions import Stamp
from raftkv.quorum.coordination.targets import Target, Targets


class WriteCoordinator:
    """Writes of some keys with the same replicas. ``needed`` is W, and one more for each node that they move to."""

    __slots__ = (
        "_declined",
        "_is_first",
        "_lost",
        "_newer_counts",
        "_sent",
        "_silent",
        "_targets",
        "acknowledged",
        "needed",
        "overtaken",
        "replaced",
    )

    def __init__(self, targets: Targets, *, needed: int, is_first: bool = True) -> None:
        """``is_first``: nobody was asked for these writes before."""
        self._targets = targets
        self.needed = needed
        self._is_first = is_first
        self._sent = False
        self._silent: set[str] = set()
        self._declined: dict[str, Refused] = {}
        self._lost: set[str] = set()
        self.acknowledged: dict[str, Target] = {}
        self.replaced: Sequence[bool] = ()
        """Of each write, did a replica that counts hold a value before?"""
        self.overtaken: dict[int, Stamp] = {}
        """The writes, by their number, that a replica which counts does not show, and the stamp of what it shows."""

        self._newer_counts: dict[int, int] = {}
        """How many replicas hold something newer than a write, by its number."""

    @property
    def is_in_doubt(self) -> bool:
        """May a replica that did not answer show what others do not?"""
        return bool(self._silent or self._lost)

    @property
    def is_hopeless(self) -> bool:
        """Can ``needed`` replicas not be counted on any more? Those that are silent are not, until they answer."""
        gone_count = len(self._declined) + len(self._lost) + len(self._silent)
        return len(self._targets.asked) - gone_count < self.needed

    @property
    def has_failed(self) -> bool:
        """Is it time to give up? While all who answered have declined the rest is heard: perhaps nobody takes it."""
        is_uncertain = bool(self.acknowledged or self._lost or self._silent) or not self._is_first
        return self.is_hopeless and (is_uncertain or self.is_complete)

    @property
    def waiting(self) -> tuple[str, ...]:
        """Who was asked and has not answered in any way."""
        return tuple([node for node in self._targets.asked if self.awaits(node)])

    @property
    def is_complete(self) -> bool:
        """Has everyone who was asked answered, or been given up?"""
        return len(self.acknowledged) + len(self._declined) + len(self._lost) == len(self._targets.asked)

    def begin(self) -> tuple[Target, ...]:
        """Make the writes; whom to ask."""
        assert not self.is_hopeless
        self._sent = True
        return tuple(self._targets.asked.values())

    def add(self, node: str, replaced: Sequence[bool], newer: Iterable[tuple[int, Stamp]] = ()) -> bool:
        """``node`` holds the writes durably; is this the answer that makes W?

        ``replaced`` says of each write whether it held a value before, ``newer`` which of them are below what it holds.
        """
        if not self.awaits(node):
            return False
        count = len(self.acknowledged) + 1
        self._silent.discard(node)
        self.acknowledged[node] = self._targets.asked[node]
        above = dict(newer)
        for number in above:
            self._newer_counts[number] = self._newer_counts.get(number, 0) + 1
        if count <= self.needed:
            self.replaced = tuple(map(or_, self.replaced, replaced)) if self.replaced else replaced
            for number, standing in above.items():
                self.overtaken[number] = max(standing, self.overtaken.get(number, standing))
        return count == self.needed

    def is_shown(self, number: int) -> bool:
        """Has a replica come to show the write of this number?"""
        return len(self.acknowledged) > self._newer_counts.get(number, 0)

    def is_shown_by_enough(self, number: int) -> bool:
        """Have ``needed`` replicas come to show it? Then it is done, whatever overtook it elsewhere."""
        return len(self.acknowledged) - self._newer_counts.get(number, 0) >= self.needed

    def silent(self, node: str) -> Target | None:
        """``node`` takes too long: whom to ask in its place, if anyone. Its answer still counts if it comes."""
        if not self.awaits(node) or node in self._silent:
            return None
        self._silent.add(node)
        return self._targets.replace(node)

    def lost(self, node: str) -> Target | None:
        """The connection to ``node`` is gone, and with it its answer: whom to ask in its place, if anyone."""
        if not self.awaits(node):
            return None
        self._lost.add(node)
        self._silent.discard(node)
        return self._targets.replace(node)

    def declined(self, node: str, refusal: Refused) -> Target | None:
        """``node`` has taken none of the writes and will not: whom to ask in its place, if anyone."""
        if not self.awaits(node):
            return None
        self._declined[node] = refusal
        self._silent.discard(node)
        return self._targets.replace(node)

    def failure(self, reason: str) -> Refused | Unknown:
        """Why the writes are not done: definite only if no replica can have taken them."""
        count, asked = len(self.acknowledged), len(self._targets.asked)
        if self._is_first and not self._sent:
            detail = f"{self.needed} replicas must take the write, but only {asked} can be reached; none was asked"
            return Refused(code=Code.QUORUM_UNREACHABLE, detail=detail, retry_after_s=1.0)
        if self._is_first and self._declined and len(self._declined) == asked:
            return next(iter(self._declined.values()))
        return Unknown(detail=f"{reason}: {count} of {self.needed} replicas have acknowledged the write")

    def told(self) -> tuple[ReplicaAsked, ...]:
        """Whom it asked, and what became of that."""
        if not self._sent:
            return ()
        asked = self._targets.asked.values()
        return tuple(
            [ReplicaAsked(node=one.node, fate=self.fate(one.node), stands_for=one.stands_for) for one in asked]
        )

    def fate(self, node: str) -> Fate:
        """What became of asking ``node``."""
        if node in self.acknowledged:
            return Fate.HOLDS
        if node in self._declined:
            return Fate.DECLINED
        if node in self._lost:
            return Fate.LOST
        return Fate.SILENT if node in self._silent else Fate.ASKED

    def awaits(self, node: str) -> bool:
        """Was ``node`` asked, and has it not answered in any way?"""
        gone = node in self.acknowledged or node in self._declined or node in self._lost
        return not gone and node in self._targets.asked
