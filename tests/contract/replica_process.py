"""A solo replicator behind the front-end's socket, as a process of its own: arguments ``SOCKET [DELAY_S]``.

Every request is carried out ``DELAY_S`` after it came, so that tests can pile them up.
"""

from __future__ import annotations

import asyncio
import sys
import time

from raftkv.core.replicator import Pending
from raftkv.core.requests import Request
from raftkv.frontend.server import FrontendServer
from tests.contract.solo import SoloReplicator


class SlowReplicator(SoloReplicator):
    def __init__(self, delay_s: float) -> None:
        super().__init__(max_pending=100_000)
        self._delay_s = delay_s

    def submit(self, request: Request, deadline_s: float) -> Pending:
        if not self._delay_s:
            return super().submit(request, deadline_s)
        pending = Pending()
        carry_out = lambda: pending.resolve(self._carry_out(request))  # noqa: E731
        asyncio.get_running_loop().call_later(self._delay_s, carry_out)
        return pending


async def main(path: str, delay_s: float) -> None:
    solo = SlowReplicator(delay_s)
    loop = asyncio.get_running_loop()
    server = FrontendServer(
        solo, path=path, wake=lambda: loop.call_soon(lambda: solo.work(time.monotonic())), max_pending=100_000
    )
    await server.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        solo.level_at_s = time.monotonic()
        server.push(solo.status())
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
