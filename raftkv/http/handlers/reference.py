"""The endpoints of the five reference systems, on top of the same requests as the native API. Pure functions.

``timestamp`` of the first reference system, which orders the writes of a key, is the revision: in quorum mode the
counter of the stamp; in raft mode, where no time of day of a write is kept, its number.
"""

from __future__ import annotations

import datetime as dt
from typing import Final, Literal

from raftkv.api import answers, cluster_answers, paths
from raftkv.api.bodies import KeyAndValue, NewSizes
from raftkv.api.values import value_to_json
from raftkv.core.errors import Code
from raftkv.core.requests import DEFAULT, Configure, Delete, Get, Inspect, Put, Write
from raftkv.core.results import Configured, KeyRecord, Outcome, PutDone, Written
from raftkv.core.status import Status
from raftkv.http import bodies, parameters
from raftkv.http.choices import KeyReading, KeyWriting, LocalReading, Nothing, Reading, Timed, Writing, form_of
from raftkv.http.handlers.cluster import unready
from raftkv.http.handlers.handler import Ask, Context, Handler, at_once, timeout_s
from raftkv.http.handlers.operations import checked
from raftkv.http.handlers.reading import local_read, one_read, read
from raftkv.http.handlers.writing import Done, one_write, write_ask
from raftkv.http.messages import Headers, HttpRequest, HttpResponse, json_response
from raftkv.http.needs import Needs
from raftkv.http.problems import refuse

LITERAL: Final = b"key="
_SET: Final = paths.stem(paths.SET_KEY)
_GET: Final = paths.stem(paths.GET_KEY)

# -- writes -------------------------------------------------------------------------------------------------------


def _parse_json_write(request: HttpRequest, chosen: Writing, context: Context) -> Ask | HttpResponse:
    body: KeyAndValue = bodies.body_of(request, bodies.decode_key_and_value, allow_form_type=True)
    key = parameters.key_from_json(body.key, context.limits)
    put = Put(key=key, value=checked(body.value, context), match=chosen.match)
    return write_ask((put,), chosen, request, context, key)


def _parse_path_write(request: HttpRequest, chosen: Writing, context: Context) -> Ask | HttpResponse:
    """``POST /set/{key}/{value}``: the key ends at the first slash (``%2F`` is part of it), the value is the rest."""
    raw_key, slash, raw_value = request.path.removeprefix(_SET).partition(b"/")
    if not slash:
        refuse(Code.BAD_REQUEST, "the path must be /set/{key}/{value}")
    key = parameters.checked_key(parameters.unescape(raw_key, "key"), context.limits)
    value = parameters.checked_value(parameters.unescape(raw_value, "value"), context.limits)
    put = Put(key=key, value=value, match=chosen.match)
    return write_ask((put,), chosen, request, context, key)


def _put(ask: Ask, written: Written, done: Done, headers: Headers) -> HttpResponse:
    shown = answers.Acknowledged("ok", written.acks, value_to_json(ask.subject), _version(done))
    return json_response(200, shown, headers)


def _set(ask: Ask, written: Written, done: Done, headers: Headers) -> HttpResponse:  # noqa: ARG001
    assert isinstance(ask.request, Write)
    put = ask.request.operations[0]
    assert isinstance(put, Put)
    shown = answers.Created(value_to_json(ask.subject), value_to_json(put.value), _version(done), "created")
    return json_response(201, shown, headers)


def _version(done: Done) -> int | None:
    assert isinstance(done, PutDone | None)
    return None if done is None else done.version


def _parse_delete(request: HttpRequest, chosen: KeyWriting, context: Context) -> Ask | HttpResponse:
    key = parameters.key_from_query(chosen.key, context.limits)
    delete = Delete(key=key, match=chosen.match)
    return write_ask((delete,), chosen, request, context, key)


def _deleted(ask: Ask, written: Written, done: Done, headers: Headers) -> HttpResponse:  # noqa: ARG001
    key = value_to_json(ask.subject)
    if done is None:
        return json_response(202, answers.KeyDeleted(None, key, None), headers)
    return json_response(200, answers.KeyDeleted(1, key, done.revision), headers)


