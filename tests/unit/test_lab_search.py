"""The search for an order, against an oracle that tries them all, and against histories made to take for ever."""

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings

from raftkv.instruments.lab.history import (
    ANY,
    CompareAndSet,
    DeleteAction,
    GetAction,
    ObservedOperation,
    Outcome,
    PutAction,
)
from raftkv.instruments.lab.search import SearchEnd, search

from .lab_oracle import arbitrary_histories, bent_histories, honest_histories, is_explained

STEPS = 1_000_000
MANY = settings(
    max_examples=1000, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def found(operations, steps_max=STEPS):
    return search(operations, steps_max=steps_max).finding


def ok(action, at, until, result=None):
    return ObservedOperation(
        client=1, key=b"k", action=action, invoked_ns=at, returned_ns=until, outcome=Outcome.OK, result=result
    )


def unknown(action, at):
    return ObservedOperation(
        client=2, key=b"k", action=action, invoked_ns=at, returned_ns=None, outcome=Outcome.UNKNOWN
    )


@MANY
@given(arbitrary_histories())
def test_the_search_agrees_with_trying_every_order_on_arbitrary_histories(operations):
    expected = SearchEnd.EXPLAINED if is_explained(operations) else SearchEnd.CONTRADICTION

    assert found(operations) is expected


@MANY
@given(bent_histories())
def test_the_search_agrees_with_trying_every_order_where_one_answer_was_changed(operations):
    expected = SearchEnd.EXPLAINED if is_explained(operations) else SearchEnd.CONTRADICTION

    assert found(operations) is expected


@settings(MANY, max_examples=300)
@given(honest_histories(max_size=30))
def test_what_a_real_register_answered_is_explained(operations):
    assert found(operations) is SearchEnd.EXPLAINED


@pytest.mark.parametrize(
    "operations",
    [
        pytest.param(
            [unknown(PutAction(b"a"), 0), ok(GetAction(), 1, 2), ok(GetAction(), 9, 10, b"a")],
            id="a put takes effect late",
        ),
        pytest.param(
            [unknown(PutAction(b"a"), 0), ok(GetAction(), 1, 2), ok(GetAction(), 9, 10)], id="a put never takes effect"
        ),
        pytest.param(
            [ok(PutAction(b"a"), 0, 1), unknown(DeleteAction(), 2), ok(GetAction(), 3, 4, b"a"), ok(GetAction(), 5, 6)],
            id="a late delete",
        ),
        pytest.param(
            [
                ok(PutAction(b"a"), 0, 1),
                unknown(CompareAndSet(b"b", b"c"), 2),
                unknown(CompareAndSet(b"a", b"b"), 3),
                ok(GetAction(), 5, 6, b"c"),
            ],
            id="a chain of unknown comparisons",
        ),
        pytest.param(
            [ok(PutAction(b"a"), 0, 1), unknown(PutAction(b"b"), 2), ok(CompareAndSet(b"a", b"c"), 3, 4, result=False)],
            id="an unread put is why a comparison failed",
        ),
        pytest.param(
            [
                unknown(PutAction(b"a"), 0),
                unknown(PutAction(b"b"), 1),
                ok(DeleteAction(), 2, 3, result=True),
                ok(GetAction(), 5, 6, b"a"),
            ],
            id="the second of two is what was deleted",
        ),
        pytest.param(
            [
                unknown(PutAction(b"a"), 0),
                unknown(PutAction(b"b"), 1),
                ok(DeleteAction(), 2, 3, result=True),
                ok(GetAction(), 5, 6, b"b"),
            ],
            id="the first of two is what was deleted",
        ),
        pytest.param(
            [ok(PutAction(b"a"), 0, 5), ok(GetAction(), 5, 6)], id="returning and invoking at one moment are concurrent"
        ),
    ],
)
def test_an_unknown_write_may_take_effect_at_any_later_time_or_never(operations):
    assert found(operations) is SearchEnd.EXPLAINED


@pytest.mark.parametrize(
    "operations",
    [
        pytest.param([ok(GetAction(), 0, 1, b"a"), unknown(PutAction(b"a"), 2)], id="before it was invoked"),
        pytest.param(
            [
                unknown(PutAction(b"a"), 0),
                ok(GetAction(), 1, 2, b"a"),
                ok(DeleteAction(), 3, 4, result=True),
                ok(GetAction(), 5, 6, b"a"),
            ],
            id="twice",
        ),
        pytest.param(
            [unknown(CompareAndSet(ANY, b"a"), 0), ok(GetAction(), 5, 6, b"a")], id="though it expects a value"
        ),
    ],
)
def test_an_unknown_write_takes_effect_once_and_in_its_time(operations):
    assert found(operations) is SearchEnd.CONTRADICTION


def test_hundreds_of_unknown_writes_that_nobody_read_cost_next_to_nothing():
    lost = [unknown(PutAction(b"lost %d" % number), number) for number in range(500)]
    read = [ok(PutAction(b"a"), 1000, 1010), ok(GetAction(), 1020, 1030, b"a"), ok(GetAction(), 1040, 1050, b"a")]

    conclusion = search([*lost, *read], steps_max=10_000)

    assert conclusion.finding is SearchEnd.EXPLAINED
    assert conclusion.steps < 50


def tangled_history(operation_count):
    """Twenty clients at a time write and read five values on one key, and are told anything."""
    random = Random(1)
    operations = []
    for number in range(operation_count):
        at, value = number * 10, random.choice([b"a", b"b", b"c", b"d", b"e"])
        if random.random() < 0.3:
            operations.append(unknown(random.choice([PutAction(value), CompareAndSet(value, b"f")]), at))
        elif random.random() < 0.5:
            operations.append(ok(PutAction(value), at, at + 200))
        else:
            operations.append(ok(GetAction(), at, at + 200, value))
    return operations


def test_what_cannot_be_decided_is_given_up_within_the_steps():
    end = [ok(GetAction(), 30_000, 30_001, b"f"), ok(CompareAndSet(b"f", b"g"), 30_002, 30_003, result=False)]

    conclusion = search([*tangled_history(2000), *end], steps_max=50_000)

    assert conclusion.finding is SearchEnd.EXHAUSTED
    assert conclusion.steps < 60_000


def test_equal_histories_take_equal_steps():
    operations = tangled_history(200)

    assert search(operations, steps_max=STEPS) == search(list(reversed(operations)), steps_max=STEPS)
