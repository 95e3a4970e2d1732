"""States that keep history, against a model in the plainest words: every revision as it stood, and every change."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.core.errors import Refused
from raftkv.core.keys import SYSTEM
from raftkv.core.requests import (
    ChangesAfter,
    Compact,
    ComparedField,
    Delete,
    DeleteSpan,
    Get,
    Grant,
    Increment,
    KeepAlive,
    KeyComparison,
    List,
    Operator,
    Put,
    Revoke,
    Touch,
    Transaction,
    Write,
)
from raftkv.core.results import ChangePage, HistoryAhead, HistoryGone, KeyRecord
from raftkv.formats import entries, layout
from raftkv.formats.commands import AdoptCommand
from raftkv.machine import history, past, reading
from raftkv.machine.conversion import command_of
from raftkv.machine.machine import Machine
from raftkv.machine.repeats import RepeatLimits
from raftkv.storage.engines.memory import MemoryEngine
from raftkv.storage.state import sums
from raftkv.storage.state.tables import StateTables


class Blind:
    """A view that no event is read in."""

    def __init__(self, tables):
        self._tables = tables
        self.get = tables.get

    def scan(self, table, start, end):
        assert table != layout.EVENTS
        return self._tables.scan(table, start, end)


class Driver:
    """Applies requests as a log would, one command each, to a state that keeps history."""

    def __init__(self, events=1_000, age_ms=1 << 40, size_bytes=1 << 20):
        self.tables = StateTables(MemoryEngine(layout.TABLES), layout.TABLES, Path("state"))
        self.machine = Machine(self.tables, RepeatLimits())
        self.now_ms = 1_000_000
        self.command(AdoptCommand(events, age_ms, size_bytes))

    def command(self, *commands):
        index = self.machine.applied_index + 1
        return self.machine.apply(index, 1, entries.encode(self.now_ms, 7, index, *commands)).outcomes

    def do(self, *operations, **options):
        """Do the operations as one request."""
        (outcome,) = self.command(command_of(Write(operations=operations, **options)))
        self.check()
        return outcome

    def one(self, operation):
        return self.do(operation).results[0]

    def check(self):
        numbers = self.machine.history.numbers
        assert sums.stored_sum(self.tables) == sums.sum_of(self.tables, layout.TABLES)
        rows = list(self.tables.scan(layout.EVENTS, b"", None))
        assert numbers.event_bytes == sum(len(place) + len(row) for place, row in rows)
        assert numbers.event_count == sum(layout.unpack_chunk(row)[1] for _, row in rows)
        assert numbers.key_bytes == sum(len(row) for _, row in self.tables.scan(layout.KEYS, b"", None))
        assert numbers.compacted <= self.machine.revision
        for lease_row, packed in self.tables.scan(layout.LEASES, b"", None):
            keys = list(self.tables.scan(layout.LEASE_KEYS, lease_row, lease_row + b"\xff" * 3))
            assert layout.unpack_lease(packed)[3] == len(keys)

    def get(self, key, revision=0):
        return reading.answer(self.tables, Get(key=key, revision=revision))

    def all(self, revision=0):
        """Every record as it stood."""
        page = reading.answer(self.tables, List(start=b"", end=None, limit=100_000, revision=revision))
        return page if isinstance(page, HistoryGone | HistoryAhead) else {one.key: one for one in page.records}

    def again(self):
        """A machine that takes up the same state."""
        self.machine = Machine(self.tables, RepeatLimits())


KEYS = st.sampled_from([b"a", b"a/1", b"a/2", b"b", "ключ".encode(), b"z" * 600])
BOUNDS = st.sampled_from([(b"", None), (b"a", b"b"), (b"a/", b"a0"), (b"b", b"c")])
SINGLE = st.one_of(
    st.builds(Put, key=KEYS, value=st.binary(max_size=8)),
    st.builds(Put, key=KEYS, value=st.just(b"1"), ttl_ms=st.sampled_from([0, 5, 50])),
    st.builds(Put, key=KEYS, value=st.just(b"2"), lease=st.integers(1, 3)),
    st.builds(Increment, key=KEYS, by=st.integers(-3, 3), minimum=st.sampled_from([None, -2])),
    st.builds(Delete, key=KEYS),
    st.builds(Touch, key=KEYS, ttl_ms=st.sampled_from([0, 7])),
    BOUNDS.map(lambda ends: DeleteSpan(start=ends[0], end=ends[1])),
)
COMPARE = st.builds(
    KeyComparison,
    start=KEYS,
    end=st.none(),
    several=st.booleans(),
    target=st.sampled_from(
        [
            ComparedField.VERSION,
            ComparedField.REVISION,
            ComparedField.CREATE_REVISION,
            ComparedField.LEASE,
            ComparedField.EXISTS,
        ]
    ),
    operator=st.sampled_from(list(Operator)),
    operand=st.integers(0, 3),
)
TRANSACTION = st.recursive(
    SINGLE,
    lambda inner: st.builds(
        Transaction,
        comparisons=st.lists(COMPARE, max_size=2).map(tuple),
        success=st.lists(inner, max_size=3).map(tuple),
        failure=st.lists(inner, max_size=2).map(tuple),
    ),
    max_leaves=5,
)
STEPS = st.lists(
    st.one_of(
        st.lists(SINGLE, min_size=1, max_size=4).map(tuple),
        st.tuples(TRANSACTION),
        st.tuples(st.builds(Grant, ttl_ms=st.sampled_from([20, 200]), lease=st.integers(0, 3))),
        st.tuples(st.builds(Revoke, lease=st.integers(1, 3))),
        st.integers(1, 30),
        st.just("again"),
        st.integers(-3, 40).map(lambda back: Compact(revision=max(0, back))),
        st.just(KeepAlive(leases=(1, 2, 3, 9))),
    ),
    min_size=1,
    max_size=25,
)
LIMITS = st.sampled_from([(1_000, 1 << 40, 1 << 20), (3, 1 << 40, 1 << 20), (1_000, 25, 1 << 20), (1_000, 1 << 40, 0)])


@given(STEPS, LIMITS)
@settings(max_examples=400, deadline=None)
def test_every_kept_revision_is_shown_as_it_stood_and_its_changes_lead_from_one_to_the_next(steps, limits):
    driver = Driver(*limits)
    stood = {0: {}}

    for step in steps:
        before = driver.machine.revision
        if step == "again":
            driver.again()
        elif isinstance(step, int):
            driver.now_ms += step
            driver.command()
        elif isinstance(step, Compact | KeepAlive):
            driver.command(command_of(step))
        elif not isinstance(command_of(Write(operations=step)), Refused):
            driver.do(*step)
        driver.check()
        now = driver.all()
        # What lies between two requests is told by the events alone; what they lead to must be what is there.
        if before >= driver.machine.history.numbers.compacted:
            shown = dict(stood[before])
            for one in past.events_after(driver.tables, before):
                if one.row:
                    shown[one.key] = layout.unpack_record(one.key, one.row)
                else:
                    del shown[one.key]
                stood[one.revision] = dict(shown)
            assert {key: _fixed(one) for key, one in shown.items()} == {key: _fixed(one) for key, one in now.items()}
        stood[driver.machine.revision] = now
        _every_revision_as_it_stood(driver, stood)


def _every_revision_as_it_stood(driver, stood):
    newest, oldest = driver.machine.revision, driver.machine.history.numbers.compacted
    for revision, then in stood.items():
        if revision == 0:
            continue
        if revision < oldest:
            assert driver.all(revision) == HistoryGone(compacted_revision=oldest)
            continue
        found = driver.all(revision)
        assert {key: _fixed(one) for key, one in found.items()} == {key: _fixed(one) for key, one in then.items()}
        for key in (b"a", b"a/1", b"z" * 600):
            alone = driver.get(key, revision)
            assert (_fixed(alone) if isinstance(alone, KeyRecord) else None) == (
                _fixed(then[key]) if key in then else None
            )
    assert driver.all(newest + 1) == HistoryAhead(revision=newest)


def _fixed(record):
    """What of a record a revision fixes: touching a key changes when it expires, and makes no revision."""
    return record.key, record.value, record.version, record.create_revision, record.mod_revision


def rows_of_events(driver):
    return [row for _, row in driver.tables.scan(layout.EVENTS, b"", None)]


def test_what_one_command_changes_lies_in_few_rows_of_a_bounded_size():
    driver = Driver(size_bytes=1 << 30)
    driver.do(*(Put(key=b"%d" % number, value=b"v" * 1000) for number in range(200)))
    sizes = [len(row) for row in rows_of_events(driver)]

    assert len(sizes) == 4
    assert max(sizes) < history.CHUNK_BYTES * 1.1
    assert len(driver.all(1)) == 200
    assert [one.key for one in past.events_after(driver.tables, 0)] == [b"%d" % number for number in range(200)]


def test_history_never_holds_more_than_it_may_and_is_forgotten_in_bulk():
    driver = Driver(events=160)
    counts = []
    for number in range(400):
        driver.do(Put(key=b"k%d" % (number % 7), value=b"v"))
        counts.append(driver.machine.history.numbers.event_count)

    assert max(counts) == 160
    assert min(counts[160:]) == 150
    assert driver.machine.history.numbers.compacted == driver.machine.revision - counts[-1]


def test_a_command_forgets_a_bounded_part_and_the_next_ones_go_on():
    driver = Driver()
    for number in range(300):
        driver.do(Put(key=b"k%d" % number, value=b"v"))
    driver.command(command_of(Compact(revision=300)))
    left = []
    while rows_of_events(driver):
        left.append(driver.machine.history.numbers.event_count)
        assert driver.all(299) == HistoryGone(compacted_revision=300)
        driver.command()
        driver.check()

    assert left == [300 - history.CHUNKS_PER_COMMAND, 300 - 2 * history.CHUNKS_PER_COMMAND]


def test_what_one_command_takes_away_beyond_a_bound_is_not_kept_and_nobody_may_ask_for_it(monkeypatch):
    monkeypatch.setattr(history, "HELD_BYTES", 2_500)
    driver = Driver(size_bytes=1 << 30)
    driver.do(*(Put(key=b"%d" % number, value=b"v" * 1000) for number in range(4)))
    driver.do(DeleteSpan(start=b"0", end=b"2"))
    kept = driver.all(1)
    driver.do(Put(key=b"5", value=b"v" * 2_000), Put(key=b"6", value=b"v" * 1_000))
    driver.do(DeleteSpan(start=b"", end=None))

    assert len(kept) == 4
    assert driver.all(3) == HistoryGone(compacted_revision=4)
    assert driver.all(4) == {}
    assert driver.machine.history.numbers.event_count == 0


class CountingReader:
    """How often rows of a table are scanned through and read."""

    def __init__(self, tables):
        self.tables, self.scanned = tables, 0

    def get(self, table, key):
        return self.tables.get(table, key)

    def scan(self, table, start, end):
        for row in self.tables.scan(table, start, end):
            self.scanned += 1
            yield row


def test_a_key_that_stands_is_shown_as_it_was_for_the_price_of_its_own_changes():
    driver = Driver(events=100_000, size_bytes=1 << 30)
    driver.do(Put(key=b"a", value=b"1"))
    for number in range(1_000):
        driver.do(Put(key=b"other%d" % number, value=b"v"))
    driver.do(Put(key=b"a", value=b"2"))
    driver.do(Put(key=b"a", value=b"3"))
    reader = CountingReader(driver.tables)

    assert reading.answer(reader, Get(key=b"a", revision=1)).value == b"1"
    assert reader.scanned <= 3


def test_a_key_that_was_removed_and_created_again_is_shown_as_it_was_in_between_and_before():
    driver = Driver()
    driver.do(Put(key=b"a", value=b"1"))
    driver.do(Delete(key=b"a"))
    driver.do(Put(key=b"b", value=b"v"))
    driver.do(Put(key=b"a", value=b"2"))
    driver.do(Put(key=b"a", value=b"3"))
    driver.do(Delete(key=b"a"))

    found = [driver.get(b"a", revision) for revision in range(1, 7)]
    assert [getattr(one, "value", None) for one in found] == [b"1", None, None, b"2", b"3", None]


def test_a_time_shows_the_last_revision_that_is_not_later():
    driver = Driver()
    for number, moment in enumerate((1_001_000, 1_001_000, 1_001_500, 1_004_000)):
        driver.now_ms = moment
        driver.do(Put(key=b"k", value=b"%d" % number))
    driver.now_ms = 1_005_000
    driver.do(Delete(key=b"k"))

    def at(moment):
        found = reading.answer(driver.tables, Get(key=b"k", at_ms=moment))
        page = reading.answer(driver.tables, List(start=b"", end=None, limit=10, at_ms=moment))
        assert page.records == ((found,) if isinstance(found, KeyRecord) else ())
        return found.value if isinstance(found, KeyRecord) else None

    moments = (1, 1_000_999, 1_001_000, 1_001_499, 1_001_500, 1_003_999, 1_004_000, 1_004_999, 1_005_000, 1 << 48)
    assert [at(moment) for moment in moments] == [None, None, b"1", b"1", b"2", b"2", b"3", b"3", None, None]


def test_a_time_before_what_is_kept_is_gone_and_not_guessed():
    driver = Driver()
    for moment in (1_001_000, 1_002_000, 1_003_000):
        driver.now_ms = moment
        driver.do(Put(key=b"k", value=b"%d" % moment))
    driver.now_ms = 1_003_500
    driver.command(command_of(Compact(revision=2)))

    def at(moment):
        return reading.answer(driver.tables, Get(key=b"k", at_ms=moment))

    # Revision 2 can be read, but when it came about is not kept.
    assert at(1_001_500) == at(1_002_500) == HistoryGone(compacted_revision=2)
    assert at(1_003_000).value == at(1_003_400).value == at(1_009_000).value == b"1003000"
    driver.command(command_of(Compact(revision=3)))
    assert at(1_003_400) == HistoryGone(compacted_revision=3)
    assert at(1_003_500).value == b"1003000"


def test_changes_tell_when_they_came_about():
    driver = Driver()
    for moment in (1_001_000, 1_001_250, 1_001_250, 1_002_000):
        driver.now_ms = moment
        driver.do(Put(key=b"a", value=b"x" * history.CHUNK_BYTES), Put(key=b"b", value=b"y", ttl_ms=300))
    page = past.changes_after(driver.tables, ChangesAfter(revision=0, limit_bytes=1 << 30))

    assert sorted({one.time_ms for one in page.changes if one.record is not None}) == [1_001_000, 1_001_250, 1_002_000]
    assert [one.time_ms for one in page.changes if one.expired] == [1_002_000]
    assert [one.time_ms for one in page.changes] == sorted(one.time_ms for one in page.changes)


def test_where_the_store_stands_is_told_without_reading_what_changed():
    driver = Driver()
    for number in range(3):
        driver.do(Put(key=b"k", value=b"%d" % number))
    driver.command(command_of(Compact(revision=2)))
    empty = ChangesAfter(revision=2, start=SYSTEM, end=SYSTEM, limit_bytes=0)
    blind = Blind(driver.tables)

    assert past.changes_after(blind, empty) == ChangePage(changes=(), through=3, is_level=True)
    assert past.changes_after(blind, msgspec.structs.replace(empty, revision=1)) == HistoryGone(compacted_revision=2)
    assert past.changes_after(blind, msgspec.structs.replace(empty, revision=4)) == HistoryAhead(revision=3)
