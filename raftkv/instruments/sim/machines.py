"""Simulated machines, and the one process that may run on each: its clocks, its disk, its turns, its death.

A process is driven as a real node drives its replica (``raftkv.node``): what comes in wakes it, it works soon
afterwards, in two halves, and says when it wants to be woken at the latest. Between the halves, while the disk is
waited for, messages may come in, and the machine may be killed, lose its power, or be paused.

Rules: knows nothing of what the process does; an exception that is not a failure of its disk is a finding, and ends
the simulation.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from raftkv.core.errors import StartupError
from raftkv.core.replicator import Pending
from raftkv.core.requests import Request
from raftkv.core.rules import Rule
from raftkv.formats import entries
from raftkv.formats.identity import Identity
from raftkv.instruments.sim.disk import UNLIMITED, Crashed, VirtualDisk
from raftkv.instruments.sim.network import Network
from raftkv.instruments.sim.schedule import Schedule, ScheduledEvent
from raftkv.peers.greeting import Greeter
from raftkv.peers.link import LinkEvents

TURNS_COUNT: Final = 100
"""Turns at one moment, after which a replica counts as one that will never be done."""

_IDENTITY: Final = Path("/identity.json")

WALL_S: Final = 1_700_000_000
"""What right wall clocks show when the simulation's is at 0, in seconds since 1970."""


class Process(Protocol):
    """A replica, as whoever drives it sees it; of either mode."""

    sent_ahead: bool

    @property
    def conversation(self) -> LinkEvents: ...
    def submit(self, request: Request, deadline_s: float) -> Pending: ...
    def begin_work(self, now_s: float) -> None: ...
    def finish_work(self, now_s: float) -> float: ...


class Observer:
    """Watches every machine; each method is called after what it is named after, ``ending`` before. They do nothing."""

    def started(self, machine: SimulatedMachine) -> None:
        """A process began."""

    def received(self, machine: SimulatedMachine, peer: str) -> None:
        """A message of ``peer`` came in."""

    def worked(self, machine: SimulatedMachine) -> None:
        """One half of a turn was done."""

    def resumed(self, machine: SimulatedMachine) -> None:
        """A paused process goes on; it has not done anything yet."""

    def ending(self, machine: SimulatedMachine, *, power: bool) -> None:
        """A process is about to be no more; ``power``: with its machine."""


