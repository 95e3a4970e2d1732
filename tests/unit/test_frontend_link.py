"""Both ends of the Unix socket: losing the replica, deadlines, limits, broken peers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from raftkv.core.errors import Code, DefiniteError, Refused, Unknown
from raftkv.core.pages import TOO_LARGE
from raftkv.core.replicator import Shown
from raftkv.core.requests import Get, Inspect, Put, Write
from raftkv.core.results import Answer, Written
from raftkv.core.status import RaftStatus
from raftkv.frontend import replica, wire
from raftkv.frontend.remote import RemoteReplicator
from raftkv.frontend.server import FrontendServer
from tests.contract.remote import Replica, SharedTables
from tests.contract.solo import SoloReplicator
from tests.unit.linked import LOCAL, OWN, READ, WRITE, Link, run, until


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