# -- reads --------------------------------------------------------------------------------------------------------


def _parse_get(request: HttpRequest, chosen: KeyReading, context: Context) -> Ask:
    key = parameters.key_from_query(chosen.key, context.limits)
    return read(Get(key=key), chosen, request, context)


def _parse_path_get(request: HttpRequest, chosen: Reading, context: Context) -> Ask:
    """``GET /get/{key}``, and the literal ``/get/key=<key>`` of the second reference system's manual."""
    raw = request.path.removeprefix(_GET).removeprefix(LITERAL)
    key = parameters.checked_key(parameters.unescape(raw, "key"), context.limits)
    return read(Get(key=key), chosen, request, context)


def _parse_local_read(request: HttpRequest, chosen: LocalReading, context: Context) -> Ask:
    key = parameters.key_from_query(chosen.key, context.limits)
    return local_read(key, chosen, request, context)


def _found(ask: Ask, record: KeyRecord, headers: Headers, context: Context) -> HttpResponse:  # noqa: ARG001
    shown = answers.Found(value_to_json(record.key), value_to_json(record.value), record.version, record.mod_revision)
    return json_response(200, shown, headers)


# -- the rest -----------------------------------------------------------------------------------------------------


def _health(request: HttpRequest, chosen: Nothing, context: Context) -> HttpResponse:  # noqa: ARG001  a handler's signature
    now = dt.datetime.fromtimestamp(context.wall_s(), tz=dt.UTC)
    status = context.status()
    lack = (Code.NO_LEADER, context.silence()) if status is None else unready(status, context.monotonic_s())
    health: Literal["true", "false"] = "false" if lack else "true"
    reason = lack[1] if lack else ""
    return json_response(200, cluster_answers.Health("healthy", now.isoformat(timespec="milliseconds"), health, reason))


def _parse_config(request: HttpRequest, chosen: Timed, context: Context) -> Ask:
    """Asked of the replica itself: the last word of its pulse may be older than a change that was just answered."""
    return Ask(request=Inspect(), timeout_s=timeout_s(chosen, context), http=request)


def _parse_new_config(request: HttpRequest, chosen: Timed, context: Context) -> Ask:
    body: NewSizes = bodies.body_of(request, bodies.decode_new_sizes, allow_form_type=True)
    if body.n is None and body.r is None and body.w is None:
        refuse(Code.BAD_REQUEST, "body: one of n, r and w must be named")
    change = Configure(n=body.n or DEFAULT, r=body.r or DEFAULT, w=body.w or DEFAULT)
    return Ask(request=change, timeout_s=timeout_s(chosen, context), http=request)


def _render_config(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:  # noqa: ARG001  a handler's signature
    assert isinstance(outcome, Configured | Status)
    n, r, w = outcome.sizes if isinstance(outcome, Status) else (outcome.n, outcome.r, outcome.w)
    return json_response(200, cluster_answers.QuorumSizes(n, r, w), context.node_header)


PUT = Handler(_parse_json_write, one_write(_put), form_of(Writing))
SET = Handler(_parse_json_write, one_write(_set), form_of(Writing))
SET_PATH = Handler(_parse_path_write, one_write(_set), form_of(Writing))
GET = Handler(_parse_get, one_read(_found), form_of(KeyReading))
GET_PATH = Handler(_parse_path_get, one_read(_found), form_of(Reading))
LOCAL_READ = Handler(_parse_local_read, one_read(_found), form_of(LocalReading))
DELETE = Handler(_parse_delete, one_write(_deleted), form_of(KeyWriting))
HEALTH = at_once(_health, needs=Needs.NOTHING)
CONFIG = Handler(_parse_config, _render_config, form_of(Timed))
CHANGE_CONFIG = Handler(_parse_new_config, _render_config, form_of(Timed), needs=Needs.OPERATOR)
