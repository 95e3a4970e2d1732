"""Clients and operators of a simulated leaderless cluster.

A client asks nothing twice; what it asks, and notes, is in ``quorum_operations``. Operators let machines join and
leave, lose disks, change sizes and ask for repairs. The judging is done in ``promises``.
"""

from __future__ import annotations

import random as random_module
from collections import Counter
from typing import TYPE_CHECKING, Final

from raftkv.core.errors import Refused
from raftkv.core.replicator import Pending
from raftkv.core.requests import AddMember, Configure, Put, RemoveMember, Repair, Request, Write
from raftkv.core.results import MembersChanged, Outcome, Written
from raftkv.formats.gossip import MemberEntry, Phase
from raftkv.formats.versions import KeyState
from raftkv.instruments.sim.clients import Operation, SimulatedCall, SimulatedClient, SimulatedClients
from raftkv.instruments.sim.cluster import SimulatedCluster
from raftkv.instruments.sim.machines import SimulatedMachine
from raftkv.instruments.sim.notes import Asked
from raftkv.instruments.sim.plan import Plan
from raftkv.instruments.sim.promises import Promises, check_history
from raftkv.instruments.sim.quorum_operations import KINDS, PASSING, Asking, get
from raftkv.instruments.sim.quorum_plan import CHANGE_RIGHTS, QuorumPlan
from raftkv.instruments.sim.users import SimulatedUsers

if TYPE_CHECKING:
    from raftkv.instruments.sim.quorum import QuorumMode

_WAIT_S: Final = 0.02


