"""Makes the first root user, and lets authentication be on: what ``[auth] enabled`` asks for, and the state lacks.

The node that leads does it, or any where nobody leads, by the transaction that an administrator's would be: of several
that try, one does. It is tried again until the state says that authentication is on; then nothing of this is left,
neither the password. Must not import Flask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from raftkv.api.problems import read_problem
from raftkv.http.handlers.handler import Context, Conversation
from raftkv.http.handlers.users import founding
from raftkv.http.messages import HttpResponse

LOOK_S: Final = 0.1
PAUSE_S: Final = 1.0
"""After an attempt that failed: a password is worked out for each."""

Carry = Callable[[Conversation], Awaitable[HttpResponse]]


class Founding:
    """Begun by ``start`` on the worker's loop; ``carry`` performs a conversation in the name of the cluster itself."""

    def __init__(self, context: Context, password: str, carry: Carry) -> None:
        self._context = context
        self._password = password
        self._carry = carry
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, if this node's configuration asks for it."""
        if self._context.callers.is_demanded:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def end(self) -> None:
        """Try no more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        context, callers = self._context, self._context.callers
        while callers.known.current is None or not callers.known.current.enabled:
            status = context.status()
            if callers.known.current is None or status is None or status.leader not in (None, context.node):
                callers.lack = ""
                await asyncio.sleep(LOOK_S)
                continue
            response = await self._carry(founding(self._password, context))
            if response.status != 200:
                assert isinstance(response.body, bytes)
                callers.lack = read_problem(response.body).detail
                await asyncio.sleep(PAUSE_S)
        callers.lack = self._password = ""
