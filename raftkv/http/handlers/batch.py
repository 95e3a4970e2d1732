"""``POST /batch``: many independent operations in one request and one replicated step. Pure functions."""

from __future__ import annotations

from raftkv.api.answers import BatchDone
from raftkv.api.bodies import Batch
from raftkv.api.headers import CONTEXT
from raftkv.core.errors import Code
from raftkv.core.requests import Write
from raftkv.core.results import Outcome, Written
from raftkv.http import bodies
from raftkv.http.choices import Batching, form_of
from raftkv.http.handlers.handler import Ask, Context, Handler
from raftkv.http.handlers.operations import OperationReader, shown
from raftkv.http.handlers.writing import durability, reused_key, write_ask
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
    operations = OperationReader(context).branch(batch.operations, "operations", is_atomic=False)
    return write_ask(operations, chosen, request, context)


def render(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
    """One result for each operation, in order, each with the status it would have had alone."""
    assert isinstance(ask.request, Write)
    assert isinstance(outcome, Written)
    headers = durability(ask, outcome, context)
    if outcome.refused is not None:
        return reused_key(outcome, headers)
    if not outcome.committed:
        return json_response(202, BatchDone(None, None), headers)
    results = [shown(*pair, context) for pair in zip(ask.request.operations, outcome.results, strict=True)]
    return json_response(200, BatchDone(results, outcome.revision), headers)


BATCH = Handler(parse, render, form_of(Batching))
