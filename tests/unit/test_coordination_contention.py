"""Plans of contenders over the real machine, step by step in any order, with everything that may go wrong in between.

Answers are lost, requests too, workers die between two steps, askers leave, leases end. What is checked is what the
agreed state says at every moment, not what anybody's clock does.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.coordination.contention import CONTENDERS_MAX, PAGE_KEYS, Attempt, Busy, Won, acquire, look, release
from raftkv.coordination.names import ELECTIONS, LOCKS, Queue, contender_of, in_order, names_among
from raftkv.coordination.steps import AwaitChange, Circumstances, Submit
from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.keys import SYSTEM
from raftkv.core.requests import ChangesAfter, Grant, KeepAlive, List, Put, Read, Revoke, Write
from raftkv.core.results import Answer
from raftkv.machine import reading
from raftkv.machine.conversion import command_of
from tests.unit.test_machine_history import Driver

NAME = Queue(LOCKS, b"a/name")
AWAY = Refused(code=Code.NO_LEADER, detail="no leader", retry_after_s=1.0)


class Store:
    """What plans ask, carried out at once; ``now_s`` is the one clock there is."""

    def __init__(self):
        self.driver = Driver()
        self.now_s = 100.0

    def pass_time(self, seconds):
        self.now_s += seconds
        self.driver.now_ms += round(seconds * 1000)
        self.driver.command()

    def carry_out(self, request):
        if isinstance(request, Read):
            content = reading.answer(self.driver.tables, request.query)
            revision = reading.revision(self.driver.tables)
            return Answer(content=content, consistency=request.consistency, revision=revision)
        (outcome,) = self.driver.command(command_of(request))
        return outcome

    def write(self, operation):
        return self.carry_out(Write(operations=(operation,))).results[0]

    def lease(self, ttl_ms=3_000):
        return self.write(Grant(ttl_ms=ttl_ms)).lease

    def contenders(self, queue=NAME):
        page = reading.answer(self.driver.tables, List(start=queue.start, end=queue.end, limit=10_000))
        return in_order(contender_of(queue.kind, record) for record in page.records)

    def has_changed(self, step):
        page = reading.answer(self.driver.tables, ChangesAfter(revision=step.after, start=SYSTEM))
        return any(change.key in step.keys for change in page.changes)


class Asker:
    """One plan on its way. ``result`` is what it came to, ``is_dead``: its worker died."""

    def __init__(self, store, make):
        self.store = store
        self.has_left = False
        self.is_dead = False
        self.result = None
        self._plan = make(Circumstances(lambda: store.now_s, lambda: self.has_left))
        self.step = None
        self._send(None)

    def _send(self, outcome):
        try:
            self.step = self._plan.send(outcome)
        except StopIteration as end:
            self.step, self.result = None, end.value

    @property
    def is_done(self):
        return self.step is None or self.is_dead

    def go_on(self):
        """Carry out the step; false where that is waiting, and nothing has come."""
        if isinstance(self.step, Submit):
            self._send(self.store.carry_out(self.step.request))
            return True
        is_due = self.has_left or self.store.now_s >= self.step.until_s or self.store.has_changed(self.step)
        if is_due:
            self._send(None)
        return is_due

    def run(self):
        while not self.is_done and self.go_on():
            pass
        return self.result

    def lose(self, *, applied):
        """The step's request, or its answer, is lost."""
        if isinstance(self.step, AwaitChange):
            return
        if applied:
            self.store.carry_out(self.step.request)
        self._send(AWAY if isinstance(self.step.request, Read) else Unknown(detail="lost"))

    def refuse(self):
        if isinstance(self.step, Submit):
            self._send(AWAY)


def wanting(store, queue=NAME, **more):
    chosen = {"wait_s": 0.0, "timeout_s": 2.0, "content": b"me", **more}
    return Asker(store, lambda circumstances: acquire(Attempt(queue=queue, **chosen), circumstances))


def releasing(store, token, queue=NAME):
    return Asker(store, lambda circumstances: release(queue, token, 2.0, circumstances))


# -- one after another ------------------------------------------------------------------------------------------------


