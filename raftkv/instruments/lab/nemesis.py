"""The nemesis: makes faults happen to a real cluster, one beginning and one end each, and heals everything at the end.

Several faults may last at once; what each node and link suffers is always computed anew from all that last. Links are
made faulty by orders to the nodes, or by packet rules where the cluster lives in ``Namespaces``. Rules: after ``heal``,
and however the ``with`` block is left, every node that still has its disk runs and nothing is wrong with any; a node
that ended by itself is written down in ``deaths`` before it is started again, so that nobody takes a crash for health.
One thread uses it.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Annotated, Literal, Self

import msgspec
from msgspec import Meta

from raftkv.experiment import Orders
from raftkv.instruments.lab.disks import SmallDisk
from raftkv.instruments.lab.faults import (
    AnyFault,
    Destroy,
    FullDisk,
    Kill,
    Loss,
    LostDisk,
    Pause,
    Places,
    Throttle,
    blocked,
    first_places,
    is_resolved,
    orders,
    resolve,
)
from raftkv.instruments.lab.namespaces import Namespaces
from raftkv.instruments.local.cluster import LocalCluster


class Planned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault that begins ``at_s`` seconds after the start and lasts ``for_s``."""

    at_s: Annotated[float, Meta(ge=0)]
    for_s: Annotated[float, Meta(gt=0)]
    fault: AnyFault


class FaultEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something the nemesis did; ``at_ns`` is on the clock of the history."""

    at_ns: int
    what: Literal["begin", "end"]
    fault: AnyFault


class Nemesis:
    """Does faults to ``cluster``; ``random`` chooses where a fault says only what kind of node it wants."""

    def __init__(
        self,
        cluster: LocalCluster,
        *,
        random: Random,
        namespaces: Namespaces | None = None,
        disks: Mapping[str, SmallDisk] | None = None,
        observe: Callable[[FaultEvent], None] | None = None,
    ) -> None:
        """``disks`` are the small disks that nodes live on, by node; ``observe`` is told of every event."""
        self.events: list[FaultEvent] = []
        self.deaths: list[tuple[str, int]] = []
        self.destroyed: set[str] = set()
        self._same: Places = ()
        self._cluster = cluster
        self._random = random
        self._namespaces = namespaces
        self._disks = dict(disks or {})
        self._observe = observe
        self._active: list[AnyFault] = []
        self._told: dict[str, Orders] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.heal()

    @property
    def lasting(self) -> tuple[AnyFault, ...]:
        """The faults that have begun and not ended."""
        return tuple(self._active)

    def begin(self, fault: AnyFault) -> AnyFault:
        """Let ``fault`` begin; returns it with its places named, which is what ``end`` wants."""
        if not is_resolved(fault, self._cluster.nodes):  # who leads is asked of all, and one that hangs takes its time
            leader = self._cluster.leader_now() or self._random.choice(self._cluster.nodes)
            fault = resolve(fault, self._cluster.nodes, leader, self._random, self._same)
        self._same = first_places(fault)
        self.note_deaths()
        if isinstance(fault, Kill | Destroy | LostDisk):
            self._fell(fault)
        elif isinstance(fault, Pause):
            running = [node for node in fault.nodes if node in self._cluster.processes]
            self._cluster.pause(*running, part=fault.part)
        elif isinstance(fault, FullDisk):
            for node in fault.nodes:
                if node in self._disks:
                    self._disks[node].fill(fault.leave_bytes)
        self._active.append(fault)
        self._apply()
        self._note("begin", fault)
        return fault

    def _fell(self, fault: Kill | Destroy | LostDisk) -> None:
        running = [node for node in fault.nodes if node in self._cluster.processes]
        for node in running:
            self._told.pop(node, None)
        self._cluster.kill(*running)
        if isinstance(fault, Destroy):
            self.destroyed |= set(fault.nodes)
        if not isinstance(fault, Kill):
            for node in fault.nodes:
                shutil.rmtree(self._cluster.data_dir(node), ignore_errors=True)

    def end(self, fault: AnyFault) -> None:
        """Let ``fault``, which ``begin`` returned, end."""
        self._active.remove(fault)
        self._undo(fault)
        self._apply()
        self._note("end", fault)

    def heal(self) -> None:
        """End everything, and start every node that can be started; does not wait until they are ready."""
        while self._active:
            self.end(self._active[-1])
        self.revive()

    def revive(self) -> None:
        """Start the nodes that ended by themselves; one that a fault broke may take until long after it to end."""
        self._start(self._cluster.nodes)

    def _note(self, what: Literal["begin", "end"], fault: AnyFault) -> None:
        self.events.append(FaultEvent(at_ns=time.monotonic_ns(), what=what, fault=fault))
        if self._observe is not None:
            self._observe(self.events[-1])

    def _undo(self, fault: AnyFault) -> None:
        if isinstance(fault, Pause):
            still = self._paused()
            self._cluster.resume(*(n for n in fault.nodes if n in self._cluster.processes and n not in still))
        elif isinstance(fault, FullDisk):
            for node in fault.nodes:
                if node in self._disks:
                    self._disks[node].free()
            self._start(fault.nodes)
        elif isinstance(fault, Kill | LostDisk):
            self._start(fault.nodes)

    def _start(self, nodes: Sequence[str]) -> None:
        """Start those of ``nodes`` that do not run, unless another fault wants them down."""
        self.note_deaths()
        killed = {node for fault in self._active if isinstance(fault, Kill | LostDisk) for node in fault.nodes}
        killed |= self.destroyed
        down = [node for node in nodes if node not in self._cluster.processes and node not in killed]
        if down:
            self._cluster.start(*down)

    def note_deaths(self) -> None:
        """Write down which nodes ended by themselves since this was done last."""
        for node, status in self._cluster.ended().items():
            self._told.pop(node, None)
            self.deaths.append((node, status))

    def _paused(self) -> set[str]:
        return {node for fault in self._active if isinstance(fault, Pause) for node in fault.nodes}

    def _apply(self) -> None:
        """Make links, clocks and disks what the faults that last make of them."""
        nodes = self._cluster.nodes
        if self._namespaces is not None:
            losses = {node: fault.share for fault in self._active if isinstance(fault, Loss) for node in fault.nodes}
            rates = {n: fault.bytes_per_s for fault in self._active if isinstance(fault, Throttle) for n in fault.nodes}
            self._namespaces.drop(blocked(self._active, nodes), losses)
            self._namespaces.throttle(rates)
        for node in self._cluster.processes.keys() - self._paused():
            wanted = orders(node, nodes, self._active, links=self._namespaces is None)
            full = [f for f in self._active if isinstance(f, FullDisk) and node in f.nodes and node not in self._disks]
            if full:
                wanted = msgspec.structs.replace(wanted, free_bytes=min(fault.leave_bytes for fault in full))
            if wanted != self._told.get(node, Orders()):
                self._cluster.order(node, wanted)
                self._told[node] = wanted


def play(nemesis: Nemesis, plan: Sequence[Planned], stopping: threading.Event) -> None:
    """Let everything of ``plan`` begin and end in its time, then heal; returns early when ``stopping`` is set."""
    began_s = time.monotonic()
    steps = [(planned.at_s, 1, number) for number, planned in enumerate(plan)]
    steps += [(planned.at_s + planned.for_s, 0, number) for number, planned in enumerate(plan)]
    lasting: dict[int, AnyFault] = {}
    for at_s, is_begin, number in sorted(steps):
        if stopping.wait(max(0.0, began_s + at_s - time.monotonic())):
            break
        if is_begin:
            lasting[number] = nemesis.begin(plan[number].fault)
        else:
            nemesis.end(lasting.pop(number))
    nemesis.heal()
