"""How any plan of a client asks the cluster: reads, and writes that are applied once. Pure: no socket, no clock.

Every write carries a fresh ``Idempotency-Key``, the same on every attempt, so that the cluster applies it once however
often it is sent. A leaderless cluster cannot promise that and refuses the key: then writes go without, and what is in
doubt is raised at once. ``attempts`` has the rules of failover behind every call.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

import msgspec

from raftkv.api import headers as names
from raftkv.client.arguments import checked_acks, checked_ttl, query_of
from raftkv.client.attempts import Attempts
from raftkv.client.calls import Call
from raftkv.client.errors import not_found
from raftkv.client.http1 import HttpAnswer
from raftkv.client.records import outcome_from_body, typed
from raftkv.client.steps import AnswerBody, Plan
from raftkv.client.traces import within_trace
from raftkv.core.errors import Code, DefiniteError, RaftkvError

Query = Mapping[str, Any]
Told = TypeVar("Told", bound=msgspec.Struct)


class CallPlans:
    """The calls of one client, for any number of threads and tasks. Each is over by ``timeout_s`` from its start."""

    def __init__(self, attempts: Attempts, *, timeout_s: float, idempotent: bool) -> None:
        self._attempts = attempts
        self._timeout_s = timeout_s
        self._idempotent = idempotent
        self._durability = ContextVar("durability", default="")  # of each thread, and of each task

    @property
    def durability(self) -> str:
        """See ``PlannedClient``."""
        return self._durability.get()

    def now_s(self) -> float:
        """The clock of deadlines."""
        return self._attempts.now_s()

    def deadline_s(self, wait_s: float = 0.0) -> float:
        """When a call that begins now is over, which the server may hold back for ``wait_s`` on purpose."""
        return self._attempts.now_s() + self._timeout_s + wait_s

    def answer(self, call: Call, deadline_s: float | None = None) -> Plan[HttpAnswer]:
        """See ``Attempts``."""
        until_s = self.deadline_s(call.wait_s) if deadline_s is None else deadline_s
        return within_trace(call, lambda call: self._attempts.answer(call, until_s))

    def begun(self, call: Call, deadline_s: float | None = None) -> Plan[AnswerBody]:
        """See ``Attempts``."""
        until_s = self.deadline_s() if deadline_s is None else deadline_s
        return within_trace(call, lambda call: self._attempts.begun(call, until_s))

    def read(self, path: str, query: Query, *, accept: str = "*/*", needs_proof: bool = False) -> Plan[HttpAnswer]:
        """What ``GET path`` answers; see ``Call``."""
        call = Call(
            method="GET",
            path=path,
            query=query_of(query),
            headers={"Accept": accept},
            is_read=True,
            repeatable=True,
            needs_proof=needs_proof,
        )
        return self.answer(call)

    def told(
        self, method: str, path: str, content: msgspec.Struct | None, kind: type[Told], query: Query | None = None
    ) -> Plan[Told]:
        """The JSON of ``kind`` that answers a write of ``content``."""
        headers = {} if content is None else {"Content-Type": names.JSON}
        body = b"" if content is None else msgspec.json.encode(content)
        answer = yield from self.write(method, path, query or {}, headers, body)
        must_exist(answer)
        return typed(outcome_from_body(answer.body), kind, is_read=False)

    def told_again(
        self, method: str, path: str, content: msgspec.Struct, kind: type[Told], *, needs_proof: bool = False
    ) -> Plan[Told]:
        """As ``told``, of what is as good twice as once, and so needs no key."""
        call = Call(
            method=method,
            path=path,
            headers={"Content-Type": names.JSON},
            body=msgspec.json.encode(content),
            is_read=False,
            repeatable=True,
            needs_proof=needs_proof,
        )
        answer = yield from self.answer(call)
        must_exist(answer)
        return typed(outcome_from_body(answer.body), kind, is_read=False)

    def write(
        self, method: str, path: str, query: Query, headers: dict[str, str], body: bytes = b""
    ) -> Plan[HttpAnswer]:
        """Send a write with a key if the cluster takes keys, and find out whether it does."""
        deadline_s = self.deadline_s()
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
            answer = yield from self.answer(call, deadline_s)
        except DefiniteError as error:
            if not error.detail.startswith("w: "):
                raise
            # The caller's word for it is another one.
            raise DefiniteError(error.code, f"acks: {error.detail[3:]}") from None
        self._durability.set(answer.header(names.DURABILITY.low))
        return answer


def must_exist(answer: HttpAnswer) -> None:
    """A path of the API that is not there: an older server."""
    if answer.status == 404:
        raise not_found(answer)