def test_who_comes_first_holds_and_the_next_waits_for_it_alone():
    store = Store()
    first, second, third = [store.lease() for _ in range(3)]

    held = wanting(store, lease=first).run()
    waiting = wanting(store, lease=second, wait_s=1.0)
    waiting.run()
    behind = wanting(store, lease=third, wait_s=1.0)
    behind.run()

    assert held == Won(lease=first, token=store.contenders()[0].token)
    assert set(waiting.step.keys) == {NAME.key(1, first), NAME.key(1, second)}
    assert set(behind.step.keys) == {NAME.key(1, second), NAME.key(1, third)}

    assert isinstance(releasing(store, held.token).run(), int)
    assert not behind.go_on()
    assert waiting.run().token > held.token
    assert behind.run() is None


def test_a_repeated_attempt_with_the_same_lease_has_the_same_token():
    store = Store()
    lease = store.lease()
    held = wanting(store, lease=lease).run()

    assert wanting(store, lease=lease, content=b"again").run() == held
    assert len(store.contenders()) == 1


def test_a_repeated_attempt_with_the_same_idempotency_key_finds_its_own_lease():
    store = Store()

    first = wanting(store, ttl_ms=1_000, idempotency_key="k").run()
    assert wanting(store, ttl_ms=1_000, idempotency_key="k").run() == first

    releasing(store, first.token).run()
    late = wanting(store, ttl_ms=1_000, idempotency_key="k").run()
    assert late.code is Code.LEASE_NOT_FOUND
    assert store.contenders() == []


def test_whose_wait_is_over_hears_who_holds_and_leaves_nothing_behind():
    store = Store()
    holder = store.lease()
    wanting(store, lease=holder, content=b"holder").run()
    waiting = wanting(store, ttl_ms=1_000, wait_s=1.5)
    waiting.run()
    assert len(store.contenders()) == 2

    store.pass_time(0.4)
    waiting.run()
    store.pass_time(0.8)
    waiting.run()
    assert len(store.contenders()) == 2, "its lease is kept alive while it waits"
    store.pass_time(0.4)

    busy = waiting.run()
    assert isinstance(busy, Busy)
    assert [one.lease for one in busy.holders] == [holder]
    assert [one.lease for one in store.contenders()] == [holder]
    assert store.write(Revoke(lease=holder)).count == 1
    assert store.write(Revoke(lease=holder + 1)).code is Code.LEASE_NOT_FOUND


@pytest.mark.parametrize("code", [Code.FORBIDDEN, Code.UNAUTHENTICATED])
def test_whose_right_is_gone_is_told_at_once_that_its_place_could_not_be_taken_back(code):
    store = Store()
    wanting(store, lease=store.lease(), content=b"holder").run()
    waiting = wanting(store, ttl_ms=60_000, wait_s=1.0)
    waiting.run()
    store.pass_time(1.1)
    waiting._send(None)
    while isinstance(waiting.step.request, Read):
        waiting.go_on()

    waiting._send(Refused(code=code, detail="not any more"))
    assert isinstance(waiting.result, Unknown)
    assert len(store.contenders()) == 2


def test_who_does_not_wait_writes_nothing_where_it_is_held():
    store = Store()
    wanting(store, lease=store.lease()).run()
    revision = store.driver.machine.revision

    busy = wanting(store, ttl_ms=1_000).run()

    assert [one.note.content for one in busy.holders] == [b"me"]
    assert store.driver.machine.revision == revision
    assert store.write(Grant(ttl_ms=1)).lease == 2, "no lease was granted for it"


def test_who_has_left_is_taken_back_at_once_and_its_own_lease_ends():
    store = Store()
    holder = wanting(store, lease=store.lease()).run()
    waiting = wanting(store, ttl_ms=60_000, wait_s=100.0)
    waiting.run()

    waiting.has_left = True
    waiting.run()

    assert [one.token for one in store.contenders()] == [holder.token]


def test_who_left_as_it_was_granted_holds_nothing():
    store = Store()
    holder = wanting(store, lease=store.lease()).run()
    waiting = wanting(store, lease=store.lease(), wait_s=100.0)
    waiting.run()

    releasing(store, holder.token).run()
    waiting.has_left = True
    waiting.run()

    assert store.contenders() == []


