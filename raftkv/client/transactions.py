"""A transaction as a client writes it down, sends it, and reads what came of it. Pure: no socket, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from raftkv.api import paths
from raftkv.api.answers import Item, TransactionDone
from raftkv.api.bodies import (
    BranchOperation,
    Comparison,
    DeleteOperation,
    DeletePrefixOperation,
    GetOperation,
    IncrementOperation,
    ListOperation,
    PutOperation,
    TouchOperation,
    TransactionBody,
    TransactionOperation,
)
from raftkv.api.values import Value as JsonValue
from raftkv.api.values import text_from_json, text_to_json, value_from_json, value_to_json
from raftkv.client.arguments import AnyLease, Key, Value, bytes_of, checked_ttl, json_of, lease_of
from raftkv.client.errors import RequirementFailed
from raftkv.client.http1 import HttpAnswer
from raftkv.client.records import Record, in_doubt, not_raftkv, provenance, record_of
from raftkv.client.requests import CallPlans
from raftkv.client.steps import Plan
from raftkv.core.errors import UsageError

Relation = Literal["==", "!=", "<", ">"]


class OperationResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one operation of a transaction; what it has no use for is empty.

    ``status`` is the HTTP status that it would have had alone: 404 where a key was to be read, deleted or touched that
    is not there. ``value`` is what was read, ``count`` what was counted to, ``deleted`` how many keys were removed,
    ``records`` what was listed, ``results`` those of a transaction within, of which ``succeeded`` says whether its
    requirements held.
    """

    op: str
    status: int
    key: str = ""
    value: bytes | None = None
    count: int | None = None
    version: int = 0
    revision: int = 0
    create_revision: int = 0
    ttl_left: float | None = None
    lease: int | None = None
    deleted: int = 0
    records: tuple[Record, ...] = ()
    next: str | None = None
    succeeded: bool | None = None
    results: tuple[OperationResult, ...] = ()


class Branch:
    """Operations in order, all of which are done, or none."""

    def __init__(self) -> None:
        self._operations: list[BranchOperation | TransactionForm] = []

    def set(self, key: Key, value: Value, *, ttl: float | None = None, lease: AnyLease | None = None) -> None:
        """Store ``value``; see ``Client.set``."""
        if ttl is not None and lease is not None:
            raise UsageError("ttl and lease exclude each other")
        content = value_to_json(bytes_of(value))
        self._operations.append(
            PutOperation(key=json_of(key), value=content, ttl=checked_ttl(ttl), lease=lease_of(lease))
        )

    def get(self, key: Key) -> None:
        """Read ``key``, as the operations before it leave it."""
        self._operations.append(GetOperation(key=json_of(key)))

    def list(
        self,
        prefix: str = "",
        *,
        start: str = "",
        end: str | None = None,
        limit: int | None = None,
        keys_only: bool = False,
    ) -> None:
        """Read a page of keys; see ``Client.page``."""
        self._operations.append(
            ListOperation(
                prefix=text_to_json(prefix),
                start=text_to_json(start),
                end=None if end is None else text_to_json(end),
                limit=limit,
                keys_only=keys_only,
            )
        )

    def delete(self, key: Key) -> None:
        """Remove ``key``."""
        self._operations.append(DeleteOperation(key=json_of(key)))

    def delete_prefix(self, prefix: str) -> None:
        """Remove every key with ``prefix``."""
        if not prefix:
            raise UsageError("a prefix to delete must not be empty")
        self._operations.append(DeletePrefixOperation(prefix=text_to_json(prefix)))

    def increment(self, key: Key, by: int = 1, *, minimum: int | None = None, maximum: int | None = None) -> None:
        """Count; see ``Client.increment``."""
        self._operations.append(IncrementOperation(key=json_of(key), by=by, min=minimum, max=maximum))

    def touch(self, key: Key, ttl: float | None) -> None:
        """Let ``key`` live on; see ``Client.touch``."""
        self._operations.append(TouchOperation(key=json_of(key), ttl=checked_ttl(ttl)))

    def transaction(self) -> TransactionForm:
        """A transaction in this place: what it requires chooses its branch, and fails nothing else."""
        within = TransactionForm()
        self._operations.append(within)
        return within

    def written(self) -> Sequence[BranchOperation]:
        """As the API has it."""
        return [one.nested() if isinstance(one, TransactionForm) else one for one in self._operations]


