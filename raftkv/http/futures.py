"""Outcomes that come by a callback, awaited on the loop. Whoever awaits one may have left before it comes."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from raftkv.core.replicator import Pending
from raftkv.core.results import Outcome

Result = TypeVar("Result")


def settle(future: asyncio.Future[Result], result: Result) -> None:
    """Give ``future`` its result, unless nobody waits for it any more."""
    if not future.done():
        future.set_result(result)


async def outcome_of(pending: Pending) -> Outcome:
    """Its outcome, now or later."""
    if pending.outcome is not None:
        return pending.outcome
    future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    pending.when_done(lambda outcome: settle(future, outcome))
    return await future
