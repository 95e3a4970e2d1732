"""Many clients over real HTTP, through every node, and the history of what each asked and was told.

One thread with one asyncio loop runs all clients; ``time.monotonic_ns`` of this process is the only clock of the
history. A client waits for each answer before it goes on. When it cannot know what became of a step, its number is
given up and it goes on under a new one, because the lost operation may still be under way (as Jepsen does it). Bounded:
one request in flight per client, at most ``OPERATIONS_MAX`` operations, every wait has a deadline.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Final, Self

from raftkv.client.async_channels import AsyncChannels
from raftkv.core.config import Address
from raftkv.instruments.lab.dialect import ClientStep, Meaning
from raftkv.instruments.lab.exchange import attempt, channel
from raftkv.instruments.lab.history import History, ObservedOperation, Outcome
from raftkv.instruments.lab.script import Script, ScriptKeys, Workload

OPERATIONS_MAX: Final = 2_000_000
"""Then the clients stop: a run that was forgotten must not fill the memory."""

ATTEMPTS_MAX: Final = 8
"""How often a step with a retry key is sent before its outcome is left unknown."""

REFUSED_PAUSE_S: Final = 0.05
"""A client that was refused waits this long at least, so that a node that is down is not hammered."""


class Clients:
    """A running workload: enter, let it run, leave (which waits for the steps under way), then ask for the history."""

    def __init__(self, workload: Workload, servers: Mapping[str, Address]) -> None:
        """``servers`` are the HTTP addresses of the nodes by id; every one of them is asked."""
        self._workload = workload
        self._servers = dict(servers)
        self._operations: list[ObservedOperation] = []
        self._names = workload.clients
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="clients", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Begin nothing more and wait for what is under way; raises what went wrong in a client, if anything did."""
        self._stopping.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def history(self) -> History:
        """What has been asked and told so far."""
        return History(tuple(self._operations))

    def counts(self) -> Counter[Outcome]:
        """How many operations ended in each way so far."""
        return Counter(operation.outcome for operation in tuple(self._operations))

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as error:  # noqa: BLE001  handed to the thread that stops us
            self._failure = error

    async def _all(self) -> None:
        keys = ScriptKeys(self._workload)
        async with asyncio.TaskGroup() as group:
            for number in range(self._workload.clients):
                group.create_task(self._client(number, Script(self._workload, number, keys)))

    async def _client(self, name: int, script: Script) -> None:
        channels = {node: channel(address) for node, address in self._servers.items()}
        try:
            while not self._stopping.is_set() and len(self._operations) < OPERATIONS_MAX:
                await asyncio.sleep(script.think_s())
                step = script.next_step()
                invoked_ns = time.monotonic_ns()
                found, node, attempt_count = await self._perform(step, script, channels)
                ended_ns = time.monotonic_ns()
                notes = [found.note] if found.note else []
                notes += [f"sent {attempt_count} times"] if attempt_count > 1 else []
                note = ", ".join(notes)
                self._operations.append(
                    found.observed(step, client=name, node=node, invoked_ns=invoked_ns, ended_ns=ended_ns, note=note)
                )
                script.learn(step, found)
                if found.outcome is Outcome.UNKNOWN:
                    name, self._names = self._names, self._names + 1
                if found.outcome is not Outcome.OK:
                    await asyncio.sleep(REFUSED_PAUSE_S)
        finally:
            for each in channels.values():
                each.close()

    async def _perform(
        self, step: ClientStep, script: Script, channels: Mapping[str, AsyncChannels]
    ) -> tuple[Meaning, str, int]:
        """Do ``step``, again if it may be sent again; returns what came of it, the last node asked, and how often."""
        is_in_doubt = False
        for attempt_count in range(1, ATTEMPTS_MAX + 1):
            node = script.pick_node(list(channels))
            found = await attempt(
                channels[node],
                step,
                timeout_s=self._workload.timeout_s,
                query=self._workload.query,
                write_query=self._workload.write_query,
            )
            if found.outcome is Outcome.OK:
                return found, node, attempt_count
            # A refusal speaks of this attempt alone: one before it may have been applied.
            is_in_doubt = is_in_doubt or found.outcome is Outcome.UNKNOWN
            if not is_in_doubt or not step.retry_key:
                break
            await asyncio.sleep(REFUSED_PAUSE_S)
        if is_in_doubt:
            found = Meaning(outcome=Outcome.UNKNOWN, note=found.note)
        return found, node, attempt_count
