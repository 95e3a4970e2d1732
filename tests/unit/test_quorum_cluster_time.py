"""How one node comes to know the clocks of others: round trips, late answers, clocks that leap, and who is asked."""

from __future__ import annotations

import pytest

from raftkv.formats import quorum_messages
from raftkv.formats.quorum_messages import AskClock, ShowClock
from raftkv.instruments.sim.quorum import quorum_settings
from raftkv.quorum.cluster_time import ASKED_AT_ONCE, ClusterTime

WALL_US = 1_700_000_000_000_000


class Post:
    """Stands in for the outbox: keeps what is posted."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, quorum_messages.Message]] = []

    def post(self, node: str, message: quorum_messages.Message) -> None:
        self.posted.append((node, message))


class Watch:
    """A node's clocks, of which a test moves the hands, and the time that it makes of them."""

    def __init__(self, size: int = 3) -> None:
        self.now_s = 100.0
        self.offset_us = 0
        self.members = [f"n{number}" for number in range(1, size + 1)]
        self.outbox = Post()
        self.time = ClusterTime(
            quorum_settings(node_id="n1", gossip_s=1.0, clock_ahead_s=60.0),
            members=lambda: self.members,
            outbox=self.outbox,  # type: ignore[arg-type]  a stand-in
            now_s=lambda: self.now_s,
            wall_us=self.wall_us,
            is_up=lambda _node: True,
        )

    def wall_us(self) -> int:
        return WALL_US + round(self.now_s * 1e6) + self.offset_us

    def hear(self, member: str, *, offset_us: int, there_s: float = 0.0, back_s: float = 0.0) -> None:
        """``member``, whose clock is off by so much, is asked and answers."""
        self.time.ask(member, self.now_s)
        question = self.outbox.posted[-1][1]
        assert isinstance(question, AskClock)
        self.now_s += there_s
        shown = WALL_US + round(self.now_s * 1e6) + offset_us
        self.now_s += back_s
        self.time.take(member, ShowClock(question.id, shown), self.now_s)

    def off_s(self) -> float:
        """How far agreed time is off."""
        return (self.time.now_us() - WALL_US - round(self.now_s * 1e6)) / 1e6


def test_there_is_no_time_before_a_majority_was_heard():
    watch = Watch(5)
    watch.time.work(watch.now_s)
    watch.hear("n2", offset_us=0)

    assert (watch.time.is_known, watch.time.now_us(), watch.time.now_ms(), watch.time.limit_us()) == (False, 0, 0, 0)
    assert watch.time.fault == "no agreed time: 2 of 5 clocks heard"

    watch.hear("n3", offset_us=0)

    assert watch.time.fault == ""
    assert watch.off_s() == 0


@pytest.mark.parametrize(("there_s", "back_s"), [(0.0, 2.0), (2.0, 0.0), (1.0, 1.0)])
def test_an_answer_is_wrong_by_half_of_its_round_trip_at_most(there_s, back_s):
    watch = Watch(2)
    watch.offset_us = 3_600_000_000
    watch.hear("n2", offset_us=0, there_s=there_s, back_s=back_s)

    assert abs(watch.off_s()) <= 1.000_001


def test_an_answer_that_waited_for_long_replaces_none_that_says_the_same_better():
    watch = Watch(2)
    watch.offset_us = 3_600_000_000
    watch.hear("n2", offset_us=0, there_s=0.001, back_s=0.001)
    watch.hear("n2", offset_us=0, there_s=0.0, back_s=50.0)

    assert abs(watch.off_s()) < 0.01


def test_an_answer_that_cannot_be_true_together_with_the_last_means_that_the_clock_leapt():
    watch = Watch(2)
    watch.offset_us = 3_600_000_000
    watch.hear("n2", offset_us=0, there_s=0.001, back_s=0.001)
    watch.hear("n2", offset_us=-20_000_000, there_s=0.0, back_s=1.0)

    assert abs(watch.off_s() + 20) < 1.1


def test_an_answer_to_no_question_or_to_one_that_was_given_up_says_nothing():
    watch = Watch(2)
    watch.time.ask("n2", watch.now_s)
    watch.time.ask("n2", watch.now_s)
    for number in (0, 1, 3):
        watch.time.take("n2", ShowClock(number, WALL_US), watch.now_s)
    watch.time.take("n3", ShowClock(2, WALL_US), watch.now_s)

    assert not watch.time.is_known


def test_what_was_heard_holds_on_by_the_own_monotonic_clock_while_the_wall_leaps():
    watch = Watch(3)
    for member in ("n2", "n3"):
        watch.hear(member, offset_us=0)
        watch.time.lost(member)
    watch.offset_us = -7_200_000_000
    watch.now_s += 86_400
    watch.time.work(watch.now_s)

    assert watch.off_s() == 0


def test_who_leaves_is_not_counted_any_more_and_time_goes_on():
    watch = Watch(3)
    watch.offset_us = 5_000_000
    watch.hear("n2", offset_us=1_000_000)
    watch.hear("n3", offset_us=0)

    assert watch.off_s() == 1

    watch.members = ["n1", "n2", "n4", "n5"]
    watch.time.work(watch.now_s)

    assert watch.off_s() == 1
    assert watch.time.fault == ""


def test_hearing_more_clocks_is_no_leap_and_a_majority_that_leaps_is():
    watch = Watch(3)
    watch.hear("n2", offset_us=-3_600_000_000)

    assert watch.off_s() == -3600

    watch.hear("n3", offset_us=0)

    assert watch.off_s() == 0
    assert watch.time.fault == ""

    watch.hear("n3", offset_us=-3_600_000_000)

    assert watch.time.fault.startswith("the time that a majority of clocks shows has leapt by -3600.0 s")
    assert watch.time.limit_us() - watch.time.now_us() == pytest.approx(3_660_000_000, abs=2)

    watch.now_s += 5

    assert watch.time.fault == ""
    assert watch.time.limit_us() - watch.time.now_us() == pytest.approx(60_000_000, abs=2)


def test_in_a_large_cluster_all_are_asked_in_turn_and_few_at_a_time():
    watch = Watch(30)
    counts = []
    for _ in range(4):
        before = len(watch.outbox.posted)
        watch.time.work(watch.now_s)
        counts.append(len(watch.outbox.posted) - before)
        watch.now_s += 1

    assert counts == [ASKED_AT_ONCE] * 4
    assert {node for node, _ in watch.outbox.posted} == set(watch.members[1:])
