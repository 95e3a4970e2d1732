"""Parts of the playground by themselves: buttons as faults, what is kept of a history, frames, and a cart."""

from random import Random

import pytest

from raftkv.core.config import QuorumSection
from raftkv.core.sights import View
from raftkv.instruments.lab.checker import Linearizable, check
from raftkv.instruments.lab.faults import Delay, Kill, LostDisk, Partition, Pause, blocked
from raftkv.instruments.lab.history import GetAction, History, ObservedOperation, Outcome, PutAction
from raftkv.instruments.lab.playground import retained
from raftkv.instruments.lab.playground.board import FRAMES_MAX, Board
from raftkv.instruments.lab.playground.faultdesk import FaultOrder, FaultOrderError, fault_of
from raftkv.instruments.lab.playground.manner import Manner

NODES = ["n1", "n2", "n3"]
KEY = b"playground/apples"


@pytest.mark.parametrize(
    ("kind", "places", "fault"),
    [
        ("kill", ("n1",), Kill(nodes=("n1",))),
        ("lose", ("n3",), LostDisk(nodes=("n3",))),
        ("pause", ("n2",), Pause(nodes=("n2",))),
        ("slow", ("n2",), Delay(nodes=("n2",), delay_s=0.3)),
        ("slow", ("n2", "n3"), Delay(nodes=("n2",), peers=("n3",), delay_s=0.3)),
        ("cut", ("n1",), Partition(groups=(("n1",), ("n2", "n3")))),
    ],
)
def test_a_button_is_a_fault_of_the_laboratory(kind, places, fault):
    assert fault_of(FaultOrder(kind=kind, places=places, on=True), NODES) == fault


def test_a_link_that_is_cut_leaves_the_others_as_they_are():
    cut = fault_of(FaultOrder(kind="cut", places=("n1", "n3"), on=True), NODES)

    assert blocked([cut], NODES) == {("n1", "n3"), ("n3", "n1")}


@pytest.mark.parametrize(
    ("kind", "places"), [("kill", ("n4",)), ("cut", ("n1", "n1")), ("pause", ("n1", "n2")), ("kill", ("n1", "n2"))]
)
def test_a_button_that_makes_no_sense_is_none(kind, places):
    with pytest.raises(FaultOrderError):
        fault_of(FaultOrder(kind=kind, places=places, on=True), NODES)


@pytest.mark.parametrize(
    ("n", "r", "w", "local", "fresh"),
    [
        (3, 2, 2, "r=1", "r=2"),
        (3, 1, 1, "r=1", "r=3"),
        (3, 2, 1, "r=2", "r=3"),
        (5, 1, 4, "r=1", "r=2"),
        (1, 1, 1, "r=1", "r=1"),
    ],
)
def test_reads_that_are_called_fresh_meet_every_write(n, r, w, local, fresh):
    manner = Manner.quorum(QuorumSection(n=n, r=r, w=w))

    assert (manner.local_query, manner.fresh_query, manner.look_query) == (local, fresh, f"r={n}")
    assert int(fresh.removeprefix("r=")) + w > n


def operation(action, at, **more):
    more = {"outcome": Outcome.OK, "returned_ns": at + 5} | more
    return ObservedOperation(client=1, key=KEY, action=action, invoked_ns=at, **more)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_kept_of_a_long_history_can_be_judged_as_if_nothing_had_been_before(seed, monkeypatch):
    monkeypatch.setattr(retained, "OPERATIONS_MAX", 120)
    kept, random, state = retained.Retained([KEY]), Random(seed), None
    for number in range(1000):
        at = number * 10
        if random.random() < 0.2:
            state = b"%d" % number
            is_told = random.random() < 0.8
            outcome, returned_ns = (Outcome.OK, at + 5) if is_told else (Outcome.UNKNOWN, None)
            kept.add(operation(PutAction(state), at, outcome=outcome, returned_ns=returned_ns))
        elif random.random() < 0.1:
            kept.close(KEY, operation(GetAction(), at, result=state))
        else:
            kept.add(operation(GetAction(), at, result=state))
    operations = kept.operations()

    assert kept.has_forgotten
    assert 60 < len(operations) < 240
    assert isinstance(check(History(operations)), Linearizable)


def test_a_page_that_comes_late_is_told_what_was_and_one_that_is_slow_misses_frames():
    board = Board({"mode": "raft"})
    lines = board.lines()
    assert b'"mode":"raft"' in next(lines)
    for number in range(FRAMES_MAX + 10):
        board.publish(View(), [], {"number": number}, [])
    assert b'"number":10}' in next(lines)
    board.end()
    assert len(list(lines)) == FRAMES_MAX - 1


def test_a_page_that_comes_is_told_of_faults_that_are_over():
    board = Board({})
    board.publish(View(), [], {}, [{"kind": "cut", "until_ms": 5}])

    assert b'"past_faults":[{"kind":"cut","until_ms":5}]' in next(board.lines())
