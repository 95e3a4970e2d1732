"""Transactions of etcd's as native ones: the comparisons, the branches, and what came of the one that was taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from raftkv.coordination.steps import Plan, submitted
from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.requests import (
    AnyOperation,
    ComparedField,
    KeyComparison,
    Operator,
    Transaction,
    Write,
)
from raftkv.core.results import (
    AnyResult,
    DeleteDone,
    PutDone,
    SpanDeleted,
    Transacted,
    Written,
)
from raftkv.etcd.calls import (
    EtcdCall,
    header,
    refuse,
    revision_compared,
)
from raftkv.etcd.errors import CallStatus, Known
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.etcd.kv import delete_operations, deleted_told, put_operations, put_told
from raftkv.etcd.messages import (
    Compare,
    CompareResult,
    CompareTarget,
    RangeRequest,
    RangeResponse,
    RequestOp,
    ResponseHeader,
    ResponseOp,
    TxnRequest,
    TxnResponse,
)
from raftkv.etcd.ranges import (
    range_,
    range_operations,
    span_of,
    told_in_transaction,
)
from raftkv.formats.commands import DEPTH_MAX
from raftkv.http.handlers.handler import asked_by

OPERATIONS_MAX: Final = 128
"""Of a transaction's branch, and of its comparisons, as etcd has it by default."""


def txn(request: TxnRequest, call: EtcdCall) -> Plan[TxnResponse]:
    """``KV.Txn``."""
    transaction = _transaction(request, call, OPERATIONS_MAX, 1)
    past = yield from _past(request, call)
    outcome = yield from submitted(asked_by(call.caller, Write(operations=(transaction,))), call.deadline_s)
    if isinstance(outcome, Refused) and outcome.code is Code.BAD_REQUEST:
        raise Known.DUPLICATE_KEY.status  # all else that could be wrong with it was looked at
    if isinstance(outcome, Refused | Unknown):
        refuse(outcome, call)
    assert isinstance(outcome, Written)
    (result,) = outcome.results
    if isinstance(result, Refused):
        refuse(result, call)
    assert isinstance(result, Transacted)
    return _transacted_told(request, result, header(call, outcome.revision), past)


Past = dict[int, RangeResponse]
"""What ranges at a revision of the past tell, by their identity: they do not change, so they are read before."""


def _past(request: TxnRequest, call: EtcdCall) -> Plan[Past]:
    found: Past = {}
    for one in (*request.success, *request.failure):
        if one.request_txn is not None:
            found |= yield from _past(one.request_txn, call)
        elif one.request_range is not None and one.request_range.revision > 0:
            found[id(one.request_range)] = yield from range_(one.request_range, call)
    return found


def _transaction(request: TxnRequest, call: EtcdCall, room: int, depth: int) -> Transaction:
    largest = max(len(request.compare), len(request.success), len(request.failure))
    if largest > room or depth > DEPTH_MAX:
        raise Known.TOO_MANY_OPS.status
    for compare in request.compare:
        if not compare.key:
            raise Known.EMPTY_KEY.status
    return Transaction(
        comparisons=tuple(map(_comparison, request.compare)),
        success=_branch(request.success, call, room - largest, depth),
        failure=_branch(request.failure, call, room - largest, depth),
    )


def _branch(operations: tuple[RequestOp, ...], call: EtcdCall, room: int, depth: int) -> tuple[AnyOperation, ...]:
    branch: list[AnyOperation] = []
    for one in operations:
        if one.request_range is not None:
            branch += range_operations(one.request_range)
        elif one.request_put is not None:
            branch += put_operations(one.request_put, call)
        elif one.request_delete_range is not None:
            branch += delete_operations(one.request_delete_range)
        elif one.request_txn is not None:
            branch.append(_transaction(one.request_txn, call, room, depth + 1))
        else:
            raise Known.KEY_NOT_FOUND.status
    return tuple(branch)


