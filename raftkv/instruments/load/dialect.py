"""How a cluster is spoken to: raftkv's own interface, or etcd's JSON gateway. Requests are bytes, answers values. Pure.

A write's answer is ``None`` when it is good, a read's answer the values that were found; anything else is a
``Failure``. In doubt a write's outcome is unknown. A read that failed changed nothing, so it is never in doubt.
"""

from __future__ import annotations

from functools import cache
from typing import Final, Protocol
from urllib.parse import urlencode

import msgspec

from raftkv.api import paths
from raftkv.api.answers import SiblingsAnswer
from raftkv.api.headers import JSON
from raftkv.api.problems import read_problem
from raftkv.client.http1 import RequestForm
from raftkv.core.errors import Code, Effect, UsageError
from raftkv.instruments.load.engine import Failure
from raftkv.instruments.load.plan import LoadPlan

KEY_PREFIX: Final = "bench-"
_KEYS: Final = paths.filled(paths.KEY, KEY_PREFIX)
DETAIL_MAX: Final = 200


class Dialect(Protocol):
    """Keys are numbers; values are bytes."""

    def put(self, key: int, value: bytes) -> bytes:
        """The request that writes ``value``."""

    def get(self, key: int) -> bytes:
        """The request that reads."""

    def delete(self, key: int) -> bytes:
        """The request that removes the key."""

    def written(self, status: int, body: bytes) -> Failure | None:
        """What the answer to ``put`` means."""

    def deleted(self, status: int, body: bytes) -> Failure | None:
        """What the answer to ``delete`` means; a key that was not there is as good as removed."""

    def found(self, status: int, body: bytes) -> tuple[bytes, ...] | Failure:
        """What the answer to ``get`` means: no value, one, or several that are siblings."""


@cache
def form(method: str, *headers: tuple[str, str]) -> RequestForm:
    """What all requests of ``method`` with ``headers`` have in common; any server is content with the host it names."""
    return RequestForm(method, [("Host", "127.0.0.1"), *headers])


def json_post(target: str, document: object) -> bytes:
    """``POST`` of ``document`` as JSON; bytes in it become base64, as etcd's gateway wants them."""
    return form("POST", ("Content-Type", JSON)).request(target, msgspec.json.encode(document))


class RaftkvDialect:
    """raftkv's native resource interface."""

    def __init__(self, plan: LoadPlan, token: str = "") -> None:
        """``token`` says who asks, where that matters."""
        shown = [("Authorization", f"Bearer {token}")] if token else []
        shared = {"timeout": f"{plan.timeout_s:g}"} if plan.timeout_s != LoadPlan().timeout_s else {}
        self._put, self._get, self._delete = [form(method, *shown) for method in ("PUT", "GET", "DELETE")]
        self._write_query = _query({**shared, "w": plan.w})
        self._delete_query = _query(shared)
        self._read_query = _query({**shared, "consistency": plan.consistency, "r": plan.r})

    def put(self, key: int, value: bytes) -> bytes:
        """``PUT /kv/{key}``, raw bytes."""
        return self._put.request(f"{_KEYS}{key}{self._write_query}", value)

    def get(self, key: int) -> bytes:
        """``GET /kv/{key}``, raw bytes."""
        return self._get.request(f"{_KEYS}{key}{self._read_query}")

    def delete(self, key: int) -> bytes:
        """``DELETE /kv/{key}``, on as many replicas as the cluster does it by default."""
        return self._delete.request(f"{_KEYS}{key}{self._delete_query}")

    def written(self, status: int, body: bytes) -> Failure | None:
        """200, 201, or 202 for a write that not even a majority has yet."""
        return None if 200 <= status < 300 else self._failure(status, body)

    def deleted(self, status: int, body: bytes) -> Failure | None:
        """200, 202, or 404 for no such key."""
        failure = self.written(status, body)
        return None if failure is None or failure.code == Code.NOT_FOUND else failure

    def found(self, status: int, body: bytes) -> tuple[bytes, ...] | Failure:
        """200, 404 for no such key, or 300 for siblings."""
        if status == 200:
            return (body,)
        if status == 404 and self._failure(status, body).code == Code.NOT_FOUND:
            return ()
        if status == 300:
            try:
                return msgspec.json.decode(body, type=SiblingsAnswer).values()
            except ValueError as error:
                return Failure(Effect.NO, "unreadable", str(error)[:DETAIL_MAX])
        return msgspec.structs.replace(self._failure(status, body), applied=Effect.NO)

    def _failure(self, status: int, body: bytes) -> Failure:
        problem = read_problem(body)
        if not problem.code:
            return Failure(Effect.UNKNOWN, f"status_{status}", repr(body[:DETAIL_MAX]))
        return Failure(Effect.NO if problem.is_definite else Effect.UNKNOWN, problem.code, problem.detail)


def _query(fields: dict[str, str]) -> str:
    named = {name: value for name, value in fields.items() if value}
    return f"?{urlencode(named)}" if named else ""


class _EtcdPair(msgspec.Struct, frozen=True):
    value: bytes = b""  # base64 in JSON, which is how msgspec reads bytes


class _EtcdRange(msgspec.Struct, frozen=True):
    kvs: list[_EtcdPair] = []


class _EtcdProblem(msgspec.Struct, frozen=True):
    code: int
    message: str = ""


class EtcdDialect:
    """etcd's v3 JSON gateway: keys and values travel in base64. Reads are linearizable, or ``local`` (serializable)."""

    def __init__(self, plan: LoadPlan) -> None:
        """Raises ``ValueError`` for a choice that etcd does not have."""
        if plan.r or plan.w or plan.consistency not in ("", "linearizable", "local"):
            raise UsageError("etcd has no r and w, and reads that are linearizable or local")
        self._is_local = plan.consistency == "local"

    def put(self, key: int, value: bytes) -> bytes:
        """``POST /v3/kv/put``."""
        return json_post("/v3/kv/put", {"key": f"{KEY_PREFIX}{key}".encode(), "value": value})

    def get(self, key: int) -> bytes:
        """``POST /v3/kv/range``; a serializable read is etcd's local one."""
        extra = {"serializable": True} if self._is_local else {}
        return json_post("/v3/kv/range", {"key": f"{KEY_PREFIX}{key}".encode(), **extra})

    def delete(self, key: int) -> bytes:
        """``POST /v3/kv/deleterange`` of one key."""
        return json_post("/v3/kv/deleterange", {"key": f"{KEY_PREFIX}{key}".encode()})

    def deleted(self, status: int, body: bytes) -> Failure | None:
        """200, whether or not there was such a key."""
        return self.written(status, body)

    def written(self, status: int, body: bytes) -> Failure | None:
        """200 and nothing else; the gateway does not say whether a write that failed was applied."""
        return None if status == 200 else self._failure(Effect.UNKNOWN, status, body)

    def found(self, status: int, body: bytes) -> tuple[bytes, ...] | Failure:
        """200, with no pair when there is no such key."""
        if status != 200:
            return self._failure(Effect.NO, status, body)
        try:
            return tuple([pair.value for pair in msgspec.json.decode(body, type=_EtcdRange).kvs])
        except msgspec.DecodeError as error:
            return Failure(Effect.NO, "unreadable", str(error)[:DETAIL_MAX])

    def _failure(self, applied: Effect, status: int, body: bytes) -> Failure:
        try:
            problem = msgspec.json.decode(body, type=_EtcdProblem)
        except msgspec.DecodeError:
            return Failure(applied, f"status_{status}", repr(body[:DETAIL_MAX]))
        return Failure(applied, f"grpc_{problem.code}", problem.message[:DETAIL_MAX])
