"""Clients of a simulated raft cluster: contending for a few keys, through every node, by connections that break.

Writes that carry an idempotency key and whose fate is unknown are sent again, through another node, until somebody
tells. What is asked, and noted, is in ``raft_operations``.
"""

from __future__ import annotations

import random as random_module
from typing import Final

from raftkv.core.errors import Refused, Unknown
from raftkv.core.replicator import Pending
from raftkv.core.requests import Put, Write
from raftkv.core.results import Answer, Outcome, Ready
from raftkv.instruments.sim.clients import SimulatedCall, SimulatedClient, SimulatedClients
from raftkv.instruments.sim.cluster import SimulatedCluster
from raftkv.instruments.sim.contenders import CONTENTION, Contenders
from raftkv.instruments.sim.front_ends import FrontEnds
from raftkv.instruments.sim.machines import SimulatedMachine
from raftkv.instruments.sim.notes import Seen
from raftkv.instruments.sim.plan import COORDINATION, Plan
from raftkv.instruments.sim.raft_operations import KINDS, OTHER
from raftkv.instruments.sim.users import SimulatedUsers
from raftkv.instruments.sim.watchers import Watchers
from raftkv.raft.standing.readmission import STOPPED

PROBE: Final = b"probe"
"""The key that ``probe`` writes."""

ATTEMPTS_COUNT: Final = 4
GRACE_PACES: Final = 2
"""After its deadline a read may stay for as long as its node takes to see that it leads no more."""

_HOP_S: Final = 0.001
_LOST: Final = Unknown(detail="the connection broke")
_NO_PATIENCE: Final = Unknown(detail="no patience left")


