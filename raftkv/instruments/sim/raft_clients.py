"""Clients of a simulated raft cluster, and what they see: contending for a few keys, through every node.

Writes that carry an idempotency key and whose fate is unknown are sent again, through another node, until somebody
tells. As values are never used twice, a revision names a value.

Rules: what is noted is what a client could know.
"""

from __future__ import annotations

from typing import Final, Protocol, cast

from raftkv.core.errors import Refused, Unknown
from raftkv.core.replicator import Pending
from raftkv.core.requests import ABSENT, ANY, MAJORITY, Barrier, Consistency, Delete, Get, Put, Read, Request, Write
from raftkv.core.results import Answer, DeleteDone, KeyRecord, Mismatch, Missing, Outcome, PutDone, Ready, Written
from raftkv.instruments.sim.clients import FAILED, OK, UNKNOWN, Seen, SimulatedClient, SimulatedClients
from raftkv.instruments.sim.cluster import SimulatedCluster
from raftkv.instruments.sim.machines import Process, SimulatedMachine
from raftkv.instruments.sim.plan import Plan
from raftkv.instruments.sim.schedule import ScheduledEvent
from raftkv.raft.standing.readmission import STOPPED

PROBE: Final = b"probe"
"""The key that ``probe`` writes."""

ATTEMPTS_COUNT: Final = 4
GRACE_PACES: Final = 2
"""After its deadline a read may stay for as long as its node takes to see that it leads no more."""

_HOP_S: Final = 0.001
_LOST: Final = Unknown(detail="the connection broke")


class _Call:
    """One request under way."""

    def __init__(self, client: SimulatedClient, seen: Seen, request: Request, timeout_s: float) -> None:
        self.client, self.seen, self.request, self.timeout_s = client, seen, request, timeout_s
        self.attempts_left: float = 0
        self.may_have_happened = False
        self.is_over = False
        self.node = ""
        self.number = 0
        self.impatience: ScheduledEvent | None = None


class _ShowsState(Protocol):
    """A replica of raft mode, whose front-end reads the applied state itself."""

    def shown(self, key: bytes) -> KeyRecord | None: ...


def _shown(process: Process, key: bytes) -> KeyRecord | None:
    """What a front-end finds under ``key``."""
    return cast("_ShowsState", process).shown(key)


