"""What operators do wrong to one node, and how they make it good: old copies of disks, and other rules.

The disk of a node that stopped is copied, and put back in place of what it became since. Or a node is started with
another value of a rule. Such a node must take part in nothing until it has an empty disk, or the right rules; that is
looked at whenever it has done something. Rules: a mistake is made only where the cluster can bear it, as the mode says.
"""

from __future__ import annotations

import random as random_module
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from raftkv.core.rules import Rule
from raftkv.formats.identity import Identity
from raftkv.instruments.sim.cluster import SimulatedCluster
from raftkv.instruments.sim.disk import VirtualDisk
from raftkv.instruments.sim.machines import Observer, SimulatedMachine
from raftkv.peers.acquaintance import greeting_of, misfit
from raftkv.storage.identity import started


class Copy(msgspec.Struct, frozen=True):
    """What lay on the disks of a machine when it was copied; used once."""

    identity: Identity
    disk: VirtualDisk
    keeps: Any


class MendingMode(Protocol):
    """A mode as mistakes need it: the right ``rules``, and of some another value, which a node could work by."""

    rules: Mapping[str, Rule]
    other_rules: Mapping[str, Rule]

    def can_copy(self, machine: SimulatedMachine) -> bool:  # noqa: ARG002
        """Would a copy of what ``machine`` has now be found out?"""
        return True

    def copied(self, machine: SimulatedMachine) -> Any:
        """What ``machine``, which has stopped, ``keeps``, as a copy."""

    def can_lose(self, name: str) -> bool:
        """Can the cluster bear it now that ``name`` loses all since some moment?"""

    def put_back(self, name: str, copy: Copy) -> None:
        """Let ``name``, which has stopped, have ``copy`` instead of what it has."""

    def begin_anew(self, name: str) -> None:
        """Let ``name``, which has stopped, have an empty disk instead of a copy."""


class Mistakes(Observer):
    """One run's; ``after`` does something after a while. ``counts`` has what was noticed by the nodes themselves."""

    def __init__(
        self,
        cluster: SimulatedCluster,
        mode: MendingMode,
        random: random_module.Random,
        after: Callable[[Callable[[], None]], None],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._cluster = cluster
        self._mode = mode
        self._random = random
        self._after = after
        self._copies: dict[str, Copy] = {}
        self._old: dict[str, str] = {}
        self._differing = ""
        cluster.observers.append(self)

    def mend(self) -> None:
        """Make everything good at once."""
        self._copies.clear()
        for name in sorted(self._old):
            self._begin_anew(name)
        self._put_right()

    # --- ``Observer``: who must not take part does not

    def worked(self, machine: SimulatedMachine) -> None:
        """See ``Observer``."""
        if not self._old and not self._differing:
            return
        greeter, is_copy = machine.greeter, self._is_old(machine.name)
        differs = machine.name == self._differing and machine.rules != self._mode.rules
        if greeter is None or not (is_copy or differs):
            return
        met = greeter._met  # noqa: SLF001
        assert is_copy or not met, f"{machine.name} takes part with other rules"
        deceived = [peer for peer in met if self._knows_better(peer, machine.identity)]
        assert not deceived, f"{machine.name} takes part with an old copy, among others with {deceived[0]}"
        if is_copy and machine.name in greeter.misfits:
            self.counts["old copies found out"] += 1

    # --- old copies

    def old_copy(self, machine: SimulatedMachine) -> None:
        """Copy the disk of ``machine``, which stops for that, and try to put it back later."""
        name = machine.name
        if name in self._old or name in self._copies or machine.identity is None or not self._mode.can_copy(machine):
            return
        self._cluster.kill(name)
        self._cluster.note(name, "has its disk copied")
        self._copies[name] = Copy(machine.identity, machine.disk.copied(), self._mode.copied(machine))
        self._after(lambda: self._try_to_put_back(name))

    def _try_to_put_back(self, name: str) -> None:
        copy = self._copies.get(name)
        if copy is None:
            return
        if name == self._differing or not self._mode.can_lose(name) or not self._is_known_for_old(name, copy):
            self._after(lambda: self._try_to_put_back(name))
            return
        del self._copies[name]
        was_down = self._stop(name)
        self._cluster.note(name, "has an old copy of its disk put back")
        machine = self._cluster.machines[name]
        machine.identity, machine.disk = copy.identity, copy.disk
        self._mode.put_back(name, copy)
        self._old[name] = copy.identity.disk
        self._restart(name, was_down=was_down)
        self._after(lambda: self._begin_anew(name))

    def _knows_better(self, peer: str, copy: Identity | None) -> bool:
        """Has ``peer`` met a later life than that of ``copy``? An empty newcomer has not, and must believe it."""
        identity = self._cluster.machines[peer].identity
        if identity is None or copy is None:
            return False
        return bool(misfit(identity, {}, greeting_of(copy, {}, is_blank=False)))

    def _is_known_for_old(self, name: str, copy: Copy) -> bool:
        """Has every other node heard of a later start than the copy's next one? Whoever has not must believe it."""
        greeting = greeting_of(started(copy.identity, "copy"), {}, is_blank=False)
        others = [machine.identity for machine in self._cluster.machines.values() if machine.name != name]
        return all(other is not None and misfit(other, {}, greeting) for other in others)

    def _begin_anew(self, name: str) -> None:
        is_old = self._is_old(name)
        self._old.pop(name, None)
        if not is_old:
            return
        was_down = self._stop(name)
        self._cluster.note(name, "has its disk emptied, as it was an old copy")
        machine = self._cluster.machines[name]
        machine.identity, machine.disk = None, VirtualDisk()
        self._mode.begin_anew(name)
        self._restart(name, was_down=was_down)

    def _is_old(self, name: str) -> bool:
        """Does ``name`` have an old copy on its disk, and nobody emptied it since?"""
        identity = self._cluster.machines[name].identity
        return identity is not None and self._old.get(name) == identity.disk

    # --- other rules

    def differ(self, machine: SimulatedMachine) -> None:
        """Start ``machine`` with another value of a rule for a while; one machine at a time, as a majority may agree.

        Not with an empty disk, which would take the wrong rules for its own.
        """
        if self._differing or machine.name in self._old or machine.identity is None:
            return
        rule, value = self._random.choice(sorted(self._mode.other_rules.items()))
        was_down = self._stop(machine.name)
        self._cluster.note(machine.name, f"is given another {rule}")
        machine.rules = {**self._mode.rules, rule: value}
        self._differing = machine.name
        self._restart(machine.name, was_down=was_down)
        self._after(self._put_right)

    def _put_right(self) -> None:
        if not self._differing:
            return
        name, self._differing = self._differing, ""
        was_down = self._stop(name)
        self._cluster.note(name, "is given the right rules")
        self._cluster.machines[name].rules = dict(self._mode.rules)
        self._restart(name, was_down=was_down)

    # --- whoever is stopped here is started again by the nemesis

    def _stop(self, name: str) -> bool:
        """Stop ``name``; was it down already?"""
        was_down = self._cluster.machines[name].process is None
        self._cluster.kill(name)
        return was_down

    def _restart(self, name: str, *, was_down: bool) -> None:
        if was_down:
            self._cluster.restart(name)
