"""What clients of every simulated cluster have in common: they rest, ask for something, and note what they were told.

A client has one request under way at a time. It is answered, or its connection breaks with the node's process, or it
loses patience; a request whose fate it was not told is *unknown* to it. Values are never used twice.

What is asked is an ``Operation``: a request, and the notes that somebody judges. To let clients ask for one more kind
of thing, name it among the ``ACTIONS`` of the plan, make it in ``raft_operations`` or ``quorum_operations``
(``KINDS``), and judge its notes at the mode's ``check_end``. How a request travels, and whether it is repeated, is the
same for all kinds of one mode: ``raft_clients`` and ``quorum_clients``.
"""

from __future__ import annotations

import abc
import random as random_module
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from raftkv.core.errors import Refused, Unknown
from raftkv.core.replicator import Pending
from raftkv.core.requests import Request
from raftkv.core.results import Outcome
from raftkv.core.rights import Caller
from raftkv.instruments.sim.cluster import SimulatedCluster
from raftkv.instruments.sim.machines import Observer, SimulatedMachine
from raftkv.instruments.sim.notes import FAILED, UNKNOWN, Note, Seen
from raftkv.instruments.sim.plan import Plan
from raftkv.instruments.sim.schedule import ScheduledEvent
from raftkv.instruments.sim.users import SimulatedUsers


class SimulatedClient:
    """``known`` is what this client was told of each key and needs again: value and revision, or a context.

    It may ask as one of ``users``. In raft mode it was also granted ``leases`` and told of the store's ``revision``.
    """

    def __init__(self, number: int, plan: Plan, keys: Sequence[bytes], random: random_module.Random) -> None:
        self.number = number
        self.plan = plan
        self.keys = keys
        self.random = random
        self.home = ""
        self.known: dict[bytes, Any] = {}
        self.leases: list[int] = []
        self.revision = 0
        self.users: SimulatedUsers | None = None
        self._written_count = 0

    def asks_as(self) -> Caller | None:
        """Who asks now, if anybody says so."""
        return None if self.users is None else self.users.caller(self.number)

    def new_value(self) -> bytes:
        """A value that nobody has written yet."""
        self._written_count += 1
        value = b"%d-%d." % (self.number, self._written_count)
        return value + b"x" * self.random.choice(self.plan.value_bytes)


class Operation(abc.ABC):
    """Something that ``client`` asks for; ``notes`` are what it sees of it, one a key."""

    is_repeatable = False
    """May it happen twice?"""

    def __init__(self, client: SimulatedClient, request: Request, *notes: Note) -> None:
        self.client, self.request, self.notes = client, request, notes

    def arrives(self, cluster: SimulatedCluster) -> None:  # noqa: ARG002
        """A node is given the request."""
        return

    def at_node(self, machine: SimulatedMachine, outcome: Outcome) -> Outcome:  # noqa: ARG002
        """What the front-end of ``machine`` makes of ``outcome``, which its replica gives it."""
        return outcome

    @abc.abstractmethod
    def answered(self, outcome: Outcome) -> None:
        """Note what the client is told."""

    def failed(self, outcome: Refused | Unknown | None, *, may_have_happened: bool) -> None:
        """Note that nobody was there, or what is told of a failure."""
        for note in self.notes:
            note.outcome = UNKNOWN if may_have_happened else FAILED
            note.note += "" if outcome is None else f": {outcome.code}"


class SimulatedCall:
    """An operation under way: ``number`` counts its attempts, of which ``node`` has the last."""

    def __init__(self, operation: Operation, timeout_s: float, *, attempts: float = 1) -> None:
        self.operation, self.timeout_s, self.attempts_left = operation, timeout_s, attempts
        self.number = 0
        self.node = ""
        self.may_have_happened = self.is_over = False
        self.impatience: ScheduledEvent | None = None


class SimulatedClients(Observer, abc.ABC):
    """All clients of a run, who ask for ``keys``.

    ``seen`` is for the search for a linear order of each key, in order of invocation.
    """

    def __init__(
        self, cluster: SimulatedCluster, plan: Plan, actions: Mapping[str, float], keys: Sequence[bytes], *, dice: str
    ) -> None:
        """``actions`` are drawn by their weights; ``dice`` names this mode's clients' chance."""
        self.seen: list[Seen] = []
        self.counts: Counter[str] = Counter()
        self._cluster = cluster
        self._plan = plan
        self._random = random_module.Random(f"{dice} {plan.seed}")
        self._kinds, self._weights = list(actions), list(actions.values())
        self._keys = keys
        # One more, who asks for every key at the end.
        several = [SimulatedClient(one, plan, keys, self._random) for one in range(plan.clients + 1)]
        *self._clients, self._auditor = several
        self._calls: dict[int, SimulatedCall] = {}
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

    def _sent(self, call: SimulatedCall, node: str) -> None:
        """``call`` is on its way to ``node``."""
        call.node = node
        for note in call.operation.notes:
            note.node = node
        self._calls[id(call)] = call

    def _calls_at(self, node: str) -> list[SimulatedCall]:
        return [call for call in self._calls.values() if call.node == node]

    def _end(self, call: SimulatedCall) -> None:
        """``call`` has come to its end, if it had not before, and its client rests."""
        if call.is_over:
            return
        call.is_over = True
        del self._calls[id(call)]
        client = call.operation.client
        for note in call.operation.notes:
            note.returned_s = self._cluster.now_s
            self.counts[f"{note.kind} {note.outcome}"] += 1
            self._cluster.note(f"c{client.number}", note.story())
        self._rest(client)
