"""Who waits for a key is woken by its change, and nobody else; in doubt everybody is."""

from __future__ import annotations

import pytest

from raftkv.coordination.wakes import Wakes
from raftkv.core.errors import Code, Refused
from raftkv.core.replicator import Pending
from raftkv.core.requests import SYSTEM, ChangesAfter, Compact, Delete, Put, Read, Write
from tests.contract.solo import SoloReplicator

A, B = SYSTEM + b"a", SYSTEM + b"b"


class Worker:
    """A replicator, what is to be done soon, and who was woken."""

    def __init__(self):
        self.solo = SoloReplicator()
        self.fails = False
        self.reads = 0
        self._soon = []
        self.woken = []
        self.wakes = Wakes(self, soon=self._soon.append, monotonic_s=lambda: 0.0)

    def submit(self, request, deadline_s):
        assert isinstance(request, Read)
        assert isinstance(request.query, ChangesAfter)
        self.reads += 1
        if self.fails:
            pending = Pending()
            pending.resolve(Refused(code=Code.NO_LEADER, detail="away"))
            return pending
        return self.solo.submit(request, deadline_s)

    def subscribe(self, hear):
        return self.solo.subscribe(hear)

    def write(self, *operations):
        self.solo.submit(Write(operations=operations), 1.0)
        self.solo.work(0.0)

    def put(self, key):
        self.write(Put(key=key, value=b"v"))

    def wait(self, name, *keys, after=None):
        after = self.solo.machine.revision if after is None else after
        return self.wakes.wait(keys, after, lambda: self.woken.append(name))

    def turn(self):
        while self._soon:
            soon, self._soon[:] = self._soon[:], []
            for call in soon:
                call()
            self.solo.work(0.0)


@pytest.fixture
def worker():
    return Worker()


def test_only_who_waits_for_the_key_is_woken_and_once(worker):
    worker.wait("a", A)
    worker.wait("b", B)
    worker.wait("both", A, B)
    worker.turn()

    worker.put(A)
    worker.put(A)
    worker.put(b"client's")
    worker.turn()

    assert worker.woken == ["a", "both"]
    assert len(worker.wakes) == 1


def test_what_changed_before_it_began_to_wait_is_not_missed(worker):
    worker.put(A)
    revision = worker.solo.machine.revision
    worker.write(Delete(key=A))

    worker.wait("late", A, after=revision)
    worker.wait("level", A)
    assert worker.woken == [], "never from within"
    worker.turn()

    assert worker.woken == ["late"]


def test_who_comes_while_others_are_read_for_hears_of_what_was_before(worker):
    worker.put(B)
    before = worker.solo.machine.revision
    worker.put(A)
    worker.wait("b", B)
    worker.put(b"client's")
    for call in list(worker._soon):
        call()
    assert worker.reads == 1

    worker.wait("a", A, after=before)
    worker.turn()

    assert worker.woken == ["a"]


def test_nothing_is_read_and_nobody_listens_while_nobody_waits(worker):
    wake = worker.wait("a", A)
    worker.turn()
    wake.end()
    wake.end()

    assert len(worker.solo.subscribers) == 0
    worker.put(A)
    worker.turn()
    assert (worker.woken, worker.reads) == ([], 0)


def test_changes_are_read_once_for_all(worker):
    for name in range(50):
        worker.wait(name, A, B)
    worker.turn()
    worker.put(A)
    worker.turn()

    assert len(worker.woken) == 50
    assert worker.reads == 1


@pytest.mark.parametrize("how", ["the replica is away", "a read fails", "the history is gone"])
def test_in_doubt_everybody_is_woken(worker, how):
    worker.put(A)
    worker.put(A)
    worker.wait("a", A, after=1 if how == "the history is gone" else None)
    worker.wait("b", B)
    if how == "the replica is away":
        worker.turn()
        worker.solo.subscribers.tell(None)
    elif how == "a read fails":
        worker.fails = True
        worker.put(b"client's")
    else:
        worker.solo.submit(Compact(revision=2), 1.0)
        worker.solo.work(0.0)
    worker.turn()

    assert sorted(worker.woken) == ["a", "b"]
