"""The KV service but for its ranges and transactions: Put, DeleteRange, Compact, as plans of native requests.

What etcd does with one request is one command here too: a put that wants the pair before it, and a deletion that wants
those it removed, are transactions that read first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from raftkv.coordination.steps import Plan
from raftkv.core.keys import SYSTEM
from raftkv.core.requests import AnyOperation, Compact, Delete, DeleteSpan, Get, List, Put, Transaction
from raftkv.core.results import (
    AnyResult,
    Compacted,
    DeleteDone,
    KeyPage,
    PutDone,
    SpanDeleted,
    Transacted,
    Written,
)
from raftkv.etcd.calls import (
    FIRST_REVISION,
    EtcdCall,
    asked,
    header,
    key_value,
    revision_asked,
    written,
)
from raftkv.etcd.errors import CallStatus, Known
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.etcd.messages import (
    CompactionRequest,
    DeleteRangeRequest,
    DeleteRangeResponse,
    HeaderResponse,
    KeyValue,
    PutRequest,
    PutResponse,
    ResponseHeader,
)
from raftkv.etcd.ranges import (
    FOREVER,
    UNTOLD,
    check_revision,
    kept_after,
    record_of,
    span_of,
)

LEASE_MAX: Final = 1 << 62


def put(request: PutRequest, call: EtcdCall) -> Plan[PutResponse]:
    """``KV.Put``."""
    operations = put_operations(request, call)
    if len(operations) > 1:
        operations = (Transaction(success=operations),)
    outcome = yield from written(operations, call)
    return put_told(request, _results(outcome), header(call, outcome.revision))


def delete_range(request: DeleteRangeRequest, call: EtcdCall) -> Plan[DeleteRangeResponse]:
    """``KV.DeleteRange``."""
    operations = delete_operations(request)
    if len(operations) > 1:
        operations = (Transaction(success=operations),)
    outcome = yield from written(operations, call)
    return deleted_told(request, _results(outcome), header(call, outcome.revision))


def _results(outcome: Written) -> Iterator[AnyResult]:
    result = outcome.results[0]
    return iter(result.results if isinstance(result, Transacted) else outcome.results)


def compact(request: CompactionRequest, call: EtcdCall) -> Plan[HeaderResponse]:
    """``KV.Compact``."""
    if request.revision < FIRST_REVISION:
        raise Known.COMPACTED.status
    revision = revision_asked(request.revision)
    answer = yield from kept_after(max(0, revision - 2), call)  # etcd refuses to forget the same twice
    if revision > answer.revision:
        raise Known.FUTURE_REVISION.status
    if revision > 1:
        outcome = yield from asked(Compact(revision=revision - 1), call)  # as ``compacted_told`` has it
        check_revision(outcome)
        assert isinstance(outcome, Compacted)
    return HeaderResponse(header=header(call, answer.revision))


def put_operations(request: PutRequest, call: EtcdCall) -> tuple[AnyOperation, ...]:
    """What a put is, alone or in a transaction. Raises ``CallStatus``."""
    if not request.key:
        raise Known.EMPTY_KEY.status
    if request.ignore_value and request.value:
        raise Known.VALUE_PROVIDED.status
    if request.ignore_lease and request.lease:
        raise Known.LEASE_PROVIDED.status
    check_key(request.key, call)
    if len(request.value) > call.context.limits.max_value_bytes:
        raise Known.REQUEST_TOO_LARGE.status
    stored = Put(
        key=request.key,
        value=request.value,
        lease=checked_lease(request.lease),
        keeps_value=request.ignore_value,
        keeps_lease=request.ignore_lease,
    )
    return (Get(key=request.key), stored) if request.prev_kv else (stored,)


def delete_operations(request: DeleteRangeRequest) -> tuple[AnyOperation, ...]:
    """What a deletion is, likewise."""
    span = span_of(request.key, request.range_end)
    if span is None:
        removed: AnyOperation = Delete(key=request.key)
        return (Get(key=request.key), removed) if request.prev_kv else (removed,)
    removed = DeleteSpan(start=span.start, end=span.end)
    return (List(start=span.start, end=span.end, limit=FOREVER), removed) if request.prev_kv else (removed,)


def put_told(request: PutRequest, results: Iterator[AnyResult], head: ResponseHeader) -> PutResponse:
    """What is told of a put, by the results of its operations."""
    previous = record_of(next(results)) if request.prev_kv else None
    done = next(results)
    assert isinstance(done, PutDone)
    return PutResponse(header=head, prev_kv=None if previous is None else key_value(previous))


def deleted_told(
    request: DeleteRangeRequest, results: Iterator[AnyResult], head: ResponseHeader
) -> DeleteRangeResponse:
    """What is told of a deletion, likewise."""
    previous: tuple[KeyValue, ...] = ()
    if request.prev_kv:
        before = next(results)
        if not isinstance(before, KeyPage):
            record = record_of(before)
            previous = () if record is None else (key_value(record),)
        elif before.next_start is None:
            previous = tuple([key_value(record) for record in before.records])
        else:
            raise UNTOLD
    done = next(results)
    if isinstance(done, SpanDeleted):
        return DeleteRangeResponse(header=head, deleted=done.count, prev_kvs=previous)
    return DeleteRangeResponse(header=head, deleted=int(isinstance(done, DeleteDone)), prev_kvs=previous)


# -- what keys and leases may be --------------------------------------------------------------------------------------


def check_key(key: bytes, call: EtcdCall) -> None:
    """Refuse a key that no client can have."""
    if len(key) > call.context.limits.max_key_bytes:
        raise Known.REQUEST_TOO_LARGE.status
    if key >= SYSTEM:
        raise CallStatus(GrpcStatus.INVALID_ARGUMENT, "etcdserver: no key begins with the bytes ff ff here")


def checked_lease(lease: int) -> int:
    """``lease``, if there can be one of that number."""
    if not 0 <= lease <= LEASE_MAX:
        raise Known.LEASE_NOT_FOUND.status
    return lease
