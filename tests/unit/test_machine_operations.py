"""Transactions, increments, ranges, leases: what each does, and that it does all of it or nothing."""

from __future__ import annotations

import pytest

from raftkv.core.errors import KEEPS_NO_HISTORY, Code, Refused
from raftkv.core.requests import (
    ChangesAfter,
    Compact,
    ComparedField,
    Delete,
    DeleteSpan,
    FindLease,
    FindLeases,
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
from raftkv.core.results import (
    Compacted,
    Granted,
    HistoryAhead,
    HistoryGone,
    Incremented,
    KeyPage,
    Mismatch,
    Missing,
    NoLease,
    PutDone,
    Revoked,
    SpanDeleted,
    Touched,
    Transacted,
    Withheld,
)
from raftkv.formats import layout
from raftkv.formats.commands import LeaseTimeCommand
from raftkv.machine import lease_rows, operations, past, reading
from raftkv.machine.conversion import command_of
from raftkv.machine.repeats import REUSED_KEY
from tests.unit.test_machine import Driver as PlainDriver
from tests.unit.test_machine_history import Driver


def put(key, value=b"v", **more):
    return Put(key=key, value=value, **more)


def value_is(key, value, operator=Operator.EQUAL):
    return KeyComparison(start=key, target=ComparedField.VALUE, operator=operator, operand=value)


def exists(key, operand=1):
    return KeyComparison(start=key, target=ComparedField.EXISTS, operand=operand)


def changes(driver, revision):
    """The changes at ``revision``: key, and whether it was put."""
    return [
        (one.key, bool(one.row)) for one in past.events_after(driver.tables, revision - 1) if one.revision == revision
    ]


def refused(code):
    return operations.refusal(code)


# -- one revision -----------------------------------------------------------------------------------------------------


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


# -- transactions -----------------------------------------------------------------------------------------------------


def test_a_transaction_takes_the_branch_that_its_comparisons_choose():
    driver = Driver()
    driver.do(put(b"a", b"1"))
    swap = Transaction(
        comparisons=(value_is(b"a", b"1"),), success=(put(b"a", b"2"), Get(key=b"a")), failure=(Get(key=b"a"),)
    )

    first, second = driver.one(swap), driver.one(swap)

    assert first.succeeded
    assert first.results[0] == PutDone(version=2, revision=2)
    assert first.results[1].value == b"2"
    assert not second.succeeded
    assert [one.value for one in second.results] == [b"2"]


@pytest.mark.parametrize(
    ("target", "operand"),
    [
        (ComparedField.VERSION, 2),
        (ComparedField.REVISION, 3),
        (ComparedField.CREATE_REVISION, 1),
        (ComparedField.LEASE, 5),
        (ComparedField.EXISTS, 1),
    ],
)
def test_each_number_of_a_key_is_compared_by_each_operator(target, operand):
    driver = Driver()
    driver.do(put(b"a"), Grant(ttl_ms=100, lease=5))
    driver.do(put(b"b"))
    driver.do(put(b"a", lease=5))

    def holds(operator, against):
        compare = KeyComparison(start=b"a", target=target, operator=operator, operand=against)
        return driver.one(Transaction(comparisons=(compare,))).succeeded

    for against in (operand - 1, operand, operand + 1):
        assert holds(Operator.EQUAL, against) is (operand == against)
        assert holds(Operator.UNEQUAL, against) is (operand != against)
        assert holds(Operator.LESS, against) is (operand < against)
        assert holds(Operator.GREATER, against) is (operand > against)


def test_values_are_compared_in_bytewise_order_and_that_of_no_key_with_nothing():
    driver = Driver()
    driver.do(put(b"a", b"b"))

    def holds(key, operator, against):
        return driver.one(Transaction(comparisons=(value_is(key, against, operator),))).succeeded

    assert holds(b"a", Operator.LESS, b"ba")
    assert holds(b"a", Operator.GREATER, b"aa")
    assert holds(b"a", Operator.UNEQUAL, b"")
    assert not any(holds(b"x", operator, b"") for operator in Operator)


def test_an_operand_of_another_kind_never_compares():
    driver = Driver()
    driver.do(put(b"a", b"1"))
    wrong = KeyComparison(start=b"a", target=ComparedField.VALUE, operator=Operator.UNEQUAL, operand=1)
    other = KeyComparison(start=b"a", target=ComparedField.VERSION, operator=Operator.UNEQUAL, operand=b"1")

    assert not driver.one(Transaction(comparisons=(wrong,))).succeeded
    assert not driver.one(Transaction(comparisons=(other,))).succeeded


def test_a_comparison_of_a_range_is_one_of_every_key_in_it():
    driver = Driver()
    driver.do(put(b"p/1"), put(b"p/2"), put(b"q"))
    driver.do(put(b"p/2"))

    def all_of(start, end, version):
        compare = KeyComparison(start=start, end=end, several=True, target=ComparedField.VERSION, operand=version)
        return driver.one(Transaction(comparisons=(compare,))).succeeded

    assert not all_of(b"p/", b"p0", 1)
    assert all_of(b"p/1", b"p/2", 1)
    assert all_of(b"q", None, 1)
    assert all_of(b"x", b"y", 9)


def test_all_comparisons_see_the_state_before_the_transaction():
    driver = Driver()
    inner = Transaction(comparisons=(exists(b"a", 0),), success=(put(b"saw-none"),), failure=(put(b"saw-a"),))

    done = driver.one(Transaction(success=(put(b"a"), inner)))

    assert done.results[1].succeeded
    assert isinstance(driver.get(b"saw-none"), type(driver.get(b"a")))
    assert driver.machine.revision == 1


@pytest.mark.parametrize(
    ("obstacle", "code"),
    [
        (Put(key=b"k", value=b"", lease=9), Code.LEASE_NOT_FOUND),
        (Increment(key=b"text"), Code.NOT_AN_INTEGER),
        (Increment(key=b"n", by=2, maximum=6), Code.OUT_OF_BOUNDS),
        (Transaction(success=(Increment(key=b"text"),)), Code.NOT_AN_INTEGER),
    ],
)
def test_a_transaction_of_which_a_part_cannot_be_done_does_nothing(obstacle, code):
    driver = Driver()
    driver.do(put(b"text", b"x"), put(b"n", b"5"))
    before = dict(driver.all())

    result = driver.one(
        Transaction(
            success=(put(b"a"), Increment(key=b"n"), obstacle)
            if code is not Code.OUT_OF_BOUNDS
            else (put(b"a"), obstacle)
        )
    )

    assert result == refused(code)
    assert driver.all() == before
    assert driver.machine.revision == 1


def test_a_part_in_the_branch_not_taken_is_no_obstacle():
    driver = Driver()

    done = driver.one(Transaction(failure=(put(b"k", lease=9),), success=(put(b"a"),)))

    assert done == Transacted(succeeded=True, results=(PutDone(version=1, revision=1),))


@pytest.mark.parametrize(
    "twice",
    [
        (put(b"a"), put(b"a")),
        (put(b"a"), Delete(key=b"a")),
        (put(b"a"), Increment(key=b"a")),
        (Touch(key=b"a", ttl_ms=1), put(b"a")),
        (DeleteSpan(start=b"", end=None), put(b"a")),
        (put(b"a"), DeleteSpan(start=b"a", end=b"b")),
        (put(b"a"), Transaction(success=(put(b"b"),), failure=(put(b"a"),))),
        (Transaction(failure=(put(b"a"),)), put(b"a")),
        (Transaction(success=(Transaction(success=(DeleteSpan(start=b"a", end=b"c"),)),)), Increment(key=b"b")),
    ],
)
def test_a_key_that_one_run_may_write_twice_is_refused_before_it_is_proposed(twice):
    for transaction in (Transaction(success=twice), Transaction(failure=twice)):
        refusal = command_of(Write(operations=(transaction,)))

        assert isinstance(refusal, Refused)
        assert refusal.code is Code.BAD_REQUEST


@pytest.mark.parametrize(
    "once",
    [
        (put(b"a"), Get(key=b"a"), List(start=b"", end=None, limit=1)),
        (Transaction(success=(put(b"a"),), failure=(put(b"a"), put(b"b"))), put(b"c")),
        (DeleteSpan(start=b"a", end=b"b"), DeleteSpan(start=b"a", end=None)),
        (DeleteSpan(start=b"a", end=b"b"), put(b"b")),
    ],
)
def test_a_key_that_is_written_once_whatever_happens_is_not_refused(once):
    assert not isinstance(command_of(Write(operations=(Transaction(success=once),))), Refused)


def test_transactions_stand_only_so_deep_in_each_other():
    deep = Transaction()
    for _ in range(7):
        deep = Transaction(success=(deep,))

    assert not isinstance(command_of(Write(operations=(deep,))), Refused)
    assert isinstance(command_of(Write(operations=(Transaction(success=(deep,)),))), Refused)


def test_a_repeat_is_told_what_was_done_and_reads_anew():
    driver = Driver()
    write = {
        "operations": (
            Transaction(success=(Increment(key=b"n"), Get(key=b"n"), List(start=b"n", end=None, limit=5))),
            Grant(ttl_ms=100),
            DeleteSpan(start=b"x", end=None),
            Touch(key=b"n", ttl_ms=0),
            put(b"k", lease=99),
        ),
        "idempotency_key": "once",
    }

    def apply():
        (outcome,) = driver.command(command_of(Write(**write)))
        return outcome

    first = apply()
    driver.do(Increment(key=b"n", by=9))
    driver.again()
    again = apply()

    assert first.results[4] == refused(Code.LEASE_NOT_FOUND)
    assert again.revision == first.revision
    assert again.results[1:] == first.results[1:]
    assert again.results[0].results[0] == first.results[0].results[0] == Incremented(value=1, version=1, revision=1)
    assert again.results[0].results[1].value == again.results[0].results[2].records[0].value == b"10"
    write["operations"] = (Transaction(success=(Increment(key=b"n", by=2),)),)
    assert apply().refused == REUSED_KEY


def test_keys_alone_count_as_what_was_read_for_them(monkeypatch):
    monkeypatch.setattr("raftkv.machine.machine.ANSWER_BYTES", 3_000)
    driver = Driver()
    driver.do(*[put(b"%02d" % number, b"x" * 1_000) for number in range(9)])

    keys, again = driver.do(
        List(start=b"", end=None, limit=9, keys_only=True), List(start=b"", end=None, limit=9, keys_only=True)
    ).results

    assert [record.value for record in keys.records] == [b"", b"", b""]
    assert keys.next_start == b"03"
    assert again == Withheld(key=b"")


@pytest.mark.parametrize(("bound", "most"), [("CHANGES_MAX", 3), ("RANGE_BYTES_MAX", 350)])
def test_ranges_that_are_removed_or_compared_are_bounded_and_nothing_is_done_beyond(monkeypatch, bound, most):
    monkeypatch.setattr(operations, bound, most)
    driver = Driver()
    driver.do(*[put(b"a%d" % number, b"x" * 60) for number in range(3)], put(b"b", b"x" * 60))
    several = KeyComparison(start=b"a", end=b"b", several=True, target=ComparedField.VERSION, operand=1)
    all_ = KeyComparison(start=b"a", end=None, several=True, target=ComparedField.VERSION, operand=1)

    assert driver.one(Transaction(comparisons=(several,), success=(put(b"c"),))).succeeded
    for one in (
        Transaction(comparisons=(several, several), success=(put(b"d"),)),
        Transaction(comparisons=(all_,), success=(put(b"d"),)),
        Transaction(success=(put(b"d"), DeleteSpan(start=b"a", end=b"c"))),
        Transaction(success=(DeleteSpan(start=b"b", end=b"c"), DeleteSpan(start=b"a", end=b"b"))),
        DeleteSpan(start=b"a", end=None),
    ):
        assert driver.one(one) == refused(Code.TOO_MANY_CHANGES)
    assert driver.machine.revision == 2
    assert driver.one(Transaction(success=(DeleteSpan(start=b"a", end=b"b"),))).results[0].count == 3


def test_what_a_transaction_reads_is_bounded(monkeypatch):
    monkeypatch.setattr("raftkv.machine.machine.ANSWER_BYTES", 300)
    driver = Driver()
    driver.do(*[put(b"%d" % number, b"x" * 60) for number in range(5)])

    (page, other) = driver.one(
        Transaction(success=(List(start=b"", end=None, limit=9), List(start=b"", end=None, limit=9)))
    ).results

    assert isinstance(page, KeyPage)
    assert len(page.records) == 2
    assert page.next_start == b"2"
    assert other.key == b""


# -- increments -------------------------------------------------------------------------------------------------------


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


# -- ranges -----------------------------------------------------------------------------------------------------------


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


# -- expiry -----------------------------------------------------------------------------------------------------------


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


# -- leases -----------------------------------------------------------------------------------------------------------


def test_leases_that_end_together_with_many_keys_end_one_command_after_another(monkeypatch):
    monkeypatch.setattr("raftkv.machine.machine.EXPIRIES_PER_COMMAND", 5)
    driver = Driver()
    for lease in (1, 2, 3):
        driver.do(Grant(ttl_ms=10, lease=lease), *[put(b"%d/%d" % (lease, key), lease=lease) for key in range(4)])
    driver.now_ms += 10

    left = []
    for _ in range(3):
        driver.command()
        left.append(len(driver.all()))
    assert left == [8, 4, 0]


def test_a_lease_takes_its_keys_with_it_when_it_ends():
    driver = Driver()
    granted = driver.one(Grant(ttl_ms=50))
    driver.do(put(b"a", lease=granted.lease), put(b"b", lease=granted.lease), put(b"c"))

    lease = reading.answer(driver.tables, FindLease(lease=granted.lease))
    assert granted == Granted(lease=1, ttl_ms=50, expires_at_ms=driver.now_ms + 50)
    assert (lease.keys, lease.key_count, lease.ttl_ms) == ((b"a", b"b"), 2, 50)
    driver.now_ms += 49
    driver.command()
    assert len(driver.all()) == 3
    driver.now_ms += 1
    driver.command()
    assert sorted(driver.all()) == [b"c"]
    assert reading.answer(driver.tables, FindLease(lease=1)) == NoLease(lease=1)
    assert [list(driver.tables.scan(table, b"", None)) for table in (layout.LEASES, layout.LEASE_KEYS)] == [[], []]
    assert list(driver.tables.scan(layout.EXPIRY, b"", None)) == []


def test_a_lease_that_is_kept_alive_lives_on_and_comes_due_where_it_ends():
    driver = Driver()
    driver.do(Grant(ttl_ms=50, lease=7))
    driver.do(put(b"a", lease=7))

    for _ in range(10):
        driver.now_ms += 30
        (kept,) = driver.command(command_of(KeepAlive(leases=(7, 8))))
        assert kept.leases[0].expires_at_ms == driver.now_ms + 50
        assert kept.leases[1] == NoLease(lease=8)
    driver.now_ms += 49
    driver.command()
    assert driver.get(b"a").lease == 7
    assert driver.machine.next_expiry_ms() == driver.now_ms + 1
    driver.now_ms += 1
    driver.command()
    assert driver.get(b"a") == Missing(key=b"a")


def test_a_key_leaves_its_lease_when_it_is_written_without_it():
    driver = Driver()
    driver.do(Grant(ttl_ms=50, lease=1), Grant(ttl_ms=90, lease=2))
    driver.do(put(b"a", lease=1), put(b"b", lease=1), put(b"c", lease=1), put(b"d", lease=1))
    driver.do(put(b"a"), put(b"b", lease=2), Touch(key=b"c", ttl_ms=0), Delete(key=b"d"))

    assert reading.answer(driver.tables, FindLease(lease=1)).keys == ()
    driver.now_ms += 50
    driver.command()
    assert sorted(driver.all()) == [b"a", b"b", b"c"]


def test_a_revoked_lease_ends_at_once():
    driver = Driver()
    driver.do(Grant(ttl_ms=50, lease=1))
    driver.do(put(b"a", lease=1), put(b"b", lease=1))

    assert driver.one(Revoke(lease=1)) == Revoked(count=2, revision=2)
    assert not any(one.expired for one in past.events_after(driver.tables, 1))
    assert driver.one(Revoke(lease=1)) == refused(Code.LEASE_NOT_FOUND)
    assert driver.one(put(b"a", lease=1)) == refused(Code.LEASE_NOT_FOUND)
    assert driver.one(Grant(ttl_ms=5, lease=1)).lease == 1
    assert driver.one(Grant(ttl_ms=5, lease=1)) == refused(Code.LEASE_EXISTS)


def test_numbers_that_the_machine_gives_are_free():
    driver = Driver()
    driver.do(Grant(ttl_ms=50, lease=2))

    assert [driver.one(Grant(ttl_ms=50)).lease for _ in range(3)] == [1, 3, 4]
    driver.one(Revoke(lease=4))
    driver.again()
    assert driver.one(Grant(ttl_ms=50)).lease == 5


def test_a_lease_has_only_so_many_keys(monkeypatch):
    monkeypatch.setattr("raftkv.machine.leases.LEASE_KEYS_MAX", 3)
    driver = Driver()
    driver.do(Grant(ttl_ms=50, lease=1))

    together = driver.one(Transaction(success=tuple([put(b"%d" % number, lease=1) for number in range(4)])))
    apart = [driver.one(put(b"%d" % number, lease=1)) for number in range(4)]

    assert together == apart[3] == refused(Code.TOO_MANY_CHANGES)
    assert all(isinstance(one, PutDone) for one in apart[:3])


def test_a_lease_ends_by_the_clock_without_its_leaps():
    driver = Driver()
    driver.do(Grant(ttl_ms=100, lease=7), put(b"a", lease=7))
    lease_ms = driver.machine.lease_ms

    driver.now_ms += 1_000
    driver.command(LeaseTimeCommand(lease_ms + 40))
    assert driver.machine.leapt_ms == 960
    record = reading.answer(driver.tables, FindLease(lease=7))
    assert record.expires_at_ms == driver.now_ms + 60
    driver.command(LeaseTimeCommand(lease_ms + 90))  # there was no leap: it is none to make time stand still, or go on
    assert driver.machine.lease_ms == lease_ms + 40
    driver.now_ms += 59
    driver.command()
    assert driver.get(b"a").lease == 7
    driver.now_ms += 1
    driver.command()
    assert driver.get(b"a") == Missing(key=b"a")
    assert reading.answer(driver.tables, FindLease(lease=7)) == NoLease(lease=7)


def test_leases_are_listed_by_number():
    driver = Driver()
    driver.do(*[Grant(ttl_ms=50, lease=number) for number in (5, 1, 3)])

    page = reading.answer(driver.tables, FindLeases(limit=2))

    assert [one.lease for one in page.leases] == [1, 3]
    assert page.next_start == 5
    assert lease_rows.lease_row(driver.tables, 4) is None


# -- history ----------------------------------------------------------------------------------------------------------


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
