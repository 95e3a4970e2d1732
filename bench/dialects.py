"""What each system is asked and how its answers are judged: requests as ready bytes, checks as plain functions.

The load tester's dialects, and what only benchmarks send: batches, transactions, increments and leases. Both systems
get the same keys and values, over the same kind of connection. An answer counts only when its check says so; a read
must carry a value that this benchmark wrote. Pure: no sockets, no clock.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterable, Sequence

import msgspec

from raftkv.api import paths
from raftkv.api.bodies import Comparison, IncrementBody, NewLease, PutOperation, TransactionBody
from raftkv.instruments.load.dialect import KEY_PREFIX, EtcdDialect, RaftkvDialect, json_post
from raftkv.instruments.load.plan import LoadPlan

VALUE_MARK = b"bench-value-"
"""Every value begins so."""

COUNTER = "bench-counter"
LEASE_TTL_S = 3600
"""No lease ends during a run."""

Check = Callable[[int, bytes], bool]
Pair = tuple[int, bytes]
"""The number of a key, and its value."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Requests to send round and round, the judge of their answers, and how many operations each carries."""

    requests: Sequence[bytes]
    check: Check
    operations_per_request: int = 1


def pairs(count: int, value_bytes: int, seed: int = 1) -> list[Pair]:
    """``count`` keys with printable random values of ``value_bytes`` bytes, always the same ones."""
    assert value_bytes > len(VALUE_MARK)
    source = random.Random(seed)
    noise = "".join(source.choices(string.ascii_letters + string.digits, k=max(65_536, 2 * value_bytes))).encode()
    length = value_bytes - len(VALUE_MARK)
    starts = (source.randrange(len(noise) - length) for _ in range(count))
    return [(number, VALUE_MARK + noise[at : at + length]) for number, at in enumerate(starts)]


class RaftkvSpeech(RaftkvDialect):
    """raftkv's native resource interface."""

    def batch(self, pairs: Iterable[Pair]) -> bytes:
        """``POST /batch`` of puts."""
        puts = [{"op": "put", "key": f"{KEY_PREFIX}{key}", "value": value.decode()} for key, value in pairs]
        return json_post(paths.BATCH, {"operations": puts})

    def batched(self, status: int, body: bytes) -> bool:
        """Every operation's own status must be one of success."""
        results = body.count(b'"op":')
        return status == 200 and results > 0 and body.count(b'"status":20') == results

    def compare_and_put(self, key: int, value: bytes) -> bytes:
        """``POST /txn``: if the key has ``value``, put it again."""
        named, text = f"{KEY_PREFIX}{key}", value.decode()
        compare = Comparison(key=named, target="value", operand=text)
        body = TransactionBody(compare=[compare], success=[PutOperation(key=named, value=text)])
        return json_post(paths.TRANSACTION, body)

    def compared(self, status: int, body: bytes) -> bool:
        """The comparison held, and the put was done."""
        return status == 200 and b'"succeeded":true' in body

    def increment(self) -> bytes:
        """``POST /kv/{key}/increment`` of the one counter."""
        return json_post(paths.filled(paths.INCREMENT, COUNTER), IncrementBody())

    def incremented(self, status: int, body: bytes) -> bool:
        """It has a value now."""
        return status == 200 and b'"value":' in body

    def grant(self, lease: int = 0) -> bytes:
        """``POST /leases``, of this number or of any."""
        return json_post(paths.LEASES, NewLease(ttl=LEASE_TTL_S, id=lease or None))

    def granted(self, status: int, body: bytes) -> bool:
        """It is there; so it is when a repeat is told that it is."""
        return (status == 201 and b'"id":' in body) or status == 409

    def keep_alive(self, lease: int) -> bytes:
        """``POST /leases/{id}/keepalive``."""
        return json_post(paths.filled(paths.KEEPALIVE, str(lease)), {})

    def kept(self, status: int, body: bytes) -> bool:
        """It lives on."""
        return status == 200 and b'"ttl":' in body


