"""``POST /batch``: many independent operations in one request and one replicated step. Pure functions."""

from __future__ import annotations

from typing import Any

import msgspec

from raftkv.api.answers import BatchDone
from raftkv.api.bodies import Batch, DeleteOperation, GetOperation, PutOperation
from raftkv.api.headers import CONTEXT
from raftkv.api.problems import TABLE
from raftkv.api.values import Value, value_from_json
from raftkv.core.errors import Code
from raftkv.core.requests import Delete, Get, Operation, Put, Write
from raftkv.core.results import (
    DeleteDone,
    KeyRecord,
    Mismatch,
    Missing,
    OperationResult,
    Outcome,
    PutDone,
    StampedDelete,
    StampedPut,
    Withheld,
    Written,
)
from raftkv.http import bodies, parameters
from raftkv.http.choices import Batching, form_of
from raftkv.http.handlers.handler import Ask, Context, Handler, durability, reused_key, write_ask
from raftkv.http.handlers.kv import item
from raftkv.http.messages import HttpRequest, HttpResponse, json_response
from raftkv.http.problems import refuse


def parse(request: HttpRequest, chosen: Batching, context: Context) -> Ask | HttpResponse:
    """Every operation is checked before any is carried out."""
    if CONTEXT.raw in request.headers:
        refuse(Code.BAD_REQUEST, f"{CONTEXT.name}: it is of one key, and a batch may have many")
    batch: Batch = bodies.body_of(request, bodies.decode_batch)
    limit = context.limits.max_batch_operations
    if not 1 <= len(batch.operations) <= limit:
        refuse(Code.BAD_REQUEST, f"operations: {len(batch.operations)} of them, but a batch has 1 to {limit}")
    operations = tuple([_operation(one, position, context) for position, one in enumerate(batch.operations)])
    return write_ask(operations, chosen, request, context)


def _operation(one: PutOperation | DeleteOperation | GetOperation, position: int, context: Context) -> Operation:
    key = parameters.key_from_text(one.key, context.limits, f"operations[{position}].key")
    if isinstance(one, GetOperation):
        return Get(key=key)
    if isinstance(one, DeleteOperation):
        return Delete(key=key, match=one.if_revision)
    ttl_ms = 0 if one.ttl is None else max(1, round(one.ttl * 1000))
    value = checked(one.value, context, f"operations[{position}].value")
    return Put(key=key, value=value, match=one.if_revision, ttl_ms=ttl_ms)


def checked(value: Value, context: Context, what: str = "value") -> bytes:
    """The bytes of a JSON value, when they may be stored."""
    try:
        return parameters.checked_value(value_from_json(value), context.limits)
    except ValueError as error:
        refuse(Code.BAD_REQUEST, f"{what}: {error}")


def render(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
    """One result for each operation, in order, each with the status it would have had alone."""
    assert isinstance(ask.request, Write)
    assert isinstance(outcome, Written)
    headers = durability(ask, outcome, context)
    if outcome.refused is not None:
        return reused_key(outcome, headers)
    if not outcome.committed:
        return json_response(202, BatchDone(None, None), headers)
    results = [
        _result(operation, result, context)
        for operation, result in zip(ask.request.operations, outcome.results, strict=True)
    ]
    return json_response(200, BatchDone(results, outcome.revision), headers)


def _result(operation: Operation, result: OperationResult, context: Context) -> dict[str, Any]:
    shown: dict[str, Any] = {"op": type(operation).__name__.lower(), "key": operation.key.decode()}
    match result:
        case PutDone():
            status = 201 if result.created else 200
            shown = {**shown, "status": status, "version": result.version, "revision": result.revision}
            return {**shown, "node": result.node} if isinstance(result, StampedPut) else shown
        case DeleteDone():
            shown = {**shown, "status": 200, "deleted": 1, "revision": result.revision}
            return {**shown, "node": result.node} if isinstance(result, StampedDelete) else shown
        case KeyRecord():
            return {"op": "get", "status": 200, **msgspec.to_builtins(item(result, context))}
        case Missing():
            return {**shown, "status": TABLE[Code.NOT_FOUND].status, "code": Code.NOT_FOUND.value}
        case Withheld():
            code = Code.VALUE_TOO_LARGE
            return {**shown, "status": TABLE[code].status, "code": code.value}
        case Mismatch():
            code = Code.PRECONDITION_FAILED
            return {**shown, "status": TABLE[code].status, "code": code.value, "revision": result.revision}


BATCH = Handler(parse, render, form_of(Batching))
