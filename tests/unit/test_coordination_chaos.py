"""The feed of changes under all that may happen, in whatever order."""

from __future__ import annotations

import random

from raftkv.coordination.audience import Interest
from raftkv.coordination.feed import RETRY_S
from tests.unit.driven_feed import Driven, Follower, Scripted


class Chaos:
    """One run of everything that may happen, by a seed."""

    KEYS = (b"a", b"b", b"c", b"d", b"e")

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.scripted = Scripted()
        self.played = Driven(self.scripted, limit_bytes=self.chance.choice((0, 3, 50, 1 << 18)))
        self.followers: list[tuple[Follower, Interest, int]] = []
        self.scripted.show(0)

    def comes_back(self) -> None:
        self.scripted.go()
        self.scripted.show(self.chance.randint(max(0, self.scripted.shown - 3), self.scripted.shown))

    def listens(self) -> None:
        start, end = sorted(self.chance.sample(self.KEYS, 2))
        interest = Interest(start=start, end=end)
        after = self.chance.randint(self.scripted.compacted, len(self.scripted.log))
        follower = self.played.follow(interest, after)
        follower.slow = self.chance.random() < 0.5
        self.followers.append((follower, interest, after))

    def forgets(self) -> None:
        most = max(self.scripted.compacted, self.scripted.shown - 4)
        self.scripted.compacted = self.chance.randint(self.scripted.compacted, most)

    def leaves(self) -> None:
        if self.followers:
            self.chance.choice(self.followers)[0].listener.end()

    def refuses(self) -> None:
        self.scripted.refuses = self.chance.randrange(3)

    def is_quick_or_not(self) -> None:
        self.scripted.at_once = not self.scripted.at_once

    def goes_on(self) -> None:
        if self.followers:
            self.chance.choice(self.followers)[0].go_on_if_it_can()

    def writes(self) -> None:
        for _ in range(3):
            count = self.chance.randint(1, 3)
            self.scripted.log.append(tuple(sorted(self.chance.sample(self.KEYS[:4], count))))
        self.scripted.show(self.chance.randint(self.scripted.shown, len(self.scripted.log)))

    def step(self) -> None:
        happens = (self.comes_back, self.listens, self.forgets, self.leaves, self.refuses, self.is_quick_or_not)
        self.chance.choice((*happens, self.goes_on, self.writes, self.writes))()
        if self.chance.random() < 0.7:
            while self.scripted.waiting and self.chance.random() < 0.8:
                self.scripted.answer()
            self.played.now_s += RETRY_S
            self.played.turn()
        self.check()

    def end(self) -> None:
        """All is well again: whoever is still there hears everything."""
        self.scripted.at_once, self.scripted.refuses = True, 0
        self.scripted.show()
        for follower, _, _ in self.followers:
            follower.slow = False
            follower.go_on_if_it_can()
        for _ in range(20):
            while self.scripted.waiting:
                self.scripted.answer()
            self.played.now_s += RETRY_S
            self.played.settle()
        self.check()
        throughs = [one.listener.through for one, _, _ in self.followers if one.gone is None and not one.is_over]
        assert set(throughs) <= {len(self.scripted.log)}

    def check(self) -> None:
        for follower, interest, after in self.followers:
            check(self.scripted, follower, interest, after)


def test_nothing_is_lost_repeated_or_turned_round_whatever_happens_in_whatever_order() -> None:
    gone = told = 0
    for seed in range(40):
        chaos = Chaos(seed)
        for _ in range(150):
            chaos.step()
        chaos.end()
        gone += sum(follower.gone is not None for follower, _, _ in chaos.followers)
        told += sum(len(follower.told) for follower, _, _ in chaos.followers)

    assert gone > 50
    assert told > 1_000


def check(scripted: Scripted, follower: Follower, interest: Interest, after: int) -> None:
    """What ``follower`` was told is the whole of what it wanted, up to where it says that it was told all."""
    through = follower.listener.through if not follower.is_over else max([after, *follower.throughs])
    wanted = []
    for revision in range(after + 1, through + 1):
        keys = [key for key in scripted.log[revision - 1] if interest.start <= key < interest.end]
        if keys:
            wanted.append(f"{revision} " + ",".join(key.decode() + "=" for key in keys))
    assert follower.lines == wanted
