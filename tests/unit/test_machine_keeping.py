"""Puts that keep the value or the lease that is there, counts of keys, and comparisons of ranges that may be empty."""

from __future__ import annotations

import pytest

from raftkv.core.errors import Code
from raftkv.core.requests import (
    ComparedField,
    CountKeys,
    Delete,
    Get,
    Grant,
    Increment,
    KeyComparison,
    Operator,
    Put,
    Transaction,
    Write,
)
from raftkv.core.results import HistoryAhead, KeyCount, PutDone, Transacted
from raftkv.formats.commands import CALLERS_FORMAT, HISTORY_FORMAT, KEEPING_FORMAT
from raftkv.machine import operations, reading
from raftkv.machine.conversion import proposal_of
from tests.unit.test_machine_history import Driver


def record(driver, key):
    (found,) = driver.do(Get(key=key)).results
    return found


def test_a_put_that_keeps_the_value_changes_the_lease_and_has_a_revision():
    driver = Driver()
    driver.do(Grant(ttl_ms=60_000, lease=7), Put(key=b"a", value=b"v"))

    written = driver.do(Put(key=b"a", value=b"", lease=7, keeps_value=True))

    assert written.results == (PutDone(version=2, revision=2),)
    found = record(driver, b"a")
    assert (found.value, found.lease, found.version, found.mod_revision) == (b"v", 7, 2, 2)

    driver.do(Put(key=b"a", value=b"", keeps_value=True))
    assert (record(driver, b"a").value, record(driver, b"a").lease) == (b"v", 0)


def test_a_put_that_keeps_the_lease_goes_with_it_still():
    driver = Driver()
    driver.do(Grant(ttl_ms=50, lease=7), Put(key=b"a", value=b"v", lease=7), Put(key=b"t", value=b"v", ttl_ms=80))

    driver.do(Put(key=b"a", value=b"w", keeps_lease=True), Put(key=b"t", value=b"w", keeps_lease=True))

    assert (record(driver, b"a").value, record(driver, b"a").lease) == (b"w", 7)
    driver.now_ms += 50
    driver.command()
    assert record(driver, b"t").value == b"w"
    assert driver.do(CountKeys(start=b"", end=None)).results == (KeyCount(count=1),)
    driver.now_ms += 30
    driver.command()
    assert driver.do(CountKeys(start=b"", end=None)).results == (KeyCount(count=0),)


@pytest.mark.parametrize("keeps", [{"keeps_value": True}, {"keeps_lease": True}])
def test_there_must_be_something_to_keep_or_nothing_of_its_transaction_is_done(keeps):
    driver = Driver()
    kept = Put(key=b"a", value=b"", **keeps)

    assert driver.do(kept).results == (operations.refusal(Code.NOT_FOUND),)
    together = Transaction(success=(Put(key=b"b", value=b"v"), kept))
    assert driver.do(together).results == (operations.refusal(Code.NOT_FOUND),)
    assert driver.machine.revision == 0


def test_a_lease_that_is_named_must_be_there():
    driver = Driver()
    driver.do(Put(key=b"a", value=b"v"))

    refused = driver.do(Put(key=b"a", value=b"", lease=5, keeps_value=True)).results

    assert refused == (operations.refusal(Code.LEASE_NOT_FOUND),)


def test_a_transaction_counts_what_there_is_after_what_it_did_before():
    driver = Driver()
    driver.do(*[Put(key=b"k%d" % number, value=b"") for number in range(5)])
    count = CountKeys(start=b"k1", end=b"k4")

    done = driver.do(Transaction(success=(count, Delete(key=b"k2"), count))).results[0]

    assert isinstance(done, Transacted)
    assert (done.results[0], done.results[2]) == (KeyCount(count=3), KeyCount(count=2))


def test_a_query_counts_as_far_as_its_limit_and_as_of_its_revision():
    driver = Driver()
    driver.do(*[Put(key=b"k%d" % number, value=b"") for number in range(5)])
    driver.do(Delete(key=b"k0"), Put(key=b"z", value=b""))

    def count(**more):
        return reading.answer(driver.tables, CountKeys(start=b"", end=None, **more))

    assert count() == KeyCount(count=5)
    assert count(limit=2) == KeyCount(count=2, next_start=b"k3")
    assert count(limit=5) == KeyCount(count=5)
    assert count(revision=1) == KeyCount(count=5)
    assert count(revision=1, limit=1) == KeyCount(count=1, next_start=b"k1")
    assert count(revision=9) == HistoryAhead(revision=2)


@pytest.mark.parametrize(
    ("target", "operator", "operand", "holds"),
    [
        (ComparedField.VERSION, Operator.EQUAL, 0, True),
        (ComparedField.VERSION, Operator.GREATER, 0, False),
        (ComparedField.CREATE_REVISION, Operator.LESS, 1, True),
        (ComparedField.VALUE, Operator.UNEQUAL, b"v", False),
    ],
)
def test_several_keys_of_which_there_is_none_compare_as_one_that_does_not_exist(target, operator, operand, holds):
    driver = Driver()

    def succeeds(*, of_none):
        comparison = KeyComparison(
            start=b"a", end=b"b", several=True, of_none=of_none, target=target, operator=operator, operand=operand
        )
        (done,) = driver.do(Transaction(comparisons=(comparison,))).results
        return done.succeeded

    assert succeeds(of_none=True) is holds
    assert succeeds(of_none=False)


def test_of_several_keys_that_are_there_each_is_compared():
    driver = Driver()
    driver.do(Put(key=b"a1", value=b"v"), Put(key=b"a2", value=b"w"))
    comparison = KeyComparison(
        start=b"a", end=b"b", several=True, of_none=True, target=ComparedField.VALUE, operand=b"v"
    )

    assert not driver.do(Transaction(comparisons=(comparison,))).results[0].succeeded


def test_what_older_members_cannot_read_says_so_wherever_it_stands():
    kept, counted = Put(key=b"a", value=b"", keeps_value=True), CountKeys(start=b"", end=None)
    compared = KeyComparison(start=b"a", end=b"b", several=True, of_none=True, target=ComparedField.VERSION, operand=0)
    nested = Transaction(failure=(Transaction(success=(counted,)),))

    def least(*several):
        return proposal_of(Write(operations=several)).least_format

    assert {least(kept), least(counted), least(nested), least(Transaction(comparisons=(compared,)))} == {KEEPING_FORMAT}
    assert least(Increment(key=b"a")) == HISTORY_FORMAT < CALLERS_FORMAT < KEEPING_FORMAT
