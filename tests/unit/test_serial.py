"""The checker of transactions by their revisions is told lies, and finds each."""

import msgspec
import pytest

from tests.integration.serial import Answered, contradictions


def move(revision, found, wrote, *, at=None, failed=False):
    at = revision * 10 if at is None else at
    return Answered(invoked_ns=at, returned_ns=at + 5, revision=revision, found=found, wrote=wrote, failed=failed)


BEGIN = {"a": "1", "b": "1"}
TRUE = [
    move(3, {"a": "1", "b": "1"}, {"a": "0", "b": "2"}),
    move(3, {"a": "1"}, {"a": "9"}, at=31, failed=True),
    move(4, {"b": "2"}, {"b": "3"}, at=33),
]
END = {"a": "0", "b": "3"}


def test_what_is_true_is_believed_in_whatever_order_it_comes():
    assert contradictions(TRUE, BEGIN, END) == []
    assert contradictions(TRUE[::-1], BEGIN, END) == []


@pytest.mark.parametrize(
    ("place", "lie", "words"),
    [
        (0, {"found": {"a": "0"}}, "found what was not there"),
        (1, {"found": {"a": "0"}}, "which holds"),
        (2, {"revision": 3}, "two writes have one revision"),
        (2, {"wrote": {"b": "4"}}, "in the end"),
        (0, {"invoked_ns": 50, "returned_ns": 60}, "had been answered before this began"),
        (
            1,
            {"revision": 2, "found": {"a": "0"}, "invoked_ns": 36, "returned_ns": 37},
            "had been answered before this began",
        ),
    ],
)
def test_a_lie_is_found(place, lie, words):
    told = list(TRUE)
    told[place] = msgspec.structs.replace(told[place], **lie)

    assert any(words in said for said in contradictions(told, BEGIN, END))


def test_a_write_that_nobody_was_told_of_is_found():
    assert contradictions(TRUE[:2], BEGIN, END)
