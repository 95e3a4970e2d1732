"""The client: what ``raftkv.Client`` offers, put into requests of the HTTP API; ``attempts`` has the loop behind it.

Every write carries a fresh ``Idempotency-Key``, the same on every attempt, so that the cluster applies it once however
often it is sent. A leaderless cluster cannot promise that and refuses the key: then writes go without, and what is in
doubt is raised at once.

This module must not import anything of the server.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

import msgspec

from raftkv.api import headers as names
from raftkv.api import paths
from raftkv.client.arguments import (
    Acks,
    Consistency,
    Key,
    Value,
    bytes_of,
    checked_acks,
    checked_timeout_s,
    checked_ttl,
    operation_of,
    path_of,
    query_of,
    result_of,
)
from raftkv.client.attempts import Attempts
from raftkv.client.calls import Call
from raftkv.client.errors import SiblingsFound, not_found
from raftkv.client.exchange import Exchange
from raftkv.client.http1 import HttpAnswer
from raftkv.client.reach import UnheardError
from raftkv.client.records import (
    Page,
    Record,
    json_from_body,
    not_raftkv,
    outcome_from_body,
    page_from_json,
    record_from_json,
    siblings_from_json,
)
from raftkv.client.servers import TRUST_ENVIRONMENT, parse_servers
from raftkv.core.config import ClusterSection
from raftkv.core.errors import Code, DefiniteError, RaftkvError, UsageError
from raftkv.core.proof import Prover
from raftkv.core.secret import read_key

Default = TypeVar("Default")

PAGE_LIMIT = 1000
"""How many records ``list`` asks for at a time; a server may give fewer."""

SILENCE_S: Final = 15.0
"""A stream says every five seconds that nothing happened; three times unheard, its server is gone."""


class Client:
    """A key-value store as seen from Python. Values are bytes, keys are text (bytes are taken as UTF-8).

    ``servers`` is a list of addresses or a comma-separated string; by default ``RAFTKV_SERVERS``, then the embedded
    cluster on 127.0.0.1:8001-8003. The first is asked; on failure the next one, which is then stayed with.
    ``timeout_s`` bounds each call as a whole. ``idempotent=False`` sends writes without an ``Idempotency-Key``: then an
    indefinite failure is raised at once. ``retry=False`` asks every server once at most. Where every server refuses
    connections a call ends after about a second, unless ``await_start=True`` waits for a cluster that will start.
    ``tls_ca`` is a file of certificates to trust, by default ``RAFTKV_CACERT``, then the system's. ``secret_file``
    holds the secret of the cluster named ``cluster``: what changes the cluster needs a proof of it wherever the nodes'
    configuration names one; reads and writes of data never do.

    In a leaderless cluster ``r``, ``acks`` (W) and ``n`` say how many replicas must answer a read, must have a write on
    disk, and hold the key; ``sloppy`` whether others may stand in for those that cannot be reached. ``None``: as the
    cluster is configured.

    One client serves any number of threads, and goes on in a process that was forked: each has connections of its own.
    There is no ``len()``: counting would mean reading every key. The exceptions are drawn in ``raftkv.client.errors``.
    """

    def __init__(
        self,
        servers: str | Sequence[str] | None = None,
        *,
        timeout_s: float = 5.0,
        idempotent: bool = True,
        retry: bool = True,
        await_start: bool = False,
        tls_ca: str | None = None,
        secret_file: str | os.PathLike[str] | None = None,
        cluster: str = ClusterSection().name,
    ) -> None:
        """Make no connection yet; raises ``UsageError`` when an address, a time or ``tls_ca`` makes no sense.

        Raises ``StartupError`` when ``secret_file`` holds no secret.
        """
        self._timeout_s = checked_timeout_s(timeout_s)
        self._idempotent = idempotent
        trusted = tls_ca or os.environ.get(TRUST_ENVIRONMENT) or None
        prover = _prover(secret_file, cluster)
        self._attempts = Attempts(parse_servers(servers), retry=retry, await_start=await_start)
        self._exchange = Exchange(self._attempts, tls_ca=trusted, prover=prover)
        self._last = _LastWrite()

    @property
    def servers(self) -> tuple[str, ...]:
        """The base URLs."""
        return self._attempts.servers

    @property
    def durability(self) -> str:
        """Who held this thread's last write when it was answered.

        ``majority``, ``all``, ``leader``, ``w=2``, or a number below a majority; empty before the first.
        """
        return self._last.durability

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

    @overload
    def get(
        self,
        key: Key,
        default: None = None,
        *,
        consistency: Consistency | None = None,
        r: int | None = None,
        n: int | None = None,
        sloppy: bool | None = None,
    ) -> bytes | None: ...

    @overload
    def get(
        self,
        key: Key,
        default: Default,
        *,
        consistency: Consistency | None = None,
        r: int | None = None,
        n: int | None = None,
        sloppy: bool | None = None,
    ) -> bytes | Default: ...

    def get(
        self,
        key: Key,
        default: object = None,
        *,
        consistency: Consistency | None = None,
        r: int | None = None,
        n: int | None = None,
        sloppy: bool | None = None,
    ) -> object:
        """The value under ``key`` as bytes, or ``default`` when there is none; raises ``SiblingsFound``.

        ``consistency``: ``"linearizable"``, ``"lease"``, ``"eventual"`` or ``"local"``; the cluster's own first choice
        unless named.
        """
        answer = self._read(path_of(key), {"consistency": consistency, "r": r, "n": n, "sloppy": sloppy})
        if answer.status == 300:
            raise SiblingsFound(siblings_from_json(answer))
        return default if answer.status == 404 else answer.body

    def get_record(
        self,
        key: Key,
        *,
        consistency: Consistency | None = None,
        r: int | None = None,
        n: int | None = None,
        sloppy: bool | None = None,
    ) -> Record | None:
        """The value under ``key`` with its revisions and what kind of read it was; ``None`` when there is none.

        The choices are those of ``get``; raises ``SiblingsFound``.
        """
        records = self.get_records(key, consistency=consistency, r=r, n=n, sloppy=sloppy)
        if len(records) > 1:
            raise SiblingsFound(records)
        return records[0] if records else None

    def get_records(
        self,
        key: Key,
        *,
        consistency: Consistency | None = None,
        r: int | None = None,
        n: int | None = None,
        sloppy: bool | None = None,
    ) -> tuple[Record, ...]:
        """As ``get_record``, but every one of the key's siblings, oldest stamp first; empty when there is none."""
        query = {"consistency": consistency, "r": r, "n": n, "sloppy": sloppy}
        answer = self._read(path_of(key), query, accept=names.JSON)
        if answer.status == 300:
            return siblings_from_json(answer)
        return () if answer.status == 404 else (record_from_json(answer),)

    def page(
        self,
        prefix: str = "",
        *,
        start: str = "",
        end: str | None = None,
        limit: int | None = None,
        keys_only: bool = False,
        consistency: Consistency | None = None,
    ) -> Page:
        """One page of the keys with ``prefix`` and ``start`` <= key < ``end``, in key order.

        All of one moment, unless the cluster is leaderless. A page may have fewer keys than ``limit`` and still say
        where the ``next`` begins: the server has a limit of its own, on keys and on bytes.
        """
        query = {"prefix": prefix or None, "start": start or None, "end": end, "limit": limit}
        answer = self._read(paths.KEYS, {**query, "keys_only": 1 if keys_only else None, "consistency": consistency})
        _must_exist(answer)
        return page_from_json(answer)

    def list(
        self,
        prefix: str = "",
        *,
        limit: int | None = None,
        keys_only: bool = False,
        consistency: Consistency | None = None,
    ) -> Iterator[Record]:
        """Every record with ``prefix``, in key order, fetched page by page; ``limit`` is the most there will be.

        Each page is of one moment, two pages are of two.
        """
        start, left = "", limit
        while left is None or left > 0:
            wanted = None if left is None else min(left, PAGE_LIMIT)
            page = self.page(prefix, start=start, limit=wanted, keys_only=keys_only, consistency=consistency)
            yield from page.records
            if page.next is None:
                return
            start, left = page.next, None if left is None else left - len(page.records)

    def status(self) -> dict[str, Any]:
        """How the asked node sees itself and its cluster, as ``GET /status`` says it."""
        answer = self._read(paths.STATUS, {})
        _must_exist(answer)
        return json_from_body(answer.body)

    def follow(self) -> Iterator[dict[str, Any]]:
        """The status of the asked node, now and whenever it changes, from one node for as long as it is taken.

        While the node's replica is away there is a problem instead, which has a ``code``. Raises ``DefiniteError`` when
        the stream breaks off, and what any request raises.
        """
        accept = {"Accept": names.LINES}
        call = Call(method="GET", path=paths.STATUS, headers=accept, is_read=True, repeatable=True)
        with self._exchange.open(call, self._deadline_s(), SILENCE_S) as stream:
            kind = stream.head.header("content-type")
            if kind != names.LINES:
                raise not_raftkv(f"no stream, but {kind or 'something of no type'}")
            try:
                yield from (json_from_body(line) for line in stream.lines() if line)
            except UnheardError as error:
                raise DefiniteError(Code.QUORUM_UNREACHABLE, f"the stream broke off: {error}") from None

    # -- writes

    def set(
        self,
        key: Key,
        value: Value,
        *,
        ttl: float | None = None,
        if_revision: int | None = None,
        if_absent: bool = False,
        acks: Acks | None = None,
        n: int | None = None,
        sloppy: bool | None = None,
        context: str = "",
    ) -> int:
        """Store ``value``; returns the revision of the write (0 when ``acks`` asked not to wait until it is known).

        ``ttl``: seconds until the key expires. ``if_revision``: only if the key stands at that revision (0: does not
        exist). ``if_absent``: only if it does not exist. Raises ``PreconditionFailed`` otherwise. ``acks``: how many
        replicas must hold the write before the answer: ``"majority"`` (default), ``"all"``, a number, or ``"leader"``,
        which may be lost. ``context``: of the record that the writer has seen; siblings that it covers are replaced.
        """
        if if_absent and if_revision is not None:
            raise UsageError("if_absent and if_revision exclude each other")
        headers = {"Content-Type": names.BYTES}
        if if_absent:
            headers[names.IF_NONE_MATCH.name] = names.ANY
        if if_revision is not None:
            headers[names.IF_MATCH.name] = names.tag(if_revision)
        if context:
            headers[names.CONTEXT.name] = context
        query = {"ttl": checked_ttl(ttl), "w": checked_acks(acks), "n": n, "sloppy": sloppy}
        answer = self._write("PUT", path_of(key), query, headers, bytes_of(value))
        _must_exist(answer)
        return _revision(answer)

    def delete(
        self,
        key: Key,
        *,
        if_revision: int | None = None,
        acks: Acks | None = None,
        n: int | None = None,
        sloppy: bool | None = None,
        context: str = "",
    ) -> bool:
        """Remove ``key``; says whether there was anything to remove. The choices are those of ``set``."""
        headers = {} if if_revision is None else {names.IF_MATCH.name: names.tag(if_revision)}
        if context:
            headers[names.CONTEXT.name] = context
        query = {"w": checked_acks(acks), "n": n, "sloppy": sloppy}
        answer = self._write("DELETE", path_of(key), query, headers)
        return answer.status != 404 and bool(outcome_from_body(answer.body))

    def batch(self, operations: Sequence[Mapping[str, Any]], *, acks: Acks | None = None) -> tuple[Any, ...]:
        """Carry out independent operations, in order, in one step; returns one result each, as ``POST /batch`` does.

        An operation is ``{"op": "put", "key", "value", "if_revision", "ttl"}``, ``{"op": "delete", "key",
        "if_revision"}`` or ``{"op": "get", "key"}``. A result has the ``status`` that the operation would have had
        alone; a failed one does not stop the others. Values in results are bytes. There are none when ``acks`` asked
        not to wait.
        """
        body = msgspec.json.encode({"operations": [operation_of(one) for one in operations]})
        answer = self._write("POST", paths.BATCH, {"w": checked_acks(acks)}, {"Content-Type": names.JSON}, body)
        _must_exist(answer)
        results = outcome_from_body(answer.body).get("results") or ()
        return tuple([result_of(one) for one in results])

    # -- in the style of a mapping

    def __getitem__(self, key: Key) -> bytes:
        value: bytes | None = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Key, value: Value) -> None:
        self.set(key, value)

    def __delitem__(self, key: Key) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: Key) -> bool:
        call = Call(method="HEAD", path=path_of(key), is_read=True, repeatable=True)
        return self._exchange.perform(call, self._deadline_s()).status != 404

    def __iter__(self) -> Iterator[str]:
        return (record.key for record in self.list(keys_only=True))

    # -- the cluster

    def members(self) -> dict[str, Any]:
        """The members as the asked node knows them, as ``GET /cluster/members`` says it."""
        answer = self._read(paths.MEMBERS, {})
        _must_exist(answer)
        return json_from_body(answer.body)

    def add_member(self, node: str, *, http: str, peer: str, zone: str = "") -> dict[str, Any]:
        """Let a node join a leaderless cluster; returns the members. Its data moves in afterwards."""
        content = {"id": node, "http": http, "peer": peer, "zone": zone}
        return self._change("POST", paths.MEMBERS, content)

    def remove_member(self, node: str) -> dict[str, Any]:
        """Let a node leave a leaderless cluster; returns the members. Its data moves out first, if it lives."""
        return self._change("DELETE", paths.filled(paths.MEMBER, node), None)

    def repair(self) -> dict[str, Any]:
        """Let the asked node compare its data with every replica of it; returns what that did."""
        return self._change("POST", paths.REPAIR, None)

    # -- requests

    def _read(self, path: str, query: Mapping[str, Any], *, accept: str = "*/*") -> HttpAnswer:
        call = Call(
            method="GET", path=path, query=query_of(query), headers={"Accept": accept}, is_read=True, repeatable=True
        )
        return self._exchange.perform(call, self._deadline_s())

    def _write(
        self, method: str, path: str, query: Mapping[str, Any], headers: dict[str, str], body: bytes = b""
    ) -> HttpAnswer:
        """Send a write with a key if the cluster takes keys, and find out whether it does."""
        deadline_s = self._deadline_s()
        call = Call(
            method=method, path=path, query=query_of(query), headers=headers, body=body, is_read=False, repeatable=False
        )
        if not self._idempotent:
            return self._perform_write(call, deadline_s)
        keyed = {**headers, names.IDEMPOTENCY_KEY.name: uuid.uuid4().hex}
        try:
            return self._perform_write(msgspec.structs.replace(call, headers=keyed, repeatable=True), deadline_s)
        except DefiniteError as error:
            if error.code != Code.NOT_SUPPORTED:
                raise
        try:
            answer = self._perform_write(call, deadline_s)
        except RaftkvError as error:
            # Refused as before: it was not the key.
            self._idempotent = error.code == Code.NOT_SUPPORTED
            raise
        self._idempotent = False
        return answer

    def _perform_write(self, call: Call, deadline_s: float) -> HttpAnswer:
        try:
            answer = self._exchange.perform(call, deadline_s)
        except DefiniteError as error:
            if not error.detail.startswith("w: "):
                raise
            # The caller's word for it is another one.
            raise DefiniteError(error.code, f"acks: {error.detail[3:]}") from None
        self._last.durability = answer.header(names.DURABILITY.low)
        return answer

    def _change(self, method: str, path: str, content: Mapping[str, Any] | None) -> dict[str, Any]:
        """A change of the cluster itself, which is sent once."""
        call = Call(
            method=method,
            path=path,
            headers={} if content is None else {"Content-Type": names.JSON},
            body=b"" if content is None else msgspec.json.encode(content),
            is_read=False,
            repeatable=False,
            needs_proof=True,
        )
        answer = self._exchange.perform(call, self._deadline_s())
        if answer.status == 404:
            raise not_found(answer)
        return outcome_from_body(answer.body)

    def _deadline_s(self) -> float:
        return time.monotonic() + self._timeout_s


def _prover(secret_file: str | os.PathLike[str] | None, cluster: str) -> Prover | None:
    if secret_file is None:
        return None
    return Prover(read_key(Path(secret_file), cluster), cluster, wall_ms=lambda: time.time_ns() // 1_000_000)


def _must_exist(answer: HttpAnswer) -> None:
    """A path of the API that is not there: an older server."""
    if answer.status == 404:
        raise not_found(answer)


def _revision(answer: HttpAnswer) -> int:
    revision = outcome_from_body(answer.body).get("revision")
    return revision if isinstance(revision, int) else 0


class _LastWrite(threading.local):
    """What the answer to a thread's last write said."""

    durability = ""
