"""Operations and comparisons as the tests of the machine write them, and what has come of them."""

from __future__ import annotations

from raftkv.core.requests import ComparedField, KeyComparison, Operator, Put
from raftkv.machine import operations, past


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
