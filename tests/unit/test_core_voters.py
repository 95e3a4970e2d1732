"""Who decides: dialogues kept as text (``voters.txt``), and clocks, of which a wrong minority moves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.core.voters import Voters, majority, minority

DIALOGUES = [dialogue.splitlines() for dialogue in (Path(__file__).parent / "voters.txt").read_text().split("\n\n")[1:]]
CLOCKS = st.lists(st.integers(-1000, 1000), min_size=1, max_size=7)


def said(words):
    return dict(word.split("=") for word in words)


def answer(voters, question):
    kind, *words = question.split()
    if kind == "majority":
        return str(voters.majority)
    if kind == "votes":
        votes = said(words)
        granted, refused = ({name for name, vote in votes.items() if vote == kind} for kind in ("yes", "no"))
        return "won" if voters.won(granted) else "lost" if voters.lost(refused) else "open"
    numbers = {name: int(number) for name, number in said(words).items()}
    bounds = voters.bounds(numbers)
    return "nothing" if bounds is None else f"{voters.reached(numbers)} ({bounds[0]} {bounds[1]})"


@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda lines: lines[0].replace(" ", "_"))
def test_voters_answer_as_the_dialogue_says(dialogue):
    groups = dialogue[0].removeprefix("voters").split(" and ")
    voters = Voters(tuple(tuple(group.split()) for group in groups))
    questions = [line.split(" -> ")[0] for line in dialogue[1:]]

    assert [f"{question} -> {answer(voters, question)}" for question in questions] == dialogue[1:]


def test_whoever_votes_in_both_groups_is_named_once():
    assert Voters((("a", "b"), ("b", "c"))).names == ("a", "b", "c")


@given(st.integers(1, 9), st.data())
def test_two_majorities_share_a_member_and_a_minority_stops_none(size, data):
    names = [str(number) for number in range(size)]
    voters = Voters.of(names)
    one, other = (set(data.draw(st.permutations(names))[: majority(size)]) for _ in range(2))

    assert one & other
    assert voters.won(one)
    assert not voters.lost(set(names[: minority(size)]))
    assert voters.lost(set(names[: minority(size) + 1]))


def bounds(clocks, size):
    return Voters.of(str(number) for number in range(size)).bounds({str(at): clock for at, clock in enumerate(clocks)})


@given(st.data())
def test_a_minority_of_wrong_clocks_moves_it_beyond_no_right_one(data):
    size = data.draw(st.integers(1, 7))
    wrong = data.draw(st.lists(st.integers(-(10**9), 10**9), max_size=minority(size)))
    right = data.draw(st.lists(st.integers(-5, 5), min_size=size - len(wrong), max_size=size - len(wrong)))
    earlier, later = bounds([*wrong, *right], size)

    assert earlier == later
    assert min(right) <= earlier <= max(right)


@given(CLOCKS, st.data())
def test_whoever_has_heard_a_majority_finds_bounds_of_what_all_would_find(clocks, data):
    size = len(clocks)
    count = data.draw(st.integers(majority(size), size))
    heard = data.draw(st.permutations(clocks))[:count]
    earlier, later = bounds(heard, size)

    assert earlier <= bounds(clocks, size)[0] <= later
