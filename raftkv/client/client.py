"""The client: asks one server after the other until the cluster has answered or the time is up.

Rules. Every call ends by its deadline. A definite failure that may pass (no leader, overloaded, connection refused) is
retried at the next server, with growing and jittered waits between rounds, never sooner than ``Retry-After`` says. An
indefinite failure (504, connection lost) is retried only when sending twice does no harm: reads always; writes because
each carries a fresh ``Idempotency-Key``, the same on every attempt, so that the cluster applies it once. What is in
doubt when the time is up is raised as ``IndefiniteError``, even if the last attempt failed definitely.

This module must not import anything of the server.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import msgspec

from raftkv.client.errors import UNREACHABLE, Reply, Setback, judge
from raftkv.client.exchange import Call, Exchange, LostError, NotSentError
from raftkv.client.records import (
    Page,
    Record,
    json_from_body,
    page_from_json,
    record_from_json,
    value_from_json,
    value_to_json,
)
from raftkv.client.servers import Rounds, attempt_s, parse_servers
from raftkv.core.errors import Code, DefiniteError, IndefiniteError

Value = bytes | bytearray | memoryview | str
"""What can be stored; text is stored as UTF-8."""


class Client:
    """A key-value store as seen from Python. Values are bytes, keys are text (bytes are taken as UTF-8).

    ``servers`` is a list of addresses or a comma-separated string; by default ``RAFTKV_SERVERS``, then the embedded
    cluster on 127.0.0.1:8001-8003. The first is asked; on failure the next one, which is then stayed with.
    ``timeout_s`` bounds each call as a whole. ``idempotent=False`` sends writes without an ``Idempotency-Key``: then an
    indefinite failure is raised at once. ``retry=False`` asks every server once at most. ``tls_ca`` is a file of
    certificates to trust.

    One client belongs to one thread at a time; threads that work in parallel each make their own. There is no
    ``len()``: counting would mean reading every key. The exceptions are drawn in ``raftkv.client.errors``.
    """

    def __init__(
        self,
        servers: str | Sequence[str] | None = None,
        *,
        timeout_s: float = 5.0,
        idempotent: bool = True,
        retry: bool = True,
        tls_ca: str | None = None,
    ) -> None:
        """Make no connection yet; raises ``ValueError`` when an address makes no sense."""
        if not timeout_s > 0:
            raise ValueError("timeout_s must be above 0")
        self._servers = parse_servers(servers)
        self._timeout_s = timeout_s
        self._idempotent = idempotent
        self._retry = retry
        self._current = 0
        self._exchange = Exchange(tls_ca=tls_ca)

    @property
    def servers(self) -> tuple[str, ...]:
        """The base URLs."""
        return self._servers

    def close(self) -> None:
        """Close the connections; a later call opens them again."""
        self._exchange.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- reads

    def get(self, key: str | bytes, default: Any = None, *, consistency: str | None = None) -> Any:
        """The value under ``key`` as bytes, or ``default`` when there is none.

        ``consistency``: ``"linearizable"`` (the server's default), ``"lease"`` or ``"local"``.
        """
        reply = self._read(_path(key), {"consistency": consistency})
        return default if reply.status == 404 else reply.body

    def get_record(self, key: str | bytes, *, consistency: str | None = None) -> Record | None:
        """The value under ``key`` with its revisions and what kind of read it was; ``None`` when there is none."""
        reply = self._read(_path(key), {"consistency": consistency}, accept="application/json")
        return None if reply.status == 404 else record_from_json(reply.body, reply.headers)

    def page(
        self,
        prefix: str = "",
        *,
        start: str = "",
        end: str | None = None,
        limit: int | None = None,
        keys_only: bool = False,
        consistency: str | None = None,
    ) -> Page:
        """One page of the keys with ``prefix`` and ``start`` <= key < ``end``, in key order, all of one moment.

        The server limits a page to its ``http.max_list_limit``.
        """
        query = {"prefix": prefix or None, "start": start or None, "end": end, "limit": limit}
        reply = self._read("/kv", {**query, "keys_only": 1 if keys_only else None, "consistency": consistency})
        _must_exist(reply)
        return page_from_json(reply.body, reply.headers)

    def list(
        self, prefix: str = "", *, limit: int | None = None, keys_only: bool = False, consistency: str | None = None
    ) -> Iterator[Record]:
        """Every record with ``prefix``, in key order, fetched page by page; ``limit`` is the most there will be.

        Each page is of one moment, two pages are of two.
        """
        start, left = "", limit
        while left is None or left > 0:
            wanted = None if left is None else min(left, 1000)
            page = self.page(prefix, start=start, limit=wanted, keys_only=keys_only, consistency=consistency)
            yield from page.records
            if page.next is None:
                return
            start, left = page.next, None if left is None else left - len(page.records)

    def status(self) -> dict[str, Any]:
        """How the asked node sees itself and its cluster, as ``GET /status`` says it."""
        reply = self._read("/status", {})
        _must_exist(reply)
        return json_from_body(reply.body)

    # -- writes

    def set(
        self,
        key: str | bytes,
        value: Value,
        *,
        ttl: float | None = None,
        if_revision: int | None = None,
        if_absent: bool = False,
        acks: str | int | None = None,
    ) -> int:
        """Store ``value``; returns the revision of the write (0 when ``acks`` asked not to wait until it is known).

        ``ttl``: seconds until the key expires. ``if_revision``: only if the key stands at that revision (0: does not
        exist). ``if_absent``: only if it does not exist. Raises ``PreconditionFailed`` otherwise. ``acks``: how many
        replicas must hold the write before the answer: ``"majority"`` (default), ``"all"``, a number, or ``"leader"``,
        which may be lost.
        """
        if if_absent and if_revision is not None:
            raise ValueError("if_absent and if_revision exclude each other")
        headers = {"Content-Type": "application/octet-stream"}
        if if_absent:
            headers["If-None-Match"] = "*"
        if if_revision is not None:
            headers["If-Match"] = f'"{if_revision}"'
        body = _bytes(value)
        reply = self._write("PUT", _path(key), {"ttl": ttl, "w": acks}, headers, body)
        _must_exist(reply)
        return _revision(reply)

    def delete(self, key: str | bytes, *, if_revision: int | None = None, acks: str | int | None = None) -> bool:
        """Remove ``key``; says whether there was anything to remove. ``if_revision`` and ``acks`` as in ``set``."""
        headers = {} if if_revision is None else {"If-Match": f'"{if_revision}"'}
        return self._write("DELETE", _path(key), {"w": acks}, headers).status != 404

    def batch(self, operations: Sequence[Mapping[str, Any]], *, acks: str | int | None = None) -> tuple[Any, ...]:
        """Carry out independent operations, in order, in one step; returns one result each, as ``POST /batch`` does.

        An operation is ``{"op": "put", "key", "value", "if_revision", "ttl"}``, ``{"op": "delete", "key",
        "if_revision"}`` or ``{"op": "get", "key"}``. A result has the ``status`` that the operation would have had
        alone; a failed one does not stop the others. Values in results are bytes. There are none when ``acks`` asked
        not to wait.
        """
        body = msgspec.json.encode({"operations": [_operation(one) for one in operations]})
        reply = self._write("POST", "/batch", {"w": acks}, {"Content-Type": "application/json"}, body)
        _must_exist(reply)
        results = json_from_body(reply.body).get("results") or ()
        return tuple([_result(one) for one in results])

    # -- in the style of a mapping

    def __getitem__(self, key: str | bytes) -> bytes:
        value: bytes | None = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str | bytes, value: Value) -> None:
        self.set(key, value)

    def __delitem__(self, key: str | bytes) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: str | bytes) -> bool:
        return self._perform(Call(method="HEAD", path=_path(key), is_read=True, repeatable=True)).status != 404

    def __iter__(self) -> Iterator[str]:
        return (record.key for record in self.list(keys_only=True))

    # -- the loop

    def _read(self, path: str, query: Mapping[str, Any], *, accept: str = "*/*") -> Reply:
        call = Call(
            method="GET", path=path, query=_query(query), headers={"Accept": accept}, is_read=True, repeatable=True
        )
        return self._perform(call)

    def _write(
        self, method: str, path: str, query: Mapping[str, Any], headers: dict[str, str], body: bytes = b""
    ) -> Reply:
        if self._idempotent:
            headers = {**headers, "Idempotency-Key": uuid.uuid4().hex}
        call = Call(
            method=method,
            path=path,
            query=_query(query),
            headers=headers,
            body=body,
            is_read=False,
            repeatable=self._idempotent,
        )
        return self._perform(call)

    def _perform(self, call: Call) -> Reply:
        """Ask until there is an answer that stands, or raise."""
        deadline_s = time.monotonic() + self._timeout_s
        remaining_s = self._timeout_s
        rounds, attempts = Rounds(len(self._servers)), 0
        doubt: IndefiniteError | None = None
        while True:
            slice_s = attempt_s(remaining_s, servers=len(self._servers), repeatable=call.repeatable)
            answer = self._attempt(call, slice_s)
            if isinstance(answer, Reply):
                return answer
            attempts += 1
            error = answer.error
            if answer.settled:
                raise error
            if isinstance(error, IndefiniteError):
                doubt = doubt or error
            if not answer.retriable or (isinstance(error, IndefiniteError) and not call.repeatable):
                raise doubt or error
            self._current = (self._current + 1) % len(self._servers)
            wait_s = rounds.failed(error.retry_after_s, random.random())  # noqa: S311  jitter, not secrets
            remaining_s = deadline_s - time.monotonic() - wait_s
            if remaining_s <= 0 or (not self._retry and attempts >= len(self._servers)):
                raise doubt or error
            if wait_s:
                time.sleep(wait_s)

    def _attempt(self, call: Call, timeout_s: float) -> Reply | Setback:
        server = self._servers[self._current]
        try:
            reply = self._exchange.send(server, call, timeout_s)
        except NotSentError as error:
            return Setback(error=DefiniteError(UNREACHABLE, str(error)), retriable=True)
        except LostError as error:
            if call.is_read:
                return Setback(error=DefiniteError(UNREACHABLE, str(error)), retriable=True)
            unknown = IndefiniteError(Code.OUTCOME_UNKNOWN, f"{error}; the write may have been applied")
            return Setback(error=unknown, retriable=True)
        return judge(reply, is_read=call.is_read) or reply


def _path(key: str | bytes) -> str:
    if not key:
        raise ValueError("a key must not be empty")
    return "/kv/" + quote(key, safe="")


def _query(arguments: Mapping[str, Any]) -> str:
    return urlencode({name: value for name, value in arguments.items() if value is not None})


def _bytes(value: Value) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"a value must be bytes or str, not {type(value).__name__}")


def _must_exist(reply: Reply) -> None:
    """A path of the API that is not there: whoever listens at this address is not raftkv."""
    if reply.status == 404:
        raise DefiniteError(Code.NOT_FOUND, "the server has no such path; is it a raftkv server?")


def _revision(reply: Reply) -> int:
    revision = json_from_body(reply.body).get("revision")
    return revision if isinstance(revision, int) else 0


def _operation(one: Mapping[str, Any]) -> dict[str, Any]:
    return {**one, "value": value_to_json(_bytes(one["value"]))} if "value" in one else dict(one)


def _result(one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "value": value_from_json(one["value"])} if "value" in one else one
