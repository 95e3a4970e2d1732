"""What ``Client`` and ``AsyncClient`` do, as plans: each method is one of theirs, put into requests of the HTTP API.

Every write carries a fresh ``Idempotency-Key``, the same on every attempt, so that the cluster applies it once however
often it is sent. A leaderless cluster cannot promise that and refuses the key: then writes go without, and what is in
doubt is raised at once. ``attempts`` has the rules of failover behind every call.

Pure but for the environment and the secret, which are read when a client is made. Any thread or task may call. This
module must not import a socket, a loop, or anything of a server.
"""

from __future__ import annotations

import os
import ssl
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from raftkv.api import headers as names
from raftkv.api import paths
from raftkv.api.bodies import NewMember
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
from raftkv.client.events import LineReader
from raftkv.client.http1 import HttpAnswer
from raftkv.client.portions import AnswerStream, PagedRecords
from raftkv.client.reach import trusting_as_told
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
from raftkv.client.servers import parse_servers
from raftkv.client.steps import Performer, Plan
from raftkv.core.config import ClusterSection
from raftkv.core.errors import Code, DefiniteError, RaftkvError, UsageError
from raftkv.core.proof import Prover
from raftkv.core.secret import read_key

Default = TypeVar("Default")
Exchanging = TypeVar("Exchanging", bound=Performer)
Query = Mapping[str, Any]


class Plans:
    """The plans of one client, whose methods these are; see ``Client``."""

    def __init__(self, attempts: Attempts, *, timeout_s: float, idempotent: bool) -> None:
        self._attempts = attempts
        self._timeout_s = timeout_s
        self._idempotent = idempotent
        self._durability = ContextVar("durability", default="")  # of each thread, and of each task

    @property
    def durability(self) -> str:
        """See ``PlannedClient``."""
        return self._durability.get()

    # -- reads

    def get(self, key: Key, default: Default, query: Query) -> Plan[bytes | Default]:
        """The value, or ``default``; raises ``SiblingsFound``."""
        answer = yield from self._read(path_of(key), query)
        if answer.status == 300:
            raise SiblingsFound(siblings_from_json(answer))
        _must_name_node(answer)
        return default if answer.status == 404 else answer.body

    def get_record(self, key: Key, query: Query) -> Plan[Record | None]:
        """The value with what is known of it; raises ``SiblingsFound``."""
        records = yield from self.get_records(key, query)
        if len(records) > 1:
            raise SiblingsFound(records)
        return records[0] if records else None

    def get_records(self, key: Key, query: Query) -> Plan[tuple[Record, ...]]:
        """The value, or every one of its siblings."""
        answer = yield from self._read(path_of(key), query, accept=names.JSON)
        if answer.status == 300:
            return siblings_from_json(answer)
        return () if answer.status == 404 else (record_from_json(answer),)

    def has(self, key: Key) -> Plan[bool]:
        """Is there such a key?"""
        call = Call(method="HEAD", path=path_of(key), is_read=True, repeatable=True)
        answer = yield from self._attempts.answer(call, self._deadline_s())
        _must_name_node(answer)
        return answer.status != 404

    def page(
        self,
        prefix: str,
        start: str,
        end: str | None,
        limit: int | None,
        *,
        keys_only: bool,
        consistency: Consistency | None,
    ) -> Plan[Page]:
        """One page of the keys."""
        query = {"prefix": prefix or None, "start": start or None, "end": end, "limit": limit}
        query |= {"keys_only": 1 if keys_only else None, "consistency": consistency}
        answer = yield from self._read(paths.KEYS, query)
        _must_exist(answer)
        return page_from_json(answer)

    def records(
        self, prefix: str, limit: int | None, *, keys_only: bool, consistency: Consistency | None
    ) -> PagedRecords:
        """Every record, page by page."""

        def page(start: str, limit: int | None) -> Plan[Page]:
            return self.page(prefix, start, None, limit, keys_only=keys_only, consistency=consistency)

        return PagedRecords(page, limit)

    def look(self, path: str) -> Plan[dict[str, Any]]:
        """What ``GET path`` says in JSON."""
        answer = yield from self._read(path, {})
        _must_exist(answer)
        return json_from_body(answer.body)

    def follow(self) -> AnswerStream[dict[str, Any]]:
        """The status of the asked node, now and whenever it changes."""
        accept = {"Accept": names.LINES}
        call = Call(method="GET", path=paths.STATUS, headers=accept, is_read=True, repeatable=True)
        split = LineReader().feed

        def feed(piece: bytes) -> list[dict[str, Any]]:
            return [json_from_body(line) for line in split(piece) if line]

        return AnswerStream(lambda: self._attempts.begun(call, self._deadline_s()), names.LINES, feed)

    # -- writes

    def set(
        self, key: Key, value: Value, query: Query, *, if_revision: int | None, if_absent: bool, context: str
    ) -> Plan[int]:
        """Store ``value``: the revision of the write."""
        if if_absent and if_revision is not None:
            raise UsageError("if_absent and if_revision exclude each other")
        headers = {"Content-Type": names.BYTES, **_conditions(if_revision, context)}
        if if_absent:
            headers[names.IF_NONE_MATCH.name] = names.ANY
        answer = yield from self._write("PUT", path_of(key), query, headers, bytes_of(value))
        _must_exist(answer)
        revision = outcome_from_body(answer.body).get("revision")
        return revision if isinstance(revision, int) else 0

    def delete(self, key: Key, query: Query, *, if_revision: int | None, context: str) -> Plan[bool]:
        """Remove ``key``: was there anything to remove?"""
        answer = yield from self._write("DELETE", path_of(key), query, _conditions(if_revision, context))
        return answer.status != 404 and bool(outcome_from_body(answer.body))

    def batch(self, operations: Sequence[Mapping[str, Any]], acks: Acks | None) -> Plan[tuple[Any, ...]]:
        """Carry out independent operations in one step: one result each."""
        body = msgspec.json.encode({"operations": [operation_of(one) for one in operations]})
        answer = yield from self._write("POST", paths.BATCH, {"w": acks}, {"Content-Type": names.JSON}, body)
        _must_exist(answer)
        results = outcome_from_body(answer.body).get("results") or ()
        return tuple([result_of(one) for one in results])

    def change(self, method: str, path: str, content: NewMember | None = None) -> Plan[dict[str, Any]]:
        """A change of the cluster itself, which is sent once: what came of it."""
        call = Call(
            method=method,
            path=path,
            headers={} if content is None else {"Content-Type": names.JSON},
            body=b"" if content is None else msgspec.json.encode(content),
            is_read=False,
            repeatable=False,
            needs_proof=True,
        )
        answer = yield from self._attempts.answer(call, self._deadline_s())
        if answer.status == 404:
            raise not_found(answer)
        return outcome_from_body(answer.body)

    # -- requests

    def _read(self, path: str, query: Query, *, accept: str = "*/*") -> Plan[HttpAnswer]:
        call = Call(
            method="GET", path=path, query=query_of(query), headers={"Accept": accept}, is_read=True, repeatable=True
        )
        return self._attempts.answer(call, self._deadline_s())

    def _write(
        self, method: str, path: str, query: Query, headers: dict[str, str], body: bytes = b""
    ) -> Plan[HttpAnswer]:
        """Send a write with a key if the cluster takes keys, and find out whether it does."""
        deadline_s = self._deadline_s()
        checked_ttl(query.get("ttl"))
        checked_acks(query.get("w"))
        call = Call(
            method=method, path=path, query=query_of(query), headers=headers, body=body, is_read=False, repeatable=False
        )
        if not self._idempotent:
            return (yield from self._written(call, deadline_s))
        keyed = {**headers, names.IDEMPOTENCY_KEY.name: uuid.uuid4().hex}
        try:
            return (yield from self._written(msgspec.structs.replace(call, headers=keyed, repeatable=True), deadline_s))
        except DefiniteError as error:
            if error.code != Code.NOT_SUPPORTED:
                raise
        try:
            answer = yield from self._written(call, deadline_s)
        except RaftkvError as error:
            # Refused as before: it was not the key.
            self._idempotent = error.code == Code.NOT_SUPPORTED
            raise
        self._idempotent = False
        return answer

    def _written(self, call: Call, deadline_s: float) -> Plan[HttpAnswer]:
        try:
            answer = yield from self._attempts.answer(call, deadline_s)
        except DefiniteError as error:
            if not error.detail.startswith("w: "):
                raise
            # The caller's word for it is another one.
            raise DefiniteError(error.code, f"acks: {error.detail[3:]}") from None
        self._durability.set(answer.header(names.DURABILITY.low))
        return answer

    def _deadline_s(self) -> float:
        return self._attempts.now_s() + self._timeout_s