class RaftClients(SimulatedClients):
    """See ``SimulatedClients``."""

    def __init__(self, cluster: SimulatedCluster, plan: Plan) -> None:
        super().__init__(cluster, plan, plan.actions, dice="clients")
        self._names = plan.names
        self._parked: dict[str, list[tuple[_Call, int]]] = {}

    def begin(self, end_s: float) -> None:
        """See ``SimulatedClients``: each begins with a node that it mostly asks."""
        self._end_s = end_s
        for client in self._clients:
            client.home = self._random.choice(self._names)
            self._rest(client)

    def audit(self) -> None:
        """See ``SimulatedClients``: it asks until it is told."""
        auditor = SimulatedClient(len(self._clients))
        for key in self._keys:
            self._call(auditor, key, "get", timeout_s=10 * self._plan.pace_s, attempts=float("inf"))

    def probe(self, node: str) -> Pending:
        """See ``SimulatedClients``."""
        write = Write(operations=(Put(key=PROBE, value=node.encode()),))
        return self._cluster.machines[node].submit(write, 4 * self._plan.pace_s)

    # --- ``Observer``: a process that ends breaks its clients' connections

    def ending(self, machine: SimulatedMachine, *, power: bool) -> None:
        """See ``Observer``; without power nobody says anything."""
        if not power:
            for call in [call for call in self._calls.values() if call.node == machine.name]:
                self._later(call, _LOST)

    def resumed(self, machine: SimulatedMachine) -> None:
        """See ``Observer``: it reads what waits in its sockets before it does anything else."""
        for call, number in self._parked.pop(machine.name, []):
            self._arrive(call, number)

    # --- asking

    def _ask(self, client: SimulatedClient, kind: str) -> None:
        timeout_s = self._random.uniform(*self._plan.timeout_s)
        self._call(client, self._random.choice(self._keys), kind, timeout_s=timeout_s, attempts=ATTEMPTS_COUNT)

    def _call(self, client: SimulatedClient, key: bytes, kind: str, *, timeout_s: float, attempts: float) -> None:
        seen = Seen(client=client.number, key=key, kind="get", invoked_s=self._cluster.now_s)
        request = self._request(client, seen, kind)
        call = _Call(client, seen, request, timeout_s)
        call.attempts_left = attempts
        if kind != "passing put":
            self.seen.append(seen)
        self._attempt(call)

    def _request(self, client: SimulatedClient, seen: Seen, kind: str) -> Request:
        """What to ask for, and its note in ``seen``."""
        seen.note = kind
        match kind:
            case "get":
                return Read(query=Get(key=seen.key))
            case "lease get":
                return Read(query=Get(key=seen.key), consistency=Consistency.LEASE)
            case "barrier get":
                return Barrier()
            case "delete":
                seen.kind = "delete"
                return Write(operations=(Delete(key=seen.key),))
            case "put" | "put once" | "put on one" | "put on all" | "passing put":
                return self._put_request(client, seen, kind)
        return self._compare_request(client, seen, kind)

    def _put_request(self, client: SimulatedClient, seen: Seen, kind: str) -> Request:
        seen.kind, seen.value = "put", self._value(client)
        ttl_ms = 0
        if kind == "passing put":
            seen.key, ttl_ms = b"passing", self._random.choice((1, 300, 3_000_000))
        acks = {"put on one": 1, "put on all": self._plan.size}.get(kind, MAJORITY)
        put = Put(key=seen.key, value=seen.value, ttl_ms=ttl_ms)
        name = seen.value[:20].decode() if kind == "put once" else None
        return Write(operations=(put,), acks=acks, idempotency_key=name)

    def _compare_request(self, client: SimulatedClient, seen: Seen, kind: str) -> Request:
        """A conditional write: on absence, on presence, or on the last value known, which has this revision."""
        seen.kind, name = "compare", None
        if kind == "create":
            seen.expected, match = None, ABSENT
        elif kind == "replace" or seen.key not in client.known:
            seen.expected, match = True, ANY
        else:
            seen.expected, match = client.known[seen.key]
        if kind == "compare and delete":
            return Write(operations=(Delete(key=seen.key, match=match),))
        seen.value = self._value(client)
        if self._random.random() < 0.5:
            name = seen.value[:20].decode()
        return Write(operations=(Put(key=seen.key, value=seen.value, match=match),), idempotency_key=name)

    # --- one attempt

    def _attempt(self, call: _Call) -> None:
        """Ask a node: mostly the one that this client always asks."""
        client = call.client
        if not client.home or self._random.random() < 0.4 or call.number:
            client.home = self._random.choice(self._names)
        call.node = call.seen.node = client.home
        call.number += 1
        call.attempts_left -= 1
        self._calls[id(call)] = call
        number, schedule = call.number, self._cluster.schedule
        schedule.after(self._random.random() * _HOP_S, lambda: self._arrive(call, number))
        patience_s = call.timeout_s * self._random.uniform(0.7, 2.0)
        call.impatience = schedule.after(
            patience_s, lambda: self._told(call, number, Unknown(detail="no patience left"))
        )

    def _arrive(self, call: _Call, number: int) -> None:
        """The request is there, if there is somebody; at a paused node it waits in the socket."""
        if call.is_over or call.number != number:
            return
        machine = self._cluster.machines[call.node]
        if machine.is_paused:
            self._parked.setdefault(machine.name, []).append((call, number))
        elif machine.process is None:
            self._cluster.schedule.after(_HOP_S, lambda: self._told(call, number, None))
        else:
            lives = {name: other.lives_count for name, other in self._cluster.machines.items()}
            pending = machine.submit(call.request, call.timeout_s)
            pending.when_done(lambda outcome: self._answer(call, number, machine, outcome, lives))
            self._expect_outcome(machine, pending, call.timeout_s)

    def _expect_outcome(self, machine: SimulatedMachine, pending: Pending, timeout_s: float) -> None:
        """A process that runs all the time gives every request an outcome by its deadline, or moments later."""
        process, grace_s = machine.process, GRACE_PACES * self._plan.pace_s

        def check() -> None:
            if pending.outcome is None and machine.process is process and not machine.is_paused:
                assert self._cluster.now_s - machine.resumed_at_s < grace_s, f"{machine.name} forgot a request"

        self._cluster.schedule.after(timeout_s / machine.rate + grace_s, check)

    def _answer(
        self, call: _Call, number: int, machine: SimulatedMachine, outcome: Outcome, lives: dict[str, int]
    ) -> None:
        """A node has an answer; after a barrier its front-end reads what is committed."""
        content = None
        if isinstance(outcome, Answer | Ready) and machine.identity is not None:
            standing = machine.identity.standing
            assert standing not in STOPPED, f"{machine.name} answers a read, and its state differs"
        if isinstance(outcome, Ready) and machine.process is not None:
            content = _shown(machine.process, call.seen.key)
        if isinstance(outcome, Written) and call.seen.note == "put on all" and self._plan.size > 1:
            self._check_shown(call.seen.key, outcome, lives)
        self._cluster.schedule.after(self._random.random() * _HOP_S, lambda: self._told(call, number, outcome, content))

    def _check_shown(self, key: bytes, written: Written, lives: dict[str, int]) -> None:
        """What all replicas acknowledged is seen by local reads of each that was there all the time."""
        (result,) = written.results
        for machine in self._cluster.machines.values():
            if machine.process is not None and machine.lives_count == lives[machine.name]:
                record = _shown(machine.process, key)
                is_shown = record is None or not isinstance(result, PutDone) or record.mod_revision >= result.revision
                assert is_shown, f"{machine.name} does not show a write that all replicas have acknowledged"

    def _later(self, call: _Call, outcome: Outcome) -> None:
        number = call.number
        self._cluster.schedule.after(self._random.random() * _HOP_S, lambda: self._told(call, number, outcome))

    def _told(self, call: _Call, number: int, outcome: Outcome | None, content: KeyRecord | None = None) -> None:
        """The client hears of it; ``None`` for an outcome: nobody was there."""
        if call.is_over or call.number != number:
            return
        if call.impatience is not None:
            call.impatience.cancel()
        del self._calls[id(call)]
        definite = outcome is None or isinstance(outcome, Refused)
        if isinstance(outcome, Unknown):
            call.may_have_happened = True
        if (definite or isinstance(outcome, Unknown)) and self._may_try_again(call):
            delay_s = self._random.random() * 0.2 * self._plan.pace_s
            call.number, call.node, call.impatience = call.number + 1, "", None
            self._calls[id(call)] = call
            self._cluster.schedule.after(delay_s, lambda: self._attempt(call))
            return
        self._finish(call, outcome, content)

    def _may_try_again(self, call: _Call) -> bool:
        """Reads and idempotent writes may be repeated whatever happened; others while nothing has."""
        is_repeatable = not isinstance(call.request, Write) or call.request.idempotency_key is not None
        return call.attempts_left > 0 and (is_repeatable or not call.may_have_happened)

    # --- what came of it

    def _finish(self, call: _Call, outcome: Outcome | None, content: KeyRecord | None) -> None:
        call.is_over = True
        seen, client = call.seen, call.client
        seen.returned_s = self._cluster.now_s
        if outcome is None or isinstance(outcome, Refused | Unknown):
            seen.outcome = UNKNOWN if call.may_have_happened else FAILED
            seen.note += "" if outcome is None else f": {outcome.code}"
        elif isinstance(outcome, Answer):
            assert isinstance(outcome.content, KeyRecord | Missing)
            self._found(client, seen, outcome.content if isinstance(outcome.content, KeyRecord) else None)
        elif isinstance(outcome, Ready):
            self._found(client, seen, content)
        else:
            assert isinstance(outcome, Written)
            self._written(client, seen, outcome)
        self._note(client.number, seen.kind, seen.outcome, self._story(seen))
        self._rest(client)

    def _found(self, client: SimulatedClient, seen: Seen, record: KeyRecord | None) -> None:
        seen.outcome = OK
        if record is not None:
            seen.result = record.value
            client.known[seen.key] = (record.value, record.mod_revision)

    def _written(self, client: SimulatedClient, seen: Seen, written: Written) -> None:
        if not written.committed:
            return  # the leader alone has it: it may be lost, and so it is unknown
        (result,) = written.results
        seen.outcome = OK
        if seen.kind == "delete":
            seen.result = isinstance(result, DeleteDone)
        elif seen.kind == "compare":
            seen.result = not isinstance(result, Mismatch)
            if isinstance(result, Missing):
                seen.result = False
        if isinstance(result, PutDone):
            assert seen.value is not None
            client.known[seen.key] = (seen.value, result.revision)

    def _story(self, seen: Seen) -> str:
        parts = [f"{seen.note} {seen.key.decode()} at {seen.node} since {seen.invoked_s:.4f}: {seen.outcome}"]
        parts += [f"{name} {value[:16]!r}" for name, value in (("sets", seen.value),) if value is not None]
        if seen.outcome == OK and seen.kind != "put":
            parts.append(f"result {seen.result[:16] if isinstance(seen.result, bytes) else seen.result!r}")
        return ", ".join(parts)
