"""How a witness looks."""

import textwrap

from raftkv.instruments.lab.checker import check
from raftkv.instruments.lab.history import (
    CompareAndSet,
    DeleteAction,
    GetAction,
    History,
    ObservedOperation,
    Outcome,
    PutAction,
)
from raftkv.instruments.lab.witness import COLUMNS_MAX, render

MS = 1_000_000


def operation(client, action, at, until, result=None, *, outcome=Outcome.OK, **more):
    return ObservedOperation(
        client=client,
        key=more.pop("key", b"x"),
        action=action,
        invoked_ns=at * MS,
        returned_ns=None if until is None else until * MS,
        outcome=outcome,
        result=result,
        **more,
    )


def rendered(*operations):
    return render(check(History(operations)).witness)


def test_a_witness_is_a_sentence_bars_by_client_and_a_list():
    text = rendered(
        operation(7, GetAction(), 1000, 1001, key=b"another"),
        operation(1, PutAction(b"a"), 1100, 1120),
        operation(2, PutAction(b"b"), 1150, None, outcome=Outcome.UNKNOWN, note="no answer"),
        operation(3, GetAction(), 1200, 1210, b"b", node="n1"),
        operation(1, GetAction(), 1300, 1310, b"a", node="n2"),
    )

    assert text == textwrap.dedent("""\
        key 'x': non-monotonic read
        client 1 read 'a' at 0.310 s, after client 3 read 'b' at 0.210 s, which was written later

        client 1  [1 put 'a']                 [4 get → 'a']
        client 2              [2 put 'b'-------------------->
        client 3                [3 get → 'b']
                                                          ^

         1  0.100 to 0.120 s  client 1  put 'a'
         2  0.150 to ? s  client 2  put 'b'  unknown  (no answer)
         3  0.200 to 0.210 s  client 3  get → 'b'  at n1
         4  0.300 to 0.310 s  client 1  get → 'a'  at n2
        """)


def test_a_refused_write_is_shown_because_the_sentence_speaks_of_it():
    text = rendered(
        operation(1, PutAction(b"a"), 0, 20, outcome=Outcome.FAILED, note="no_quorum"),
        operation(2, GetAction(), 30, 40, b"a"),
    )

    assert text.startswith("key 'x': dirty read\nclient 2 read 'a' at 0.040 s, although client 1's put of 'a' had been")
    assert "client 1  [1 put 'a'x\n" in text


def test_long_values_and_many_operations_stay_within_the_width():
    operations = [
        operation(
            client, CompareAndSet(b"long" * 30, b"%d" % client + b"long" * 30), client, 100 + client, result=False
        )
        for client in range(20)
    ]
    long = b"long" * 30
    operations += [
        operation(30, PutAction(long), 200, 210),
        operation(31, CompareAndSet(long, None), 220, 230, result=False),
    ]

    text = rendered(*operations)

    assert max(map(len, text.splitlines())) <= COLUMNS_MAX
    assert "[1 put 'longlong" in text


def test_a_client_that_goes_on_after_an_unknown_outcome_has_a_second_row():
    text = rendered(
        operation(1, PutAction(b"a"), 0, 10),
        operation(1, PutAction(b"b"), 20, None, outcome=Outcome.UNKNOWN),
        operation(1, GetAction(), 40, 50, b"b"),
        operation(1, GetAction(), 60, 70, b"a"),
    )

    assert [line[:12] for line in text.splitlines() if line.startswith("client 1  ")] == [
        "client 1  [1",
        "client 1    ",
    ]


def test_moments_get_as_many_digits_as_it_takes_to_tell_them_apart():
    close = [
        ObservedOperation(
            client=1, key=b"x", action=DeleteAction(), invoked_ns=0, returned_ns=1_500, outcome=Outcome.OK
        ),
        ObservedOperation(
            client=2,
            key=b"x",
            action=GetAction(),
            invoked_ns=3_000,
            returned_ns=4_500,
            outcome=Outcome.OK,
            result=b"\x00",
        ),
    ]

    text = rendered(*close)

    assert "client 2 read '\\x00' at 0.000005 s, which nobody ever wrote" in text
