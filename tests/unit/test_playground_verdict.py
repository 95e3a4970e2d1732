"""The live verdict can go red: planted stale reads and lost writes are found, and nothing is found where nothing is."""

from random import Random

import msgspec
import pytest

from raftkv.instruments.lab.dialect import WEAK
from raftkv.instruments.lab.history import GetAction, ObservedOperation, Outcome, PutAction
from raftkv.instruments.lab.playground.telling import Teller
from raftkv.instruments.lab.playground.verdict import BEHIND_MAX, LiveVerdict

KEY = b"playground/apples"
S = 1_000_000_000


class Told:
    """A verdict that is told of operations at seconds."""

    def __init__(self, *, is_linearizable=True):
        self.verdict = LiveVerdict([KEY], teller=Teller(0, {1: "Ann", 2: "Bob"}), is_linearizable=is_linearizable)
        self.score = self.verdict.score

    def write(self, value, begun_s, ended_s, outcome=Outcome.OK, note=""):
        action = PutAction(value)
        begun = ObservedOperation(
            client=1, key=KEY, action=action, invoked_ns=int(begun_s * S), returned_ns=None, outcome=Outcome.UNKNOWN
        )
        self.verdict.begun(begun)
        if ended_s is None:
            return
        returned_ns = None if outcome is Outcome.UNKNOWN else int(ended_s * S)
        ended = ObservedOperation(
            client=1,
            key=KEY,
            action=action,
            invoked_ns=int(begun_s * S),
            returned_ns=returned_ns,
            outcome=outcome,
            note=note,
            node="n1",
        )
        self.verdict.ended(ended)

    def read(self, value, begun_s, ended_s, promise="fresh", siblings=()):
        return self.verdict.ended(found(value, begun_s, ended_s, siblings), promise)

    def look(self, value, begun_s, ended_s, siblings=()):
        self.verdict.close(KEY, found(value, begun_s, ended_s, siblings))

    @property
    def is_green(self):
        self.verdict.check()
        score = self.score
        return (score.contradictions, score.fresh_stale, score.lost, score.weak_lost, score.undecided) == (0,) * 5


def found(value, begun_s, ended_s, siblings=()):
    return ObservedOperation(
        client=2,
        key=KEY,
        action=GetAction(),
        invoked_ns=int(begun_s * S),
        returned_ns=int(ended_s * S),
        outcome=Outcome.OK,
        result=value,
        siblings=siblings,
        node="n2",
    )


def test_what_is_right_is_green():
    told = Told()
    told.read(None, 0, 0.5)
    told.write(b"1", 1, 2)
    told.read(b"1", 3, 4)
    told.write(b"2", 5, 8)
    told.read(b"1", 6, 7)
    told.look(b"2", 9, 10)
    told.read(b"2", 11, 12)

    assert told.is_green
    assert (told.score.fresh_reads, told.score.writes, told.score.looks) == (4, 2, 1)


def test_a_planted_stale_read_is_red_and_told():
    told = Told()
    told.write(b"1", 1, 2)
    told.write(b"2", 3, 4)
    age = told.read(b"1", 5, 6)

    assert (age.behind, age.stale_ms) == (1, 1000)
    assert told.score.fresh_stale == 1
    assert told.verdict.stories[-1].kind == "harm"
    assert told.verdict.stories[-1].lines == (
        "2.00 s: Ann wrote apples = 1 at n1, acknowledged.",
        "4.00 s: Ann wrote apples = 2 at n1, acknowledged.",
        "6.00 s: Bob read apples at n2, and was told 1.",
        "1 version behind; overwritten 1.0 s before.",
    )
    told.verdict.check()
    assert told.score.contradictions == 1


def test_a_planted_lost_write_is_red_once():
    told = Told()
    told.write(b"1", 1, 2)
    told.write(b"2", 3, 4)
    told.look(b"1", 5, 6)

    assert told.score.lost == 1
    assert told.score.contradictions == 1
    assert "it is gone" in " ".join(told.verdict.stories[0].lines)
    told.look(b"1", 7, 8)
    assert told.score.lost == 1


def test_a_lost_write_is_red_without_a_leader_too():
    told = Told(is_linearizable=False)
    told.write(b"1", 1, 2)
    told.write(b"2", 3, 4)
    told.look(b"1", 5, 6)

    assert (told.score.lost, told.score.contradictions) == (1, 0)


def test_siblings_that_have_it_lose_nothing():
    told = Told(is_linearizable=False)
    told.write(b"1", 1, 4)
    told.write(b"2", 2, 3)
    told.look(b"1", 5, 6, siblings=(b"2",))

    assert told.is_green


def test_a_new_value_and_then_an_old_one_is_red_although_neither_is_stale_by_itself():
    told = Told()
    told.write(b"1", 1, 2)
    told.write(b"2", 3, None)
    told.read(b"2", 4, 5)
    assert told.is_green
    told.read(b"1", 6, 7)
    told.verdict.check()

    assert (told.score.fresh_stale, told.score.contradictions) == (0, 1)