class SimulatedMachine:
    """One machine: its disk, ``identity`` and what it ``keeps`` outlive the process, ``process`` is one life of a node.

    ``rules`` are those its node is configured with, ``reads`` is the newest format of commands that the version on it
    reads; ``greeter`` is what stands between the network and the process.

    Its monotonic clock runs at ``rate`` times the simulation's, its wall clock is ``wall_offset_s`` off.
    """

    def __init__(self, name: str, schedule: Schedule, random: random_module.Random, world: World) -> None:
        self.name = name
        self.random = random
        self.disk = VirtualDisk()
        self.keeps: Any = None
        self.identity: Identity | None = None
        self.rules: dict[str, Rule] = {}
        self.reads = entries.NEWEST
        self.greeter: Greeter | None = None
        self.process: Process | None = None
        self.is_paused = False
        self.resumed_at_s = float("-inf")
        self.rate = 1.0
        self.wall_offset_s = 0.0
        self.lives_count = 0
        self._schedule = schedule
        self._world = world
        self._turn: ScheduledEvent | None = None
        self._is_flushing = self._is_woken = False
        self._moment_s = float("-inf")
        self._turns_at_moment = 0

    @property
    def is_working(self) -> bool:
        """Is there a process, and does it run?"""
        return self.process is not None and not self.is_paused

    def now_s(self) -> float:
        """The machine's monotonic clock."""
        return self._schedule.now_s * self.rate

    def wall_ms(self) -> int:
        """The machine's wall clock."""
        return int((WALL_S + self._schedule.now_s + self.wall_offset_s) * 1000)

    def wall_us(self) -> int:
        """The same clock, more finely."""
        return int((WALL_S + self._schedule.now_s + self.wall_offset_s) * 1e6)

    def free_bytes(self) -> int:
        """What the disk has room for."""
        return self.disk.limit_bytes - (self.disk.used() if self.disk.limit_bytes < UNLIMITED else 0)

    # --- the process

    def start(self) -> None:
        """Begin a life; the disk may fail, or the machine stop, before it has really begun."""
        assert self.process is None
        self.is_paused = self._is_flushing = self._is_woken = False
        self.lives_count += 1

        def begin() -> None:
            self.process = self._world.make(self)

        if self._guarded(begin):
            for observer in self._world.observers:
                observer.started(self)
            self._world.network.started(self.name)
            self.wake()

    def end(self, *, power: bool = False) -> None:
        """``kill -9``; with ``power`` the machine loses what was not synced."""
        for observer in self._world.observers:
            observer.ending(self, power=power)
        self.process = self.greeter = None
        self.is_paused = False
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        if power:
            self.disk = self.disk.after_crash(self.random.getrandbits(64))
        self.disk.crash_at = self.disk.fail_at = None
        self._world.network.stopped(self.name, silently=power)

    def pause(self) -> None:
        """``SIGSTOP``."""
        self.is_paused = True
        self._world.network.paused(self.name)

    def resume(self) -> None:
        """``SIGCONT``."""
        self.is_paused = False
        self.resumed_at_s = self._schedule.now_s
        self._world.network.resumed(self.name)
        for observer in self._world.observers:
            observer.resumed(self)
        self._turn_at(self._schedule.now_s + self._at_most(self._world.turn_s))

    def save(self, identity: Identity) -> None:
        """Put ``identity`` on the disk, in one step; see ``IdentityStore``."""
        with self.disk.step("save", _IDENTITY):
            self.identity = identity

    def tell(self, event: Callable[[Greeter], None]) -> None:
        """Let something come in over the network, and the process work soon."""
        greeter = self.greeter
        if self.process is not None and greeter is not None and self._guarded(lambda: event(greeter)):
            self.wake()

    def submit(self, request: Request, timeout_s: float) -> Pending:
        """Ask the process, which must run and may end of it; ``timeout_s`` is by its clock."""
        process, pending = self.process, Pending()
        assert process is not None

        def ask() -> None:
            nonlocal pending
            pending = process.submit(request, self.now_s() + timeout_s)

        self._guarded(ask)
        self.wake()
        return pending

    # --- turns

    def wake(self) -> None:
        """Let the process work soon."""
        if self._is_flushing:
            self._is_woken = True
        elif self.process is not None:
            self._turn_at(self._schedule.now_s + self._at_most(self._world.turn_s))

    def _at_most(self, limit_s: float) -> float:
        """How long something takes this time."""
        return self.random.random() * limit_s if limit_s else 0.0

    def _turn_at(self, due_s: float) -> None:
        if self._turn is not None:
            if self._turn.due_s <= due_s:
                return
            self._turn.cancel()
        self._turn = self._schedule.at(due_s, self._work)

    def _work(self) -> None:
        self._turn = None
        process = self.process
        if process is None or self.is_paused:
            return  # ``resume`` takes it up
        if self._is_flushing:
            self._finish()
            return
        self._count_turn()
        if not self._guarded(lambda: process.begin_work(self.now_s())):
            return
        if process.sent_ahead:
            self._is_flushing = True
            self._watch_work()
            self._turn = self._schedule.after(self._at_most(self._world.flush_s), self._work)
        else:
            self._finish()

    def _finish(self) -> None:
        process = self.process
        assert process is not None
        self._is_flushing = False
        due_s = 0.0

        def finish() -> None:
            nonlocal due_s
            due_s = process.finish_work(self.now_s())

        if self._guarded(finish) and self.process is process:
            self._watch_work()
            self._turn_at(self._schedule.now_s + max(0.0, due_s - self.now_s()) / self.rate)
            if self._is_woken:
                self._is_woken = False
                self.wake()

    def _watch_work(self) -> None:
        for observer in self._world.observers:
            observer.worked(self)

    def _count_turn(self) -> None:
        if self._schedule.now_s != self._moment_s:
            self._moment_s, self._turns_at_moment = self._schedule.now_s, 0
        self._turns_at_moment += 1
        assert self._turns_at_moment < TURNS_COUNT, f"{self.name} always has more to do at once"

    def _guarded(self, action: Callable[[], None]) -> bool:
        """Do what the process does; false when it did not survive it."""
        self._world.active = self
        try:
            action()
        except Crashed:
            self._world.note(self.name, "stops at a step of its disk")
            self.end(power=True)
            return False
        except StartupError as error:
            self._world.note(self.name, f"ends: {error}")
            self.end()
            return False
        return True


class World(Protocol):
    """What surrounds the machines; their processes and disks take ``turn_s`` and ``flush_s`` at most."""

    active: SimulatedMachine
    network: Network
    observers: list[Observer]
    turn_s: float
    flush_s: float

    def make(self, machine: SimulatedMachine) -> Process:
        """Start a replica from what ``machine`` has on its disk; raises ``StartupError``."""

    def note(self, who: str, what: str) -> None:
        """Write a line of the transcript."""
