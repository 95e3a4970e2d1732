"""One revision for each command, increments, ranges, expiry, history: what each does, all of it or nothing."""

from __future__ import annotations

import pytest

from raftkv.core.errors import KEEPS_NO_HISTORY, Code
from raftkv.core.requests import (
    ChangesAfter,
    Compact,
    Delete,
    DeleteSpan,
    Get,
    Grant,
    Increment,
    KeepAlive,
    List,
    Touch,
    Transaction,
    Write,
)
from raftkv.core.results import (
    Compacted,
    HistoryAhead,
    HistoryGone,
    Incremented,
    Mismatch,
    Missing,
    PutDone,
    SpanDeleted,
    Touched,
)
from raftkv.formats import layout
from raftkv.machine import operations, past, reading
from raftkv.machine.conversion import command_of
from tests.unit.machine_requests import changes, exists, put, refused
from tests.unit.test_machine import Driver as PlainDriver
from tests.unit.test_machine_history import Driver

# -- one revision


def test_what_one_request_changes_has_one_revision_in_its_order():
    driver = Driver()

    written = driver.do(put(b"b"), put(b"a"), put(b"c"))

    assert [one.revision for one in written.results] == [1, 1, 1]
    assert changes(driver, 1) == [(b"b", True), (b"a", True), (b"c", True)]


def test_a_key_changes_once_at_a_revision():
    driver = Driver()

    written = driver.do(put(b"a", b"1"), put(b"b"), put(b"a", b"2"), put(b"b"), put(b"c"))

    assert [one.revision for one in written.results] == [1, 1, 2, 2, 2]
    assert driver.get(b"a", 1).value == b"1"
    assert driver.get(b"a", 2).value == b"2"


def test_what_changes_nothing_has_no_revision():
    driver = Driver()
    driver.do(put(b"a"))

    driver.do(Delete(key=b"x"), put(b"a", match=7), Get(key=b"a"), DeleteSpan(start=b"x", end=None))
    driver.one(Touch(key=b"a", ttl_ms=5))
    driver.one(Transaction(comparisons=(exists(b"x"),), success=(put(b"a"),)))

    assert driver.machine.revision == 1


def test_keys_and_leases_that_end_at_once_share_a_revision_with_all_their_keys():
    driver = Driver()
    driver.do(Grant(ttl_ms=10, lease=1), put(b"a", ttl_ms=10), put(b"z", ttl_ms=99))
    driver.do(put(b"l2", lease=1), put(b"l1", lease=1))

    driver.now_ms += 10
    driver.command()

    assert driver.machine.revision == 3
    assert changes(driver, 3) == [(b"a", False), (b"l1", False), (b"l2", False)]
    assert all(one.expired for one in past.events_after(driver.tables, 2))


# -- increments


def test_an_increment_counts_from_nothing_and_keeps_lease_and_expiry():
    driver = Driver()
    driver.do(Grant(ttl_ms=100, lease=3), put(b"t", b"-7", ttl_ms=50))
    driver.do(put(b"l", b"5", lease=3))

    assert driver.one(Increment(key=b"n")) == Incremented(value=1, version=1, revision=3)
    assert driver.one(Increment(key=b"t", by=10)) == Incremented(value=3, version=2, revision=4)
    assert driver.one(Increment(key=b"l", by=-10)).value == -5
    assert driver.get(b"t").expires_at_ms == driver.now_ms + 50
    assert driver.get(b"l").lease == 3


BIG = [b"1" * 20, b"9" * 19]


@pytest.mark.parametrize("value", [b"", b"1.0", b" 1", b"1 ", b"0x1", "\u0661".encode(), b"--1", b"1\n", *BIG])
def test_what_is_no_integer_is_left_alone(value):
    driver = Driver()
    driver.do(put(b"n", value))

    assert driver.one(Increment(key=b"n")) == refused(Code.NOT_AN_INTEGER)
    assert driver.get(b"n").value == value


def test_an_increment_stays_in_its_bounds_and_in_64_bits():
    driver = Driver()
    driver.do(put(b"n", b"5"), put(b"most", b"%d" % ((1 << 63) - 1)))

    assert driver.one(Increment(key=b"n", by=1, maximum=5)) == refused(Code.OUT_OF_BOUNDS)
    assert driver.one(Increment(key=b"n", by=-6, minimum=0)) == refused(Code.OUT_OF_BOUNDS)
    assert driver.one(Increment(key=b"most")) == refused(Code.OUT_OF_BOUNDS)
    assert driver.one(Increment(key=b"n", by=1, minimum=0, maximum=6)).value == 6


# -- ranges


def test_a_range_is_deleted_at_one_revision():
    driver = Driver()
    driver.do(*[put(key) for key in (b"a", b"b/1", b"b/2", b"c")])

    assert driver.one(DeleteSpan(start=b"b/", end=b"b0")) == SpanDeleted(count=2, revision=2)
    assert sorted(driver.all()) == [b"a", b"c"]
    assert changes(driver, 2) == [(b"b/1", False), (b"b/2", False)]


