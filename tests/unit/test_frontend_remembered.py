"""Answers that a front-end gives again: they are always what the replica would say, and what is kept is bounded."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from raftkv.core.errors import Code, Refused
from raftkv.core.replicator import Pending
from raftkv.core.requests import Consistency, Delete, Get, List, Placing, Put, Read, StoreHere, Write
from raftkv.core.results import Answer, Missing, StampedAnswer, StampedRecord
from raftkv.core.rights import Caller, Rights
from raftkv.frontend import remembered
from raftkv.frontend.remembered import RememberedAnswers
from raftkv.frontend.remote import RemoteReplicator
from raftkv.frontend.server import FrontendServer
from raftkv.storage.change_counts import ChangeCounts
from tests.contract.quorum import QuorumSubject
from tests.unit.linked import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memfd_create(2)")


class Leaderless:
    """Three replicas, and two front-end workers of the second."""

    def __init__(self, folder: Path, counts: ChangeCounts, **changes: Any) -> None:
        self.cluster = QuorumSubject(1000, counts=counts, **changes)
        self.replica = self.cluster.replicas["n2"]
        self.asked: list[Any] = []
        submit = self.replica.submit

        def counted(request: Any, deadline_s: float) -> Pending:
            self.asked.append(request)
            return submit(request, deadline_s)

        self.replica.submit = counted  # type: ignore[method-assign]
        self.server = FrontendServer(self.replica, path=str(folder / "socket"), wake=lambda: None, max_pending=1000)
        self.workers = [
            RemoteReplicator(str(folder / "socket"), open_state=self._none, max_pending=1000) for _ in range(2)
        ]

    def _none(self, path: str) -> Any:
        raise AssertionError(path)

    async def work(self) -> None:
        while True:
            self.cluster.turn()
            self.server.push(self.replica.status())
            await asyncio.sleep(0)

    async def ask(self, request: Any, worker: int = 0) -> Any:
        pending = self.workers[worker].submit(request, time.monotonic() + 5)
        await until(lambda: pending.outcome)
        return pending.outcome

    def own(self, key: bytes) -> Any:
        """What the replica says itself, at this moment."""
        return self.replica.parts.local.read(local(key))


def local(key: bytes, **more: Any) -> Read:
    return Read(query=Get(key=key), consistency=Consistency.LOCAL, **more)


def put(key: bytes, value: bytes, ttl_ms: int = 0) -> Write:
    return Write(operations=(Put(key=key, value=value, ttl_ms=ttl_ms),))


def run(
    folder: Path, scenario: Callable[[Leaderless], Awaitable[None]], counts: ChangeCounts | None = None, **changes: Any
) -> None:
    async def main() -> None:
        link = Leaderless(folder, counts or ChangeCounts(), **changes)
        await link.server.start()
        work = asyncio.create_task(link.work())
        for worker in link.workers:
            await worker.start()
        try:
            await scenario(link)
        finally:
            for worker in link.workers:
                worker.close()
            work.cancel()
            await link.server.stop()
            link.cluster.stop()

    asyncio.run(main())


def test_what_was_answered_is_answered_again_without_the_replica_until_the_key_changes(tmp_path: Path) -> None:
    async def scenario(link: Leaderless) -> None:
        await link.ask(put(b"a", b"1"))
        first = await link.ask(local(b"a"))
        link.asked.clear()
        again = [await link.ask(local(b"a")) for _ in range(10)]

        assert first.content.value == b"1"
        assert again == [first] * 10
        assert not link.asked

        await link.ask(put(b"a", b"2"), worker=1)
        assert (await link.ask(local(b"a"))).content.value == b"2"
        await link.ask(Write(operations=(Delete(key=b"a"),)))
        assert isinstance((await link.ask(local(b"a"))).content, Missing)

    run(tmp_path, scenario)


class Deaf(ChangeCounts):
    """Counts nothing: a fault that the test below must find."""

    def changed(self, keys: Any) -> None:
        pass


async def _differ(link: Leaderless, steps: int) -> int:
    """How many of the reads that are answered at once, between writes of all kinds, are not what the replica says."""
    chance, keys, given, differing = random.Random(7), [b"k%d" % number for number in range(4)], 0, 0
    for step in range(steps):
        key, worker = chance.choice(keys), chance.randrange(2)
        match chance.randrange(8):
            case 0:
                await link.ask(put(key, b"%d" % step), worker)
            case 1:
                await link.ask(Write(operations=(Put(key=key, value=b"x"), Delete(key=chance.choice(keys)))), worker)
            case 2:
                await link.ask(put(key, b"short", ttl_ms=20), worker)
            case 3:
                await link.ask(StoreHere(key=key, value=b"%d" % step), worker)
            case 4:  # by another node, whose word comes when it comes
                link.cluster.replicas["n1"].submit(put(key, b"n1:%d" % step), time.monotonic() + 5)
            case _:
                pass
        await link.ask(local(key), worker)
        again = link.workers[worker].submit(local(key), time.monotonic() + 5)
        if again.outcome is not None:  # at once: nothing can have come between
            given += 1
            differing += again.outcome != link.own(key)
    assert given > steps // 4
    return differing


def test_answers_are_the_replicas_own_whatever_is_written_and_where(tmp_path: Path) -> None:
    async def scenario(link: Leaderless) -> None:
        assert await _differ(link, 250) == 0

    run(tmp_path, scenario)


def test_a_replica_that_counts_nothing_would_be_found_out(tmp_path: Path) -> None:
    async def scenario(link: Leaderless) -> None:
        assert await _differ(link, 250) > 10

    run(tmp_path, scenario, Deaf())


@pytest.mark.parametrize(
    "read",
    [
        Read(query=Get(key=b"a")),
        Read(query=Get(key=b"a"), consistency=Consistency.EVENTUAL),
        local(b"a", r=1),
        local(b"a", placing=Placing(n=1)),
        Read(query=Get(key=b"a", revision=1), consistency=Consistency.LOCAL),
        Read(query=List(start=b"a", end=b"b", limit=10), consistency=Consistency.LOCAL),
    ],
)
def test_no_other_read_is_answered_from_memory(tmp_path: Path, read: Read) -> None:
    async def scenario(link: Leaderless) -> None:
        await link.ask(put(b"a", b"1"))
        await link.ask(local(b"a"))
        link.asked.clear()
        for _ in range(3):
            pending = link.workers[0].submit(read, time.monotonic() + 5)
            await until(lambda pending=pending: pending.outcome)

        is_offered = read.consistency is not Consistency.LINEARIZABLE
        assert len(link.asked) == 3 * is_offered

    run(tmp_path, scenario)


def test_what_time_or_a_concurrent_write_may_change_is_asked_each_time(tmp_path: Path) -> None:
    async def scenario(link: Leaderless) -> None:
        await link.ask(put(b"mortal", b"1", ttl_ms=60_000))
        await link.ask(put(b"large", b"v" * (remembered.LARGE_BYTES + 1)))
        for key in (b"mortal", b"large", b"missing"):
            for _ in range(3):
                link.asked.clear()
                await link.ask(local(key))

                assert len(link.asked) == 1

    run(tmp_path, scenario)


def test_siblings_are_asked_for_each_time(tmp_path: Path) -> None:
    async def scenario(link: Leaderless) -> None:
        await link.ask(put(b"a", b"1"))
        for _ in range(3):
            link.asked.clear()
            assert (await link.ask(local(b"a"))).content.value == b"1"

            assert len(link.asked) == 1

    run(tmp_path, scenario, conflicts="siblings")


def test_who_has_no_right_is_refused_what_others_were_told(tmp_path: Path) -> None:
    async def scenario(link: Leaderless) -> None:
        await link.ask(put(b"a", b"1"))
        await link.ask(local(b"a"))
        link.workers[0].rights.learn(Rights(enabled=True))
        refused = await link.ask(local(b"a", caller=Caller("nobody", 1)))

        assert isinstance(refused, Refused)
        assert refused.code is Code.FORBIDDEN
        assert isinstance(await link.ask(local(b"a")), Answer)  # the front-end's own

    run(tmp_path, scenario)


def test_nothing_is_remembered_of_a_replica_that_is_gone(tmp_path: Path) -> None:
    async def scenario(link: Leaderless) -> None:
        await link.ask(put(b"a", b"1"))
        await link.ask(local(b"a"))
        await link.server.stop()
        await until(lambda: link.workers[0].pulse is None)

        assert isinstance(await link.ask(local(b"a")), Refused)

    run(tmp_path, scenario)


def answer(key: bytes, value: bytes) -> StampedAnswer:
    record = StampedRecord(
        key=key, value=value, version=1, create_revision=1, mod_revision=1, expires_at_ms=0, node="n1"
    )
    return StampedAnswer(
        content=record, consistency=Consistency.LOCAL, revision=1, replicas=("n1",), node="n1", context=b""
    )


def test_what_is_remembered_is_bounded_in_bytes_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "REMEMBERED_BYTES", 100_000)
    counts, answers = ChangeCounts(), RememberedAnswers()
    answers.open(counts.path)
    keys = [b"%d" % number for number in range(1000)]
    for _ in range(3):
        for key in keys:
            answers.remember(0, answer(key, b"v" * 1000))
    found = [key for key in keys if answers.find(local(key)) is not None]

    assert found == keys[-len(found) :]
    assert 50 < len(found) < 100

    answers.close()

    assert answers.find(local(keys[-1])) is None
    counts.close()
