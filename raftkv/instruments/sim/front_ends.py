"""Front-ends of simulated nodes: where plans of several requests are performed, beside one life of a node's process.

Like a real one it is on the node's machine, and ends with its process; while that is paused, so is what is done here.
Each request of a plan is noted like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from raftkv.coordination.feed import Feed
from raftkv.coordination.steps import Plan, Submit
from raftkv.core.errors import Refused, Unknown
from raftkv.core.keys import SYSTEM
from raftkv.core.replicator import Hear, Pending, Subscription
from raftkv.core.requests import Request, on_behalf
from raftkv.core.results import Outcome
from raftkv.core.rights import Caller
from raftkv.instruments.sim.clients import SimulatedClient
from raftkv.instruments.sim.cluster import SimulatedCluster
from raftkv.instruments.sim.machines import SimulatedMachine
from raftkv.instruments.sim.notes import FAILED, OK, Seen

_PAUSED_S: Final = 0.01
"""How often somebody looks whether a paused machine goes on."""


class _Door:
    """``Replicator`` of one life of a process, as its front-end sees it."""

    def __init__(self, machine: SimulatedMachine) -> None:
        self._machine = machine
        self._lives_count = machine.lives_count

    @property
    def is_open(self) -> bool:
        """Is this life not over?"""
        return self._machine.process is not None and self._machine.lives_count == self._lives_count

    def submit(self, request: Request, deadline_s: float) -> Pending:
        """See ``Replicator``."""
        return self._machine.submit(request, deadline_s - self._machine.now_s())

    def subscribe(self, hear: Hear) -> Subscription:
        """See ``Replicator``."""
        process: Any = self._machine.process
        subscription: Subscription = process.subscribe(hear)
        return subscription


class FrontEnd:
    """Where plans are performed and changes told beside one life of a node's process."""

    def __init__(
        self,
        cluster: SimulatedCluster,
        machine: SimulatedMachine,
        noted: list[Seen],
        limit_bytes: int,
        caller: Caller | None,
    ) -> None:
        self.machine = machine
        self._schedule = cluster.schedule
        self._cluster = cluster
        self._noted = noted
        self._caller = caller
        self.door = _Door(machine)
        self.feed = Feed(self.door, now_s=machine.now_s, schedule=self.after, limit_bytes=limit_bytes)  # type: ignore[arg-type]

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something later, unless the process has ended by then; not while it is paused."""

        def act() -> None:
            if self.door.is_open:
                if self.machine.is_paused:
                    self._schedule.after(_PAUSED_S, act)
                else:
                    action()

        self._schedule.after(delay_s, act)

    def perform(self, client: SimulatedClient, plan: Plan[Any], done: Callable[[object], None]) -> None:
        """Perform ``plan`` for ``client``; ``done`` is called with its result, if the process lives to see it."""
        self.after(0.0, lambda: self._go_on(client, plan, None, done))

    def _go_on(
        self, client: SimulatedClient, plan: Plan[Any], told: Outcome | None, done: Callable[[Any], None]
    ) -> None:
        try:
            step = plan.send(told)
        except StopIteration as end:
            done(end.value)
            return
        if isinstance(step, Submit):
            self._submit(client, step, lambda outcome: self._go_on(client, plan, outcome, done))
            return
        is_over = False

        def go_on() -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                for one in awaited:
                    one.end()
                self._go_on(client, plan, None, done)

        wake = partial(self.after, 0.0, go_on)
        awaited = [self.feed.wait(key, key + b"\x00", step.after, wake) for key in step.keys]
        self.after(max(0.0, step.until_s - self.machine.now_s()) / self.machine.rate, go_on)

    def _submit(self, client: SimulatedClient, step: Submit, go_on: Callable[[Outcome], None]) -> None:
        now_s = self._cluster.now_s
        seen = Seen(
            client=client.number, key=SYSTEM, kind="other", invoked_s=now_s, note="step", node=self.machine.name
        )
        request = on_behalf(step.request, self._caller)
        seen.request = request  # type: ignore[assignment]
        self._noted.append(seen)

        def told(outcome: Outcome) -> None:
            seen.returned_s = self._cluster.now_s
            if isinstance(outcome, Refused):
                seen.outcome = FAILED
            elif not isinstance(outcome, Unknown):
                seen.outcome, seen.answer = OK, outcome  # type: ignore[assignment]
            go_on(outcome)

        pending = self.door.submit(request, step.deadline_s)
        pending.when_done(lambda outcome: self.after(0.0, lambda: told(outcome)))


class FrontEnds:
    """Those of all nodes, made when they are first needed; ``noted`` takes the requests of plans.

    ``limit_bytes`` is how much a feed reads at a time, ``caller`` for whom plans are performed.
    """

    def __init__(
        self, cluster: SimulatedCluster, noted: list[Seen], *, limit_bytes: int, caller: Caller | None
    ) -> None:
        self._cluster = cluster
        self._limit_bytes = limit_bytes
        self._caller = caller
        self._noted = noted
        self._lives: dict[tuple[str, int], FrontEnd] = {}

    def at(self, machine: SimulatedMachine) -> FrontEnd | None:
        """That of the machine now, if there is one."""
        if machine.process is None:
            return None
        life = (machine.name, machine.lives_count)
        if life not in self._lives:
            self._lives[life] = FrontEnd(self._cluster, machine, self._noted, self._limit_bytes, self._caller)
        return self._lives[life]
