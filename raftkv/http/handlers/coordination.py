"""Transactions, leases and compaction: what a cluster with a leader offers beside keys. Pure functions."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET

from raftkv.api import paths
from raftkv.api.answers import (
    CompactDone,
    KeepAlives,
    KeysDeleted,
    LeaseGranted,
    LeaseList,
    LeaseShown,
    TransactionDone,
)
from raftkv.api.values import value_to_json
from raftkv.coordination.names import names_among
from raftkv.core.errors import Code, Refused
from raftkv.core.requests import Compact, FindLease, FindLeases, Grant, KeepAlive, Revoke, Transaction, Write
from raftkv.core.results import (
    Answer,
    AnyResult,
    Compacted,
    Granted,
    HistoryAhead,
    HistoryGone,
    KeptAlive,
    LeasePage,
    LeaseRecord,
    NoLease,
    Outcome,
    Revoked,
    Transacted,
    Written,
)
from raftkv.http import bodies, parameters, problems
from raftkv.http.choices import Batching, LeaseListing, Reading, Timed, form_of
from raftkv.http.handlers.handler import Ask, Context, Handler, milliseconds, timeout_s
from raftkv.http.handlers.operations import OperationReader, branch_shown
from raftkv.http.handlers.reading import left_of, out_of_history, read, read_headers
from raftkv.http.handlers.writing import durability, later_write, reused_key, write_ask
from raftkv.http.messages import Headers, HttpRequest, HttpResponse, json_response
from raftkv.http.needs import Needs

LEASES_LIMIT: Final = 1_000
"""Leases on one page."""


# -- transactions -----------------------------------------------------------------------------------------------------


def parse_transaction(request: HttpRequest, chosen: Batching, context: Context) -> Ask | HttpResponse:
    """``POST /txn``: every operation of every branch is checked before any is carried out."""
    body = bodies.body_of(request, bodies.decode_transaction, allow_form_type=True)
    return write_ask((OperationReader(context).transaction(body),), chosen, request, context)


def render_transaction(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
    """Which branch was done, and what came of each of its operations."""
    assert isinstance(ask.request, Write)
    assert isinstance(outcome, Written)
    headers = durability(ask, outcome, context)
    if outcome.refused is not None:
        return reused_key(outcome, headers)
    (transaction,), (done,) = ask.request.operations, outcome.results
    if isinstance(done, Refused):
        return problems.failure(done, headers)
    assert isinstance(transaction, Transaction)
    assert isinstance(done, Transacted)
    told = branch_shown(transaction, done, context)
    return json_response(200, TransactionDone(told["succeeded"], outcome.revision, told["results"]), headers)


# -- leases -----------------------------------------------------------------------------------------------------------


def parse_grant(request: HttpRequest, chosen: Batching, context: Context) -> Ask | HttpResponse:
    """``POST /leases``."""
    body = bodies.body_of(request, bodies.decode_new_lease, allow_form_type=True)
    return write_ask((Grant(ttl_ms=milliseconds(body.ttl), lease=body.id or 0),), chosen, request, context)


def _granted(_ask: Ask, result: AnyResult, headers: Headers, _context: Context) -> HttpResponse:
    assert isinstance(result, Granted)
    return json_response(201, LeaseGranted(result.lease, result.ttl_ms / 1000), headers)


def parse_revoke(request: HttpRequest, chosen: Batching, context: Context) -> Ask | HttpResponse:
    """``DELETE /leases/{id}``."""
    return write_ask((Revoke(lease=_lease_of(request, paths.LEASE)),), chosen, request, context)


def _revoked(_ask: Ask, result: AnyResult, headers: Headers, _context: Context) -> HttpResponse:
    assert isinstance(result, Revoked)
    return json_response(200, KeysDeleted(result.count, result.revision), headers)


def parse_keep_alive(request: HttpRequest, chosen: Timed, context: Context) -> Ask:
    """``POST /leases/{id}/keepalive``."""
    wanted = KeepAlive(leases=(_lease_of(request, paths.KEEPALIVE),))
    return Ask(request=wanted, timeout_s=timeout_s(chosen, context), http=request)


def render_keep_alive(_ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
    """How long it lives from now on."""
    assert isinstance(outcome, KeptAlive)
    (lease,) = outcome.leases
    if isinstance(lease, NoLease):
        return no_lease(lease, context.node_header)
    return json_response(200, LeaseGranted(lease.lease, lease.ttl_ms / 1000), context.node_header)


def parse_keep_alives(request: HttpRequest, chosen: Timed, context: Context) -> Ask:
    """``POST /leases/keepalive``: many at once."""
    body = bodies.body_of(request, bodies.decode_lease_ids, allow_form_type=True)
    return Ask(request=KeepAlive(leases=tuple(body.ids)), timeout_s=timeout_s(chosen, context), http=request)


def render_keep_alives(_ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
    """Those that live on, and those that there are not."""
    assert isinstance(outcome, KeptAlive)
    kept = [LeaseGranted(one.lease, one.ttl_ms / 1000) for one in outcome.leases if isinstance(one, LeaseRecord)]
    missing = [one.lease for one in outcome.leases if isinstance(one, NoLease)]
    return json_response(200, KeepAlives(kept, missing), context.node_header)


def parse_lease(request: HttpRequest, chosen: Reading, context: Context) -> Ask:
    """``GET /leases/{id}``."""
    return read(FindLease(lease=_lease_of(request, paths.LEASE)), chosen, request, context)


def parse_leases(request: HttpRequest, chosen: LeaseListing, context: Context) -> Ask:
    """``GET /leases``."""
    limit = min(chosen.limit, LEASES_LIMIT)
    return read(FindLeases(start=chosen.start_lease, limit=limit), chosen, request, context)


def render_lease(_ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
    """One lease, or a page of them."""
    assert isinstance(outcome, Answer)
    headers, content = read_headers(outcome, context), outcome.content
    if isinstance(content, NoLease):
        return no_lease(content, headers)
    if isinstance(content, LeaseRecord):
        return json_response(200, _shown(content, context), headers)
    assert isinstance(content, LeasePage)
    leases = [_shown(lease, context) for lease in content.leases]
    return json_response(200, LeaseList(leases, content.next_start, outcome.revision), headers)


def _shown(lease: LeaseRecord, context: Context) -> LeaseShown:
    left = left_of(lease.expires_at_ms, context)
    shown = LeaseShown(lease.lease, lease.ttl_ms / 1000, 0.0 if left is UNSET else left, lease.key_count)
    if lease.keys is None:
        return shown
    keys, *names = names_among(lease.keys)
    locks, elections = [[one.decode() for one in found] for found in names]
    return msgspec.structs.replace(shown, keys=list(map(value_to_json, keys)), locks=locks, elections=elections)


def no_lease(found: NoLease, headers: Headers) -> HttpResponse:
    """There is no such lease."""
    return problems.problem(
        Code.LEASE_NOT_FOUND, f"there is no lease {found.lease}; it may have ended", headers=headers
    )


def _lease_of(request: HttpRequest, route: str) -> int:
    return parameters.lease_in_path(request.path, route)


# -- history ----------------------------------------------------------------------------------------------------------


def parse_compact(request: HttpRequest, chosen: Timed, context: Context) -> Ask:
    """``POST /compact``."""
    body = bodies.body_of(request, bodies.decode_compact, allow_form_type=True)
    return Ask(request=Compact(revision=body.revision), timeout_s=timeout_s(chosen, context), http=request)


def render_compact(_ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
    """From where on there is a past."""
    if isinstance(outcome, HistoryGone | HistoryAhead):
        return out_of_history(outcome, context.node_header)
    assert isinstance(outcome, Compacted)
    return json_response(200, CompactDone(outcome.compacted_revision), context.node_header)


TRANSACTION = Handler(parse_transaction, render_transaction, form_of(Batching))
GRANT = Handler(parse_grant, later_write(_granted), form_of(Batching))
REVOKE = Handler(parse_revoke, later_write(_revoked), form_of(Batching))
KEEP_ALIVE = Handler(parse_keep_alive, render_keep_alive, form_of(Timed))
KEEP_ALIVES = Handler(parse_keep_alives, render_keep_alives, form_of(Timed))
LEASE = Handler(parse_lease, render_lease, form_of(Reading))
LEASES = Handler(parse_leases, render_lease, form_of(LeaseListing))
COMPACT = Handler(parse_compact, render_compact, form_of(Timed), needs=Needs.ROOT)
