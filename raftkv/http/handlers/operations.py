"""Operations in JSON: how ``POST /batch`` and ``POST /txn`` read them, and how what came of each is told. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from raftkv.api import bodies
from raftkv.api.problems import TABLE
from raftkv.api.values import Value, value_from_json, value_to_json
from raftkv.core.errors import Code, Refused
from raftkv.core.keys import clients_span
from raftkv.core.requests import (
    AnyOperation,
    ComparedField,
    Delete,
    DeleteSpan,
    Get,
    Increment,
    KeyComparison,
    List,
    Operator,
    Put,
    Touch,
    Transaction,
)
from raftkv.core.results import (
    AnyResult,
    DeleteDone,
    Incremented,
    KeyPage,
    KeyRecord,
    Mismatch,
    Missing,
    PutDone,
    SpanDeleted,
    StampedDelete,
    StampedPut,
    Touched,
    Transacted,
    Withheld,
)
from raftkv.http import parameters
from raftkv.http.handlers.handler import Context, milliseconds
from raftkv.http.handlers.kv import item
from raftkv.http.problems import refuse

_OPERATORS: Final = {"==": Operator.EQUAL, "!=": Operator.UNEQUAL, "<": Operator.LESS, ">": Operator.GREATER}


def checked(value: Value, context: Context, what: str = "value") -> bytes:
    """The bytes of a JSON value, when they may be stored."""
    try:
        return parameters.checked_value(value_from_json(value), context.limits)
    except ValueError as error:
        refuse(Code.BAD_REQUEST, f"{what}: {error}")


class OperationReader:
    """Reads operations of one request: how many there are in all is bounded, and what is wrong is told by its place."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._left = context.limits.max_batch_operations

    def branch(self, operations: list[Any], where: str, *, is_atomic: bool = True) -> tuple[AnyOperation, ...]:
        """All of ``operations``, which stand at ``where`` in the body."""
        self._count(operations, where)
        return tuple(
            [self._operation(one, f"{where}[{place}]", is_atomic=is_atomic) for place, one in enumerate(operations)]
        )

    def transaction(self, body: bodies.TransactionBody | bodies.TransactionOperation, where: str = "") -> Transaction:
        """A whole transaction."""
        self._count(body.compare, f"{where}compare")
        return Transaction(
            comparisons=tuple(
                [self._comparison(one, f"{where}compare[{place}]") for place, one in enumerate(body.compare)]
            ),
            success=self.branch(body.success, f"{where}success"),
            failure=self.branch(body.failure, f"{where}failure"),
        )

    def _count(self, several: list[Any], where: str) -> None:
        self._left -= len(several)
        if self._left < 0:
            limit = self._context.limits.max_batch_operations
            refuse(Code.BAD_REQUEST, f"{where}: one request has {limit} comparisons and operations at most")

    def _operation(self, one: Any, where: str, *, is_atomic: bool) -> AnyOperation:
        if is_atomic and getattr(one, "if_revision", None) is not None:
            refuse(Code.BAD_REQUEST, f"{where}.if_revision: in a transaction, compare the revision instead")
        return _READERS[type(one)](self, one, where)

    def _key(self, one: Any, where: str) -> bytes:
        return parameters.key_from_json(one.key, self._context.limits, f"{where}.key")

    def put(self, one: bodies.PutOperation, where: str) -> Put:
        """Store a value."""
        if one.ttl is not None and one.lease is not None:
            refuse(Code.BAD_REQUEST, f"{where}: ttl and lease exclude each other")
        return Put(
            key=self._key(one, where),
            value=checked(one.value, self._context, f"{where}.value"),
            match=one.if_revision,
            ttl_ms=milliseconds(one.ttl),
            lease=one.lease or 0,
        )

    def delete(self, one: bodies.DeleteOperation, where: str) -> Delete:
        """Remove a key."""
        return Delete(key=self._key(one, where), match=one.if_revision)

    def get(self, one: bodies.GetOperation, where: str) -> Get:
        """Read a key."""
        return Get(key=self._key(one, where))

    def list(self, one: bodies.ListOperation, where: str) -> List:
        """Read a page."""
        limit = self._context.limits.max_list_limit
        start, end = clients_span(
            parameters.bytes_of(one.prefix, f"{where}.prefix"),
            parameters.bytes_of(one.start, f"{where}.start"),
            None if one.end is None else parameters.end_of(parameters.bytes_of(one.end, f"{where}.end")),
        )
        return List(start=start, end=end, limit=min(one.limit or limit, limit), keys_only=one.keys_only)

    def delete_prefix(self, one: bodies.DeletePrefixOperation, where: str) -> DeleteSpan:
        """Remove a range."""
        prefix = parameters.bytes_of(one.prefix, f"{where}.prefix")
        if not prefix:
            refuse(Code.BAD_REQUEST, f"{where}.prefix: must not be empty")
        start, end = clients_span(prefix)
        return DeleteSpan(start=start, end=end)

    def increment(self, one: bodies.IncrementOperation, where: str) -> Increment:
        """Count."""
        return Increment(key=self._key(one, where), by=one.by, minimum=one.min, maximum=one.max)

    def touch(self, one: bodies.TouchOperation, where: str) -> Touch:
        """Let a key live on."""
        return Touch(key=self._key(one, where), ttl_ms=milliseconds(one.ttl))

    def nested(self, one: bodies.TransactionOperation, where: str) -> Transaction:
        """A transaction in a transaction."""
        return self.transaction(one, f"{where}.")

    def _comparison(self, one: bodies.Comparison, where: str) -> KeyComparison:
        if (one.key is None) == (one.prefix is None):
            refuse(Code.BAD_REQUEST, f"{where}: it takes either key or prefix")
        target, operand = ComparedField[one.target.upper()], one.operand
        expected: int | bytes
        if target is ComparedField.VALUE:
            if isinstance(operand, int):
                refuse(Code.BAD_REQUEST, f"{where}.with: a value is text or base64")
            expected = checked(operand, self._context, f"{where}.with")
        else:
            if not isinstance(operand, int) or isinstance(operand, bool) is not (target is ComparedField.EXISTS):
                kind = "true or false" if target is ComparedField.EXISTS else "a number"
                refuse(Code.BAD_REQUEST, f"{where}.with: {one.target} is compared with {kind}")
            expected = int(operand)
        compare = partial(KeyComparison, target=target, operator=_OPERATORS[one.op], operand=expected)
        if one.key is not None:
            return compare(start=self._key(one, where))
        assert one.prefix is not None
        start, end = clients_span(parameters.bytes_of(one.prefix, f"{where}.prefix"))
        return compare(start=start, end=end, several=True)


