"""What each system is asked and how its answers are judged: requests as ready bytes, checks as plain functions.

The load tester's dialects, and batches, which only benchmarks send. Both systems get the same keys and values, over the
same kind of connection. An answer counts only when its check says so; a read must carry a value that this benchmark
wrote. Pure: no sockets, no clock.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterable, Sequence

import msgspec

from raftkv.api.paths import BATCH
from raftkv.instruments.load.dialect import KEY_PREFIX, EtcdDialect, RaftkvDialect, json_post
from raftkv.instruments.load.plan import LoadPlan

VALUE_MARK = b"bench-value-"
"""Every value begins so."""

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
    noise = "".join(source.choices(string.ascii_letters + string.digits, k=65_536)).encode()
    length = value_bytes - len(VALUE_MARK)
    starts = (source.randrange(len(noise) - length) for _ in range(count))
    return [(number, VALUE_MARK + noise[at : at + length]) for number, at in enumerate(starts)]


class RaftkvBatches(RaftkvDialect):
    """raftkv's native resource interface."""

    def batch(self, pairs: Iterable[Pair]) -> bytes:
        """``POST /batch`` of puts."""
        puts = [{"op": "put", "key": f"{KEY_PREFIX}{key}", "value": value.decode()} for key, value in pairs]
        return json_post(BATCH, {"operations": puts})

    def batched(self, status: int, body: bytes) -> bool:
        """Every operation's own status must be one of success."""
        results = body.count(b'"op":')
        return status == 200 and results > 0 and body.count(b'"status":20') == results


class EtcdBatches(EtcdDialect):
    """etcd's v3 JSON gateway."""

    def batch(self, pairs: Iterable[Pair]) -> bytes:
        """``POST /v3/kv/txn`` without a condition, the nearest that etcd has to a batch; it takes at most 128."""
        puts = [{"requestPut": {"key": f"{KEY_PREFIX}{key}".encode(), "value": value}} for key, value in pairs]
        return json_post("/v3/kv/txn", {"success": puts})

    def batched(self, status: int, body: bytes) -> bool:
        """It was done."""
        return status == 200 and b'"succeeded":true' in body


Dialect = type[RaftkvBatches] | type[EtcdBatches]


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
