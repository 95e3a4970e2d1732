"""Locks and elections: what clients hold by name, as conversations with the replica. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import UNSET

from raftkv.api import paths
from raftkv.api.answers import (
    CandidateShown,
    ElectionList,
    ElectionShown,
    ElectionWon,
    LeaderShown,
    LockContender,
    LockGranted,
    LockList,
    LockReleased,
    LockShown,
    LockSummary,
    Proclaimed,
)
from raftkv.api.bodies import CampaignBody, LockBody
from raftkv.api.values import value_from_json, value_to_json
from raftkv.coordination import contention, elections, overview
from raftkv.coordination.contention import Attempt, Busy
from raftkv.coordination.names import ELECTIONS, LOCKS, Contender, Kind, Queue
from raftkv.coordination.steps import Circumstances, Plan
from raftkv.core.errors import Code, Refused, Unknown
from raftkv.http import bodies, parameters, problems
from raftkv.http.choices import Acquiring, LockListing, Releasing, Timed
from raftkv.http.handlers.handler import Context, Conversation, check_order, conversing, milliseconds, timeout_s
from raftkv.http.handlers.reading import left_of
from raftkv.http.messages import HttpRequest, HttpResponse, json_response
from raftkv.http.problems import problem, refuse

HOLDER_BYTES_MAX: Final = 256
WAITING_BYTES_MAX: Final = 1 << 20
"""Values of candidates in one answer; there may be thousands who wait, with 64 KiB each."""

_NAMES_LIMIT: Final = 100


def queue_of(kind: Kind, request: HttpRequest, route: str, context: Context) -> Queue:
    """Which name it is about."""
    check_order(context)
    return Queue(kind, parameters.name_within_path(request.path, route, context.limits))


def _attempt(
    queue: Queue, body: LockBody | CampaignBody, content: bytes, chosen: Acquiring, context: Context
) -> Attempt:
    if (body.lease is None) == (body.ttl is None):
        refuse(Code.BAD_REQUEST, "it takes either lease or ttl")
    return Attempt(
        queue=queue,
        content=content,
        lease=body.lease or 0,
        ttl_ms=milliseconds(body.ttl),
        wait_s=body.wait,
        permits=body.permits if isinstance(body, LockBody) else 1,
        timeout_s=timeout_s(chosen, context),
        idempotency_key=chosen.idempotency_key,
    )


def _acquiring(attempt: Attempt, context: Context, won: Callable[[str, int, int], Any]) -> Conversation:
    """Come to hold it; ``won`` makes the answer of name, lease and token."""

    def converse(circumstances: Circumstances) -> Plan[HttpResponse]:
        result = yield from contention.acquire(attempt, circumstances)
        if isinstance(result, Refused | Unknown):
            return problems.failure(result, context.node_header)
        if isinstance(result, Busy):
            holders = [_shown(one) for one in result.holders]
            return problem(Code.HELD, result.detail, headers=context.node_header, holders=holders)
        return json_response(200, won(attempt.queue.name.decode(), result.lease, result.token), context.node_header)

    return Conversation(plan=converse, is_long=attempt.wait_s > 0)


def _shown(one: Contender, left: float | Any = UNSET) -> LockContender:
    holder = "" if one.note is None or one.key.startswith(ELECTIONS.start) else one.note.content.decode()
    return LockContender(holder, one.lease, one.token, left)


def _releasing(queue: Queue, token: int, chosen: Timed, context: Context) -> Conversation:
    def converse(circumstances: Circumstances) -> Plan[HttpResponse]:
        result = yield from contention.release(queue, token, timeout_s(chosen, context), circumstances)
        if isinstance(result, Refused | Unknown):
            return problems.failure(result, context.node_header)
        return json_response(200, LockReleased(queue.name.decode(), token, result), context.node_header)

    return Conversation(plan=converse)


# -- locks --------------------------------------------------------------------------------------------------------


def _lock(request: HttpRequest, chosen: Acquiring, context: Context) -> Conversation:
    """``POST /locks/{name}``."""
    queue = queue_of(LOCKS, request, paths.LOCK, context)
    body = bodies.body_of(request, bodies.decode_lock, allow_form_type=True)
    holder = parameters.encoded(body.holder, "holder")
    if len(holder) > HOLDER_BYTES_MAX:
        refuse(Code.BAD_REQUEST, f"holder: {len(holder)} bytes are more than the limit of {HOLDER_BYTES_MAX}")
    return _acquiring(_attempt(queue, body, holder, chosen, context), context, LockGranted)


def _unlock(request: HttpRequest, chosen: Releasing, context: Context) -> Conversation:
    """``DELETE /locks/{name}?token=``."""
    queue = queue_of(LOCKS, request, paths.LOCK, context)
    if not chosen.token:
        refuse(Code.BAD_REQUEST, "token: missing; it says which grant is let go")
    return _releasing(queue, chosen.token, chosen, context)


def _holders(request: HttpRequest, chosen: Timed, context: Context) -> Conversation:
    """``GET /locks/{name}``."""
    queue = queue_of(LOCKS, request, paths.LOCK, context)
    limit_s = timeout_s(chosen, context)

    def converse(circumstances: Circumstances) -> Plan[HttpResponse]:
        found = yield from overview.standing(queue, limit_s, circumstances)
        if isinstance(found, Refused):
            return problems.failure(found, context.node_header)
        if not found.contenders:
            return problem(Code.NOT_FOUND, "nobody holds it, nor waits to", headers=context.node_header)
        ends = yield from overview.expiries(found.holders, limit_s, circumstances)
        if isinstance(ends, Refused):
            return problems.failure(ends, context.node_header)
        holders = [_shown(one, left_of(ends.get(one.lease, 0), context)) for one in found.holders]
        shown = LockShown(queue.name.decode(), found.permits, holders, [_shown(one) for one in found.waiting])
        return json_response(200, shown, context.node_header)

    return Conversation(plan=converse)


def _locks(_request: HttpRequest, chosen: LockListing, context: Context) -> Conversation:
    """``GET /locks``."""
    check_order(context)
    limit = min(chosen.limit, _NAMES_LIMIT)

    def converse(circumstances: Circumstances) -> Plan[HttpResponse]:
        limit_s = timeout_s(chosen, context)
        found = yield from overview.page(LOCKS, chosen.prefix, chosen.start, limit_s, circumstances, limit=limit)
        if isinstance(found, Refused):
            return problems.failure(found, context.node_header)
        locks = [
            LockSummary(one.name.decode(), one.permits, [_shown(each) for each in one.holders], len(one.waiting))
            for one in found.names
        ]
        next_name = None if found.next_name is None else found.next_name.decode()
        return json_response(200, LockList(locks, next_name), context.node_header)

    return Conversation(plan=converse)


# -- elections ----------------------------------------------------------------------------------------------------


def _campaign(request: HttpRequest, chosen: Acquiring, context: Context) -> Conversation:
    """``POST /elections/{name}/campaign``."""
    queue = queue_of(ELECTIONS, request, paths.CAMPAIGN, context)
    body = bodies.body_of(request, bodies.decode_campaign, allow_form_type=True)
    return _acquiring(_attempt(queue, body, _value(body.value), chosen, context), context, ElectionWon)


def _value(value: Any) -> bytes:
    try:
        found = value_from_json(value)
    except ValueError as error:
        refuse(Code.BAD_REQUEST, f"value: {error}")
    if len(found) > elections.VALUE_BYTES_MAX:
        detail = f"value: {len(found)} bytes are more than the limit of {elections.VALUE_BYTES_MAX}"
        refuse(Code.VALUE_TOO_LARGE, detail)
    return found


def _proclaim(request: HttpRequest, chosen: Timed, context: Context) -> Conversation:
    """``POST /elections/{name}/proclaim``."""
    queue = queue_of(ELECTIONS, request, paths.PROCLAIM, context)
    body = bodies.body_of(request, bodies.decode_proclaim, allow_form_type=True)
    value, limit_s = _value(body.value), timeout_s(chosen, context)

    def converse(circumstances: Circumstances) -> Plan[HttpResponse]:
        result = yield from elections.proclaim(queue, body.token, value, limit_s, circumstances)
        if isinstance(result, Refused | Unknown):
            return problems.failure(result, context.node_header)
        return json_response(200, Proclaimed(queue.name.decode(), body.token, result), context.node_header)

    return Conversation(plan=converse)


def _resign(request: HttpRequest, chosen: Timed, context: Context) -> Conversation:
    """``POST /elections/{name}/resign``."""
    queue = queue_of(ELECTIONS, request, paths.RESIGN, context)
    return _releasing(queue, bodies.body_of(request, bodies.decode_resign, allow_form_type=True).token, chosen, context)


def _leader(request: HttpRequest, chosen: Timed, context: Context) -> Conversation:
    """``GET /elections/{name}``."""
    queue = queue_of(ELECTIONS, request, paths.ELECTION, context)

    def converse(circumstances: Circumstances) -> Plan[HttpResponse]:
        found = yield from elections.leader(queue, timeout_s(chosen, context), circumstances)
        if isinstance(found, Refused):
            return problems.failure(found, context.node_header)
        if found is None:
            return problem(Code.NOT_FOUND, "nobody leads", headers=context.node_header)
        return json_response(200, leader_shown(found), context.node_header)

    return Conversation(plan=converse)


def _elections(_request: HttpRequest, chosen: LockListing, context: Context) -> Conversation:
    """``GET /elections``."""
    check_order(context)
    limit = min(chosen.limit, _NAMES_LIMIT)

    def converse(circumstances: Circumstances) -> Plan[HttpResponse]:
        limit_s = timeout_s(chosen, context)
        found = yield from overview.page(ELECTIONS, chosen.prefix, chosen.start, limit_s, circumstances, limit=limit)
        if isinstance(found, Refused):
            return problems.failure(found, context.node_header)
        room = _Room(WAITING_BYTES_MAX)
        shown = [
            ElectionShown(one.name.decode(), leader_shown(one.contenders[0]), [*map(room.candidate, one.waiting)])
            for one in found.names
        ]
        next_name = None if found.next_name is None else found.next_name.decode()
        return json_response(200, ElectionList(shown, next_name), context.node_header)

    return Conversation(plan=converse)


class _Room:
    """How much may still be told of what candidates of one answer would be known by."""

    def __init__(self, size_bytes: int) -> None:
        self._left_bytes = size_bytes

    def candidate(self, found: Contender) -> CandidateShown:
        """Who waits; the first come with their values."""
        assert found.note is not None
        self._left_bytes -= len(found.note.content)
        value = UNSET if self._left_bytes < 0 else value_to_json(found.note.content)
        return CandidateShown(found.lease, found.token, value)


def leader_shown(found: Contender) -> LeaderShown:
    """Who leads, as clients see it."""
    assert found.note is not None
    return LeaderShown(found.name.decode(), value_to_json(found.note.content), found.lease, found.token, found.revision)


LOCK = conversing(_lock, Acquiring)
UNLOCK = conversing(_unlock, Releasing)
HOLDERS = conversing(_holders, Timed)
LIST_LOCKS = conversing(_locks, LockListing)
CAMPAIGN = conversing(_campaign, Acquiring)
PROCLAIM = conversing(_proclaim, Timed)
RESIGN = conversing(_resign, Timed)
LEADER = conversing(_leader, Timed)
LIST_ELECTIONS = conversing(_elections, LockListing)