def test_one_request_deletes_only_so_many_keys(monkeypatch):
    monkeypatch.setattr(operations, "CHANGES_MAX", 3)
    driver = Driver()
    driver.do(*[put(b"%d" % number) for number in range(5)])

    assert driver.one(DeleteSpan(start=b"", end=None)) == refused(Code.TOO_MANY_CHANGES)
    first, second = driver.do(DeleteSpan(start=b"0", end=b"2"), DeleteSpan(start=b"2", end=b"4")).results
    assert first.count == 2
    assert second == refused(Code.TOO_MANY_CHANGES)
    assert len(driver.all()) == 3


# -- expiry


def test_a_touched_key_lives_on_without_a_new_revision():
    driver = Driver()
    driver.do(put(b"a", ttl_ms=10))

    assert driver.one(Touch(key=b"a", ttl_ms=30)) == Touched(expires_at_ms=driver.now_ms + 30, revision=1)
    driver.now_ms += 10
    driver.command()
    assert driver.get(b"a").version == 1
    assert driver.one(Touch(key=b"a", ttl_ms=0)) == Touched(expires_at_ms=0, revision=1)
    driver.now_ms += 1000
    driver.command()
    assert driver.get(b"a").mod_revision == 1
    assert driver.one(Touch(key=b"x", ttl_ms=0)) == Missing(key=b"x")


def test_a_key_whose_time_is_over_counts_as_none_before_it_is_removed(monkeypatch):
    monkeypatch.setattr("raftkv.machine.machine.EXPIRIES_PER_COMMAND", 0)
    driver = Driver()
    driver.do(*[put(key, b"1", ttl_ms=10) for key in (b"a", b"b", b"c", b"d")])
    driver.now_ms += 10

    results = driver.do(
        Get(key=b"a"),
        Delete(key=b"a"),
        put(b"b", match=1),
        put(b"b", match=0),
        Increment(key=b"c"),
        Touch(key=b"d", ttl_ms=5),
        DeleteSpan(start=b"d", end=None),
        List(start=b"", end=None, limit=9),
    ).results

    assert results[0] == results[1] == Missing(key=b"a")
    assert results[2] == Mismatch(revision=0)
    assert results[3] == PutDone(version=1, revision=2)
    assert results[4] == Incremented(value=1, version=1, revision=2)
    assert results[5] == Missing(key=b"d")
    assert results[6].count == 0
    assert [one.key for one in results[7].records] == [b"b", b"c"]


# -- history


def test_compaction_goes_no_further_back_and_no_further_ahead():
    driver = Driver()
    for number in range(5):
        driver.do(put(b"a", b"%d" % number))

    def compact(revision):
        (outcome,) = driver.command(command_of(Compact(revision=revision)))
        return outcome

    assert compact(3) == Compacted(compacted_revision=3)
    assert compact(2) == HistoryGone(compacted_revision=3)
    assert compact(6) == HistoryAhead(revision=5)
    assert driver.get(b"a", 3).value == b"2"
    assert driver.get(b"a", 2) == HistoryGone(compacted_revision=3)


def test_a_state_without_history_has_none_of_it():
    driver = PlainDriver()
    driver.do(put(b"a"))
    driver.do(put(b"a"))

    for change in (Write(operations=(Increment(key=b"a"),)), KeepAlive(leases=(1,)), Compact(revision=1)):
        assert driver.apply(change) == (KEEPS_NO_HISTORY,)
    assert driver.get(b"a").mod_revision == 2
    for revision, answer in (
        (0, HistoryGone(compacted_revision=3)),
        (2, HistoryGone(compacted_revision=3)),
        (3, HistoryAhead(revision=2)),
    ):
        assert reading.answer(driver.tables, ChangesAfter(revision=revision)) == answer
    assert list(driver.tables.scan(layout.EVENTS, b"", None)) == []


def test_what_is_too_large_to_be_kept_is_forgotten_instead():
    driver = Driver(size_bytes=0)
    driver.do(put(b"a", b"x" * 1000), put(b"b", b"y" * 1000))
    driver.do(put(b"c"))
    driver.command(command_of(Compact(revision=2)))

    driver.do(DeleteSpan(start=b"", end=None))

    assert driver.machine.history.numbers.compacted == 3
    assert driver.machine.history.numbers.event_bytes < 1000
    assert driver.all(3) == {}


def test_changes_are_told_in_whole_revisions_with_what_was_there_before():
    driver = Driver()
    driver.do(put(b"a", b"1"), put(b"b", b"x" * 100), put(b"c", b"3"))
    driver.do(put(b"a", b"2"))
    driver.do(DeleteSpan(start=b"", end=None))

    def ask(**query):
        return reading.answer(driver.tables, ChangesAfter(**query))

    first = ask(revision=0, limit_bytes=10)
    rest = ask(revision=first.through, limit_bytes=1000, start=b"a", end=b"b", previous=True)
    assert [change.key for change in first.changes] == [b"a", b"b", b"c"]
    assert (first.through, first.is_level) == (1, False)
    assert [(one.revision, one.record and one.record.value, one.previous.value) for one in rest.changes] == [
        (2, b"2", b"1"),
        (3, None, b"2"),
    ]
    assert (rest.through, rest.is_level) == (3, True)
    assert ask(revision=3).changes == ()
    assert ask(revision=4) == HistoryAhead(revision=3)
    driver.command(command_of(Compact(revision=2)))
    assert ask(revision=1) == HistoryGone(compacted_revision=2)
