"""A front-end's replicator in its replica's own process: a solo replicator, worked on the same loop."""

from __future__ import annotations

import asyncio
import time

from raftkv.frontend.direct import DirectReplicator
from tests.contract.solo import SoloReplicator


class DirectSubject:
    """See ``conftest.Subject``."""

    def __init__(self, max_pending: int) -> None:
        self._loop = asyncio.new_event_loop()
        self.solo = SoloReplicator(max_pending=10 * max_pending)
        self.failures: list[BaseException] = []
        self.replicator = DirectReplicator(
            self.solo, wake=self._wake, fail=self.failures.append, max_pending=max_pending
        )
        self._loop.run_until_complete(self.replicator.start())

    def _wake(self) -> None:
        self._loop.call_soon(self._work)

    def _work(self) -> None:
        self.solo.work(time.monotonic())

    def turn(self) -> None:
        """Let the replicator work once, and what it settled be given."""
        self._work()
        self._loop.run_until_complete(asyncio.sleep(0))
        self.replicator.push(self.solo.status())

    def stop(self) -> None:
        self._loop.run_until_complete(self.replicator.stop())
        self.solo.close()
        self._loop.close()
        assert not self.failures