def test_a_contradiction_is_counted_once_and_the_next_window_begins_anew():
    told = Told()
    told.write(b"1", 1, 2)
    told.write(b"2", 3, None)
    told.read(b"2", 4, 5)
    told.read(b"1", 6, 7)
    told.verdict.check()
    told.verdict.check()
    told.look(b"2", 8, 9)
    told.read(b"2", 10, 11)
    told.verdict.check()

    assert told.score.contradictions == 1


def test_a_stale_local_read_is_measured_and_no_harm():
    told = Told()
    for number in range(1, 6):
        told.write(b"%d" % number, number, number + 0.5)
    age = told.read(b"2", 9, 9.1, "none")

    assert (age.behind, age.stale_ms) == (3, 5500)
    assert told.is_green
    assert (told.score.local_stale, told.score.worst_behind, told.score.worst_ms) == (1, 3, 5500)
    assert told.verdict.worst.kind == "stale"
    assert told.read(b"5", 9, 9.1, "none") is None
    assert told.read(b"4", 5.4, 5.6, "none") is None, "what was under way when it began excuses it"


def test_local_reads_of_long_ago_are_behind_by_what_is_held():
    told = Told()
    for number in range(BEHIND_MAX + 50):
        told.write(b"%d" % number, number, number + 0.5)
        told.look(b"%d" % number, number + 0.6, number + 0.7)

    assert told.read(b"3", 2000, 2001, "none").behind == BEHIND_MAX
    assert told.is_green


def test_a_write_of_unknown_outcome_may_show_up_in_any_later_window_but_only_once():
    told = Told()
    told.write(b"1", 1, 2)
    told.write(b"2", 3, 4, Outcome.UNKNOWN)
    told.look(b"1", 5, 6)
    told.write(b"3", 7, 8)
    told.look(b"3", 9, 10)
    told.read(b"2", 11, 12)
    assert told.is_green
    told.write(b"4", 13, 14)
    told.look(b"4", 15, 16)
    told.read(b"2", 17, 18)
    told.verdict.check()

    assert told.score.contradictions == 1


def test_a_write_of_unknown_outcome_that_a_look_found_is_no_stale_answer_for_who_reads_it():
    told = Told()
    told.write(b"1", 1, 2)
    told.write(b"2", 3, 4, Outcome.UNKNOWN)
    told.look(b"2", 5, 6)

    assert told.read(b"2", 7, 8, "none") is None
    assert told.read(b"1", 7, 8, "none").behind == 1
    assert told.is_green


def test_a_refused_write_that_is_read_is_red():
    told = Told()
    told.write(b"1", 1, 2)
    told.write(b"2", 3, 4, Outcome.FAILED)
    told.read(b"2", 5, 6)
    told.verdict.check()

    assert told.score.contradictions == 1
    assert "dirty read" in told.verdict.stories[-1].title


def test_what_the_leader_alone_acknowledged_binds_no_reader_and_its_loss_is_counted_apart():
    told = Told()
    told.write(b"1", 1, 2)
    told.write(b"2", 3, 4, note=WEAK)
    assert told.read(b"1", 5, 6) is None
    assert told.is_green
    told.look(b"1", 7, 8)

    assert (told.score.lost, told.score.weak_lost, told.score.contradictions) == (0, 1, 0)
    assert told.read(b"1", 9, 10) is None


def test_a_receipt_that_is_not_there_is_red_and_one_that_is_there_is_not():
    told = Told()
    key = KEY + b"/receipt"
    write = ObservedOperation(
        client=1, key=key, action=PutAction(b"paid"), invoked_ns=S, returned_ns=2 * S, outcome=Outcome.OK, node="n1"
    )
    told.verdict.audited(write, msgspec.structs.replace(found(b"paid", 3, 4), key=key))
    assert told.is_green
    told.verdict.audited(msgspec.structs.replace(write, note=WEAK), msgspec.structs.replace(found(None, 3, 4), key=key))
    assert (told.score.lost, told.score.weak_lost) == (0, 1)
    told.verdict.audited(write, msgspec.structs.replace(found(None, 3, 4), key=key))

    assert (told.score.lost, told.score.weak_lost) == (1, 1)
    assert "apples/receipt = paid" in told.verdict.stories[-1].lines[0]


@pytest.mark.parametrize("seed", range(12))
def test_one_copy_is_never_accused_and_one_that_forgets_always(seed):
    """Random clients of one true copy, windows closed now and then; then the same with one write taken back."""
    for forgets in (False, True):
        told, random = Told(), Random(seed)
        now, state = 1.0, None
        for number in range(300):
            now += 1
            if random.random() < 0.3:
                state = b"%d" % number
                told.write(state, now - 0.5, now + random.random() / 3)
            elif random.random() < 0.1:
                told.look(state, now, now + 0.3)
            else:
                told.read(state, now, now + 0.3)
            told.verdict.check()
        assert told.is_green
        if forgets:
            told.write(b"last", now + 1, now + 2)
            told.look(state, now + 3, now + 4)
            assert not told.is_green
            assert told.score.lost == 1
