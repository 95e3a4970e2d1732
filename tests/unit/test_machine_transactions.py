"""Transactions: what they compare, that they do all of it or nothing, and what they answer."""

from __future__ import annotations

import pytest

from raftkv.core.errors import Code, Refused
from raftkv.core.requests import (
    ComparedField,
    Delete,
    DeleteSpan,
    Get,
    Grant,
    Increment,
    KeyComparison,
    List,
    Operator,
    Put,
    Touch,
    Transaction,
    Write,
)
from raftkv.core.results import Incremented, KeyPage, PutDone, Transacted, Withheld
from raftkv.machine import operations
from raftkv.machine.conversion import command_of
from raftkv.machine.repeats import REUSED_KEY
from tests.unit.machine_requests import exists, put, refused, value_is
from tests.unit.test_machine_history import Driver


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
