"""Who looks at the cluster is shown what is new, and all that is known where it came late; nobody is asked in vain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from raftkv.coordination.onlookers import HAPPENINGS_MAX, LIVES_MAX, SURVEY_S, Onlookers
from raftkv.core.errors import Code, Refused
from raftkv.core.replicator import Pending
from raftkv.core.requests import ShowSights
from raftkv.core.results import Outcome
from raftkv.core.sights import Happening, Sample, Sight, SightsShown, WorkCounts, WorkSeen


class World:
    """A replica that shows sights when it is told to, and a clock that somebody turns."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.asked: list[tuple[ShowSights, Pending]] = []
        self.onlookers = Onlookers(self, now_s=lambda: self.now_s, schedule=self.schedule)  # type: ignore[arg-type]
        self.woken = 0

    def schedule(self, delay_s: float, call: Callable[[], None]) -> None:
        self.due.append((self.now_s + delay_s, call))

    def submit(self, request: ShowSights, deadline_s: float) -> Pending:
        assert deadline_s > self.now_s
        pending = Pending()
        self.asked.append((request, pending))
        return pending

    def passes(self, seconds: float) -> None:
        self.now_s += seconds
        due, self.due = self.due, []
        for at_s, call in due:
            if at_s <= self.now_s:
                call()
            else:
                self.due.append((at_s, call))

    def answers(self, outcome: Outcome) -> ShowSights:
        """Let the next answer come back, after its time; returns what was asked."""
        self.passes(SURVEY_S)
        ((request, pending),) = self.asked
        self.asked.clear()
        pending.resolve(outcome)
        return request

    def join(self) -> Any:
        def wake() -> None:
            self.woken += 1

        return self.onlookers.join(wake, SightsShown(sights=(sight(),)))


def sight(node: str = "n1", life: str = "1-a", *numbers: int) -> Sight:
    happenings = tuple(Happening(number=number, at_ms=number, kind="leads") for number in numbers)
    return Sight(node=node, life=life, at_ms=1, mode="raft", role="leader", happenings=happenings)


def numbers(view: Any) -> list[int]:
    return [one.number for sight in view.sights for one in sight.happenings]


def test_who_looks_is_woken_and_shown_what_is_new():
    world = World()
    looks = world.join()
    assert looks.take() is None

    world.answers(SightsShown(sights=(sight("n1", "1-a", 1, 2),)))
    first = looks.take()
    request = world.answers(SightsShown(sights=(sight("n1", "1-a", 3),)))
    second = looks.take()

    assert (numbers(first), numbers(second), looks.take()) == ([1, 2], [3], None)
    assert request.after == {"n1/1-a": 2}
    assert world.woken == 2


def test_who_comes_late_or_is_slow_is_shown_all_and_misses_nothing():
    world = World()
    quick, slow = world.join(), world.join()
    for number in range(1, 5):
        world.answers(SightsShown(sights=(sight("n1", "1-a", number),)))
        quick.take()
    late = world.join()

    assert numbers(slow.take()) == [1, 2, 3, 4]
    assert numbers(late.take()) == [1, 2, 3, 4]
    world.answers(SightsShown(sights=(sight("n1", "1-a", 5),)))
    assert numbers(slow.take()) == numbers(quick.take()) == [5]


def test_nothing_is_asked_while_nobody_looks():
    world = World()
    looks = world.join()
    world.answers(SightsShown(sights=(sight(),)))
    looks.leave()
    looks.leave()

    for _ in range(5):
        world.passes(SURVEY_S)
    assert not world.asked
    assert not world.due
    assert world.onlookers.count == 0

    world.join()
    world.passes(SURVEY_S)
    assert len(world.asked) == 1


def test_many_look_and_the_replica_is_asked_once():
    world = World()
    everybody = [world.join() for _ in range(50)]
    world.woken = 0

    world.answers(SightsShown(sights=(sight(),)))

    assert world.woken == 50
    assert all(looks.take() is not None for looks in everybody)
    world.passes(SURVEY_S)
    assert len(world.asked) == 1


def test_a_replica_that_is_gone_is_told_with_what_was_seen_last():
    world = World()
    looks = world.join()
    world.answers(SightsShown(sights=(sight("n1", "1-a", 1),)))
    looks.take()
    world.answers(Refused(code=Code.NO_LEADER, detail="the replica is gone"))

    shown = looks.take()

    assert shown.silence == "the replica is gone"
    assert [one.node for one in shown.sights] == ["n1"]


def test_what_is_known_is_bounded():
    world = World()
    looks = world.join()
    for life in range(LIVES_MAX + 20):
        world.answers(SightsShown(sights=(sight("n1", str(life), *range(1, HAPPENINGS_MAX + 20)),)))

    assert len(world.onlookers._known) == LIVES_MAX
    assert len(numbers(looks.take())) == HAPPENINGS_MAX


def test_samples_are_told_once_and_asked_for_after_those_that_are_known():
    world = World()
    looks = world.join()
    sample = Sample(number=7, at_ms=1, kind="write", asked=(), done=True)
    shown = msgspec.structs.replace(sight("n1", "1-a", 3), work=WorkSeen(tally=WorkCounts(writes=9), samples=(sample,)))
    world.answers(SightsShown(sights=(shown,)))

    request = world.answers(SightsShown(sights=(sight("n1", "1-a"),)))

    assert request.after == {"n1/1-a": 3, "n1/1-a/samples": 7}
    assert numbers(looks.take()) == [3]