_TARGETS: Final = {
    CompareTarget.VERSION: ComparedField.VERSION,
    CompareTarget.CREATE: ComparedField.CREATE_REVISION,
    CompareTarget.MOD: ComparedField.REVISION,
    CompareTarget.VALUE: ComparedField.VALUE,
    CompareTarget.LEASE: ComparedField.LEASE,
}
_OPERATORS: Final = {
    CompareResult.EQUAL: Operator.EQUAL,
    CompareResult.NOT_EQUAL: Operator.UNEQUAL,
    CompareResult.LESS: Operator.LESS,
    CompareResult.GREATER: Operator.GREATER,
}


def _comparison(compare: Compare) -> KeyComparison:
    target, operator = _TARGETS.get(compare.target), _OPERATORS.get(compare.result)
    if target is None or operator is None:
        raise CallStatus(GrpcStatus.INVALID_ARGUMENT, "etcdserver: the comparison is none that there is")
    # Between that of no key (0) and that of the first write (1) there is none of ours.
    first = {Operator.GREATER: 0, Operator.LESS: 1}.get(operator, -1)
    operand: int | bytes
    match compare.target:
        case CompareTarget.VERSION:
            operand = compare.version or 0
        case CompareTarget.CREATE:
            operand = revision_compared(compare.create_revision or 0, first)
        case CompareTarget.MOD:
            operand = revision_compared(compare.mod_revision or 0, first)
        case CompareTarget.LEASE:
            operand = compare.lease or 0
        case _:
            operand = compare.value or b""
    span = span_of(compare.key, compare.range_end)
    if span is None:
        return KeyComparison(start=compare.key, target=target, operator=operator, operand=operand)
    return KeyComparison(
        start=span.start, end=span.end, several=True, of_none=True, target=target, operator=operator, operand=operand
    )


def _transacted_told(request: TxnRequest, done: Transacted, head: ResponseHeader, past: Past) -> TxnResponse:
    told = _Telling(head.revision - _has_changed(done), past).transaction(request, done)
    return msgspec.structs.replace(told, header=head)


def _has_changed(done: Transacted) -> bool:
    """Is the store at another revision by this?"""
    return any(_changes(result) for result in done.results)


def _changes(result: AnyResult) -> bool:
    match result:
        case Transacted():
            return _has_changed(result)
        case SpanDeleted(count=count):
            return count > 0
    return isinstance(result, PutDone | DeleteDone)


class _Telling:
    """Tells what came of operations, each with the revision at which it found the store, or left it.

    That is ``revision`` up to the first that changes something, and one more from there on.
    """

    def __init__(self, revision: int, past: Past) -> None:
        self._begun_at = self._revision = revision
        self._past = past

    def transaction(self, request: TxnRequest, done: Transacted) -> TxnResponse:
        """Only the outermost has a header with something in it."""
        branch = request.success if done.succeeded else request.failure
        results = iter(done.results)
        responses = tuple([self._response(one, results) for one in branch])
        return TxnResponse(header=ResponseHeader(), succeeded=done.succeeded, responses=responses)

    def _response(self, one: RequestOp, results: Iterator[AnyResult]) -> ResponseOp:
        if one.request_range is not None:
            return ResponseOp(response_range=self._range(one.request_range, results))
        if one.request_put is not None:
            self._revision = self._begun_at + 1
            return ResponseOp(response_put=put_told(one.request_put, results, self._header))
        if one.request_delete_range is not None:
            deleted = deleted_told(one.request_delete_range, results, self._header)
            if deleted.deleted:
                self._revision = self._begun_at + 1
            return ResponseOp(response_delete_range=msgspec.structs.replace(deleted, header=self._header))
        nested = next(results)
        assert one.request_txn is not None
        assert isinstance(nested, Transacted)
        return ResponseOp(response_txn=self.transaction(one.request_txn, nested))

    def _range(self, request: RangeRequest, results: Iterator[AnyResult]) -> RangeResponse:
        if request.revision > 0:
            return msgspec.structs.replace(self._past[id(request)], header=self._header)
        return told_in_transaction(request, results, self._header)

    @property
    def _header(self) -> ResponseHeader:
        return ResponseHeader(revision=self._revision)
