"""The nemesis: does to machines, disks, clocks and the network whatever its plan allows, and undoes it after a while.

Every kind of fault is a method; it is drawn by weight, aimed at whoever leads more often than not, if the plan says so.
Whoever ends, for whatever reason, is started again. Rules: knows machines and the network, not the mode.
"""

from __future__ import annotations

import random as random_module
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from raftkv.core.voters import minority
from raftkv.instruments.sim.cluster import SimulatedCluster
from raftkv.instruments.sim.disk import UNLIMITED
from raftkv.instruments.sim.machines import Observer, SimulatedMachine
from raftkv.instruments.sim.mistakes import MendingMode, Mistakes
from raftkv.instruments.sim.plan import Plan


class StruckMode(MendingMode, Protocol):
    """A mode as the nemesis needs it; what is not said otherwise cannot be done to it."""

    def leader(self) -> str | None:
        """Whom the nemesis may aim at."""
        return None

    def empty_disk(self, name: str) -> bool:  # noqa: ARG002
        """Let ``name`` stop and find an empty disk at its next start, if the cluster can bear that; was it done?"""
        return False

    def flip_row(self, name: str, random: random_module.Random) -> bool:  # noqa: ARG002
        """Flip a bit in the applied state of ``name``, if it has any; was it done?"""
        return False

    def stray(self, name: str) -> bool:  # noqa: ARG002
        """Let ``name`` have another state than it should have computed, if all others are right; was it done?"""
        return False

    def look_after(self) -> None:
        """Repair the replicas that stopped because their state differs; in a tie the one that is wrong."""
        return


