"""Verdicts over whole histories: honest runs pass, and every kind of lie among thousands of operations is caught."""

from random import Random

import pytest

from raftkv.instruments.lab.checker import GaveUp, Linearizable, NotLinearizable, check
from raftkv.instruments.lab.flaw import FlawKind
from raftkv.instruments.lab.history import (
    CompareAndSet,
    DeleteAction,
    GetAction,
    History,
    ObservedOperation,
    Outcome,
    PutAction,
)

from .lab_oracle import performed

KEY = b"k0"


class Store:
    """A single copy that eight clients use at the same time, and what they were told by it."""

    def __init__(self, seed, unknown_share=0.05):
        self.random = Random(seed)
        self.unknown_share = unknown_share
        self.state = {}
        self.operations = []
        self.now = 0
        self.value_count = 0

    def run(self, rounds):
        """Each round is eight operations at the same time, on three keys."""
        for _ in range(rounds):
            start = self.now
            for client in self.random.sample(range(8), k=8):
                self.now += 10
                key = b"k%d" % self.random.randrange(3)
                action = self._action(key)
                # A lost delete could come at any later time, and would excuse a lost write.
                unknown = self.random.random() < self.unknown_share and not isinstance(action, DeleteAction)
                self._perform(client, key, action, start + self.random.randrange(10), unknown=unknown)
            self.now += self.random.randrange(200)

    def _action(self, key):
        self.value_count += 1
        value = b"v%d" % self.value_count
        kinds = [GetAction(), GetAction(), PutAction(value), DeleteAction(), CompareAndSet(self.state.get(key), value)]
        return self.random.choice(kinds)

    def _perform(self, client, key, action, invoked, *, unknown):
        result = None
        if not unknown or self.random.random() < 0.5:
            result, self.state[key] = performed(action, self.state.get(key))
        self.tell(client, action, invoked, None if unknown else self.now + self.random.randrange(100), result, key=key)

    def tell(self, client, action, invoked, returned, result=None, *, key=KEY, outcome=Outcome.OK):
        self.operations.append(
            ObservedOperation(
                client=client,
                key=key,
                action=action,
                invoked_ns=invoked,
                returned_ns=returned,
                outcome=Outcome.UNKNOWN if returned is None else outcome,
                result=None if returned is None else result,
            )
        )


def step(action, invoked, returned, result=None, outcome=Outcome.OK):
    return action, invoked, returned, result, outcome


def stale_read(answer):
    return [
        step(PutAction(b"old"), 0, 10),
        step(PutAction(b"new"), 20, 30),
        step(GetAction(), 40, 50, answer(b"old", b"new")),
    ]


def lost_write(answer):
    return [
        step(DeleteAction(), 0, 10),
        step(PutAction(b"new"), 20, 30),
        step(GetAction(), 40, 50, answer(None, b"new")),
    ]


def dirty_read(answer):
    refused = step(PutAction(b"new"), 20, 30, outcome=Outcome.FAILED)
    return [step(PutAction(b"old"), 0, 10), refused, step(GetAction(), 40, 50, answer(b"new", b"old"))]


def resurrected_delete(answer):
    return [
        step(PutAction(b"old"), 0, 10),
        step(DeleteAction(), 20, 30),
        step(GetAction(), 40, 50, answer(b"old", None)),
    ]


def non_monotonic_read(answer):
    writes = [step(PutAction(b"old"), 0, 10), step(PutAction(b"new"), 20, None)]
    return [*writes, step(GetAction(), 40, 50, b"new"), step(GetAction(), 60, 70, answer(b"old", b"new"))]


def double_applied_retry(answer):
    writes = [step(PutAction(b"old"), 0, 100), step(PutAction(b"new"), 30, 100)]
    reads = [step(GetAction(), 10, 20, b"old"), step(GetAction(), 50, 60, b"new")]
    return [*writes, *reads, step(GetAction(), 70, 80, answer(b"old", b"new"))]


LIES = {
    stale_read: FlawKind.STALE_READ,
    lost_write: FlawKind.LOST_WRITE,
    dirty_read: FlawKind.DIRTY_READ,
    resurrected_delete: FlawKind.RESURRECTED,
    non_monotonic_read: FlawKind.BACKWARDS,
    double_applied_retry: FlawKind.REAPPEARED,
}


def run_with(scene, answer, seed):
    """Much honest traffic, the scene on a key that is at rest for that long, and more honest traffic."""
    store = Store(seed)
    store.run(rounds=60)
    start = store.now + 1000
    for client, (action, invoked, returned, result, outcome) in enumerate(scene(answer), start=100):
        store.tell(client, action, start + invoked, returned and start + returned, result, outcome=outcome)
    store.state[KEY] = None
    store.tell(200, DeleteAction(), start + 1000, start + 1010)
    store.now = start + 2000
    store.run(rounds=60)
    return History(store.operations)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_lie_among_honest_answers_is_caught_and_named(lie, seed):
    verdict = check(run_with(lie, lambda lying, _honest: lying, seed))

    assert isinstance(verdict, NotLinearizable)
    assert (verdict.key, verdict.witness.kind) == (KEY, LIES[lie])
    assert {operation.client for operation in verdict.witness.operations} <= set(range(100, 201))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_the_same_run_without_the_lie_is_linearizable(lie, seed):
    assert isinstance(check(run_with(lie, lambda _lying, honest: honest, seed)), Linearizable)


def test_an_empty_history_is_linearizable():
    assert check(History([])) == Linearizable(steps=0)


def test_when_the_steps_do_not_suffice_the_checker_says_for_which_keys():
    store = Store(seed=1)
    store.run(rounds=30)

    verdict = check(History(store.operations), steps_per_key_max=10)

    assert verdict == GaveUp(undecided=tuple(History(store.operations).by_key()), steps=verdict.steps)
    assert 0 < verdict.steps < 100


def test_a_contradiction_on_one_key_counts_although_another_key_is_undecided():
    store = Store(seed=1)
    store.run(rounds=30)
    store.tell(9, GetAction(), store.now + 1000, store.now + 1001, b"nobody's", key=b"last")

    verdict = check(History(store.operations), steps_per_key_max=10)

    assert isinstance(verdict, NotLinearizable)
    assert verdict.key == b"last"


def test_a_contradiction_without_a_name_is_found_where_the_whole_search_would_take_too_long():
    store = Store(seed=3, unknown_share=0)
    store.run(rounds=100)
    start = store.now + 1000
    store.tell(100, PutAction(b"new"), start, start + 10)
    store.tell(101, CompareAndSet(b"new", b"newer"), start + 20, start + 30, result=False)

    verdict = check(History(store.operations), steps_per_key_max=100)

    assert isinstance(verdict, NotLinearizable)
    assert verdict.witness.kind is FlawKind.OTHER
    assert [operation.client for operation in verdict.witness.operations] == [100, 101]
