"""A front-end's replicator, its socket, and a solo replicator behind it, all on one loop in this process."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Self

from raftkv.core.judgement import of_query
from raftkv.core.requests import Query
from raftkv.core.rights import Caller, Rights
from raftkv.frontend.remote import RemoteReplicator
from raftkv.frontend.server import FrontendServer
from raftkv.machine import reading
from tests.contract.solo import SoloReplicator


class SharedTables:
    """A ``StateReader`` over the solo replicator's own tables."""

    def __init__(self, solo: SoloReplicator) -> None:
        self._solo = solo
        self.closed = False

    @property
    def rights(self) -> Rights:
        return self._solo.machine.rights

    @property
    def revision(self) -> int:
        return reading.revision(self._solo.tables)

    def __enter__(self) -> Self:
        assert not self.closed
        return self

    def __exit__(self, *_: object) -> None: ...

    def read(self, query: Query, caller: Caller | None) -> Any:
        found = reading.answer(self._solo.tables, query)
        refusal = None if caller is None else of_query(self.rights, caller, query, found)
        return refusal or found

    def close(self) -> None:
        self.closed = True


class Replica:
    """The replica's side: a solo replicator behind a ``FrontendServer``, worked on the running loop."""

    def __init__(self, path: Path, solo: SoloReplicator, *, max_pending: int = 1_000) -> None:
        self.solo = solo
        self.server = FrontendServer(solo, path=str(path), wake=self._wake, max_pending=max_pending)
        self._timer: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.server.start()
        self._timer = asyncio.get_running_loop().create_task(self._tick())

    async def stop(self) -> None:
        assert self._timer is not None
        self._timer.cancel()
        await self.server.stop()

    def _wake(self) -> None:
        asyncio.get_running_loop().call_soon(lambda: self.solo.work(time.monotonic()))

    async def _tick(self) -> None:
        while True:
            self.solo.work(time.monotonic())
            self.server.push(self.solo.status())
            await asyncio.sleep(0.02)


class RemoteSubject:
    """See ``conftest.Subject``."""

    def __init__(self, max_pending: int, folder: Path, *, shared_state: bool) -> None:
        self._loop = asyncio.new_event_loop()
        solo = SoloReplicator(max_pending=10 * max_pending)
        solo.state_path = "shared" if shared_state else ""
        self.replica = Replica(folder / "replica.socket", solo)
        self.replicator = RemoteReplicator(
            str(folder / "replica.socket"), open_state=lambda path: SharedTables(solo), max_pending=max_pending
        )
        # ``submit`` finds the loop that ``start`` ran on; the tests call it between two turns.
        self._loop.run_until_complete(self._start())

    async def _start(self) -> None:
        await self.replica.start()
        await self.replicator.start()

    def turn(self) -> None:
        self._loop.run_until_complete(asyncio.sleep(0.002))

    def stop(self) -> None:
        self.replicator.close()
        self._loop.run_until_complete(self.replica.stop())
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()
