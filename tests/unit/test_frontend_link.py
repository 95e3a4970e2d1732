"""Both ends of the Unix socket: sharing barriers, losing the replica, deadlines, limits, broken peers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from raftkv.core.errors import Code, DefiniteError, Refused, StartupError, Unknown
from raftkv.core.pages import TOO_LARGE
from raftkv.core.replicator import Pending, Shown
from raftkv.core.requests import Barrier, Consistency, Get, Inspect, List, Put, Query, Read, Write
from raftkv.core.results import Answer, Missing, Ready, Written
from raftkv.core.rights import Caller
from raftkv.core.status import RaftStatus
from raftkv.frontend import reading, replica, wire
from raftkv.frontend.remote import RemoteReplicator
from raftkv.frontend.server import BEHIND, FrontendServer
from tests.contract.remote import Replica, SharedTables
from tests.contract.solo import SoloReplicator

WRITE = Write(operations=(Put(key=b"a", value=b"v"),))
READ = Read(query=Get(key=b"a"))
LOCAL = Read(query=Get(key=b"a"), consistency=Consistency.LOCAL)
OWN = wire.build()


class Link:
    """A replica and a front-end at one socket; ``opened`` are the states that the front-end opened."""

    def __init__(self, folder: Path, *, shared: bool = False, max_pending: int = 100) -> None:
        self.path = folder / "socket"
        self.solo = SoloReplicator()
        self.solo.state_path = "one" if shared else ""
        self.replica = Replica(self.path, self.solo, max_pending=max_pending)
        self.opened: list[tuple[str, SharedTables]] = []
        self.remote = RemoteReplicator(str(self.path), open_state=self._open, max_pending=100)

    def _open(self, path: str) -> SharedTables:
        state = SharedTables(self.solo)
        self.opened.append((path, state))
        return state

    def ask(self, request: Any, timeout_s: float = 5.0) -> Pending:
        return self.remote.submit(request, time.monotonic() + timeout_s)

    @property
    def barriers(self) -> int:
        return sum(isinstance(request, Barrier) for request in self.solo.submitted)


async def until(condition: Callable[[], object], limit_s: float = 5.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "it never came to be"
        await asyncio.sleep(0.002)


def run(folder: Path, scenario: Callable[[Link], Awaitable[None]], **more: Any) -> None:
    async def main() -> None:
        link = Link(folder, **more)
        await link.replica.start()
        await link.remote.start()
        try:
            await scenario(link)
        finally:
            link.remote.close()
            await link.replica.stop()

    asyncio.run(main())


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


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_lost_with_the_replica(tmp_path: Path, *, shared: bool) -> None:
    async def scenario(link: Link) -> None:
        link.solo.held = True
        write, read = link.ask(WRITE), link.ask(READ)
        await until(lambda: len(link.solo.submitted) == 2)
        late = link.ask(READ)
        await link.replica.stop()
        await until(lambda: link.remote.pulse is None)
        after = link.ask(WRITE)

        assert isinstance(write.outcome, Unknown)
        assert isinstance(read.outcome, Refused)
        assert isinstance(late.outcome, Refused)
        assert isinstance(after.outcome, Refused)
        assert after.outcome.code is Code.NO_LEADER
        assert "not running" in after.outcome.detail
        with pytest.raises(DefiniteError, match="not running"):
            link.remote.status()
        await link.replica.start()

    run(tmp_path, scenario, shared=shared)


def test_a_write_that_never_left_is_refused_not_unknown(tmp_path: Path) -> None:
    async def scenario(link: Link) -> None:
        pending = link.ask(WRITE)
        link.remote._replica.connection.abort()  # type: ignore[union-attr]  # before the loop came round to writing
        link.remote.disconnected(link.remote._replica.connection)  # type: ignore[arg-type]

        assert isinstance(pending.outcome, Refused)
        await asyncio.sleep(0.05)
        assert link.solo.submitted == []

    run(tmp_path, scenario)


def test_a_write_whose_deadline_passed_before_it_left_is_refused_and_never_leaves(tmp_path: Path) -> None:
    """A process that was stopped in between: on waking its timers come before what it had meant to write."""

    async def scenario(link: Link) -> None:
        pending = link.ask(WRITE, 1.0)
        link.remote.work(time.monotonic() + 10.0)
        other = link.ask(WRITE)
        await until(lambda: other.outcome)

        assert isinstance(pending.outcome, Refused)
        assert pending.outcome.code is Code.OVERLOADED
        assert isinstance(other.outcome, Written)
        assert len([request for request in link.solo.submitted if isinstance(request, Write)]) == 1

    run(tmp_path, scenario)


@pytest.mark.parametrize("shared", [False, True])
def test_a_stuck_replica_holds_nobody_past_the_deadline(tmp_path: Path, *, shared: bool) -> None:
    async def scenario(link: Link) -> None:
        link.solo.work = lambda now_s: now_s + 1.0  # type: ignore[method-assign]
        started_s = time.monotonic()
        write, read = link.ask(WRITE, 0.2), link.ask(READ, 0.2)
        await until(lambda: write.outcome and read.outcome)

        assert 0.19 < time.monotonic() - started_s < 10  # an end, not a hang
        assert isinstance(write.outcome, Unknown)
        assert isinstance(read.outcome, Refused)
        assert not link.remote._outstanding._waiting

    run(tmp_path, scenario, shared=shared)


@pytest.mark.parametrize("shared", [False, True])
def test_a_replica_that_fell_silent_is_asked_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, shared: bool
) -> None:
    async def scenario(link: Link) -> None:
        monkeypatch.setattr(replica, "SILENCE_S", -1.0)
        before = len(link.solo.submitted)
        refused = [link.ask(request).outcome for request in (WRITE, READ, Inspect())]
        local = link.ask(LOCAL).outcome

        assert all(isinstance(one, Refused) and one.code is Code.NO_LEADER for one in refused)
        assert all("does not answer" in one.detail for one in refused if isinstance(one, Refused))
        assert isinstance(local, Answer if shared else Refused)
        await asyncio.sleep(0.05)
        assert len(link.solo.submitted) == before
        monkeypatch.undo()
        again = link.ask(WRITE)
        await until(lambda: again.outcome)
        assert isinstance(again.outcome, Written)

    run(tmp_path, scenario, shared=shared)


@pytest.mark.parametrize("shared", [False, True])
def test_a_replica_that_reads_nothing_is_not_buried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, shared: bool
) -> None:
    async def scenario(link: Link) -> None:
        monkeypatch.setattr(replica, "MAX_UNSENT_BYTES", 1 << 20)
        large = Write(operations=(Put(key=b"a", value=bytes(1 << 18)),))
        for server in link.replica.server._connections:
            server.transport.pause_reading()  # type: ignore[union-attr]
        pendings = []
        for _ in range(40):  # each gives up soon, but its bytes stay in the way
            pendings.append(link.ask(large, 0.01))
            await asyncio.sleep(0.005)
        read = link.ask(READ)

        refused = [one.outcome for one in (*pendings, read) if isinstance(one.outcome, Refused)]
        assert {one.code for one in refused} == {Code.OVERLOADED}
        assert isinstance(read.outcome, Refused)
        assert link.remote._replica.connection.unsent_bytes < 2 << 20  # type: ignore[union-attr]
        for server in link.replica.server._connections:
            server.transport.resume_reading()  # type: ignore[union-attr]
        await until(lambda: link.remote._replica.connection.unsent_bytes == 0)  # type: ignore[union-attr]
        again = link.ask(WRITE)
        await until(lambda: again.outcome)
        assert isinstance(again.outcome, Written)

    run(tmp_path, scenario, shared=shared)


def test_one_turn_of_the_loop_leaves_in_one_write(tmp_path: Path) -> None:
    async def scenario(link: Link) -> None:
        writes: list[int] = []
        write = link.remote._replica.connection.write  # type: ignore[union-attr]
        link.remote._replica.connection.write = lambda data: (writes.append(len(data)), write(data))  # type: ignore[union-attr,method-assign,assignment,return-value]
        pendings = [link.ask(WRITE) for _ in range(50)] + [link.ask(READ) for _ in range(10)]
        await until(lambda: all(pending.outcome for pending in pendings))

        assert len(writes) == 1

    run(tmp_path, scenario, shared=True)


def test_the_server_refuses_what_is_too_much(tmp_path: Path) -> None:
    async def scenario(link: Link) -> None:
        link.solo.held = True
        pendings = [link.ask(WRITE) for _ in range(15)]
        await until(lambda: sum(pending.outcome is not None for pending in pendings) == 5)

        refused = [pending.outcome for pending in pendings if pending.outcome is not None]
        assert {one.code for one in refused if isinstance(one, Refused)} == {Code.OVERLOADED}
        link.solo.held = False
        await until(lambda: all(pending.outcome for pending in pendings))
        again = link.ask(WRITE)
        await until(lambda: again.outcome)
        assert isinstance(again.outcome, Written)

    run(tmp_path, scenario, max_pending=10)


def test_a_front_end_that_disappears_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scenario(link: Link) -> None:
        other = RemoteReplicator(str(link.path), open_state=link._open, max_pending=100)
        await other.start()
        link.solo.held = True
        for _ in range(20):
            other.submit(WRITE, time.monotonic() + 5)
        await until(lambda: len(link.solo.submitted) == 20)
        other.close()
        await until(lambda: len(link.replica.server._connections) == 1)
        link.solo.held = False
        await until(lambda: link.replica.server._pending == 0)

        pending = link.ask(Inspect())
        await until(lambda: pending.outcome)
        assert isinstance(pending.outcome, RaftStatus)

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (
            wire.build_frame().replace(OWN.version.encode(), b"9" * len(OWN.version)),
            f"replica {'9' * len(OWN.version)}",
        ),
        (wire.build_frame().replace(OWN.types, bytes(16)), f"different builds of version {OWN.version}"),
        (wire.announcement_frame(Shown(revision=1, applied_index=1)), "replica older"),
    ],
)
def test_a_replica_of_another_build_is_asked_nothing_until_it_is_of_this_one(
    tmp_path: Path, first: bytes, reason: str
) -> None:
    async def main() -> None:
        path, heard = tmp_path / "socket", bytearray()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(first + wire.pulse_frame(SoloReplicator().status()))
            heard.extend(await reader.read())
            writer.close()

        other = await asyncio.start_unix_server(serve, path)
        solo = SoloReplicator()
        ours = RemoteReplicator(str(path), open_state=lambda _: SharedTables(solo), max_pending=100)
        await ours.start()
        for request in (WRITE, READ, LOCAL):
            outcome = ours.submit(request, time.monotonic() + 5).outcome
            assert isinstance(outcome, Refused)
            assert outcome.code is Code.NO_LEADER
            assert reason in outcome.detail
            assert outcome.detail.endswith(": restart the node")
        assert ours.pulse is None
        assert reason in ours.silence
        other.close()
        await until(lambda: heard)
        assert len(heard) % len(wire.build_frame()) == 0, "nothing but what this side is"

        replica = Replica(path, solo)
        await replica.start()
        await until(lambda: ours.pulse)
        pending = ours.submit(WRITE, time.monotonic() + 5)
        await until(lambda: pending.outcome)
        assert isinstance(pending.outcome, Written)
        ours.close()
        await replica.stop()

    asyncio.run(main())


@pytest.mark.parametrize("first", [b"", wire.build_frame().replace(OWN.types, bytes(16))])
def test_a_worker_of_another_build_learns_this_one_and_nothing_more(tmp_path: Path, first: bytes) -> None:
    async def scenario(link: Link) -> None:
        reader, writer = await asyncio.open_unix_connection(str(link.path))
        item = wire.encode_item(wire.Submission(1, time.monotonic() + 5, WRITE))
        writer.write(first + wire.submission_frames([item]))
        told = bytearray()
        async with asyncio.timeout(2):
            with contextlib.suppress(ConnectionResetError):
                while more := await reader.read(65536):
                    told += more
        writer.close()

        assert told == wire.build_frame()
        assert not link.solo.submitted

    run(tmp_path, scenario)


@pytest.mark.parametrize("garbage", [b"\x05\x00\x00\x00hello", b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"])
def test_garbage_ends_the_connection_and_nothing_else(tmp_path: Path, garbage: bytes) -> None:
    async def scenario(link: Link) -> None:
        reader, writer = await asyncio.open_unix_connection(str(link.path))
        writer.write(garbage)
        try:
            async with asyncio.timeout(2):
                while await reader.read(65536):
                    pass
        except ConnectionResetError:
            pass
        writer.close()

        pending = link.ask(WRITE)
        await until(lambda: pending.outcome)
        assert isinstance(pending.outcome, Written)

    run(tmp_path, scenario)


def test_an_answer_beyond_all_bounds_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_OUTCOME_BYTES", 1000)

    async def scenario(link: Link) -> None:
        large = link.ask(Write(operations=(Put(key=b"a", value=1000 * b"v"), Get(key=b"a"))))
        await until(lambda: large.outcome)

        assert isinstance(large.outcome, Unknown)
        assert "too large" in large.outcome.detail
        read = link.ask(Write(operations=(Get(key=b"a"),)))
        await until(lambda: read.outcome)
        assert read.outcome == TOO_LARGE

    run(tmp_path, scenario)


def test_the_socket_is_private_and_replaces_what_a_crash_left(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "socket"
        for _ in range(2):
            server = FrontendServer(SoloReplicator(), path=str(path), wake=lambda: None, max_pending=1)
            await server.start()
            assert path.stat().st_mode & 0o077 == 0
        await server.stop()
        assert not path.exists()

    asyncio.run(main())


def test_what_is_answered_is_let_go_of_long_before_its_deadline(tmp_path: Path) -> None:
    async def scenario(link: Link) -> None:
        asked = [link.ask(request, timeout_s=60.0) for request in (READ, WRITE, READ, LOCAL)]
        await until(lambda: all(pending.outcome is not None for pending in asked))

        assert len(link.remote._outstanding) == 0

    run(tmp_path, scenario, shared=True)


def test_what_a_lost_replica_leaves_open_is_let_go_of_too(tmp_path: Path) -> None:
    async def scenario(link: Link) -> None:
        link.solo.held = True
        asked = [link.ask(request, timeout_s=60.0) for request in (READ, WRITE)]
        await until(lambda: link.barriers == 1)
        await link.replica.stop()
        await until(lambda: all(pending.outcome is not None for pending in asked))

        assert len(link.remote._outstanding) == 0

    run(tmp_path, scenario, shared=True)


def stop_reading(link: Link) -> None:
    """The front-end takes nothing of what the replica sends."""
    link.remote._replica.connection.transport.pause_reading()  # type: ignore[union-attr]


def go_on_reading(link: Link) -> None:
    link.remote._replica.connection.transport.resume_reading()  # type: ignore[union-attr]


def test_a_front_end_that_is_behind_is_refused_large_answers_and_given_small_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raftkv.frontend.server.SLOW_BYTES", 4 << 20)
    large, small = b"l", b"s"
    both = Write(operations=(Put(key=small, value=b"v"), Get(key=large)))

    async def scenario(link: Link) -> None:
        put = link.ask(Write(operations=(Put(key=large, value=bytes(1 << 20)), Put(key=small, value=b"v"))))
        await until(lambda: put.outcome)
        (connection,) = link.replica.server._connections
        stop_reading(link)
        reads = [link.ask(Read(query=Get(key=large))) for _ in range(40)]
        writes = [link.ask(both) for _ in range(2)]
        others = [link.ask(Read(query=Get(key=small))) for _ in range(40)]
        await until(lambda: len(link.solo.submitted) == 83)
        await until(lambda: not connection._replies)
        held_bytes = connection.transport.get_write_buffer_size()  # type: ignore[union-attr]
        go_on_reading(link)
        await until(lambda: all(pending.outcome for pending in (*reads, *writes, *others)))

        assert held_bytes <= 4 << 20
        refused = [pending.outcome for pending in reads if not isinstance(pending.outcome, Answer)]
        assert 30 < len(refused) < 40
        assert set(refused) == {BEHIND}
        assert all(isinstance(pending.outcome, Unknown) for pending in writes)
        assert all(isinstance(pending.outcome, Answer) for pending in others)

    run(tmp_path, scenario)


def test_a_front_end_that_reads_nothing_at_all_loses_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raftkv.frontend.server.MAX_UNREAD_BYTES", 1 << 20)

    async def scenario(link: Link) -> None:
        (connection,) = link.replica.server._connections
        stop_reading(link)
        for _ in range(100):
            connection.write(bytes(64 << 10))
        await until(lambda: connection not in link.replica.server._connections)

    run(tmp_path, scenario)


def test_readers_of_one_barrier_are_given_their_answers_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one turn reads is given away before more is read; values, pages and what is missing alike."""
    monkeypatch.setattr(reading, "TURN_BYTES", 4_000)

    async def scenario(link: Link) -> None:
        put = link.ask(Write(operations=(Put(key=b"a", value=bytes(1_000)),)))
        await until(lambda: put.outcome)
        link.solo.held = True
        first = link.ask(READ)
        await until(lambda: link.barriers == 1)
        turns: list[int] = []
        serve = link.remote._reads._serve

        def serve_and_count(readers: Any, outcome: Any) -> None:
            before = sum(reader.outcome is not None for reader in readers)
            serve(readers, outcome)
            turns.append(sum(reader.outcome is not None for reader in readers) - before)

        link.remote._reads._serve = serve_and_count  # type: ignore[method-assign]
        pages = Read(query=List(start=b"", end=None, limit=10))
        rest = [link.ask(READ if number % 2 else pages) for number in range(20)]
        await until(lambda: link.barriers == 2)
        link.solo.held = False
        await until(lambda: all(pending.outcome for pending in (first, *rest)))

        assert all(isinstance(pending.outcome, Answer) for pending in (first, *rest))
        assert turns == [1, 4, 4, 4, 4, 4]

    run(tmp_path, scenario, shared=True)