class SimulatedNemesis(Observer):
    """One run's faults; ``counts`` has them by kind."""

    def __init__(self, cluster: SimulatedCluster, plan: Plan, mode: StruckMode) -> None:
        self.counts: Counter[str] = Counter()
        self._cluster = cluster
        self._plan = plan
        self._mode = mode
        self._random = random_module.Random(f"nemesis {plan.seed}")
        self._names = plan.names
        self._latency_s = plan.latency_s
        self._kinds, self._weights = list(plan.faults), list(plan.faults.values())
        self._end_s = 0.0
        self._is_over = False
        self._liars = self._random.sample(self._names, minority(len(self._names)))
        self._mistakes = Mistakes(cluster, mode, self._random, self._after)
        self._deeds: dict[str, Callable[[SimulatedMachine], None]] = {
            "kill": self._kill,
            "power": self._power,
            "power all": self._power_all,
            "crash at a disk step": self._crash_at_step,
            "failing disk": self._fail_at_step,
            "full disk": self._fill,
            "emptied disk": self._empty,
            "pause": self._pause,
            "isolate": self._isolate,
            "split": self._split,
            "one way": self._one_way,
            "bridge": self._bridge,
            "broken connection": self._break,
            "slow link": self._slow_link,
            "slow network": self._slow_network,
            "stragglers": self._stragglers,
            "wall clock jump": self._jump,
            "old copy": self._mistakes.old_copy,
            "differing rules": self._mistakes.differ,
            "flipped row": self._flip,
            "differing state": self._let_differ,
        }
        cluster.observers.append(self)

    def begin(self, end_s: float) -> None:
        """Do what the plan says until ``end_s``."""
        self._end_s = end_s
        self._rest()

    def stop(self) -> None:
        """Undo everything: all machines run, all links work, all disks have room."""
        self._is_over = True
        self._mistakes.mend()
        self.counts.update(self._mistakes.counts)
        cluster = self._cluster
        cluster.network.latency_s, cluster.network.straggler_rate = self._latency_s, 0.0
        for source in self._names:
            for target in self._names:
                cluster.network.slow(source, target, 1.0)
        for machine in cluster.machines.values():
            disk = machine.disk
            disk.limit_bytes, disk.crash_at, disk.fail_at = UNLIMITED, None, None
            cluster.resume(machine.name)
            cluster.restart(machine.name)
        cluster.heal()

    # --- ``Observer``: whoever ends is started again

    def ending(self, machine: SimulatedMachine, *, power: bool) -> None:  # noqa: ARG002  however it ends
        """See ``Observer``."""
        if self._is_over:  # by a repair
            self._cluster.schedule.after(self._plan.fault_lasts_s[0], lambda: self._cluster.restart(machine.name))
        self._after(lambda: self._cluster.restart(machine.name))

    # --- choosing

    def _rest(self) -> None:
        delay_s = self._random.expovariate(1.0) * self._plan.fault_every_s
        self._cluster.schedule.after(delay_s, self._strike)

    def _strike(self) -> None:
        if self._cluster.now_s >= self._end_s or self._is_over:
            return
        kind = self._random.choices(self._kinds, self._weights)[0]
        leader = self._mode.leader() if self._random.random() < self._plan.aimed else None
        machine = self._cluster.machines[leader or self._random.choice(self._names)]
        self.counts[kind] += 1
        self._deeds[kind](machine)
        self._rest()

    def _after(self, action: Callable[[], None]) -> None:
        """Undo something after a while, unless everything is undone before."""

        def undo() -> None:
            if not self._is_over:
                action()

        delay_s = self._random.uniform(*self._plan.fault_lasts_s)
        self._cluster.schedule.after(delay_s, undo)

    def _other(self, machine: SimulatedMachine) -> str:
        others = [name for name in self._names if name != machine.name]
        return self._random.choice(others) if others else machine.name

    # --- machines

    def _kill(self, machine: SimulatedMachine) -> None:
        self._cluster.kill(machine.name)

    def _power(self, machine: SimulatedMachine) -> None:
        self._cluster.kill(machine.name, power=True)

    def _power_all(self, _machine: SimulatedMachine) -> None:
        for name in self._names:
            self._cluster.kill(name, power=True)

    def _pause(self, machine: SimulatedMachine) -> None:
        self._cluster.pause(machine.name)
        self._after(lambda: self._cluster.resume(machine.name))

    def _jump(self, _machine: SimulatedMachine) -> None:
        """Less than half of the wall clocks are wrong, ever: more is more than the agreed time can bear."""
        if not self._liars:
            return
        machine = self._cluster.machines[self._random.choice(self._liars)]
        seconds = self._random.choice((-7200.0, -60.0, -1.0, 1.0, 60.0, 7200.0))
        machine.wall_offset_s = 0.0 if machine.wall_offset_s else seconds
        self._cluster.note(machine.name, f"has a wall clock {machine.wall_offset_s:+} s off")

    # --- disks

    def _crash_at_step(self, machine: SimulatedMachine) -> None:
        steps = self._random.randint(1, 16)
        self._cluster.note(machine.name, f"will lose its power in {steps} half steps of its disk")
        machine.disk.crash_at = machine.disk.steps + steps

    def _fail_at_step(self, machine: SimulatedMachine) -> None:
        steps = 2 * self._random.randint(0, 8) + 1
        self._cluster.note(machine.name, f"has a disk that fails in {steps} half steps")
        machine.disk.fail_at = machine.disk.steps + steps + machine.disk.steps % 2

    def _fill(self, machine: SimulatedMachine) -> None:
        disk = machine.disk
        room = self._random.choice((0, 1000, 20_000, 60_000))
        self._cluster.note(machine.name, f"has room for {room} bytes on its disk")
        disk.limit_bytes = disk.used() + room

        def make_room() -> None:
            machine.disk.limit_bytes = UNLIMITED
            self._cluster.note(machine.name, "has room on its disk again")

        self._after(make_room)

    def _empty(self, machine: SimulatedMachine) -> None:
        """Whoever ends is started again; what was already down is started here."""
        was_down = machine.process is None
        if self._mode.empty_disk(machine.name) and was_down:
            self._cluster.restart(machine.name)

    # --- applied states

    def _flip(self, machine: SimulatedMachine) -> None:
        self._mode.flip_row(machine.name, self._random)

    def _let_differ(self, machine: SimulatedMachine) -> None:
        """An operator looks after it from then on, also when all else is over."""
        if not self._mode.stray(machine.name):
            return

        def look() -> None:
            self._mode.look_after()
            self._cluster.schedule.after(self._plan.pace_s, look)

        self._cluster.schedule.after(self._random.uniform(*self._plan.fault_lasts_s), look)

    # --- the network

    def _cut(self, sources: list[str], targets: list[str], *, both: bool = True) -> None:
        pairs = self._cluster.cut(sources, targets, both=both)
        self._after(lambda: self._cluster.heal(pairs))

    def _isolate(self, machine: SimulatedMachine) -> None:
        self._cut([machine.name], list(self._names))

    def _split(self, machine: SimulatedMachine) -> None:
        """Two groups that do not hear of each other; the machine is in the smaller one, or not."""
        others = [name for name in self._names if name != machine.name]
        mates = self._random.sample(others, self._random.randrange(len(others) + 1))
        inside = [machine.name, *sorted(mates)]
        self._cut(inside, [name for name in self._names if name not in inside])

    def _one_way(self, machine: SimulatedMachine) -> None:
        """The machine is heard and does not hear, or hears and is not heard, by one or by all."""
        others = list(self._names) if self._random.random() < 0.5 else [self._other(machine)]
        if self._random.random() < 0.5:
            self._cut([machine.name], others, both=False)
        else:
            self._cut(others, [machine.name], both=False)

    def _bridge(self, machine: SimulatedMachine) -> None:
        """Two groups that do not hear each other, the machine in one of them, and another machine that hears both."""
        others = [name for name in self._names if name != machine.name]
        self._random.shuffle(others)
        half = (len(others) - 1) // 2
        if len(others) > 1:
            self._cut([machine.name, *others[1 : half + 1]], others[half + 1 :])

    def _break(self, machine: SimulatedMachine) -> None:
        other = self._other(machine)
        if other == machine.name:
            return
        self._cluster.note("net", f"breaks the connection of {machine.name} and {other}")
        self._cluster.network.disconnect(machine.name, other)

    def _slow_link(self, machine: SimulatedMachine) -> None:
        other, network = self._other(machine), self._cluster.network
        factor = self._random.choice((10.0, 50.0))
        self._cluster.note("net", f"is {factor} times as slow from {machine.name} to {other}")
        network.slow(machine.name, other, factor)
        self._after(lambda: network.slow(machine.name, other, 1.0))

    def _slow_network(self, _machine: SimulatedMachine) -> None:
        network = self._cluster.network
        low_s = self._plan.pace_s * self._random.choice((0.02, 0.1, 0.4))
        network.latency_s = (low_s, low_s * 3)
        self._cluster.note("net", f"takes {low_s} s")

        def fast() -> None:
            network.latency_s = self._latency_s

        self._after(fast)

    def _stragglers(self, _machine: SimulatedMachine) -> None:
        network = self._cluster.network
        network.straggler_rate = 0.05

        def none() -> None:
            network.straggler_rate = 0.0

        self._after(none)