class PlannedClient(ABC, Generic[Exchanging]):
    """What both clients have: how they are made, and what they say of themselves."""

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
        self._exchange = self._exchanging(trusting_as_told(tls_ca))
        prover = None
        if secret_file is not None:
            prover = Prover(read_key(Path(secret_file), cluster), cluster, wall_ms=lambda: time.time_ns() // 1_000_000)
        self._attempts = Attempts(
            parse_servers(servers), retry=retry, await_start=await_start, prover=prover, now_s=self._exchange.now_s
        )
        self._plans = Plans(self._attempts, timeout_s=checked_timeout_s(timeout_s), idempotent=idempotent)

    @abstractmethod
    def _exchanging(self, tls: ssl.SSLContext | None) -> Exchanging:
        """What performs its plans."""

    @property
    def servers(self) -> tuple[str, ...]:
        """The base URLs."""
        return self._attempts.servers

    @property
    def durability(self) -> str:
        """Who held this thread's, or task's, last write when it was answered.

        ``majority``, ``all``, ``leader``, ``w=2``, or a number below a majority; empty before the first.
        """
        return self._plans.durability

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {', '.join(self.servers)}>"


def _conditions(if_revision: int | None, context: str) -> dict[str, str]:
    headers = {} if if_revision is None else {names.IF_MATCH.name: names.tag(if_revision)}
    return {**headers, names.CONTEXT.name: context} if context else headers


def _must_name_node(answer: HttpAnswer) -> None:
    """A value is any bytes: only this tells it from the page of another server."""
    if answer.status == 200 and not answer.header(names.NODE.low):
        raise not_raftkv(f"it has no {names.NODE.name}")


def _must_exist(answer: HttpAnswer) -> None:
    """A path of the API that is not there: an older server."""
    if answer.status == 404:
        raise not_found(answer)
