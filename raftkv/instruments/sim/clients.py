"""What clients of every simulated cluster have in common: they rest, ask for something, and note what they were told.

A client has one request under way at a time. It is answered, or its connection breaks with the node's process, or it
loses patience; a request whose fate it was not told is *unknown* to it. Values are never used twice. How a request is
made, judged and perhaps repeated is the mode's: ``raft_clients`` and ``quorum_clients``.
"""

from __future__ import annotations

import abc
import random as random_module
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from raftkv.core.replicator import Pending
from raftkv.instruments.sim.cluster import SimulatedCluster
from raftkv.instruments.sim.machines import Observer
from raftkv.instruments.sim.plan import Plan

OK, FAILED, UNKNOWN = "ok", "failed", "unknown"


class Seen(msgspec.Struct, kw_only=True):
    """One operation on one key as its client saw it; times in seconds of the simulation.

    ``kind`` is get, put, delete or compare; a compare expects the value ``expected``, ``None`` for no such key and
    ``True`` for any, and sets ``value``, ``None`` to delete. ``outcome`` is ok, failed or unknown, ``result`` what a
    get found, or whether a delete or compare changed anything.
    """

    client: int
    key: bytes
    kind: str
    value: bytes | None = None
    expected: bytes | bool | None = None
    invoked_s: float
    returned_s: float | None = None
    outcome: str = UNKNOWN
    result: bytes | bool | None = None
    node: str = ""
    note: str = ""


class SimulatedClient:
    """``known`` is what this client was told of each key and needs again: value and revision, or a context."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.written_count = 0
        self.home = ""
        self.known: dict[bytes, Any] = {}


class SimulatedClients(Observer, abc.ABC):
    """All clients of a run. ``seen`` is for the checker of linearizable histories, in order of invocation."""

    def __init__(self, cluster: SimulatedCluster, plan: Plan, actions: Mapping[str, float], *, dice: str) -> None:
        """``actions`` are drawn by their weights; ``dice`` names this mode's clients' chance."""
        self.seen: list[Seen] = []
        self.counts: Counter[str] = Counter()
        self._cluster = cluster
        self._plan = plan
        self._random = random_module.Random(f"{dice} {plan.seed}")
        self._kinds, self._weights = list(actions), list(actions.values())
        self._keys = [b"k%d" % number for number in range(plan.keys)]
        self._clients = [SimulatedClient(number) for number in range(plan.clients)]
        self._calls: dict[int, Any] = {}
        self._end_s = 0.0
        cluster.observers.append(self)

    def begin(self, end_s: float) -> None:
        """Let all clients ask until ``end_s``."""
        self._end_s = end_s
        for client in self._clients:
            self._rest(client)

    @property
    def is_quiet(self) -> bool:
        """Has everybody been answered, or lost patience?"""
        return not self._calls

    @abc.abstractmethod
    def audit(self) -> None:
        """One more client reads every key."""

    @abc.abstractmethod
    def probe(self, node: str) -> Pending:
        """A write through ``node``, which must run, that is not part of the history."""

    @abc.abstractmethod
    def _ask(self, client: SimulatedClient, kind: str) -> None:
        """Let ``client`` begin something of this kind."""

    def _rest(self, client: SimulatedClient) -> None:
        delay_s = self._random.expovariate(1.0) * self._plan.think_s
        self._cluster.schedule.after(delay_s, lambda: self._act(client))

    def _act(self, client: SimulatedClient) -> None:
        if self._cluster.now_s < self._end_s:
            self._ask(client, self._random.choices(self._kinds, self._weights)[0])

    def _value(self, client: SimulatedClient) -> bytes:
        client.written_count += 1
        value = b"%d-%d." % (client.number, client.written_count)
        return value + b"x" * self._random.choice(self._plan.value_bytes)

    def _note(self, client: int, kind: str, outcome: str, story: str) -> None:
        """Something has come to its end."""
        self.counts[f"{kind} {outcome}"] += 1
        self._cluster.note(f"c{client}", story)