def test_nothing_is_announced_unless_somebody_wants_to_hear_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(link: Link) -> None:
        frames = []
        frame = wire.announcement_frame
        monkeypatch.setattr(wire, "announcement_frame", lambda shown: frames.append(shown) or frame(shown))

        async def write() -> int:
            pending = link.ask(WRITE)
            await until(lambda: pending.outcome)
            return pending.outcome.revision  # type: ignore[union-attr]

        await write()
        assert not frames
        assert not link.solo.subscribers
        heard: list[Shown | None] = []
        subscriptions = [link.remote.subscribe(heard.append) for _ in range(50)]
        await until(lambda: len(link.solo.subscribers) == 1)  # for the whole worker
        frames.clear()
        revision = await write()
        await until(lambda: heard[-1] is not None and heard[-1].revision == revision)
        assert len(frames) == 1
        for subscription in subscriptions:
            subscription.end()
        await until(lambda: not link.solo.subscribers)
        frames.clear()
        await write()

        assert not frames

    run(tmp_path, scenario)


def test_what_is_shown_in_one_turn_is_announced_once_after_the_place_where_it_can_be_read(tmp_path: Path) -> None:
    async def scenario(link: Link) -> None:
        heard: list[tuple[Shown | None, str]] = []
        subscription = link.remote.subscribe(lambda shown: heard.append((shown, link.opened[-1][0])))
        await until(lambda: heard and heard[-1][0] is not None)
        heard.clear()
        link.solo.state_path = "two"
        for revision in range(100, 200):
            link.solo.subscribers.tell(Shown(revision=revision, applied_index=revision))
        await until(lambda: any(shown is not None and shown.revision == 199 for shown, _ in heard))

        told = [shown.revision for shown, _ in heard if shown is not None]
        assert set(told) <= {0, 199}
        assert {path for shown, path in heard if shown is not None and shown.revision == 199} == {"two"}
        assert link.remote.status().revision >= 199
        subscription.end()

    run(tmp_path, scenario, shared=True)


