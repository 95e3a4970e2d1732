"""What ``Client`` and ``AsyncClient`` do with keys and the cluster, as plans: each method is one of theirs.

Pure: no socket, no clock. Any thread or task may call. This module must not import anything of a server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar, cast

import msgspec

from raftkv.api import headers as names
from raftkv.api import paths
from raftkv.api.answers import BatchDone, CompactDone, Counted, KeysDeleted, KeyTouched, TransactionDone
from raftkv.api.bodies import CompactBody, IncrementBody, NewAddresses, NewLeader, NewMember, TouchBody
from raftkv.api.cluster_answers import LeaderNow, MemberList, RepairDone
from raftkv.api.problems import Problem
from raftkv.client.arguments import (
    Acks,
    BackupLevel,
    Consistency,
    Key,
    Value,
    bytes_of,
    checked_ttl,
    milliseconds_of,
    operation_of,
    path_of,
    query_of,
    result_of,
)
from raftkv.client.calls import Call
from raftkv.client.contents import (
    LedContent,
    MembersContent,
    ProblemContent,
    RepairContent,
    ResultContent,
    StatusContent,
    StatusOrProblem,
    TransactionContent,
)
from raftkv.client.errors import SiblingsFound, not_found
from raftkv.client.events import LineReader
from raftkv.client.http1 import HttpAnswer
from raftkv.client.portions import AnswerStream, Paged
from raftkv.client.records import (
    Page,
    Record,
    json_from_body,
    not_raftkv,
    outcome_from_body,
    page_from_json,
    record_from_json,
    siblings_from_json,
    status_from_json,
    typed,
)
from raftkv.client.requests import CallPlans, Query, must_exist
from raftkv.client.steps import Plan
from raftkv.core.errors import UsageError

Default = TypeVar("Default")

BACKUP_SILENCE_S: Final = 60.0
"""A node that makes a backup reads its disk for it, with less right to that than its replica."""


class KeyPlans:
    """Plans for keys, and for the cluster itself; see ``Client``."""

    def __init__(self, requests: CallPlans) -> None:
        self._requests = requests

    # -- reads

    def get(self, key: Key, default: Default, query: Query) -> Plan[bytes | Default]:
        """The value, or ``default``; raises ``SiblingsFound``."""
        answer = yield from self._requests.read(path_of(key), query)
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
        answer = yield from self._requests.read(path_of(key), query, accept=names.JSON)
        if answer.status == 300:
            return siblings_from_json(answer)
        return () if answer.status == 404 else (record_from_json(answer),)

    def has(self, key: Key) -> Plan[bool]:
        """Is there such a key?"""
        call = Call(method="HEAD", path=path_of(key), is_read=True, repeatable=True)
        answer = yield from self._requests.answer(call)
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
        revision: int | None,
        at: datetime | None = None,
    ) -> Plan[Page]:
        """One page of the keys."""
        query = {"prefix": prefix or None, "start": start or None, "end": end, "limit": limit, "revision": revision}
        query |= {"keys_only": 1 if keys_only else None, "consistency": consistency, "at_ms": milliseconds_of(at)}
        answer = yield from self._requests.read(paths.KEYS, query)
        must_exist(answer)
        return page_from_json(answer)

    def page_of(self, prefix: str, start: str, revision: int | None) -> Plan[Page]:
        """One page of a prefix; see ``PagePlan``."""
        return self.page(prefix, start, None, None, keys_only=False, consistency=None, revision=revision)

    def records(
        self,
        prefix: str,
        limit: int | None,
        *,
        keys_only: bool,
        consistency: Consistency | None,
        revision: int | None,
        at: datetime | None,
    ) -> Paged[Record, str]:
        """Every record, page by page."""

        def page(start: str, limit: int | None) -> Plan[tuple[tuple[Record, ...], str | None]]:
            found = yield from self.page(
                prefix, start, None, limit, keys_only=keys_only, consistency=consistency, revision=revision, at=at
            )
            return found.records, found.next

        return Paged(page, "", limit)

    def status(self) -> Plan[StatusContent]:
        """How the asked node, or a proxy, sees itself and its cluster."""
        content = yield from self._look(paths.STATUS)
        status_from_json(content)
        return cast("StatusContent", content)

    def members(self) -> Plan[MembersContent]:
        """The members as the asked node knows them."""
        content = yield from self._look(paths.MEMBERS)
        typed(content, MemberList)
        return cast("MembersContent", content)

    def _look(self, path: str) -> Plan[dict[str, Any]]:
        answer = yield from self._requests.read(path, {}, needs_proof=True)
        must_exist(answer)
        return json_from_body(answer.body)

    def follow(self) -> AnswerStream[StatusOrProblem]:
        """The status of the asked node, now and whenever it changes."""
        accept = {"Accept": names.LINES}
        call = Call(method="GET", path=paths.STATUS, headers=accept, is_read=True, repeatable=True, needs_proof=True)
        split = LineReader().feed

        def feed(piece: bytes) -> list[StatusOrProblem]:
            return [_followed(line) for line in split(piece) if line]

        return AnswerStream(lambda: self._requests.begun(call), names.LINES, feed)

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
        answer = yield from self._requests.write("PUT", path_of(key), query, headers, bytes_of(value))
        must_exist(answer)
        revision = outcome_from_body(answer.body).get("revision")
        return revision if isinstance(revision, int) else 0

    def delete(self, key: Key, query: Query, *, if_revision: int | None, context: str) -> Plan[bool]:
        """Remove ``key``: was there anything to remove?"""
        answer = yield from self._requests.write("DELETE", path_of(key), query, _conditions(if_revision, context))
        return answer.status != 404 and bool(outcome_from_body(answer.body))

    def delete_prefix(self, prefix: str) -> Plan[int]:
        """Remove every key with ``prefix``: how many there were."""
        if not prefix:
            raise UsageError("a prefix to delete must not be empty")
        told = yield from self._requests.told("DELETE", paths.KEYS, None, KeysDeleted, {"prefix": prefix})
        return told.deleted

    def increment(self, key: Key, by: int, minimum: int | None, maximum: int | None) -> Plan[int]:
        """Add to the integer in a key: what it is then."""
        path = path_of(key, paths.INCREMENT)
        body = IncrementBody(by=by, min=minimum, max=maximum)
        return (yield from self._requests.told("POST", path, body, Counted)).value

    def touch(self, key: Key, ttl: float | None) -> Plan[bool]:
        """Let a key live on: is there such a key?"""
        checked_ttl(ttl)
        body = msgspec.json.encode(TouchBody(ttl=ttl))
        headers = {"Content-Type": names.JSON}
        answer = yield from self._requests.write("POST", path_of(key, paths.TOUCH), {}, headers, body)
        if answer.status == 404:
            return False
        typed(outcome_from_body(answer.body), KeyTouched, is_read=False)
        return True

    def compact(self, revision: int) -> Plan[int]:
        """Forget what was before ``revision``: the oldest that can be read."""
        body = CompactBody(revision=revision)
        told = yield from self._requests.told_again("POST", paths.COMPACT, body, CompactDone, needs_proof=True)
        return told.compacted_revision

    def batch(self, operations: Sequence[Mapping[str, object]], acks: Acks | None) -> Plan[tuple[ResultContent, ...]]:
        """Carry out independent operations in one step: one result each."""
        body = msgspec.json.encode({"operations": [operation_of(one) for one in operations]})
        answer = yield from self._requests.write("POST", paths.BATCH, {"w": acks}, {"Content-Type": names.JSON}, body)
        must_exist(answer)
        done = typed(outcome_from_body(answer.body), BatchDone, is_read=False)
        return tuple([cast("ResultContent", result_of(one)) for one in done.results or ()])

    def transact(self, content: Mapping[str, object] | bytes) -> Plan[TransactionContent]:
        """Carry out a transaction that is written down as the API has it: what came of it, likewise."""
        body = content if isinstance(content, bytes) else msgspec.json.encode(content)
        answer = yield from self._requests.write("POST", paths.TRANSACTION, {}, {"Content-Type": names.JSON}, body)
        must_exist(answer)
        done = outcome_from_body(answer.body)
        typed(done, TransactionDone, is_read=False)
        return cast("TransactionContent", done)

    # -- the cluster

    def add_member(self, content: NewMember) -> Plan[MembersContent]:
        """Let a node join."""
        return cast("MembersContent", (yield from self._change("POST", paths.MEMBERS, MemberList, content)))

    def remove_member(self, node: str) -> Plan[MembersContent]:
        """Let a node leave."""
        path = paths.filled(paths.MEMBER, node)
        return cast("MembersContent", (yield from self._change("DELETE", path, MemberList)))

    def promote_member(self, node: str) -> Plan[MembersContent]:
        """Let a node vote that only learns."""
        path = paths.filled(paths.PROMOTE, node)
        return cast("MembersContent", (yield from self._change("POST", path, MemberList)))

    def move_member(self, node: str, content: NewAddresses) -> Plan[MembersContent]:
        """Let a member have other addresses."""
        path = paths.filled(paths.MEMBER, node)
        return cast("MembersContent", (yield from self._change("PUT", path, MemberList, content)))

    def transfer(self, content: NewLeader) -> Plan[LedContent]:
        """Let another node lead."""
        return cast("LedContent", (yield from self._change("POST", paths.TRANSFER, LeaderNow, content)))

    def repair(self) -> Plan[RepairContent]:
        """Let the asked node compare its data with every replica of it."""
        return cast("RepairContent", (yield from self._change("POST", paths.REPAIR, RepairDone)))

    def backup(self, consistency: BackupLevel | None) -> AnswerStream[bytes]:
        """All that the asked node holds, as a file, piece by piece."""
        call = Call(
            method="GET",
            path=paths.BACKUP,
            query=query_of({"consistency": consistency}),
            is_read=True,
            repeatable=True,
            needs_proof=True,
        )
        return AnswerStream(lambda: self._requests.begun(call), names.BYTES, lambda piece: [piece], BACKUP_SILENCE_S)

    def _change(
        self, method: str, path: str, kind: type[msgspec.Struct], content: msgspec.Struct | None = None
    ) -> Plan[dict[str, Any]]:
        done = yield from self.ask(method, path, content)
        typed(done, kind, is_read=False)
        return done

    def ask(self, method: str, path: str, content: object = None) -> Plan[dict[str, Any]]:
        """A question about the cluster itself, or a change of it, which is sent once: what came of it."""
        path, _, query = path.partition("?")
        is_read = method == "GET"
        call = Call(
            method=method,
            path=path,
            query=query,
            headers={} if content is None else {"Content-Type": names.JSON},
            body=b"" if content is None else msgspec.json.encode(content),
            is_read=is_read,
            repeatable=is_read,
            needs_proof=True,
        )
        answer = yield from self._requests.answer(call)
        if answer.status == 404:
            raise not_found(answer)
        return json_from_body(answer.body) if is_read else outcome_from_body(answer.body)


def _followed(line: bytes) -> StatusOrProblem:
    content = json_from_body(line)
    if typed(content, Problem).code:
        return cast("ProblemContent", content)
    status_from_json(content)
    return cast("StatusContent", content)


def _conditions(if_revision: int | None, context: str) -> dict[str, str]:
    headers = {} if if_revision is None else {names.IF_MATCH.name: names.tag(if_revision)}
    return {**headers, names.CONTEXT.name: context} if context else headers


def _must_name_node(answer: HttpAnswer) -> None:
    """A value is any bytes: only this tells it from the page of another server."""
    if answer.status == 200 and not answer.header(names.NODE.low):
        raise not_raftkv(f"it has no {names.NODE.name}")