class RaftClients(SimulatedClients):
    """See ``SimulatedClients``. ``noted`` is all that was asked for; where that is of single keys, it is searched."""

    def __init__(self, cluster: SimulatedCluster, plan: Plan) -> None:
        keys = [b"k%d\xff" % number if number % 2 else b"k%d" % number for number in range(plan.keys)]
        super().__init__(cluster, plan, plan.actions, keys, dice="clients")
        self.noted: list[Seen] = []
        dice = random_module.Random(f"contenders {plan.seed}")
        limit_bytes = random_module.Random(f"front-ends {plan.seed}").choice((1, 300, 3_000, 1 << 18))
        users = SimulatedUsers(random_module.Random(f"users {plan.seed}"), is_used=plan.has_users)
        self._operator = users.operator
        for client in self._clients if plan.has_users else ():
            client.users = users
        front_ends = FrontEnds(cluster, self.noted, limit_bytes=limit_bytes, caller=users.operator)
        self.contenders = Contenders(cluster, front_ends, dice, plan.pace_s)
        self.watchers = Watchers(cluster, front_ends, plan)
        self._names = plan.names
        self._parked: dict[str, list[tuple[SimulatedCall, int]]] = {}

    def begin(self, end_s: float) -> None:
        """See ``SimulatedClients``: each begins with a node that it mostly asks."""
        self._end_s = end_s
        for client in self._clients:
            client.home = self._random.choice(self._names)
            self._rest(client)
        self.watchers.begin(end_s)

    def audit(self) -> None:
        """See ``SimulatedClients``: it asks until it is told."""
        for key in self._keys:
            self._call(self._auditor, key, "get", timeout_s=10 * self._plan.pace_s, attempts=float("inf"))

    def probe(self, node: str) -> Pending:
        """See ``SimulatedClients``."""
        write = Write(operations=(Put(key=PROBE, value=node.encode()),), caller=self._operator)
        return self._cluster.machines[node].submit(write, 4 * self._plan.pace_s)

    # --- ``Observer``: a process that ends breaks its clients' connections

    def ending(self, machine: SimulatedMachine, *, power: bool) -> None:
        """See ``Observer``; without power nobody says anything."""
        if not power:
            for call in self._calls_at(machine.name):
                self._hop(call, call.number, _LOST)

    def resumed(self, machine: SimulatedMachine) -> None:
        """See ``Observer``: it reads what waits in its sockets before it does anything else."""
        for call, number in self._parked.pop(machine.name, []):
            self._arrive(call, number)

    # --- asking

    def _ask(self, client: SimulatedClient, kind: str) -> None:
        if kind in CONTENTION:
            self.contenders.begin(client, kind, lambda: self._rest(client))
            return
        timeout_s = self._random.uniform(*self._plan.timeout_s)
        self._call(client, self._random.choice(self._keys), kind, timeout_s=timeout_s, attempts=ATTEMPTS_COUNT)

    def _call(self, client: SimulatedClient, key: bytes, kind: str, *, timeout_s: float, attempts: float) -> None:
        seen = Seen(client=client.number, key=key, kind="get", invoked_s=self._cluster.now_s, note=kind)
        operation = KINDS[kind](client, seen)
        self.noted.append(seen)
        if seen.kind != OTHER and not set(COORDINATION) & set(self._kinds):
            self.seen.append(seen)
        self._attempt(SimulatedCall(operation, timeout_s, attempts=attempts))

    def _attempt(self, call: SimulatedCall) -> None:
        """Ask a node: mostly the one that this client always asks."""
        client = call.operation.client
        if not client.home or self._random.random() < 0.4 or call.number:
            client.home = self._random.choice(self._names)
        call.number += 1
        call.attempts_left -= 1
        self._sent(call, client.home)
        number, schedule = call.number, self._cluster.schedule
        schedule.after(self._random.random() * _HOP_S, lambda: self._arrive(call, number))
        patience_s = call.timeout_s * self._random.uniform(0.7, 2.0)
        call.impatience = schedule.after(patience_s, lambda: self._told(call, number, _NO_PATIENCE))

    def _arrive(self, call: SimulatedCall, number: int) -> None:
        """The request is there, if there is somebody; at a paused node it waits in the socket."""
        if call.is_over or call.number != number:
            return
        machine, operation = self._cluster.machines[call.node], call.operation
        if machine.is_paused:
            self._parked.setdefault(machine.name, []).append((call, number))
        elif machine.process is None:
            self._cluster.schedule.after(_HOP_S, lambda: self._told(call, number, None))
        else:
            operation.arrives(self._cluster)
            pending = machine.submit(operation.request, call.timeout_s)
            pending.when_done(lambda outcome: self._answer(call, number, machine, outcome))
            self._expect_outcome(machine, pending, call.timeout_s)

    def _expect_outcome(self, machine: SimulatedMachine, pending: Pending, timeout_s: float) -> None:
        """A process that runs all the time gives every request an outcome by its deadline, or moments later."""
        process, grace_s = machine.process, GRACE_PACES * self._plan.pace_s
        if process is None:  # it has ended by this very request, which found damage
            return

        def check() -> None:
            if pending.outcome is None and machine.process is process and not machine.is_paused:
                assert self._cluster.now_s - machine.resumed_at_s < grace_s, f"{machine.name} forgot a request"

        self._cluster.schedule.after(timeout_s / machine.rate + grace_s, check)

    def _answer(self, call: SimulatedCall, number: int, machine: SimulatedMachine, outcome: Outcome) -> None:
        if isinstance(outcome, Answer | Ready) and machine.identity is not None:
            standing = machine.identity.standing
            assert standing not in STOPPED, f"{machine.name} answers a read, and its state differs"
        self._hop(call, number, call.operation.at_node(machine, outcome))

    def _hop(self, call: SimulatedCall, number: int, outcome: Outcome) -> None:
        self._cluster.schedule.after(self._random.random() * _HOP_S, lambda: self._told(call, number, outcome))

    # --- what came of it

    def _told(self, call: SimulatedCall, number: int, outcome: Outcome | None) -> None:
        """The client hears of it; ``None`` for an outcome: nobody was there."""
        if call.is_over or call.number != number:
            return
        if call.impatience is not None:
            call.impatience.cancel()
        if outcome is None or isinstance(outcome, Refused | Unknown):
            call.may_have_happened |= isinstance(outcome, Unknown)
            if self._may_try_again(call):
                self._try_again(call)
                return
            call.operation.failed(outcome, may_have_happened=call.may_have_happened)
        else:
            call.operation.answered(outcome)
        self._end(call)

    def _may_try_again(self, call: SimulatedCall) -> bool:
        """Reads and idempotent writes may be repeated whatever happened; others while nothing has."""
        return call.attempts_left > 0 and (call.operation.is_repeatable or not call.may_have_happened)

    def _try_again(self, call: SimulatedCall) -> None:
        delay_s = self._random.random() * 0.2 * self._plan.pace_s
        call.number, call.node, call.impatience = call.number + 1, "", None
        self._calls[id(call)] = self._calls.pop(id(call))  # the last to be told of what happens
        self._cluster.schedule.after(delay_s, lambda: self._attempt(call))
