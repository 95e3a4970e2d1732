"""What each system is asked and how its answers are judged: requests as ready bytes, checks as plain functions.

Both systems get the same keys and values, over the same kind of connection. An answer counts only when its check says
so; a read must carry a value that this benchmark wrote. Pure: no sockets, no clock.
"""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from raftkv.api.paths import BATCH, KEY, filled
from raftkv.instruments.load.dialect import form, json_post

VALUE_MARK = b"bench-value-"
"""Every value begins so; twelve bytes, so that its base64 form begins alike too."""

Check = Callable[[int, bytes], bool]
Pair = tuple[str, str]


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Requests to send round and round, the judge of their answers, and how many operations each carries."""

    requests: Sequence[bytes]
    check: Check
    operations_per_request: int = 1


class Dialect(Protocol):
    """How one system is spoken to over HTTP."""

    def puts(self, pairs: Sequence[Pair]) -> Load:
        """One put in each request."""

    def gets(self, keys: Sequence[str], *, local: bool) -> Load:
        """One read in each request: linearizable, or whatever the asked node has."""

    def batches(self, pairs: Sequence[Pair], size: int) -> Load:
        """``size`` puts in each request."""


def pairs(count: int, value_bytes: int, seed: int = 1) -> list[Pair]:
    """``count`` distinct keys with printable random values of ``value_bytes`` bytes, always the same ones."""
    assert value_bytes > len(VALUE_MARK)
    source = random.Random(seed)
    letters = string.ascii_letters + string.digits
    noise = "".join(source.choices(letters, k=65_536))
    length = value_bytes - len(VALUE_MARK)
    found = []
    for number in range(count):
        at = source.randrange(len(noise) - length)
        found.append((f"bench-{number:09d}", VALUE_MARK.decode() + noise[at : at + length]))
    return found


class RaftkvDialect:
    """raftkv's native resource interface."""

    def puts(self, pairs: Sequence[Pair]) -> Load:
        """``PUT /kv/{key}``, raw bytes."""
        put = form("PUT")
        requests = [put.request(filled(KEY, key), value.encode()) for key, value in pairs]
        return Load(requests=requests, check=lambda status, body: status in (200, 201) and b'"revision"' in body)

    def gets(self, keys: Sequence[str], *, local: bool) -> Load:
        """``GET /kv/{key}``, raw bytes."""
        suffix = "?consistency=local" if local else ""
        get = form("GET")
        requests = [get.request(filled(KEY, key) + suffix) for key in keys]
        return Load(requests=requests, check=lambda status, body: status == 200 and body.startswith(VALUE_MARK))

    def batches(self, pairs: Sequence[Pair], size: int) -> Load:
        """``POST /batch``; every operation's own status must be one of success."""
        requests = []
        for start in range(0, len(pairs), size):
            operations = [{"op": "put", "key": key, "value": value} for key, value in pairs[start : start + size]]
            requests.append(json_post(BATCH, {"operations": operations}))
        return Load(requests=requests, operations_per_request=size, check=_batch_check)


def _batch_check(status: int, body: bytes) -> bool:
    results = body.count(b'"op":')
    return status == 200 and results > 0 and body.count(b'"status":20') == results


class EtcdDialect:
    """etcd's v3 JSON gateway: keys and values travel in base64."""

    def puts(self, pairs: Sequence[Pair]) -> Load:
        """``POST /v3/kv/put``."""
        requests = [json_post("/v3/kv/put", {"key": _base64(key), "value": _base64(value)}) for key, value in pairs]
        return Load(requests=requests, check=lambda status, body: status == 200 and b'"revision"' in body)

    def gets(self, keys: Sequence[str], *, local: bool) -> Load:
        """``POST /v3/kv/range``; a serializable read is etcd's local one."""
        mark = base64.b64encode(VALUE_MARK)
        extra = {"serializable": True} if local else {}
        requests = [json_post("/v3/kv/range", {"key": _base64(key), **extra}) for key in keys]
        return Load(requests=requests, check=lambda status, body: status == 200 and mark in body)

    def batches(self, pairs: Sequence[Pair], size: int) -> Load:
        """``POST /v3/kv/txn`` without a condition, the nearest that etcd has to a batch; it takes at most 128."""
        requests = []
        for start in range(0, len(pairs), size):
            puts = [{"requestPut": {"key": _base64(k), "value": _base64(v)}} for k, v in pairs[start : start + size]]
            requests.append(json_post("/v3/kv/txn", {"success": puts}))

        def check(status: int, body: bytes) -> bool:
            return status == 200 and b'"succeeded":true' in body

        return Load(requests=requests, operations_per_request=size, check=check)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
