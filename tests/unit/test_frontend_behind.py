"""A front-end that is behind, or takes nothing, and what is announced to one that listens."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from raftkv.core.errors import Unknown
from raftkv.core.replicator import Shown
from raftkv.core.requests import Get, List, Put, Read, Write
from raftkv.core.results import Answer, Written
from raftkv.frontend import reading, wire
from raftkv.frontend.server import BEHIND
from tests.contract.remote import Replica
from tests.unit.linked import READ, WRITE, Link, run, until


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
