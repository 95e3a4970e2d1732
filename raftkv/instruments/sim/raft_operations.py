"""What clients ask of a raft cluster, kind by kind, and what they note of it for the checker of histories.

Rules: what is noted is what a client could know. As values are never used twice, a revision names a value.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from raftkv.core.requests import ABSENT, ANY, MAJORITY, Barrier, Consistency, Delete, Get, Put, Read, Write
from raftkv.core.results import Answer, DeleteDone, KeyRecord, Mismatch, Missing, Outcome, PutDone, Ready, Written
from raftkv.instruments.sim.clients import Operation, SimulatedClient
from raftkv.instruments.sim.cluster import SimulatedCluster
from raftkv.instruments.sim.machines import SimulatedMachine
from raftkv.instruments.sim.notes import OK, Seen
from raftkv.instruments.sim.raft_replica import SimulatedReplica


class KeyOperation(Operation):
    """Something asked about one key: a read, or a write."""

    def __init__(self, client: SimulatedClient, request: Read | Barrier | Write, seen: Seen) -> None:
        super().__init__(client, request, seen)
        self.seen = seen
        self.is_repeatable = not isinstance(request, Write) or request.idempotency_key is not None

    def answered(self, outcome: Outcome) -> None:
        """See ``Operation``."""
        if isinstance(outcome, Written):
            if outcome.committed:  # else the leader alone has it: it may be lost, and so it is unknown
                self._written(outcome)
            return
        assert isinstance(outcome, Answer)
        assert isinstance(outcome.content, KeyRecord | Missing)
        self.seen.outcome = OK
        if isinstance(outcome.content, KeyRecord):
            self.seen.result = outcome.content.value
            self.client.known[self.seen.key] = (outcome.content.value, outcome.content.mod_revision)

    def _written(self, written: Written) -> None:
        seen, (result,) = self.seen, written.results
        seen.outcome = OK
        if seen.kind == "delete":
            seen.result = isinstance(result, DeleteDone)
        elif seen.kind == "compare":
            seen.result = not isinstance(result, Mismatch | Missing)
        if isinstance(result, PutDone):
            assert seen.value is not None
            self.client.known[seen.key] = (seen.value, result.revision)


class BarrierGet(KeyOperation):
    """After the barrier the front-end reads the applied state itself."""

    def at_node(self, machine: SimulatedMachine, outcome: Outcome) -> Outcome:
        """See ``KeyOperation``."""
        if not isinstance(outcome, Ready):
            return outcome
        key, replica = self.seen.key, _replica(machine)
        content, revision = replica.shown(key) or Missing(key=key), replica.tables.shown_revision
        return Answer(content=content, consistency=Consistency.LINEARIZABLE, revision=revision)


class PutOnAll(KeyOperation):
    """What all replicas acknowledged is seen by local reads of each that was there all the time."""

    def arrives(self, cluster: SimulatedCluster) -> None:
        """See ``KeyOperation``."""
        self._lives = [(machine, machine.lives_count) for machine in cluster.machines.values()]

    def at_node(self, machine: SimulatedMachine, outcome: Outcome) -> Outcome:  # noqa: ARG002
        """See ``KeyOperation``."""
        if isinstance(outcome, Written):
            (result,) = outcome.results
            for other, lives_count in self._lives:
                if other.process is not None and other.lives_count == lives_count:
                    record = _replica(other).shown(self.seen.key)
                    is_older = (
                        record is not None and isinstance(result, PutDone) and record.mod_revision < result.revision
                    )
                    assert not is_older, f"{other.name} does not show a write that all replicas have acknowledged"
        return outcome


def _replica(machine: SimulatedMachine) -> SimulatedReplica:
    assert isinstance(machine.process, SimulatedReplica)
    return machine.process


# --- one function a kind


def _read(client: SimulatedClient, seen: Seen, consistency: Consistency = Consistency.LINEARIZABLE) -> KeyOperation:
    return KeyOperation(client, Read(query=Get(key=seen.key), consistency=consistency), seen)


def _delete(client: SimulatedClient, seen: Seen) -> KeyOperation:
    seen.kind = "delete"
    return KeyOperation(client, Write(operations=(Delete(key=seen.key),)), seen)


def _put(client: SimulatedClient, seen: Seen, *, acks: int = MAJORITY, once: bool = False) -> KeyOperation:
    seen.kind, seen.value = "put", client.new_value()
    put, name = Put(key=seen.key, value=seen.value), _name(seen) if once else None
    kind = PutOnAll if acks == client.plan.size > 1 else KeyOperation
    return kind(client, Write(operations=(put,), acks=acks, idempotency_key=name), seen)


def _passing_put(client: SimulatedClient, seen: Seen) -> KeyOperation:
    seen.kind, seen.key, seen.value = "put", b"passing", client.new_value()
    put = Put(key=seen.key, value=seen.value, ttl_ms=client.random.choice((1, 300, 3_000_000)))
    return KeyOperation(client, Write(operations=(put,)), seen)


def _compare(client: SimulatedClient, seen: Seen, *, on: str = "revision", deletes: bool = False) -> KeyOperation:
    """A conditional write: on absence, on presence, or on the last value known, which has this revision."""
    seen.kind = "compare"
    if on == "absence":
        seen.expected, match = None, ABSENT
    elif on == "presence" or seen.key not in client.known:
        seen.expected, match = True, ANY
    else:
        seen.expected, match = client.known[seen.key]
    if deletes:
        return KeyOperation(client, Write(operations=(Delete(key=seen.key, match=match),)), seen)
    seen.value = client.new_value()
    name = _name(seen) if client.random.random() < 0.5 else None
    put = Put(key=seen.key, value=seen.value, match=match)
    return KeyOperation(client, Write(operations=(put,), idempotency_key=name), seen)


def _name(seen: Seen) -> str:
    """An idempotency key: as no value is used twice, neither is its beginning."""
    assert seen.value is not None
    return seen.value[:20].decode()


KINDS: Final[dict[str, Callable[[SimulatedClient, Seen], KeyOperation]]] = {
    "get": _read,
    "lease get": partial(_read, consistency=Consistency.LEASE),
    "barrier get": lambda client, seen: BarrierGet(client, Barrier(), seen),
    "put": _put,
    "put once": partial(_put, once=True),
    "delete": _delete,
    "compare and set": _compare,
    "compare and delete": partial(_compare, deletes=True),
    "create": partial(_compare, on="absence"),
    "replace": partial(_compare, on="presence"),
    "put on one": partial(_put, acks=1),
    "put on all": lambda client, seen: _put(client, seen, acks=client.plan.size),
    "passing put": _passing_put,
}