def test_who_leaves_does_not_take_the_place_of_its_own_repetition():
    store = Store()
    holder = wanting(store, lease=store.lease()).run()
    lease = store.lease()
    first = wanting(store, lease=lease, wait_s=100.0)
    first.run()
    second = wanting(store, lease=lease, wait_s=100.0)
    second.run()

    first.has_left = True
    first.run()
    releasing(store, holder.token).run()

    assert second.run().lease == lease


def test_a_lease_that_ends_ends_the_waiting():
    store = Store()
    holder = store.lease(ttl_ms=100_000)
    wanting(store, lease=holder).run()
    waiting = wanting(store, lease=store.lease(ttl_ms=1_000), wait_s=100.0)
    waiting.run()

    store.pass_time(1.0)

    assert waiting.run().code is Code.LEASE_NOT_FOUND
    assert wanting(store, lease=77).run().code is Code.LEASE_NOT_FOUND


def test_a_place_that_was_given_up_is_not_taken_again():
    store = Store()
    wanting(store, lease=store.lease()).run()
    waiting = wanting(store, lease=store.lease(), wait_s=100.0)
    waiting.run()

    releasing(store, store.contenders()[1].token).run()

    assert isinstance(waiting.run(), Busy)
    assert len(store.contenders()) == 1


def test_only_the_grant_that_is_named_is_released_and_repeating_it_does_no_harm():
    store = Store()
    lease = store.lease()
    first = wanting(store, lease=lease).run()
    releasing(store, first.token).run()
    second = wanting(store, lease=lease).run()

    assert releasing(store, first.token).run().code is Code.NOT_FOUND
    assert [one.token for one in store.contenders()] == [second.token]


def test_a_release_that_is_overtaken_removes_nothing():
    store = Store()
    lease = store.lease()
    first = wanting(store, lease=lease).run()
    slow = releasing(store, first.token)
    slow.go_on()
    releasing(store, first.token).run()
    second = wanting(store, lease=lease).run()

    assert slow.run().code is Code.NOT_FOUND
    assert [one.token for one in store.contenders()] == [second.token]


def test_so_many_hold_at_once_as_there_are_permits_and_all_must_say_the_same():
    store = Store()
    leases = [store.lease() for _ in range(5)]
    askers = [wanting(store, lease=lease, permits=2, wait_s=100.0) for lease in leases]
    results = [asker.run() for asker in askers]

    assert [isinstance(one, Won) for one in results] == [True, True, False, False, False]
    refused = wanting(store, lease=store.lease(), permits=3).run()
    assert refused == Busy(detail="others contend for it with 2 permits, not with 3")

    releasing(store, results[0].token).run()
    assert isinstance(askers[2].run(), Won)
    releasing(store, results[1].token).run()
    assert isinstance(askers[3].run(), Won)


def test_one_too_many_is_turned_away_and_those_who_wait_do_not_mind():
    store = Store()
    queue = Queue(ELECTIONS, b"e")
    for place in range(CONTENDERS_MAX):
        lease = store.lease()
        store.write(Put(key=queue.key(1, lease), value=b"\x92\xc3\xc4\x00", lease=lease))
        store.driver.check = lambda: None
        assert place < PAGE_KEYS

    full = wanting(store, queue, ttl_ms=3_000, wait_s=5.0).run()

    assert full.code is Code.OVERLOADED
    assert len(store.contenders(queue)) == CONTENDERS_MAX
    found = Asker(store, lambda around: look(queue, 1.0, around)).run()
    assert len(found.contenders) == CONTENDERS_MAX


@pytest.mark.parametrize("steps_before", range(4))
@pytest.mark.parametrize("applied", [True, False])
def test_a_lost_answer_is_made_good_while_there_is_time(steps_before, applied):
    store = Store()
    asker = wanting(store, lease=store.lease(), wait_s=10.0)
    for _ in range(steps_before):
        if not asker.is_done:
            asker.go_on()
    if asker.is_done:
        return
    asker.lose(applied=applied)
    asker.run()
    store.pass_time(0.5)

    assert isinstance(asker.run(), Won)
    assert len(store.contenders()) == 1


