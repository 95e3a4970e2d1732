"""Histories as values and as lines of JSON."""

import pytest

from raftkv.instruments.lab.history import (
    ANY,
    CompareAndSet,
    DeleteAction,
    GetAction,
    History,
    ObservedOperation,
    Outcome,
    PutAction,
)


def operation(action, result=None, *, at=0, until=1, outcome=Outcome.OK, key=b"k", **more):
    return ObservedOperation(
        client=1, key=key, action=action, invoked_ns=at, returned_ns=until, outcome=outcome, result=result, **more
    )


EVERY_KIND = History(
    [
        operation(GetAction(), b"a", at=1),
        operation(GetAction(), at=2, until=4, node="n1", note="local"),
        operation(GetAction(), b"\xff\x00", at=3, until=4),
        operation(GetAction(), b"b", at=3, until=5, siblings=(b"a", b"\xff")),
        operation(PutAction(b"a"), at=4, until=None, outcome=Outcome.UNKNOWN),
        operation(PutAction(b"\xfe"), at=5, until=6, outcome=Outcome.FAILED, key=b"\xff"),
        operation(PutAction(b""), at=6, until=6),
        operation(DeleteAction(), result=True, at=7, until=8),
        operation(DeleteAction(), result=False, at=8, until=9),
        operation(DeleteAction(), at=9, until=10),
        operation(CompareAndSet(b"a", b"b"), result=True, at=10, until=11),
        operation(CompareAndSet(None, b"b"), result=False, at=11, until=12),
        operation(CompareAndSet(ANY, None), result=True, at=12, until=13),
    ]
)


def test_a_history_survives_being_written_as_lines_and_read_back(tmp_path):
    EVERY_KIND.write(tmp_path / "history.jsonl")

    assert History.read(tmp_path / "history.jsonl") == EVERY_KIND


def test_lines_show_text_as_text():
    (line,) = History([operation(CompareAndSet(ANY, b"b"), result=True)]).to_lines()

    assert line == (
        b'{"client":1,"key":"k","action":"compare_and_set","expected":true,"value":"b","invoked_ns":0,"returned_ns":1,'
        b'"outcome":"ok","result":true}\n'
    )


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"nonsense",
        b'{"client":1,"key":"k","action":"put","invoked_ns":0,"returned_ns":1,"outcome":"ok"}',
        b'{"client":1,"key":{"base64":"?"},"action":"get","invoked_ns":0,"returned_ns":1,"outcome":"ok"}',
        b'{"client":1,"key":"k","action":"compare_and_set","expected":false,"invoked_ns":0,"returned_ns":1,"outcome":"ok"}',
        b'{"client":1,"key":"k","action":"get","invoked_ns":0,"returned_ns":1,"outcome":"perhaps"}',
    ],
)
def test_a_line_that_is_no_operation_is_refused(line):
    with pytest.raises(ValueError):  # noqa: PT011  msgspec's errors are ValueErrors, too
        History.from_lines([line])


def test_operations_are_sorted_by_invocation():
    late, early = operation(GetAction(), at=5, until=6), operation(GetAction(), at=1, until=9)

    assert History([late, early]).operations == (early, late)


def test_each_key_has_its_own_part_in_order_of_appearance():
    first, second, third = (
        operation(GetAction(), at=at, until=9, key=key) for at, key in enumerate((b"y", b"x", b"y"))
    )

    parts = History([first, second, third]).by_key()

    assert list(parts.items()) == [(b"y", History([first, third])), (b"x", History([second]))]


@pytest.mark.parametrize(
    "contradiction",
    [
        {"action": PutAction(b"a"), "until": None},
        {"action": PutAction(b"a"), "until": None, "outcome": Outcome.FAILED},
        {"action": PutAction(b"a"), "at": 2, "until": 1},
        {"action": PutAction(b"a"), "result": True},
        {"action": GetAction(), "result": True},
        {"action": GetAction(), "result": b"a", "outcome": Outcome.UNKNOWN},
        {"action": DeleteAction(), "result": b"a"},
        {"action": CompareAndSet(b"a", b"b")},
        {"action": CompareAndSet(b"a", b"b"), "result": b"a"},
    ],
)
def test_an_operation_that_contradicts_itself_is_refused(contradiction):
    with pytest.raises(ValueError, match=r"cannot|does not fit"):
        operation(**contradiction)
