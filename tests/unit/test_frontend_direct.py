"""The front-end's replicator within the replica's process: what a border between processes did before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from raftkv.core.errors import Code, DefiniteError, Refused
from raftkv.core.replicator import Pending, Shown
from raftkv.core.requests import Consistency, Get, Put, Read, Write
from raftkv.core.results import Answer, KeyRecord, Missing, Outcome
from raftkv.core.rights import Rights
from raftkv.frontend.direct import DirectReplicator
from raftkv.frontend.server import BEHIND, SLOW_BYTES
from tests.contract.solo import SoloReplicator

PUT = Write(operations=(Put(key=b"k", value=b"v"),))
GET = Read(query=Get(key=b"k"))


class Granting(SoloReplicator):
    granted = Rights()

    @property
    def current_rights(self) -> Rights:
        return self.granted


class Trial:
    """A solo replicator that works only when it is told to, and the replicator in front of it, on the running loop."""

    def __init__(self, *, max_pending: int = 10) -> None:
        self.solo = Granting()
        self.woken_count = 0
        self.failures: list[BaseException] = []
        self.direct = DirectReplicator(self.solo, wake=self._wake, fail=self.failures.append, max_pending=max_pending)

    def _wake(self) -> None:
        self.woken_count += 1

    async def started(self) -> Trial:
        await self.direct.start()
        return self


def run(trial: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(trial())


def test_an_outcome_is_given_after_the_turn_that_it_came_due_in():
    async def trial() -> None:
        it = await Trial().started()
        pending = it.direct.submit(PUT, 1e9)
        given: list[Outcome] = []
        pending.when_done(given.append)
        it.solo.work(0.0)
        within = list(given)
        await asyncio.sleep(0)

        assert it.woken_count == 1
        assert within == []
        assert len(given) == 1

    run(trial)


def test_what_is_known_at_once_is_given_at_once_and_wakes_nobody():
    async def trial() -> None:
        it = await Trial().started()
        it.solo.offers = (Consistency.LOCAL,)
        pending = it.direct.submit(GET, 1e9)

        assert isinstance(pending.outcome, Refused)
        assert it.woken_count == 0

    run(trial)


def test_more_than_may_wait_is_refused_until_something_has_its_outcome():
    async def trial() -> None:
        it = await Trial(max_pending=2).started()
        first, second, third = (it.direct.submit(PUT, 1e9) for _ in range(3))
        refused = third.outcome
        it.solo.work(0.0)
        await asyncio.sleep(0)
        fourth = it.direct.submit(PUT, 1e9)

        assert isinstance(refused, Refused)
        assert refused.code is Code.OVERLOADED
        assert first.outcome is not None
        assert second.outcome is not None
        assert fourth.outcome is None

    run(trial)


def test_a_replicator_that_raises_ends_the_node_and_is_asked_nothing_more():
    async def trial() -> None:
        it = await Trial().started()
        broken = AssertionError("an invariant")

        def submit(*_: object) -> Pending:
            raise broken

        it.solo.submit = submit  # type: ignore[method-assign]
        doubtful = it.direct.submit(PUT, 1e9)
        later = it.direct.submit(PUT, 1e9)

        assert it.failures == [broken]
        assert doubtful.outcome is None  # nothing is said of a write that may have been taken up
        assert isinstance(later.outcome, Refused)
        assert it.direct.pulse is None
        with pytest.raises(DefiniteError):
            it.direct.status()

    run(trial)


def test_large_answers_of_one_turn_are_bounded_and_small_ones_always_given():
    async def trial() -> None:
        it = await Trial().started()
        large = KeyRecord(
            key=b"k", value=bytes(SLOW_BYTES // 2), version=1, create_revision=1, mod_revision=1, expires_at_ms=None
        )
        asked = [Pending() for _ in range(4)]
        waiting = iter(asked)
        it.solo.submit = lambda *_: next(waiting)  # type: ignore[method-assign]
        given = [it.direct.submit(GET, 1e9) for _ in asked]
        for pending, content in zip(asked, [large, large, large, Missing(key=b"k")], strict=True):
            pending.resolve(Answer(content=content, consistency=Consistency.LINEARIZABLE, revision=1))
        await asyncio.sleep(0)

        assert isinstance(given[0].outcome, Answer)
        assert given[1].outcome == given[2].outcome == BEHIND
        assert isinstance(given[3].outcome, Answer)

    run(trial)


def test_rights_are_known_before_any_outcome_that_rests_on_them():
    async def trial() -> None:
        it = await Trial().started()
        newer = Rights(enabled=True)
        seen: list[Rights | None] = []
        it.direct.submit(PUT, 1e9).when_done(lambda _: seen.append(it.direct.rights.current))
        it.solo.work(0.0)
        it.solo.granted = newer
        await asyncio.sleep(0)

        assert seen == [newer]

    run(trial)


def test_who_listens_is_told_after_the_turn_and_only_the_newest():
    async def trial() -> None:
        it = await Trial().started()
        heard: list[Shown | None] = []
        subscription = it.direct.subscribe(heard.append)
        for _ in range(3):
            it.direct.submit(PUT, 1e9)
        it.solo.work(0.0)
        within = list(heard)
        await asyncio.sleep(0)
        revision = it.direct.status().revision
        subscription.end()

        assert within == []
        assert [shown.revision for shown in heard if shown is not None] == [3]
        assert revision == 3
        assert len(it.solo.subscribers) == 0

    run(trial)


def test_who_stops_gives_what_is_settled():
    async def trial() -> None:
        it = await Trial().started()
        pending = it.direct.submit(PUT, 1e9)
        it.solo.work(0.0)
        await it.direct.stop()

        assert pending.outcome is not None

    run(trial)
