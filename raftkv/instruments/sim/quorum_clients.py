"""Clients and operators of a simulated leaderless cluster, and what the clients were told.

A client names N, R and W itself, and asks nothing twice. Operators let machines join and leave, lose disks, change
sizes and ask for repairs.

Rules: what is noted is what a client could know; the judging is done in ``promises``.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from raftkv.core.errors import Refused
from raftkv.core.replicator import Pending
from raftkv.core.requests import (
    AddMember,
    Configure,
    Consistency,
    Delete,
    Get,
    List,
    Placing,
    Put,
    Read,
    RemoveMember,
    Repair,
    Request,
    Write,
)
from raftkv.core.results import (
    Answer,
    KeyPage,
    KeyRecord,
    MembersChanged,
    Outcome,
    QuorumWritten,
    Siblings,
    StampedAnswer,
)
from raftkv.formats.gossip import MemberEntry, Phase
from raftkv.formats.versions import KeyState
from raftkv.instruments.sim.clients import SimulatedClient, SimulatedClients
from raftkv.instruments.sim.cluster import SimulatedCluster
from raftkv.instruments.sim.machines import SimulatedMachine
from raftkv.instruments.sim.plan import Plan
from raftkv.instruments.sim.promises import Asked, Promises, check_history
from raftkv.instruments.sim.quorum_plan import QuorumPlan

if TYPE_CHECKING:
    from raftkv.instruments.sim.quorum import QuorumMode

PASSING: Final = b"passing"
_WAIT_S: Final = 0.02


class _Call:
    """One request under way."""

    def __init__(self, client: SimulatedClient, asked: list[Asked], request: Request, node: str) -> None:
        self.client, self.asked, self.request, self.node = client, asked, request, node
        self.is_over = False


class QuorumClients(SimulatedClients):
    """See ``SimulatedClients``; operators are here, too. ``asked`` is the history, in order of invocation."""

    def __init__(self, cluster: SimulatedCluster, plan: Plan, quorum: QuorumPlan, mode: QuorumMode) -> None:
        super().__init__(cluster, plan, quorum.actions, dice="quorum clients")
        self.asked: list[Asked] = []
        self.events: Counter[str] = Counter()
        self._quorum = quorum
        self._mode = mode
        self._probes_count = 0
        self._keeps_siblings = quorum.settings["conflicts"] == "siblings"

    def begin(self, end_s: float) -> None:
        """See ``SimulatedClients``; operators act meanwhile."""
        super().begin(end_s)
        if self._quorum.deeds:
            self._operators_rest()

    def audit(self) -> None:
        """See ``SimulatedClients``."""
        auditor = SimulatedClient(len(self._clients))
        for key in self._keys:
            asked = self._asked(auditor, key, "get")
            self._send(auditor, [asked], self._read(asked), self._random.choice(self._mode.useful()), 10.0)

    def probe(self, node: str) -> Pending:
        """See ``SimulatedClients``."""
        self._probes_count += 1
        put = Put(key=b"probe %d" % self._probes_count, value=node.encode())
        write = Write(operations=(put,), acks=min(self._quorum.settings["w"], len(self._mode.useful())))
        return self._cluster.machines[node].submit(write, 4 * self._plan.pace_s)

    def check_end(self) -> None:
        """Judge what clients were told, now that all replicas are level."""
        final: dict[bytes, KeyState] = {}
        for replica in self._mode.replicas():
            final |= replica.contents()
        promises = Promises(
            keeps_siblings=self._keeps_siblings,
            losses=self._mode.losses + self.events["leave"],
            # A node that lost its disk asks as many as the cluster's own W leaves necessary.
            reads_meet_writes=not self._mode.losses or len(self._quorum.sizes) == 1,
        )
        check_history([one for one in self.asked if one.key != PASSING], final, promises)

    # --- ``Observer``

    def ending(self, machine: SimulatedMachine, *, power: bool) -> None:  # noqa: ARG002
        """See ``Observer``: a process that ends breaks its clients' connections."""
        for call in [call for call in self._calls.values() if call.node == machine.name]:
            self._over(call)

    # --- asking

    def _ask(self, client: SimulatedClient, kind: str) -> None:
        asked, request = self._request(client, kind)
        node = self._random.choice(self._mode.members())
        self._send(client, asked, request, node, self._random.uniform(*self._plan.timeout_s))

    def _request(self, client: SimulatedClient, kind: str) -> tuple[list[Asked], Request]:
        key = self._random.choice(self._keys)
        if kind == "get":
            asked = self._asked(client, key, kind)
            return [asked], self._read(asked)
        if kind == "list":
            asked = self._asked(client, b"", kind)
            query = List(start=b"k", end=b"l", limit=self._random.choice((1, 2, 100)))
            return [asked], Read(query=query, consistency=Consistency.EVENTUAL, r=asked.r, placing=Placing(n=asked.n))
        count = self._random.randint(2, 3) if kind == "batch" else 1
        keys = [PASSING] if kind == "passing put" else self._random.sample(self._keys, min(count, len(self._keys)))
        written = [self._asked(client, key, "delete" if kind == "delete" else "put") for key in keys]
        first, context = written[0], b""
        if self._keeps_siblings and kind in ("put", "delete"):
            context = client.known.get(keys[0], b"")
        ttl_ms = self._random.choice((1, 300, 3_000_000)) if kind == "passing put" else 0
        operations = tuple(
            Put(key=one.key, value=one.value, ttl_ms=ttl_ms) if one.value is not None else Delete(key=one.key)
            for one in written
        )
        for one in written:
            one.n, one.w, one.is_strict, one.context = first.n, first.w, first.is_strict, context
        sloppy = False if first.is_strict else None
        return written, Write(
            operations=operations, acks=first.w, placing=Placing(n=first.n, sloppy=sloppy, context=context)
        )

    def _asked(self, client: SimulatedClient, key: bytes, kind: str) -> Asked:
        n, r, w = self._random.choice(self._quorum.sizes)
        asked = Asked(client=client.number, key=key, kind=kind, n=n, r=r, w=w, invoked_s=self._cluster.now_s)
        asked.is_strict = self._random.random() < self._quorum.strict
        if kind == "put":
            asked.value = self._value(client)
        return asked

    def _read(self, asked: Asked) -> Read:
        sloppy = False if asked.is_strict else None
        placing = Placing(n=asked.n, sloppy=sloppy)
        return Read(query=Get(key=asked.key), consistency=Consistency.EVENTUAL, r=asked.r, placing=placing)

    def _send(self, client: SimulatedClient, asked: list[Asked], request: Request, node: str, timeout_s: float) -> None:
        call = _Call(client, asked, request, node)
        for one in asked:
            one.node = node
        self.asked += asked
        self._calls[id(call)] = call
        self._cluster.schedule.after(timeout_s * self._random.uniform(0.7, 2.0), lambda: self._over(call))
        self._arrive(call, timeout_s)

    def _arrive(self, call: _Call, timeout_s: float) -> None:
        """The request is there, if there is somebody; at a paused node it waits in the socket."""
        if call.is_over:
            return
        machine = self._cluster.machines[call.node]
        if machine.is_paused:
            self._cluster.schedule.after(_WAIT_S, lambda: self._arrive(call, timeout_s))
        elif machine.process is None:
            for one in call.asked:
                one.outcome = "failed"
            self._over(call)
        else:
            machine.submit(call.request, timeout_s).when_done(lambda outcome: self._answered(call, outcome))

    def _answered(self, call: _Call, outcome: Outcome) -> None:
        if call.is_over:
            return
        for position, one in enumerate(call.asked):
            if isinstance(outcome, Refused):
                one.outcome = "failed"
            elif isinstance(outcome, Answer):
                self._read_answered(call.client, one, outcome)
            elif isinstance(outcome, QuorumWritten):
                one.outcome, one.replicas = "ok", outcome.replicas
                result = outcome.results[position]
                counter = getattr(result, "revision", 0) or outcome.revision
                one.stamp = (counter, getattr(result, "node", "") or ("" if self._keeps_siblings else call.node))
            one.note = repr(outcome)[:300]
        self._over(call)

    def _read_answered(self, client: SimulatedClient, asked: Asked, answer: Answer) -> None:
        asked.outcome, asked.replicas = "ok", answer.replicas
        node, asked.context = (answer.node, answer.context) if isinstance(answer, StampedAnswer) else ("", b"")
        asked.stamp = (answer.revision, node)
        content = answer.content
        records: tuple[KeyRecord, ...] = ()
        if isinstance(content, KeyRecord):
            records = (content,)
        elif isinstance(content, Siblings | KeyPage):
            records = content.records
        asked.found = tuple(record.value for record in records)
        if asked.kind == "get":
            client.known[asked.key] = asked.context

    def _over(self, call: _Call) -> None:
        if call.is_over:
            return
        call.is_over = True
        del self._calls[id(call)]
        for one in call.asked:
            one.returned_s = self._cluster.now_s
            self._note(one.client, one.kind, one.outcome, one.story())
        self._rest(call.client)

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
        request: Request | None = None
        if deed == "join" and others:
            name = self._random.choice(others)
            request = AddMember(id=name, http=f"{name}:1", peer=f"{name}:2")
        elif deed == "leave" and not self._mode.is_changing and len(running) > self._quorum.settings["n"]:
            request = RemoveMember(id=self._random.choice(running))
        elif deed == "sizes":
            n, r, w = self._random.choice(self._quorum.sizes)
            request = Configure(n=n, r=r, w=w)
        elif deed == "repair":
            request = Repair()
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
        if isinstance(request, AddMember) and isinstance(outcome, MembersChanged):
            entries = tuple(
                MemberEntry(one.id, one.http, one.peer, phase=Phase.JOINING if one.id == request.id else Phase.UP)
                for one in outcome.members
            )
            self._cluster.schedule.after(0.001, lambda: self._mode.let_in(request.id, entries))
