"""What clients ask of a raft cluster, kind by kind, and what they note of it for those who judge it.

Rules: what is noted is what a client could know. As values are never used twice, a revision names a value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from raftkv.core.keys import SYSTEM
from raftkv.core.requests import (
    ABSENT,
    ANY,
    MAJORITY,
    AnyOperation,
    Barrier,
    ChangesAfter,
    Compact,
    ComparedField,
    Consistency,
    CountKeys,
    Delete,
    DeleteSpan,
    FindLease,
    FindLeases,
    Get,
    Grant,
    Increment,
    KeepAlive,
    KeyComparison,
    List,
    Operator,
    Put,
    Read,
    Revoke,
    Touch,
    Transaction,
    Write,
    is_read,
    on_behalf,
)
from raftkv.core.results import (
    Answer,
    Compacted,
    DeleteDone,
    Granted,
    HistoryAhead,
    HistoryGone,
    KeptAlive,
    KeyRecord,
    Mismatch,
    Missing,
    Outcome,
    PutDone,
    Ready,
    Written,
)
from raftkv.instruments.sim.clients import Operation, SimulatedClient
from raftkv.instruments.sim.cluster import SimulatedCluster
from raftkv.instruments.sim.machines import WALL_S, SimulatedMachine
from raftkv.instruments.sim.notes import OK, Seen
from raftkv.instruments.sim.raft_replica import SimulatedReplica

OTHER: Final = "other"
"""The kind of all that the search for a linear order of each key does not know."""


class StoreOperation(Operation):
    """Anything that is asked of the store. ``noted`` stands for the request in the notes, where they differ."""

    def __init__(
        self,
        client: SimulatedClient,
        request: Read | Barrier | Write | KeepAlive | Compact,
        seen: Seen,
        *,
        noted: Read | None = None,
    ) -> None:
        if not isinstance(request, Barrier) and request.caller is None:
            request = on_behalf(request, client.asks_as())
        super().__init__(client, request, seen)
        self.seen = seen
        self.is_repeatable = not isinstance(request, Write) or request.idempotency_key is not None or is_read(request)
        seen.is_repeatable = self.is_repeatable
        seen.request = noted if isinstance(request, Barrier) else request

    def answered(self, outcome: Outcome) -> None:
        """See ``Operation``."""
        if isinstance(outcome, Written) and not outcome.committed:
            return  # the leader alone has it: it may be lost, and so it is unknown
        assert isinstance(outcome, Answer | Written | KeptAlive | Compacted | HistoryGone | HistoryAhead)
        self.seen.outcome, self.seen.answer = OK, outcome
        self._learn(outcome)

    def _learn(self, outcome: Outcome) -> None:
        client = self.client
        if isinstance(outcome, Answer | Written):
            client.revision = max(client.revision, outcome.revision)
        if isinstance(outcome, Written):
            client.leases += [result.lease for result in outcome.results if isinstance(result, Granted)]


class KeyOperation(StoreOperation):
    """Something asked about one key: a read, or a write."""

    def _learn(self, outcome: Outcome) -> None:
        super()._learn(outcome)
        if isinstance(outcome, Written):
            self._written(outcome)
            return
        assert isinstance(outcome, Answer)
        assert isinstance(outcome.content, KeyRecord | Missing)
        if isinstance(outcome.content, KeyRecord):
            self.seen.result = outcome.content.value
            self.client.known[self.seen.key] = (outcome.content.value, outcome.content.mod_revision)

    def _written(self, written: Written) -> None:
        seen, (result,) = self.seen, written.results
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
        """See ``Operation``."""
        if not isinstance(outcome, Ready):
            return outcome
        key, replica = self.seen.key, _replica(machine)
        content, revision = replica.shown(key) or Missing(key=key), replica.tables.shown_revision
        return Answer(content=content, consistency=Consistency.LINEARIZABLE, revision=revision)


class PutOnAll(KeyOperation):
    """What all replicas acknowledged is seen by local reads of each that was there all the time."""

    def arrives(self, cluster: SimulatedCluster) -> None:
        """See ``Operation``."""
        self._lives = [(machine, machine.lives_count) for machine in cluster.machines.values()]

    def at_node(self, machine: SimulatedMachine, outcome: Outcome) -> Outcome:  # noqa: ARG002
        """See ``Operation``."""
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


def _barrier_read(client: SimulatedClient, seen: Seen) -> KeyOperation:
    return BarrierGet(client, Barrier(), seen, noted=Read(query=Get(key=seen.key)))


def _delete(client: SimulatedClient, seen: Seen) -> KeyOperation:
    seen.kind = "delete"
    return KeyOperation(client, Write(operations=(Delete(key=seen.key),)), seen)


def _put(client: SimulatedClient, seen: Seen, *, acks: int = MAJORITY, once: bool = False) -> KeyOperation:
    seen.kind, seen.value = "put", client.new_value()
    put, name = Put(key=seen.key, value=seen.value), _name(seen) if once else None
    kind = PutOnAll if acks == client.plan.size > 1 else KeyOperation
    return kind(client, Write(operations=(put,), acks=acks, idempotency_key=name), seen)


def _passing_put(client: SimulatedClient, seen: Seen) -> KeyOperation:
    seen.kind, seen.key, seen.value = OTHER, b"passing", client.new_value()
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


# --- several keys, leases, the past

_COUNTERS: Final = (b"c0", b"c1")
_LEASES: Final = (1, 2, 3, 4)
_AGO_MS: Final = (0, 30, 200, 700, 3_000)
_OPEN: Final = (b"", SYSTEM)


def _asked(client: SimulatedClient, seen: Seen, request: Read | Write | KeepAlive | Compact) -> StoreOperation:
    seen.kind = OTHER
    return StoreOperation(client, request, seen)


def _writes(client: SimulatedClient, seen: Seen, *operations: AnyOperation, once: bool = False) -> StoreOperation:
    name = client.new_value()[:20].decode() if once else None
    return _asked(client, seen, Write(operations=operations, idempotency_key=name))


def _span(client: SimulatedClient) -> tuple[bytes, bytes]:
    """Some of the keys, or all."""
    first, last = sorted(client.random.choices(client.keys, k=2))
    return client.random.choice(((first, last), (first, last + b"~"), (b"k", b"l"), _OPEN))


def _delete_span(client: SimulatedClient) -> DeleteSpan:
    start, end = _span(client)
    return DeleteSpan(start=start, end=end)


def _ttl_ms(client: SimulatedClient) -> int:
    return client.random.choice((1, 100, 400, 2_000, 3_000_000))


def _lease(client: SimulatedClient) -> int:
    """One that was granted to this client, perhaps long ago, or that others may have."""
    return client.random.choice((*client.leases[-2:] * 4, *_LEASES))


def _past(client: SimulatedClient) -> int:
    return max(1, client.revision - client.random.choice((-1, 0, 0, 1, 2, 5, 20)))


def _moment(client: SimulatedClient, seen: Seen) -> tuple[int, int]:
    """A revision, or as often a time (ms) that may be just now or long past: the other is 0."""
    revision = _past(client)
    if revision % 2:
        return revision, 0
    return 0, int((WALL_S + seen.invoked_s) * 1000) - _AGO_MS[revision // 2 % len(_AGO_MS)]


def _increment(client: SimulatedClient) -> Increment:
    key = client.random.choice((*_COUNTERS, *_COUNTERS, client.random.choice(client.keys)))
    by, (minimum, maximum) = client.random.choice((1, 1, 7, -3)), client.random.choice(((None, None), (0, 20)))
    return Increment(key=key, by=by, minimum=minimum, maximum=maximum)


def _put_of(client: SimulatedClient, key: bytes) -> Put:
    """For ever, for a while, or for as long as a lease."""
    lease = _lease(client) if client.leases else 0
    ttl_ms, lease = client.random.choice(((0, 0), (_ttl_ms(client), 0), (0, lease)))
    return Put(key=key, value=client.new_value(), ttl_ms=ttl_ms, lease=lease)


def _keeping(client: SimulatedClient, key: bytes) -> Put:
    """A put that leaves the value, or the lease, or both as they are."""
    keeps_value, keeps_lease = client.random.choice(((True, False), (False, True), (True, True)))
    lease = _lease(client) if client.leases and not keeps_lease and client.random.random() < 0.5 else 0
    value = b"" if keeps_value else client.new_value()
    return Put(key=key, value=value, lease=lease, keeps_value=keeps_value, keeps_lease=keeps_lease)


def _comparison(client: SimulatedClient) -> KeyComparison:
    """What is known of a key, or something that may hold of all of them."""
    key = client.random.choice((*client.keys, _COUNTERS[0]))
    value, revision = client.known.get(key, (b"", 0))
    target, operand = client.random.choice(
        (
            (ComparedField.VALUE, value),
            (ComparedField.REVISION, revision),
            (ComparedField.CREATE_REVISION, revision),
            (ComparedField.VERSION, client.random.randrange(3)),
            (ComparedField.EXISTS, client.random.randrange(2)),
            (ComparedField.LEASE, 0),
        )
    )
    how = client.random.choice((Operator.EQUAL, Operator.EQUAL, *Operator))
    if client.random.random() < 0.2:
        start, of_none = client.random.choice(((b"k", False), (b"k", True), (key, True), (b"kk", True)))
        return KeyComparison(
            start=start, end=b"l", several=True, of_none=of_none, target=target, operator=how, operand=operand
        )
    return KeyComparison(start=key, target=target, operator=how, operand=operand)


def _in_branch(client: SimulatedClient, key: bytes, depth: int) -> AnyOperation:
    """Something that concerns ``key``, so that no branch writes one twice."""
    dice = client.random.random()
    if dice < 0.3 and depth < 2:
        return _transaction(client, [key], depth + 1)
    if key in _COUNTERS:
        return Increment(key=key, by=client.random.choice((1, 5)), maximum=client.random.choice((None, 20)))
    if dice < 0.6:
        return _put_of(client, key)
    return client.random.choice(
        (
            Get(key=key),
            Delete(key=key),
            Touch(key=key, ttl_ms=_ttl_ms(client)),
            List(start=b"", end=SYSTEM, limit=3),
            CountKeys(start=b"", end=SYSTEM),
            _keeping(client, key),
            DeleteSpan(start=key, end=key + b"~"),
        )
    )


def _transaction(client: SimulatedClient, keys: Sequence[bytes], depth: int = 0) -> Transaction:
    def branch() -> tuple[AnyOperation, ...]:
        chosen = client.random.sample(keys, client.random.randint(1, min(3, len(keys))))
        return tuple([_in_branch(client, key, depth) for key in chosen])

    comparisons = tuple([_comparison(client) for _ in range(client.random.choice((0, 1, 1, 2)))])
    return Transaction(comparisons=comparisons, success=branch(), failure=branch())


def _transact(client: SimulatedClient, seen: Seen, *, once: bool = False) -> StoreOperation:
    return _writes(client, seen, _transaction(client, (*client.keys, *_COUNTERS)), once=once)


def _batch(client: SimulatedClient, seen: Seen) -> StoreOperation:
    """Independent operations, which may concern one key several times."""
    some = [_in_branch(client, key, 2) for key in client.random.choices(client.keys, k=client.random.randint(2, 4))]
    return _writes(client, seen, *some, Get(key=seen.key))


def _of_lease(client: SimulatedClient, seen: Seen) -> StoreOperation:
    query = client.random.choice((FindLease(lease=_lease(client)), FindLeases()))
    return _asked(client, seen, Read(query=query))


def _list(client: SimulatedClient, seen: Seen, *, is_past: bool = False, is_local: bool = False) -> StoreOperation:
    start, end = _span(client)
    (revision, at_ms), limit = _moment(client, seen) if is_past else (0, 0), client.random.choice((1, 3, 100))
    keys_only = client.random.random() < 0.2
    query = List(start=start, end=end, limit=limit, keys_only=keys_only, revision=revision, at_ms=at_ms)
    return _asked(client, seen, Read(query=query, consistency=_level(is_local=is_local)))


def _count(client: SimulatedClient, seen: Seen) -> StoreOperation:
    start, end = _span(client)
    is_past, limit = client.random.random() < 0.5, client.random.choice((1, 3, 100))
    query = CountKeys(start=start, end=end, limit=limit, revision=_past(client) if is_past else 0)
    return _asked(client, seen, Read(query=query, consistency=_level(is_local=client.random.random() < 0.3)))


def _get(client: SimulatedClient, seen: Seen, *, is_past: bool = False, is_local: bool = False) -> StoreOperation:
    revision, at_ms = _moment(client, seen) if is_past else (0, 0)
    query = Get(key=seen.key, revision=revision, at_ms=at_ms)
    return _asked(client, seen, Read(query=query, consistency=_level(is_local=is_local)))


def _level(*, is_local: bool) -> Consistency:
    return Consistency.LOCAL if is_local else Consistency.LINEARIZABLE


def _changes(client: SimulatedClient, seen: Seen) -> StoreOperation:
    start, end = _span(client)
    limit_bytes, previous = client.random.choice((1, 200, 1 << 18)), client.random.random() < 0.5
    query = ChangesAfter(revision=_past(client), start=start, end=end, previous=previous, limit_bytes=limit_bytes)
    return _asked(client, seen, Read(query=query, consistency=_level(is_local=client.random.random() < 0.7)))


def _change_rights(client: SimulatedClient, seen: Seen) -> StoreOperation:
    assert client.users is not None
    return _asked(client, seen, Write(operations=client.users.change(), caller=client.users.operator))


KINDS: Final[dict[str, Callable[[SimulatedClient, Seen], StoreOperation]]] = {
    "get": _read,
    "lease get": partial(_read, consistency=Consistency.LEASE),
    "barrier get": _barrier_read,
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
    "transaction": _transact,
    "transaction once": partial(_transact, once=True),
    "batch": _batch,
    "increment": lambda client, seen: _writes(client, seen, _increment(client)),
    "increment once": lambda client, seen: _writes(client, seen, _increment(client), once=True),
    "delete span": lambda client, seen: _writes(client, seen, _delete_span(client)),
    "touch": lambda client, seen: _writes(client, seen, Touch(key=seen.key, ttl_ms=client.random.choice((0, 300)))),
    "grant": lambda client, seen: _writes(
        client, seen, Grant(ttl_ms=_ttl_ms(client), lease=client.random.choice((0, *_LEASES))), once=True
    ),
    "keep alive": lambda client, seen: _asked(client, seen, KeepAlive(leases=(_lease(client), _lease(client)))),
    "revoke": lambda client, seen: _writes(client, seen, Revoke(lease=_lease(client))),
    "leased put": lambda client, seen: _writes(
        client, seen, Put(key=seen.key, value=client.new_value(), lease=_lease(client))
    ),
    "compact": lambda client, seen: _asked(client, seen, Compact(revision=_past(client))),
    "list": _list,
    "count": _count,
    "keeping put": lambda client, seen: _writes(client, seen, _keeping(client, seen.key)),
    "several gets": lambda client, seen: _writes(client, seen, *[Get(key=key) for key in client.keys]),
    "local get": partial(_get, is_local=True),
    "local list": partial(_list, is_local=True),
    "past get": partial(_get, is_past=True),
    "past list": partial(_list, is_past=True),
    "changes": _changes,
    "leases": _of_lease,
    "change rights": _change_rights,
}
