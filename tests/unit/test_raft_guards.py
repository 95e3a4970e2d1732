"""The guards decide about single messages; numbers are those of the hazard table in docs/pysyncobj.rst."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.formats.entries import NO_OP, REGULAR
from raftkv.formats.peers import MalformedMessageError
from raftkv.formats.raft_messages import Append, AppendAnswer, NewerTerm
from raftkv.raft.engine.guards import admit_answer, admit_append
from raftkv.raft.leadership.elections import up_to_date


class FakeLog:
    """A log given as the terms of its entries, beginning at ``first_index``."""

    def __init__(self, terms, *, term=None, commit_index=1, first_index=1, is_leader=False):
        self.terms = list(terms)
        self.first_index = first_index
        self.term = term if term is not None else self.terms[-1]
        self.commit_index = commit_index
        self.is_leader = is_leader

    @property
    def last_index(self):
        return self.first_index + len(self.terms) - 1

    def term_at(self, index):
        return self.terms[index - self.first_index]


def append_of(previous, previous_term, terms, *, term, commit_index=1, sequence=1):
    entries = tuple((REGULAR + b"x", previous + 1 + i, t) for i, t in enumerate(terms))
    return Append(
        term=term,
        commit_index=commit_index,
        sequence=sequence,
        previous_index=previous,
        previous_term=previous_term,
        entries=entries,
    )


def test_an_append_of_an_older_term_is_answered_with_ours():
    verdict = admit_append(FakeLog([0, 3]), append_of(2, 3, [], term=2))

    assert verdict.hand_on is None
    assert verdict.answer == NewerTerm(term=3)


def test_a_repeated_append_whose_entries_match_truncates_nothing_7():
    log = FakeLog([0, 1, 1, 1, 1], commit_index=3)

    verdict = admit_append(log, append_of(1, 0, [1, 1], term=1, commit_index=5))

    assert verdict.hand_on == Append(term=1, commit_index=3, sequence=1)  # a heartbeat: PySyncObj sees no entries
    assert verdict.answer == AppendAnswer(term=1, sequence=1, next_index=4, success=True, reset=False)


def test_only_the_conflicting_tail_reaches_pysyncobj_7():
    log = FakeLog([0, 1, 1, 2, 2], commit_index=3)

    verdict = admit_append(log, append_of(1, 0, [1, 1, 3, 3], term=3))

    assert verdict.hand_on.previous_index == 3
    assert [entry[1:] for entry in verdict.hand_on.entries] == [(4, 3), (5, 3)]


def test_a_conflict_below_the_commit_index_is_refused():
    log = FakeLog([0, 1, 1], commit_index=3)

    with pytest.raises(MalformedMessageError, match="committed"):
        admit_append(log, append_of(1, 0, [2, 2], term=2))


def test_a_bare_heartbeat_never_moves_the_commit_index_9():
    log = FakeLog([0, 1, 1, 1], term=1, commit_index=2)

    verdict = admit_append(log, Append(term=2, commit_index=100, sequence=7))

    assert verdict.hand_on.commit_index == 2
    assert verdict.answer == AppendAnswer(term=2, sequence=7, next_index=1, success=False, reset=False)


def test_an_empty_append_commits_no_further_than_where_it_matches_9():
    log = FakeLog([0, 1, 1, 1], commit_index=1)

    verdict = admit_append(log, append_of(2, 1, [], term=2, commit_index=100))

    assert verdict.hand_on.commit_index == 2


@pytest.mark.parametrize(("previous", "previous_term"), [(9, 3), (4, 9)])
def test_a_mismatch_is_answered_with_the_commit_index_10(previous, previous_term):
    log = FakeLog([0] + [1] * 4000, commit_index=2)
    previous = previous if previous == 4 else 9000

    verdict = admit_append(log, append_of(previous, previous_term, [9], term=9))

    assert verdict.answer == AppendAnswer(term=9, sequence=1, next_index=3, success=False, reset=True)
    assert not verdict.hand_on.entries


def test_entries_before_the_log_begins_are_answered_with_the_commit_index():
    log = FakeLog([4, 4, 4], first_index=50, commit_index=51)

    verdict = admit_append(log, append_of(10, 1, [1], term=4))

    assert verdict.answer.next_index == 52
    assert verdict.answer.reset


@pytest.mark.parametrize(
    "entries",
    [
        ((REGULAR, 4, 1),),  # a gap
        ((REGULAR, 3, 2), (REGULAR, 4, 1)),  # terms decrease
        ((REGULAR, 3, 9),),  # later than the sender's term
        ((b"\x02pickle", 3, 2),),  # a membership change, which PySyncObj would unpickle (19, 20)
        ((b"\x03pickle", 3, 2),),  # a code version, likewise (26)
        ((b"", 3, 2),),
    ],
)
def test_entries_of_a_wrong_shape_are_malformed(entries):
    append = Append(term=2, commit_index=1, sequence=1, previous_index=2, previous_term=1, entries=entries)

    with pytest.raises(MalformedMessageError):
        admit_append(FakeLog([0, 1]), append)


def test_no_op_entries_are_let_through():
    append = Append(term=2, commit_index=1, sequence=1, previous_index=2, previous_term=1, entries=((NO_OP, 3, 2),))

    assert admit_append(FakeLog([0, 1]), append).hand_on == append


def test_another_leader_in_a_term_of_ours_is_refused():
    with pytest.raises(MalformedMessageError, match="another leader"):
        admit_append(FakeLog([0, 1], is_leader=True), append_of(2, 1, [], term=1))


def answer_of(**changes):
    answer = AppendAnswer(term=3, sequence=5, next_index=3, success=True, reset=False)
    return msgspec.structs.replace(answer, **changes)


def test_an_answer_of_another_term_is_dropped_6():
    leader = FakeLog([0, 1, 3], is_leader=True)

    assert admit_answer(leader, answer_of(term=2), reset_since=0) is None
    assert admit_answer(leader, answer_of(), reset_since=0) == answer_of()


def test_an_answer_to_a_node_that_does_not_lead_is_dropped():
    assert admit_answer(FakeLog([0, 1, 3]), answer_of(), reset_since=0) is None


def test_an_answer_beyond_the_log_is_malformed():
    with pytest.raises(MalformedMessageError):
        admit_answer(FakeLog([0, 1, 3], is_leader=True), answer_of(next_index=9), reset_since=0)


def test_a_reset_is_honoured_once():
    leader = FakeLog([0, 1, 3], is_leader=True)
    reset = answer_of(success=False, reset=True)

    assert admit_answer(leader, reset, reset_since=4).reset
    assert not admit_answer(leader, reset, reset_since=5).reset


@given(ours=st.tuples(st.integers(1, 5), st.integers(1, 5)), theirs=st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_up_to_date_compares_terms_before_lengths(ours, theirs):
    verdict = up_to_date(theirs[0], theirs[1], last_index=ours[0], last_term=ours[1])

    assert verdict == (theirs[1] > ours[1] or (theirs[1] == ours[1] and theirs[0] >= ours[0]))


@given(
    common=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    ours=st.lists(st.integers(1, 4), max_size=5),
    theirs=st.lists(st.integers(1, 4), max_size=5),
    start=st.integers(0, 8),
    count=st.integers(0, 8),
)
def test_whatever_is_handed_on_extends_or_replaces_what_is_not_committed(common, ours, theirs, start, count):
    """For any two logs with a common committed beginning, no committed entry and no matching entry is truncated."""
    base = [0, *sorted(common)]
    ours = base + sorted(term + 3 for term in ours)
    theirs = base + sorted(term + 3 for term in theirs)
    # Log matching: equal (index, term) implies equal beginnings, so make the tails differ from the first difference on.
    split = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    ours = ours[:split] + [term * 10 for term in ours[split:]]
    theirs = theirs[:split] + [term * 10 + 1 for term in theirs[split:]]
    start = min(start, len(theirs) - 1)
    term = max(theirs[-1], ours[-1])
    log = FakeLog(ours, term=term, commit_index=len(base))
    append = append_of(start + 1, theirs[start], theirs[start + 1 : start + 1 + count], term=term)

    verdict = admit_append(log, append)

    if verdict.hand_on is not None and verdict.hand_on.entries:
        kept = verdict.hand_on.previous_index
        result = ours[:kept] + [entry[2] for entry in verdict.hand_on.entries]
        agreed = 0
        while agreed < min(len(ours), len(theirs)) and ours[agreed] == theirs[agreed]:
            agreed += 1
        assert kept >= min(agreed, start + 1 + len(append.entries))
        assert result == theirs[: len(result)]