def test_subscribers_are_told_of_a_lost_replica_and_hear_the_next_one(tmp_path: Path) -> None:
    async def scenario(link: Link) -> None:
        heard: list[Shown | None] = []
        subscription = link.remote.subscribe(heard.append)
        await until(lambda: heard and heard[-1] is not None)
        await link.replica.stop()
        await until(lambda: heard[-1] is None)
        assert not link.solo.subscribers  # the replica forgets who has left
        heard.clear()
        link.replica = Replica(link.path, link.solo)
        await link.replica.start()
        await until(lambda: heard and heard[-1] is not None)
        pending = link.ask(WRITE)
        await until(lambda: isinstance(pending.outcome, Written))
        await until(lambda: heard[-1] == link.solo.subscribers.latest)
        subscription.end()

    run(tmp_path, scenario)


def test_a_worker_that_takes_nothing_is_told_only_the_newest_when_it_does(tmp_path: Path) -> None:
    async def scenario(link: Link) -> None:
        heard: list[Shown | None] = []
        subscription = link.remote.subscribe(heard.append)
        await until(lambda: heard and heard[-1] is not None)
        (server_side,) = link.replica.server._connections
        server_side.pause_writing()  # as the socket does when it is full
        heard.clear()
        for revision in range(100, 120):
            link.solo.subscribers.tell(Shown(revision=revision, applied_index=revision))
            await asyncio.sleep(0.002)
        assert not any(shown is not None and shown.revision >= 100 for shown in heard)
        server_side.resume_writing()
        await until(lambda: heard[-1] == Shown(revision=119, applied_index=119))

        assert {shown.revision for shown in heard if shown is not None and shown.revision >= 100} == {119}
        subscription.end()

    run(tmp_path, scenario)