class QuorumClients(SimulatedClients):
    """See ``SimulatedClients``; operators are here, too. ``asked`` is the history, in order of invocation."""

    def __init__(self, cluster: SimulatedCluster, plan: Plan, quorum: QuorumPlan, mode: QuorumMode) -> None:
        keys = [b"k%d" % number for number in range(plan.keys)]
        super().__init__(cluster, plan, quorum.actions, keys, dice="quorum clients")
        self.asked: list[Asked] = []
        self.events: Counter[str] = Counter()
        self._quorum = quorum
        self._mode = mode
        self._probes_count = 0
        self._users = SimulatedUsers(random_module.Random(f"users {plan.seed}"), is_used=plan.has_users)
        for client in self._clients if plan.has_users else ():
            client.users = self._users

    def begin(self, end_s: float) -> None:
        """See ``SimulatedClients``; operators act meanwhile."""
        super().begin(end_s)
        if self._quorum.deeds:
            self._operators_rest()

    def audit(self) -> None:
        """See ``SimulatedClients``."""
        for key in self._keys:
            self._send(get(self._asking(self._auditor), key), self._random.choice(self._mode.useful()), 10.0)

    def probe(self, node: str) -> Pending:
        """See ``SimulatedClients``."""
        self._probes_count += 1
        put = Put(key=b"probe %d" % self._probes_count, value=node.encode())
        write = Write(
            operations=(put,),
            caller=self._users.operator,
            acks=min(self._quorum.settings["w"], len(self._mode.useful())),
        )
        return self._cluster.machines[node].submit(write, 4 * self._plan.pace_s)

    def check_end(self) -> None:
        """Judge what clients were told, now that all replicas are level."""
        final: dict[bytes, KeyState] = {}
        for replica in self._mode.replicas():
            final |= replica.contents()
        promises = Promises(
            keeps_siblings=self._quorum.settings["conflicts"] == "siblings",
            losses=self._mode.losses + self.events["leave"],
            # A node that lost its disk asks as many as the cluster's own W leaves necessary.
            reads_meet_writes=not self._mode.losses or len(self._quorum.sizes) == 1,
        )
        check_history([one for one in self.asked if one.key != PASSING], final, promises)
        found = {value for one in self.asked for value in one.found}
        found |= {version.value for state in final.values() for version in state.versions if version.value is not None}
        self._mode.rights.check([one for one in self.asked if one.caller is not None], found, promises.losses)

    # --- ``Observer``

    def ending(self, machine: SimulatedMachine, *, power: bool) -> None:  # noqa: ARG002
        """See ``Observer``: a process that ends breaks its clients' connections."""
        for call in self._calls_at(machine.name):
            self._end(call)

    # --- asking

    def _asking(self, client: SimulatedClient) -> Asking:
        return Asking(client, self._quorum, self._keys, self._cluster.now_s)

    def _ask(self, client: SimulatedClient, kind: str) -> None:
        operation = KINDS[kind](self._asking(client), self._random.choice(self._keys))
        node = self._random.choice(self._mode.members())
        self._send(operation, node, self._random.uniform(*self._plan.timeout_s))

    def _send(self, operation: Operation, node: str, timeout_s: float) -> None:
        call = SimulatedCall(operation, timeout_s)
        self._sent(call, node)
        self.asked += [note for note in operation.notes if isinstance(note, Asked)]
        self._cluster.schedule.after(timeout_s * self._random.uniform(0.7, 2.0), lambda: self._end(call))
        self._arrive(call)

    def _arrive(self, call: SimulatedCall) -> None:
        """The request is there, if there is somebody; at a paused node it waits in the socket."""
        if call.is_over:
            return
        machine = self._cluster.machines[call.node]
        if machine.is_paused:
            self._cluster.schedule.after(_WAIT_S, lambda: self._arrive(call))
        elif machine.process is None:
            call.operation.failed(None, may_have_happened=False)
            self._end(call)
        else:
            pending = machine.submit(call.operation.request, call.timeout_s)
            pending.when_done(lambda outcome: self._answered(call, outcome))

    def _answered(self, call: SimulatedCall, outcome: Outcome) -> None:
        if not call.is_over:
            call.operation.answered(outcome)
            self._end(call)

    # --- operators

    def _operators_rest(self) -> None:
        delay_s = self._random.expovariate(1.0) * self._quorum.deed_every_s
        self._cluster.schedule.after(delay_s, self._operate)

    def _operate(self) -> None:
        if self._cluster.now_s >= self._end_s:
            return
        deeds = self._quorum.deeds
        deed = self._random.choices(list(deeds), list(deeds.values()))[0]
        running = [replica.name for replica in self._mode.replicas()]
        if running:
            self._do(deed, self._random.choice(running), running)
        self._operators_rest()

    def _do(self, deed: str, via: str, running: list[str]) -> None:
        others = self._mode.strangers(via)
        operator = self._users.operator
        request: Request | None = None
        if deed == "join" and others:
            name = self._random.choice(others)
            request = AddMember(id=name, http=f"{name}:1", peer=f"{name}:2", caller=operator)
        elif deed == "leave" and not self._mode.is_changing and len(running) > self._quorum.settings["n"]:
            request = RemoveMember(id=self._random.choice(running), caller=operator)
        elif deed == "sizes":
            n, r, w = self._random.choice(self._quorum.sizes)
            request = Configure(n=n, r=r, w=w, caller=operator)
        elif deed == "repair":
            request = Repair(caller=operator)
        elif deed == CHANGE_RIGHTS:
            request = Write(operations=self._users.change(), caller=operator)
        elif deed == "lose disk" and self._mode.losses < self._quorum.losses:
            self._mode.lose_disk(via)
        elif deed == "set clocks":
            self._mode.set_clocks()
            self.events[deed] += 1
        if request is None:
            return
        self._cluster.note("op", f"asks {via}: {request}")
        pending = self._cluster.machines[via].submit(request, 5.0)
        pending.when_done(lambda outcome: self._done(deed, request, outcome))

    def _done(self, deed: str, request: Request, outcome: Outcome) -> None:
        self._cluster.note("op", f"{deed}: {type(outcome).__name__}")
        if isinstance(outcome, Refused):
            return
        self.events[deed] += 1
        if isinstance(request, Write) and isinstance(outcome, Written):
            self._mode.rights.acknowledged(outcome.revision, outcome.acks, self._cluster.now_s)
        if isinstance(request, AddMember) and isinstance(outcome, MembersChanged):
            entries = tuple(
                MemberEntry(one.id, one.http, one.peer, phase=Phase.JOINING if one.id == request.id else Phase.UP)
                for one in outcome.members
            )
            self._cluster.schedule.after(0.001, lambda: self._mode.let_in(request.id, entries))
