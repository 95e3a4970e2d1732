"""Reads over the front-end's link: whose barrier they share, and what is read without the replica."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from raftkv.core.errors import Code, Refused, StartupError
from raftkv.core.replicator import Pending
from raftkv.core.requests import Barrier, Consistency, Get, Query, Read
from raftkv.core.results import Answer, Missing, Ready, Written
from raftkv.core.rights import Caller
from tests.contract.remote import Replica, SharedTables
from tests.unit.linked import LOCAL, READ, WRITE, Link, run, until


def test_readers_share_the_next_barrier_and_never_one_already_sent(tmp_path: Path) -> None:
    async def scenario(link: Link) -> None:
        link.solo.held = True
        first = [link.ask(READ) for _ in range(30)]
        await until(lambda: link.barriers == 1)
        second = [link.ask(READ) for _ in range(30)]
        await until(lambda: link.barriers == 2)
        third = [link.ask(READ) for _ in range(30)]
        await asyncio.sleep(0.02)
        assert link.barriers == 2  # two are under way, the third round waits
        link.solo.held = False
        await until(lambda: all(pending.outcome for pending in third))

        assert link.barriers == 3
        assert all(isinstance(pending.outcome, Answer) for pending in first + second + third)
        assert not any(isinstance(request, Read) for request in link.solo.submitted)

    run(tmp_path, scenario, shared=True)


def test_a_reader_that_comes_after_a_write_sees_it_although_a_barrier_is_under_way(tmp_path: Path) -> None:
    """The barrier under way was passed before the write: whoever joined it would read the past."""

    async def scenario(link: Link) -> None:
        passed: list[Pending] = []
        original = link.solo.submit

        def submit(request: Any, deadline_s: float) -> Pending:
            if isinstance(request, Barrier) and not passed:
                pending = Pending()  # this round's answer is on its way, slowly
                passed.append(pending)
                return pending
            return original(request, deadline_s)

        link.solo.submit = submit  # type: ignore[method-assign]
        early = link.ask(READ)
        await until(lambda: passed)
        written = link.ask(WRITE)
        await until(lambda: written.outcome)
        late = link.ask(READ)
        await until(lambda: late.outcome)

        assert early.outcome is None
        assert isinstance(late.outcome, Answer)
        assert not isinstance(late.outcome.content, Missing)
        passed[0].resolve(Ready(applied_index=0))
        await until(lambda: early.outcome)

    run(tmp_path, scenario, shared=True)


def test_levels_do_not_share_their_barriers(tmp_path: Path) -> None:
    async def scenario(link: Link) -> None:
        pendings = [link.ask(READ), link.ask(Read(query=Get(key=b"a"), consistency=Consistency.LEASE))]
        await until(lambda: all(pending.outcome for pending in pendings))

        sent = [request.consistency for request in link.solo.submitted if isinstance(request, Barrier)]
        assert sorted(sent) == [Consistency.LEASE, Consistency.LINEARIZABLE]

    run(tmp_path, scenario, shared=True)


def test_a_local_read_asks_nobody(tmp_path: Path) -> None:
    async def scenario(link: Link) -> None:
        pending = link.ask(LOCAL)

        assert isinstance(pending.outcome, Answer)
        assert pending.outcome.consistency is Consistency.LOCAL
        assert link.solo.submitted == []

    run(tmp_path, scenario, shared=True)


def test_a_local_read_is_as_old_as_was_known_before_it_was_read(tmp_path: Path) -> None:
    async def scenario(link: Link) -> None:
        link.solo.level_at_s = 5.0
        link.replica.server.push(link.solo.status())
        await until(lambda: link.remote.status().level_at_s == 5.0)
        pending = link.ask(LOCAL)
        link.solo.level_at_s = 6.0
        link.replica.server.push(link.solo.status())
        await until(lambda: link.remote.status().level_at_s == 6.0)
        later = link.ask(LOCAL)

        assert isinstance(pending.outcome, Answer)
        assert pending.outcome.level_at_s == 5.0
        assert isinstance(later.outcome, Answer)
        assert later.outcome.level_at_s == 6.0

    run(tmp_path, scenario, shared=True)


def test_local_reads_go_on_without_the_replica(tmp_path: Path) -> None:
    async def scenario(link: Link) -> None:
        await link.replica.stop()
        await until(lambda: link.remote.pulse is None)

        assert isinstance(link.ask(LOCAL).outcome, Answer)
        assert link.remote.last_pulse is not None
        assert link.ask(READ).outcome == link.ask(WRITE).outcome
        await link.replica.start()

    run(tmp_path, scenario, shared=True)


def test_a_failed_barrier_fails_its_readers(tmp_path: Path) -> None:
    async def scenario(link: Link) -> None:
        link.solo._carry_out = lambda request: Refused(code=Code.NO_LEADER, detail="none")  # type: ignore[method-assign]
        pending = link.ask(READ)
        await until(lambda: pending.outcome)

        assert pending.outcome == Refused(code=Code.NO_LEADER, detail="none")

    run(tmp_path, scenario, shared=True)


def test_a_new_place_of_the_state_is_known_before_any_outcome_that_rests_on_it(tmp_path: Path) -> None:
    """After a snapshot was installed, the old state ends before what the barrier promises."""

    async def scenario(link: Link) -> None:
        carry_out = link.solo._carry_out

        def install_then_answer(request: Any) -> Any:
            link.solo.state_path = "two"
            return carry_out(request)

        link.solo._carry_out = install_then_answer  # type: ignore[method-assign]
        pending = link.ask(READ)
        opened_at_answer: list[str] = []
        pending.when_done(lambda _: opened_at_answer.append(link.opened[-1][0]))
        await until(lambda: pending.outcome)

        assert opened_at_answer == ["two"]
        assert [path for path, _ in link.opened] == ["one", "two"]
        assert [state.closed for _, state in link.opened] == [True, False]

    run(tmp_path, scenario, shared=True)


def test_a_state_that_cannot_be_read_is_read_by_the_replica(tmp_path: Path) -> None:
    class Broken(SharedTables):
        def read(self, query: Query, caller: Caller | None) -> Any:
            raise StartupError("the map is gone")

    async def scenario(link: Link) -> None:
        link.remote._reads._state = Broken(link.solo)
        local = link.ask(LOCAL)
        await until(lambda: local.outcome)
        link.remote._reads._state = Broken(link.solo)
        linearizable = link.ask(READ)
        await until(lambda: linearizable.outcome)

        assert isinstance(local.outcome, Answer)
        assert isinstance(linearizable.outcome, Answer)
        assert sum(isinstance(request, Read) for request in link.solo.submitted) == 2

    run(tmp_path, scenario, shared=True)


def test_a_replica_that_starts_anew_has_its_state_opened_anew(tmp_path: Path) -> None:
    async def scenario(link: Link) -> None:
        await link.replica.stop()
        await until(lambda: link.remote.pulse is None)
        link.replica = Replica(link.path, link.solo)
        await link.replica.start()
        await until(lambda: link.remote.pulse is not None)

        assert [path for path, _ in link.opened] == ["one", "one"]
        pending = link.ask(WRITE)
        await until(lambda: pending.outcome)
        assert isinstance(pending.outcome, Written)

    run(tmp_path, scenario, shared=True)