class TransactionForm(Branch):
    """Operations that are done if what is required holds; else those of ``otherwise``, if that was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._requirements: list[Comparison] = []
        self._otherwise: Branch | None = None

    def require(
        self,
        key: Key | None = None,
        *,
        prefix: str | None = None,
        op: Relation = "==",
        revision: int | None = None,
        create_revision: int | None = None,
        version: int | None = None,
        value: Value | None = None,
        lease: AnyLease | None = None,
        exists: bool | None = None,
    ) -> None:
        """Require that all that is named of ``key``, or of every key with ``prefix``, stands so before it begins.

        ``op`` is how what there is shall stand to what is named. A key that does not exist has the revision 0.
        """
        if (key is None) == (prefix is None):
            raise UsageError("name either a key or a prefix that something is required of")
        operands: dict[str, int | bool | JsonValue | None] = {
            "revision": revision,
            "create_revision": create_revision,
            "version": version,
            "value": None if value is None else value_to_json(bytes_of(value)),
            "lease": lease_of(lease),
            "exists": exists,
        }
        named = {target: operand for target, operand in operands.items() if operand is not None}
        if not named:
            raise UsageError(f"name what is required: {', '.join(operands)}")
        shown_key = None if key is None else json_of(key)
        shown_prefix = None if prefix is None else text_to_json(prefix)
        self._requirements += [
            msgspec.convert(
                {"target": target, "with": operand, "op": op, "key": shown_key, "prefix": shown_prefix}, Comparison
            )
            if not isinstance(operand, msgspec.Struct)
            else Comparison(target="value", operand=operand, op=op, key=shown_key, prefix=shown_prefix)
            for target, operand in named.items()
        ]

    def otherwise(self) -> Branch:
        """What is done instead; a transaction that has it fails nothing but is told by ``succeeded``."""
        if self._otherwise is None:
            self._otherwise = Branch()
        return self._otherwise

    def nested(self) -> TransactionOperation:
        """As the API has it, within another."""
        return TransactionOperation(compare=self._requirements, success=[*self.written()], failure=self._failure())

    def body(self) -> TransactionBody:
        """As the API has it."""
        return TransactionBody(compare=self._requirements, success=[*self.written()], failure=self._failure())

    def _failure(self) -> list[BranchOperation]:
        return [] if self._otherwise is None else [*self._otherwise.written()]


class TransactionRun(TransactionForm):
    """A transaction of a client: what came of it is in ``succeeded``, ``revision`` and ``results``, once it was sent.

    Until then ``succeeded`` is ``None``.
    """

    def __init__(self, calls: CallPlans) -> None:
        super().__init__()
        self._calls = calls
        self.succeeded: bool | None = None
        self.revision = 0
        self.results: tuple[OperationResult, ...] = ()

    def sent(self) -> Plan[None]:
        """Send it, applied once; raises ``RequirementFailed`` where there is no other branch."""
        done = yield from self._calls.told("POST", paths.TRANSACTION, self.body(), TransactionDone)
        self.succeeded, self.revision, self.results = done.succeeded, done.revision, results_of(done)
        if not done.succeeded and self._otherwise is None:
            raise RequirementFailed(done.revision)

    def __repr__(self) -> str:
        state = "to be sent" if self.succeeded is None else f"at revision {self.revision}"
        return f"<{type(self).__name__} of {len(self._operations)} operations, {state}>"


class _ToldResult(msgspec.Struct, frozen=True):
    """One result as the API tells it."""

    op: str
    status: int
    key: JsonValue = ""
    value: JsonValue | int | UnsetType = UNSET
    version: int = 0
    revision: int = 0
    create_revision: int = 0
    ttl_left: float | None = None
    lease: int | None = None
    deleted: int = 0
    items: list[Item] = []
    next: JsonValue | None = None
    succeeded: bool | None = None
    results: list[dict[str, Any]] = []


_ORIGIN: Mapping[str, Any] = provenance(HttpAnswer(status=200))


def results_of(done: TransactionDone) -> tuple[OperationResult, ...]:
    """What came of each operation; raises ``IndefiniteError`` when that is nothing that raftkv would tell."""
    try:
        return tuple([_result(one) for one in done.results])
    except (msgspec.DecodeError, ValueError) as error:
        raise in_doubt(not_raftkv(error)) from None


def _result(content: dict[str, Any]) -> OperationResult:
    told = msgspec.convert(content, _ToldResult)
    value = told.value
    return OperationResult(
        op=told.op,
        status=told.status,
        key=text_from_json(told.key),
        value=None if isinstance(value, int | UnsetType) else value_from_json(value),
        count=value if isinstance(value, int) else None,
        version=told.version,
        revision=told.revision,
        create_revision=told.create_revision,
        ttl_left=told.ttl_left,
        lease=told.lease,
        deleted=told.deleted,
        records=tuple([record_of(item, _ORIGIN) for item in told.items]),
        next=None if told.next is None else text_from_json(told.next),
        succeeded=told.succeeded,
        results=tuple([_result(one) for one in told.results]),
    )