class EtcdSpeech(EtcdDialect):
    """etcd's v3 JSON gateway."""

    def batch(self, pairs: Iterable[Pair]) -> bytes:
        """``POST /v3/kv/txn`` without a condition, the nearest that etcd has to a batch; it takes at most 128."""
        puts = [{"requestPut": {"key": f"{KEY_PREFIX}{key}".encode(), "value": value}} for key, value in pairs]
        return json_post("/v3/kv/txn", {"success": puts})

    def batched(self, status: int, body: bytes) -> bool:
        """It was done."""
        return status == 200 and b'"succeeded":true' in body

    def compare_and_put(self, key: int, value: bytes) -> bytes:
        """``POST /v3/kv/txn``: if the key has ``value``, put it again."""
        named = f"{KEY_PREFIX}{key}".encode()
        compare = {"key": named, "target": "VALUE", "result": "EQUAL", "value": value}
        put = {"requestPut": {"key": named, "value": value}}
        return json_post("/v3/kv/txn", {"compare": [compare], "success": [put]})

    def compared(self, status: int, body: bytes) -> bool:
        """The comparison held, and the put was done."""
        return self.batched(status, body)

    def grant(self, lease: int = 0) -> bytes:
        """``POST /v3/lease/grant``, of this number or of any."""
        return json_post("/v3/lease/grant", {"TTL": LEASE_TTL_S} | ({"ID": lease} if lease else {}))

    def granted(self, status: int, body: bytes) -> bool:
        """It is there; so it is when a repeat is told that it is."""
        return b'"ID":' in body if status == 200 else b"already exists" in body

    def keep_alive(self, lease: int) -> bytes:
        """``POST /v3/lease/keepalive``, which answers as a stream of one."""
        return json_post("/v3/lease/keepalive", {"ID": lease})

    def kept(self, status: int, body: bytes) -> bool:
        """It lives on; of a lease that there is not no time is told."""
        return status == 200 and b'"TTL":' in body


Dialect = type[RaftkvSpeech] | type[EtcdSpeech]


def puts(dialect: Dialect, pairs: Iterable[Pair]) -> Load:
    """One put in each request."""
    spoken = dialect(LoadPlan())
    requests = [spoken.put(key, value) for key, value in pairs]
    return Load(requests=requests, check=lambda status, body: spoken.written(status, body) is None)


def gets(dialect: Dialect, keys: Iterable[int], *, local: bool) -> Load:
    """One read in each request: linearizable, or whatever the asked node has."""
    spoken = dialect(LoadPlan(consistency="local" if local else ""))

    def check(status: int, body: bytes) -> bool:
        found = spoken.found(status, body)
        return isinstance(found, tuple) and len(found) == 1 and found[0].startswith(VALUE_MARK)

    return Load(requests=[spoken.get(key) for key in keys], check=check)


def batches(dialect: Dialect, pairs: Sequence[Pair], size: int) -> Load:
    """``size`` puts in each request."""
    spoken = dialect(LoadPlan())
    requests = [spoken.batch(pairs[start : start + size]) for start in range(0, len(pairs), size)]
    return Load(requests=requests, operations_per_request=size, check=spoken.batched)


def comparisons(dialect: Dialect, pairs: Iterable[Pair]) -> Load:
    """One transaction in each request: a comparison that holds, as the key was written before, and a put."""
    spoken = dialect(LoadPlan())
    return Load(requests=[spoken.compare_and_put(key, value) for key, value in pairs], check=spoken.compared)


def increments(dialect: Dialect, pairs: Iterable[Pair]) -> Load:
    """One increment of one key that all clients contend for; etcd has none, and its transactions stand for it."""
    if issubclass(dialect, EtcdSpeech):
        return comparisons(dialect, pairs)
    spoken = dialect(LoadPlan())
    return Load(requests=[spoken.increment()], check=spoken.incremented)


def grants(dialect: Dialect, leases: Iterable[int] = (0,)) -> Load:
    """A lease in each request, with these numbers, or with whichever the cluster chooses."""
    spoken = dialect(LoadPlan())
    return Load(requests=[spoken.grant(lease) for lease in leases], check=spoken.granted)


def keep_alives(dialect: Dialect, leases: Iterable[int]) -> Load:
    """A lease kept alive in each request; they were granted before."""
    spoken = dialect(LoadPlan())
    return Load(requests=[spoken.keep_alive(lease) for lease in leases], check=spoken.kept)
