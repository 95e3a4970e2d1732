"""The audit finds what was lost, what was invented, and where nodes differ."""

import pytest

from raftkv.instruments.lab.history import (
    CompareAndSet,
    DeleteAction,
    GetAction,
    History,
    ObservedOperation,
    Outcome,
    PutAction,
)
from tests.integration.audit import audit


def operation(key, action, outcome=Outcome.OK, result=None, at_ns=0):
    returned_ns = None if outcome is Outcome.UNKNOWN else at_ns + 1
    return ObservedOperation(
        client=0, key=key, action=action, invoked_ns=at_ns, returned_ns=returned_ns, outcome=outcome, result=result
    )


HISTORY = History(
    (
        operation(b"kept", PutAction(b"1"), at_ns=0),
        operation(b"refused", PutAction(b"2"), Outcome.FAILED, at_ns=10),
        operation(b"doubtful", PutAction(b"3"), Outcome.UNKNOWN, at_ns=20),
        operation(b"contended", PutAction(b"4"), at_ns=30),
        operation(b"contended", CompareAndSet(expected=b"4", value=b"5"), result=True, at_ns=40),
        operation(b"contended", CompareAndSet(expected=b"4", value=b"6"), result=False, at_ns=50),
        operation(b"gone", PutAction(b"7"), at_ns=60),
        operation(b"gone", DeleteAction(), result=True, at_ns=70),
        operation(b"kept", GetAction(), result=b"1", at_ns=80),
        operation(b"open", PutAction(b"8"), Outcome.UNKNOWN, at_ns=90),
        operation(b"open", PutAction(b"9"), at_ns=100),
        operation(b"crossed", PutAction(b"10"), at_ns=110),
        operation(b"crossed", DeleteAction(), result=True, at_ns=111),
    )
)
SOUND = {b"kept": b"1", b"contended": b"5"}


@pytest.mark.parametrize("doubtful", [{}, {b"doubtful": b"3"}, {b"open": b"8"}, {b"open": b"9"}, {b"crossed": b"10"}])
def test_equal_copies_that_hold_what_was_told_are_sound(doubtful):
    found = audit(HISTORY, {"n1": SOUND | doubtful, "n2": SOUND | doubtful})

    assert not found
    assert found.acknowledged_count == 3


@pytest.mark.parametrize(
    ("copy", "lost", "invented"),
    [
        ({b"contended": b"5"}, [b"kept"], []),
        (SOUND | {b"kept": b"9"}, [b"kept"], [b"kept"]),
        (SOUND | {b"contended": b"4"}, [b"contended"], []),
        (SOUND | {b"gone": b"7"}, [b"gone"], []),
        (SOUND | {b"refused": b"2"}, [], [b"refused"]),
        (SOUND | {b"contended": b"6"}, [b"contended"], [b"contended"]),
        (SOUND | {b"stranger": b"1"}, [], [b"stranger"]),
        (SOUND | {b"doubtful": b"1"}, [], [b"doubtful"]),
    ],
)
def test_what_is_lost_and_what_is_invented_is_found_on_the_node_that_has_it_so(copy, lost, invented):
    found = audit(HISTORY, {"n1": SOUND, "n2": copy})

    assert found
    assert found.lost == tuple(("n2", key) for key in lost)
    assert found.invented == tuple(("n2", key) for key in invented)


def test_a_node_that_differs_is_named_with_the_key():
    found = audit(HISTORY, {"n1": SOUND, "n2": SOUND, "n3": SOUND | {b"doubtful": b"3"}})

    assert found.different == (("n3", b"doubtful"),)
