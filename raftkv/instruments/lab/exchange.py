"""One step of one client over HTTP: sent once, and what came of it; in doubt it is unknown.

``time.monotonic_ns`` of this process is the clock of all histories. Every wait has a deadline.
"""

from __future__ import annotations

import math
import time
from typing import Final

from raftkv.client.async_channels import AsyncChannels
from raftkv.client.reach import Host, UnheardError, UnopenedError
from raftkv.core.config import Address
from raftkv.instruments.lab.dialect import ClientStep, Meaning, finding, request_of
from raftkv.instruments.lab.history import GetAction, ObservedOperation, Outcome

SLACK_S: Final = 1.0
"""How much longer than the server's own deadline a client waits for an answer."""


def channel(address: Address) -> AsyncChannels:
    """A connection to one server; to open it may take all the time that a request has."""
    return AsyncChannels(Host(address.host, address.port), tls=None, limit=1, connect_s=math.inf)


async def attempt(
    channels: AsyncChannels, step: ClientStep, *, timeout_s: float, query: str = "", write_query: str = ""
) -> Meaning:
    """Send ``step``, see ``request_of``, and wait for the answer."""
    request = request_of(step, timeout_s=timeout_s, query=query, write_query=write_query)
    try:
        answer = await channels.exchange(
            request.method,
            request.target,
            headers=request.headers.items(),
            body=request.body,
            timeout_s=timeout_s + SLACK_S,
        )
    except UnopenedError as error:
        return Meaning(outcome=Outcome.FAILED, note=f"not sent: {error}")
    except UnheardError as error:
        # A read that was not answered has told nobody anything.
        outcome = Outcome.FAILED if isinstance(step.action, GetAction) else Outcome.UNKNOWN
        return Meaning(outcome=outcome, note=f"no answer: {error}")
    return finding(step.action, answer)


async def observe(
    channels: AsyncChannels, step: ClientStep, *, client: int, node: str, timeout_s: float, query: str = "", note: str
) -> tuple[Meaning, ObservedOperation]:
    """What came of ``step``, sent once by ``client`` to ``node``; and what a history keeps of it, with ``note``."""
    invoked_ns = time.monotonic_ns()
    found = await attempt(channels, step, timeout_s=timeout_s, query=query)
    ended_ns = time.monotonic_ns()
    notes = ", ".join(each for each in (note, found.note) if each)
    return found, found.observed(step, client=client, node=node, invoked_ns=invoked_ns, ended_ns=ended_ns, note=notes)
