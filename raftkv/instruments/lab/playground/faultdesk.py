"""The buttons of a playground: what is broken now, done to the cluster by the laboratory's own nemesis, on one thread.

Every button is a fault of one node or of one link, on or off. Orders are done one after the other; each is answered
once it is in force. Bounded: ``WAITING_MAX`` orders wait at most.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from random import Random
from typing import Annotated, Final, Literal, Self

import msgspec
from msgspec import Meta

from raftkv.instruments.lab.faults import AnyFault, Delay, Kill, LostDisk, Partition, Pause
from raftkv.instruments.lab.nemesis import FaultEvent, Nemesis
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import ClusterError

WAITING_MAX: Final = 32
DONE_WITHIN_S: Final = 40.0
"""An order to a node that is only starting is in force once it has started."""

LOOK_S: Final = 0.5

PAST_MAX: Final = 100
"""Faults that are over, and that a new page is told of."""

FaultKind = Literal["cut", "slow", "pause", "kill", "lose"]
"""``lose``: the node's disk."""


class FaultOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a button asks for: ``places`` is one node, or two for the link between them."""

    kind: FaultKind
    places: Annotated[tuple[str, ...], Meta(min_length=1, max_length=2)]
    on: bool
    delay_ms: Annotated[int, Meta(ge=1, le=10_000)] = 300


class Lasting(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that lasts, or lasted, as a page shows it; both times are ``time.monotonic`` in milliseconds."""

    kind: FaultKind
    places: tuple[str, ...]
    at_ms: int
    until_ms: int | None = None


class FaultOrderError(ValueError):
    """An order that makes no sense to this cluster; the message is for a person."""


def fault_of(order: FaultOrder, nodes: Sequence[str]) -> AnyFault:
    """What ``order`` does to a cluster of ``nodes``; raises ``FaultOrderError``."""
    places = order.places
    unknown = [place for place in places if place not in nodes]
    if unknown or len(set(places)) != len(places):
        raise FaultOrderError(f"{' '.join(places)}: no node, and no two nodes, of {' '.join(nodes)}")
    if len(places) == 2 and order.kind in ("pause", "kill", "lose"):
        raise FaultOrderError(f"{order.kind}: happens to a node, not to a link")
    if order.kind == "pause":
        return Pause(nodes=places)
    if order.kind == "kill":
        return Kill(nodes=places)
    if order.kind == "lose":
        return LostDisk(nodes=places)
    if order.kind == "slow":
        return Delay(nodes=places[:1], peers=places[1:], delay_s=order.delay_ms / 1000)
    others = [tuple(node for node in nodes if node != place) for place in places]
    return Partition(groups=(places, others[0]) if len(places) == 1 else tuple(others))


class FaultDesk:
    """The desk of ``cluster``, which must be used by nothing else meanwhile."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.lasting: tuple[Lasting, ...] = ()
        self.past: tuple[Lasting, ...] = ()
        """The newest of those that are over, oldest first."""

        self.down: frozenset[str] = frozenset()
        """Nodes that do not run."""

        self._cluster = cluster
        self._nemesis = Nemesis(cluster, random=Random(0))  # noqa: S311  nothing is drawn from it
        self._active: dict[tuple[FaultKind, frozenset[str]], tuple[AnyFault, Lasting]] = {}
        self._orders: queue.Queue[tuple[Callable[[], None], Future[None]]] = queue.Queue(WAITING_MAX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="faults", daemon=True)

    @property
    def events(self) -> tuple[FaultEvent, ...]:
        """What was done so far."""
        return tuple(self._nemesis.events)

    @property
    def deaths(self) -> list[tuple[str, int]]:
        """Nodes that ended by themselves, with their exit status."""
        return list(self._nemesis.deaths)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Do no more; the cluster's own end wakes and ends what is left of it."""
        self._stopping.set()
        self._thread.join()

    def order(self, order: FaultOrder) -> None:
        """Do it and wait for it; raises ``FaultOrderError``, and ``ClusterError`` when it cannot be done."""
        fault = fault_of(order, self._cluster.nodes)
        self._do(lambda: self._obey(order, fault))

    def heal(self) -> None:
        """End all faults, start every node that is down, and wait for it; raises as ``order``."""
        self._do(self._heal)

    def _do(self, work: Callable[[], None]) -> None:
        done: Future[None] = Future()
        try:
            self._orders.put_nowait((work, done))
        except queue.Full:
            raise ClusterError("too many orders wait already") from None
        try:
            done.result(DONE_WITHIN_S)
        except TimeoutError:
            raise ClusterError(f"not done within {DONE_WITHIN_S:g} s; it may still happen") from None

    # -- on the thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                work, done = self._orders.get(timeout=LOOK_S)
            except queue.Empty:
                work, done = self._look, Future()
            try:
                work()
            except (ClusterError, OSError) as error:
                done.set_exception(error if isinstance(error, ClusterError) else ClusterError(str(error)))
            else:
                done.set_result(None)
            self._show()

    def _look(self) -> None:
        self._nemesis.note_deaths()

    def _show(self) -> None:
        self.lasting = tuple(shown for _, shown in self._active.values())
        self.down = frozenset(self._cluster.nodes) - self._cluster.processes.keys()

    def _obey(self, order: FaultOrder, fault: AnyFault) -> None:
        place = (order.kind, frozenset(order.places))
        was = self._active.pop(place, None)
        if was is not None:  # also to be slow by another delay
            self._nemesis.end(was[0])
            self._note_over(was[1])
        elif not order.on and order.kind == "kill":
            self._nemesis.revive()  # it ended by itself
        if order.on:
            self._begin(place, order, fault)

    def _begin(self, place: tuple[FaultKind, frozenset[str]], order: FaultOrder, fault: AnyFault) -> None:
        if order.kind == "pause" and order.places[0] not in self._cluster.processes:
            raise ClusterError(f"{order.places[0]} does not run")
        lasting = Lasting(kind=order.kind, places=order.places, at_ms=_now_ms())
        self._active[place] = (fault, lasting)
        self._show()
        try:
            self._nemesis.begin(fault)
        finally:
            if fault not in self._nemesis.lasting:
                del self._active[place]

    def _heal(self) -> None:
        over = [shown for _, shown in self._active.values()]
        self._active.clear()
        self._nemesis.heal()
        self._note_over(*over)

    def _note_over(self, *shown: Lasting) -> None:
        now_ms = _now_ms()
        over = tuple(msgspec.structs.replace(each, until_ms=now_ms) for each in shown)
        self.past = (*self.past, *over)[-PAST_MAX:]


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
