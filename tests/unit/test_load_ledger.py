"""What counts as stale: judged by hand-written timelines, and against a register that cannot be stale."""

from random import Random

import pytest

from raftkv.instruments.load.ledger import FOREIGN, Ledger

KEY = 0


class Timeline:
    """One key; every step happens a second after the one before."""

    def __init__(self):
        self.ledger = Ledger(1)
        self.now_s = 0.0

    def tick(self):
        self.now_s += 1
        return self.now_s

    def begin_write(self):
        return self.ledger.write_begins(KEY, self.tick())

    def acknowledge(self, number):
        self.ledger.write_ends(KEY, number, self.tick(), acknowledged=True)

    def lose(self, number):
        self.ledger.write_ends(KEY, number, self.tick(), acknowledged=False)

    def write(self):
        number = self.begin_write()
        self.acknowledge(number)
        return number

    def begin_read(self):
        self.tick()
        return self.ledger.read_begins(KEY)

    def end_read(self, before, *numbers):
        return self.ledger.read_ends(KEY, before, numbers, self.tick())

    def read(self, *numbers):
        return self.end_read(self.begin_read(), *numbers)


@pytest.fixture
def timeline():
    return Timeline()


def test_a_read_of_the_newest_write_is_not_stale(timeline):
    timeline.write()
    newest = timeline.write()
    judged = timeline.read(newest)

    assert (judged.stale, judged.missed, judged.backward, judged.older_than_newest) == (False, False, False, False)


def test_a_read_of_what_an_acknowledged_write_replaced_is_stale(timeline):
    older = timeline.write()
    timeline.write()
    judged = timeline.read(older)

    assert (judged.stale, judged.missed, judged.older_than_newest) == (True, False, True)


def test_a_read_that_began_before_the_acknowledgement_may_return_the_old_value(timeline):
    older = timeline.write()
    newer = timeline.begin_write()
    before = timeline.begin_read()
    timeline.acknowledge(newer)
    judged = timeline.end_read(before, older)

    assert before.under_way
    assert not judged.stale
    assert judged.older_than_newest


def test_writes_that_were_under_way_together_have_no_order(timeline):
    first = timeline.begin_write()
    second = timeline.begin_write()
    timeline.acknowledge(second)
    timeline.acknowledge(first)

    assert not timeline.read(first).stale
    assert not timeline.read(second).stale


def test_a_missing_key_is_stale_only_after_an_acknowledged_write(timeline):
    assert not timeline.read().stale

    timeline.begin_write()

    assert not timeline.read().stale

    timeline.write()
    judged = timeline.read()

    assert judged.stale
    assert judged.missed


def test_a_value_of_an_earlier_run_is_older_than_any_write(timeline):
    assert not timeline.read(FOREIGN).stale

    timeline.write()
    judged = timeline.read(FOREIGN)

    assert judged.stale
    assert not judged.missed


def test_a_write_without_acknowledgement_may_take_effect_at_any_later_time(timeline):
    lost = timeline.begin_write()
    timeline.lose(lost)
    newer = timeline.write()

    assert not timeline.read(newer).stale
    assert not timeline.read(lost).stale


def test_a_write_that_a_read_has_seen_took_effect_before_that_read_ended(timeline):
    lost = timeline.begin_write()
    timeline.lose(lost)
    timeline.read(lost)
    timeline.write()

    assert timeline.read(lost).stale


def test_a_key_that_goes_back_while_a_write_is_under_way_is_backward_and_not_stale(timeline):
    older = timeline.write()
    newer = timeline.begin_write()

    assert not timeline.read(newer).backward

    judged = timeline.read(older)

    assert judged.backward
    assert not judged.stale


def test_reads_that_overlap_cannot_be_backward_of_each_other(timeline):
    older = timeline.write()
    newer = timeline.begin_write()
    slow = timeline.begin_read()
    timeline.read(newer)

    assert not timeline.end_read(slow, older).backward


def test_of_siblings_the_newest_counts(timeline):
    older = timeline.write()
    newer = timeline.write()

    assert not timeline.read(older, newer).stale
    assert timeline.read(older).stale


@pytest.mark.parametrize("seed", range(20))
def test_an_atomic_register_is_never_stale_nor_backward_however_its_clients_overlap(seed):
    """Operations take effect at one moment between their begin and their end, so nothing may be held against them."""
    random = Random(seed)
    timeline, value, under_way = Timeline(), FOREIGN, []
    for _ in range(2000):
        if len(under_way) < 8 and random.random() < 0.5:
            number = timeline.begin_write() if random.random() < 0.4 else None
            under_way.append([number, timeline.begin_read() if number is None else None, None])
            continue
        if not under_way:
            continue
        operation = random.choice(under_way)
        number, before, effect = operation
        if effect is None:
            value = operation[2] = value if number is None else number
            continue
        under_way.remove(operation)
        if number is not None:
            (timeline.acknowledge if random.random() < 0.8 else timeline.lose)(number)
            continue
        judged = timeline.end_read(before, *([] if effect == FOREIGN else [effect]))

        assert not judged.stale
        assert not judged.backward
