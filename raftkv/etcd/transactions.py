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
    Transacted,
    Written,
)
from raftkv.etcd.calls import (
    EtcdCall,
    header,
    revision_asked,
)
from raftkv.etcd.errors import CallStatus, Known, fail
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
from raftkv.http.handlers.handler import asked_by

OPERATIONS_MAX: Final = 128
"""Of a transaction's branch, and of its comparisons, as etcd has it by default."""


def txn(request: TxnRequest, call: EtcdCall) -> Plan[TxnResponse]:
    """``KV.Txn``."""
    transaction = _transaction(request, call, OPERATIONS_MAX)
    past = yield from _past(request, call)
    outcome = yield from submitted(asked_by(call.caller, Write(operations=(transaction,))), call.deadline_s)
    if isinstance(outcome, Refused) and outcome.code is Code.BAD_REQUEST:
        raise Known.DUPLICATE_KEY.status  # all else that could be wrong with it was looked at
    if isinstance(outcome, Refused | Unknown):
        fail(outcome)
    assert isinstance(outcome, Written)
    (result,) = outcome.results
    if isinstance(result, Refused):
        fail(result)
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


def _transaction(request: TxnRequest, call: EtcdCall, room: int) -> Transaction:
    largest = max(len(request.compare), len(request.success), len(request.failure))
    if largest > room:
        raise Known.TOO_MANY_OPS.status
    for compare in request.compare:
        if not compare.key:
            raise Known.EMPTY_KEY.status
    return Transaction(
        comparisons=tuple(map(_comparison, request.compare)),
        success=_branch(request.success, call, room - largest),
        failure=_branch(request.failure, call, room - largest),
    )


def _branch(operations: tuple[RequestOp, ...], call: EtcdCall, room: int) -> tuple[AnyOperation, ...]:
    branch: list[AnyOperation] = []
    for one in operations:
        if one.request_range is not None:
            branch += range_operations(one.request_range)
        elif one.request_put is not None:
            branch += put_operations(one.request_put, call)
        elif one.request_delete_range is not None:
            branch += delete_operations(one.request_delete_range)
        elif one.request_txn is not None:
            branch.append(_transaction(one.request_txn, call, room))
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
    operand: int | bytes
    match compare.target:
        case CompareTarget.VERSION:
            operand = compare.version or 0
        case CompareTarget.CREATE:
            operand = _revision_compared(compare.create_revision or 0)
        case CompareTarget.MOD:
            operand = _revision_compared(compare.mod_revision or 0)
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


def _revision_compared(revision: int) -> int:
    """A revision to compare with, as one of ours: 0 is that of a key that is not there, and stays it.

    No key has etcd's first revision, which is nobody's write: what would be 0 by it is less than any of ours.
    """
    if revision <= 0:
        return revision
    return revision_asked(revision) or -1


def _transacted_told(request: TxnRequest, done: Transacted, head: ResponseHeader, past: Past) -> TxnResponse:
    branch = request.success if done.succeeded else request.failure
    results, inner = iter(done.results), ResponseHeader(revision=head.revision)
    responses: list[ResponseOp] = []
    for one in branch:
        if one.request_range is not None:
            told = _range_told(one.request_range, results, inner, past)
            responses.append(ResponseOp(response_range=told))
        elif one.request_put is not None:
            responses.append(ResponseOp(response_put=put_told(one.request_put, results, inner)))
        elif one.request_delete_range is not None:
            deleted = deleted_told(one.request_delete_range, results, inner)
            responses.append(ResponseOp(response_delete_range=deleted))
        else:
            nested = next(results)
            assert one.request_txn is not None
            assert isinstance(nested, Transacted)
            deeper = _transacted_told(one.request_txn, nested, inner, past)
            responses.append(ResponseOp(response_txn=msgspec.structs.replace(deeper, header=ResponseHeader())))
    return TxnResponse(header=head, succeeded=done.succeeded, responses=tuple(responses))


def _range_told(request: RangeRequest, results: Iterator[AnyResult], head: ResponseHeader, past: Past) -> RangeResponse:
    if request.revision > 0:
        return msgspec.structs.replace(past[id(request)], header=head)
    return told_in_transaction(request, results, head)