def test_without_a_majority_it_is_refused_or_says_that_nobody_knows():
    store = Store()
    asker = wanting(store, lease=store.lease(), wait_s=1.0)
    for _ in range(3):
        asker.refuse()
        store.pass_time(0.4)
        asker._send(None)
    asker.refuse()
    assert asker.result == AWAY

    asker = wanting(store, lease=store.lease(), wait_s=0.0)
    asker.lose(applied=True)
    assert isinstance(asker.result, Unknown)


def test_keys_of_the_cluster_are_beyond_all_text_and_tell_their_names():
    key = NAME.key(1, 5)

    assert key > "\U0010ffff".encode() * 300
    assert key >= SYSTEM
    assert names_among([b"a", key, NAME.key(1, 6), Queue(ELECTIONS, b"e").key(1, 5)]) == ([b"a"], [b"a/name"], [b"e"])


# -- in any order -----------------------------------------------------------------------------------------------------


class World:
    """Several askers of one name; whoever was told that it holds is checked against the agreed state at every step."""

    def __init__(self, permits):
        self.store = Store()
        self.permits = permits
        self.askers = []
        self.told = {}
        self.greatest = 0

    def join(self, *, own, wait_s):
        lease = 0 if own else self.store.lease(3_000)
        more = {"ttl_ms": 3_000} if own else {"lease": lease}
        self.askers.append(wanting(self.store, permits=self.permits, wait_s=wait_s, **more))

    def check(self):
        standing = [one.token for one in self.store.contenders()]
        for asker in self.askers:
            if isinstance(asker.result, Won) and asker not in self.told:
                self.told[asker] = asker.result
                assert asker.result.token in standing[: self.permits], "it was told that it holds, and does not"
                if self.permits == 1:
                    assert asker.result.token > self.greatest
                self.greatest = max(self.greatest, asker.result.token)
        holding = [held for held in self.told.values() if held.token in standing]
        assert len(holding) <= self.permits
        for held in holding:
            assert held.token in standing[: self.permits]

    def settle(self):
        """Nothing fails any more, holders let go, and leases end unless who waits keeps them: all come to an end.

        A client's own lease has no part in when its plan looks again, so those are woken by changes alone.
        """
        for _ in range(100):
            running = [one for one in self.askers if not one.is_done]
            if not running:
                return
            moved = [one for one in running if one.go_on()]
            self.check()
            for held in list(self.told.values()):
                releasing(self.store, held.token).run()
            if moved:
                continue
            for one in running:
                if isinstance(one.step, AwaitChange) and one.step.keys:
                    self.store.carry_out(KeepAlive(leases=(int(one.step.keys[-1][-16:], 16),)))
            self.store.pass_time(1.5)
        pytest.fail("somebody waits for ever")


ACTIONS = ("go", "go", "go", "go", "go", "lose it", "lose the answer", "refuse", "die", "leave", "release", "time")


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 3))
def test_whatever_happens_no_more_hold_than_may_and_nobody_waits_for_ever(data, permits):
    world = World(permits)
    for _ in range(data.draw(st.integers(2, 5))):
        world.join(own=data.draw(st.booleans()), wait_s=data.draw(st.sampled_from([0.0, 3.0, 1e9])))
    for _ in range(data.draw(st.integers(0, 60))):
        action = data.draw(st.sampled_from(ACTIONS))
        asker = data.draw(st.sampled_from(world.askers))
        if action == "time":
            world.store.pass_time(data.draw(st.sampled_from([0.2, 1.0, 3.0])))
        elif action == "release" and world.told:
            releasing(world.store, data.draw(st.sampled_from(list(world.told.values()))).token).run()
        elif asker.is_done:
            continue
        elif action == "die":
            asker.is_dead = True
        elif action == "leave":
            asker.has_left = True
        elif action.startswith("lose"):
            asker.lose(applied=action == "lose the answer")
        elif action == "refuse":
            asker.refuse()
        else:
            asker.go_on()
        world.check()
    world.settle()
