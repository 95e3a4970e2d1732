"""What may be left out of a contradiction, and that what is left is one."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftkv.instruments.lab.flaw import recognised
from raftkv.instruments.lab.history import CompareAndSet, GetAction, ObservedOperation, Outcome, PutAction
from raftkv.instruments.lab.reduction import reduced, removable
from raftkv.instruments.lab.specification import transition_of

from .lab_oracle import arbitrary_histories, bent_histories, honest_histories, is_explained

MANY = settings(
    max_examples=500, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def ok(client, action, at, until, result=None):
    return ObservedOperation(
        client=client, key=b"k", action=action, invoked_ns=at, returned_ns=until, outcome=Outcome.OK, result=result
    )


def told(operations):
    asserting = [operation for operation in operations if transition_of(operation) is not None]
    return sorted(asserting, key=lambda operation: operation.invoked_ns)


@MANY
@given(honest_histories(), st.sets(st.integers(0, 6)))
def test_leaving_out_what_is_removable_never_makes_a_contradiction(operations, chunk):
    operations = told(operations)

    leaving = removable(chunk, operations)

    assert leaving <= chunk
    assert is_explained([operation for index, operation in enumerate(operations) if index not in leaving])


@MANY
@given(st.one_of(arbitrary_histories(), bent_histories()))
def test_what_is_left_of_a_contradiction_is_a_contradiction(operations):
    contradiction = reduced(operations)

    assert (contradiction is None) is is_explained(operations)
    assert contradiction is None or not is_explained(contradiction)


@MANY
@given(st.one_of(arbitrary_histories(), bent_histories()))
def test_a_flaw_is_named_only_where_its_operations_are_a_contradiction(operations):
    flaw = recognised(told(operations))

    assert flaw is None or not is_explained(operations)
    assert flaw is None or not is_explained(flaw.operations)


def test_no_flaw_is_named_where_one_put_began_at_the_moment_another_returned():
    assert (
        recognised([ok(1, PutAction(b"a"), 0, 10), ok(2, PutAction(b"b"), 10, 20), ok(3, GetAction(), 30, 40, b"a")])
        is None
    )
    assert (
        recognised([ok(1, PutAction(b"a"), 0, 10), ok(2, PutAction(b"b"), 11, 20), ok(3, GetAction(), 30, 40, b"a")])
        is not None
    )


def test_a_put_whose_value_was_read_is_not_left_out():
    operations = [ok(1, PutAction(b"a"), 0, 1), ok(2, GetAction(), 2, 3, b"a"), ok(1, PutAction(b"b"), 4, 5)]

    assert removable({0}, operations) == set()
    assert removable({0, 1}, operations) == {0, 1}
    assert removable({2}, operations) == {2}


def test_a_write_that_a_failed_comparison_may_have_met_is_not_left_out():
    refused = ok(2, CompareAndSet(b"a", b"c"), 2, 3, result=False)
    operations = [ok(1, PutAction(b"a"), 0, 1), ok(1, PutAction(b"b"), 1, 2), refused]

    assert removable({1}, operations) == set()
    assert removable({0}, operations) == {0}


def test_a_long_chain_of_comparisons_is_cut_where_it_does_not_matter():
    chain = [ok(1, PutAction(b"0"), 0, 1)]
    for number in range(1, 60):
        swap = CompareAndSet(b"%d" % (number - 1), b"%d" % number)
        chain.append(ok(1, swap, 10 * number, 10 * number + 1, result=True))
    stale = ok(2, GetAction(), 1000, 1001, b"58")

    left = reduced([*chain, stale])

    assert [operation.action for operation in left] == [PutAction(b"58"), CompareAndSet(b"58", b"59"), GetAction()]
    assert left[0].note == "by compare-and-set"