_READERS: Final[Mapping[type[Any], Callable[[OperationReader, Any, str], AnyOperation]]] = {
    bodies.PutOperation: OperationReader.put,
    bodies.DeleteOperation: OperationReader.delete,
    bodies.GetOperation: OperationReader.get,
    bodies.ListOperation: OperationReader.list,
    bodies.DeletePrefixOperation: OperationReader.delete_prefix,
    bodies.IncrementOperation: OperationReader.increment,
    bodies.TouchOperation: OperationReader.touch,
    bodies.TransactionOperation: OperationReader.nested,
}


# -- what came of them ------------------------------------------------------------------------------------------------

_NAMES: Final = {
    Put: "put",
    Delete: "delete",
    Get: "get",
    List: "list",
    Increment: "increment",
    Touch: "touch",
    DeleteSpan: "delete_prefix",
    Transaction: "txn",
}


def shown(operation: AnyOperation, result: AnyResult, context: Context) -> dict[str, Any]:
    """What came of ``operation``, with the ``status`` it would have had alone."""
    told: dict[str, Any] = {"op": _NAMES[type(operation)]}
    if isinstance(operation, Put | Delete | Get | Increment | Touch):
        told["key"] = value_to_json(operation.key)
    return {**told, **_told(operation, result, context)}


def _told(operation: AnyOperation, result: AnyResult, context: Context) -> dict[str, Any]:  # noqa: C901, PLR0911, PLR0912
    match result:
        case PutDone():
            told = {
                "status": 201 if result.created else 200,
                "version": result.version,
                "revision": result.revision,
            }
            return {**told, "node": result.node} if isinstance(result, StampedPut) else told
        case DeleteDone():
            told = {"status": 200, "deleted": 1, "revision": result.revision}
            return {**told, "node": result.node} if isinstance(result, StampedDelete) else told
        case KeyRecord():
            return {"status": 200, **msgspec.to_builtins(item(result, context))}
        case KeyPage():
            keys_only = isinstance(operation, List) and operation.keys_only
            items = [msgspec.to_builtins(item(record, context, keys_only=keys_only)) for record in result.records]
            next_start = None if result.next_start is None else value_to_json(result.next_start)
            return {"status": 200, "items": items, "next": next_start}
        case Incremented():
            return {
                "status": 201 if result.version == 1 else 200,
                "value": result.value,
                "version": result.version,
                "revision": result.revision,
            }
        case Touched():
            return {"status": 200, "revision": result.revision}
        case SpanDeleted():
            return {"status": 200, "deleted": result.count, "revision": result.revision}
        case Transacted():
            assert isinstance(operation, Transaction)
            return {"status": 200, **branch_shown(operation, result, context)}
        case Missing():
            return _problem(Code.NOT_FOUND)
        case Withheld():
            return _problem(Code.VALUE_TOO_LARGE)
        case Mismatch():
            return {**_problem(Code.PRECONDITION_FAILED), "revision": result.revision}
        case Refused():
            return {**_problem(result.code), "detail": result.detail}
        case _:
            raise AssertionError(f"no operation in JSON comes to {type(result).__name__}")


def branch_shown(transaction: Transaction, done: Transacted, context: Context) -> dict[str, Any]:
    """Which branch was done, and what came of it."""
    branch = transaction.success if done.succeeded else transaction.failure
    results = [shown(*pair, context) for pair in zip(branch, done.results, strict=True)]
    return {"succeeded": done.succeeded, "results": results}


def _problem(code: Code) -> dict[str, Any]:
    return {"status": TABLE[code].status, "code": code.value}
