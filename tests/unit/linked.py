"""A replica's socket and the front-end at its other end, in one process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from raftkv.core.replicator import Pending
from raftkv.core.requests import Barrier, Consistency, Get, Put, Read, Write
from raftkv.frontend import wire
from raftkv.frontend.remote import RemoteReplicator
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
