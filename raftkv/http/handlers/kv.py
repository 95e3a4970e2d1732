"""The native resource API: ``/kv/{key}`` and ``/kv``. Pure functions, no Flask, no ASGI."""

from __future__ import annotations

from typing import Final

from msgspec import UNSET

from raftkv.api import headers as names
from raftkv.api import paths
from raftkv.api.answers import Counted, Deleted, Item, KeysDeleted, KeyTouched, Listed, Stored
from raftkv.api.bodies import IncrementBody
from raftkv.api.values import value_to_json
from raftkv.core.errors import Code
from raftkv.core.keys import clients_span
from raftkv.core.requests import Delete, DeleteSpan, Get, Increment, List, Put, Read, Touch
from raftkv.core.results import (
    Answer,
    AnyResult,
    HistoryAhead,
    HistoryGone,
    Incremented,
    KeyPage,
    KeyRecord,
    Missing,
    Outcome,
    PutDone,
    SpanDeleted,
    Touched,
    Written,
)
from raftkv.http import bodies, parameters
from raftkv.http.choices import Batching, Deleting, Listing, MomentReading, Putting, Writing, form_of
from raftkv.http.handlers.handler import Ask, Context, Handler, milliseconds
from raftkv.http.handlers.reading import (
    etag,
    left_of,
    not_found,
    one_read,
    out_of_history,
    read,
    read_headers,
    ttl_left,
    writer,
)
from raftkv.http.handlers.writing import Done, later_write, mismatch, one_write, write_ask
from raftkv.http.messages import JSON, Headers, HttpRequest, HttpResponse, encode_json, json_response
from raftkv.http.problems import refuse

PREFIX: Final = paths.stem(paths.KEY)
_JSON: Final = names.JSON.encode()
_ETAG, _IF_MATCH, _IF_NONE_MATCH = names.ETAG.raw, names.IF_MATCH.raw, names.IF_NONE_MATCH.raw
_BYTES: Final = ((b"content-type", names.BYTES.encode()), (b"x-content-type-options", b"nosniff"))


def parse_put(request: HttpRequest, chosen: Putting, context: Context) -> Ask | HttpResponse:
    """``PUT /kv/{key}``: the body is the value, byte for byte."""
    key = parameters.key_from_path(request.path, PREFIX, context.limits)
    put = Put(
        key=key,
        value=parameters.checked_value(request.body, context.limits),
        match=chosen.match,
        ttl_ms=chosen.ttl_ms,
        lease=chosen.lease,
    )
    return write_ask((put,), chosen, request, context, key)


def _put(ask: Ask, written: Written, done: Done, headers: Headers) -> HttpResponse:  # noqa: ARG001
    """201 created or 200 replaced; 202 when the write is not committed yet, as the client asked."""
    key = value_to_json(ask.subject)
    if done is None:
        return json_response(202, Stored(key, None, None), headers)
    assert isinstance(done, PutDone)
    node = writer(done)
    return HttpResponse(
        status=201 if done.created else 200,
        headers=(JSON, (_ETAG, names.tag(done.revision, node).encode()), *headers),
        body=encode_json(Stored(key, done.version, done.revision, node or UNSET)),
    )


def parse_get(request: HttpRequest, chosen: MomentReading, context: Context) -> Ask:
    """``GET`` and ``HEAD /kv/{key}``."""
    key = parameters.key_from_path(request.path, PREFIX, context.limits)
    return read(Get(key=key, revision=chosen.revision, at_ms=chosen.at_ms), chosen, request, context)


def _found(ask: Ask, record: KeyRecord, headers: Headers, context: Context) -> HttpResponse:
    """The value, raw or as JSON when the client accepts that."""
    tag, asked = etag(record), ask.http.headers
    if _IF_MATCH in asked and parameters.is_other(ask.http, tag):
        return mismatch(record.key, record.mod_revision, headers)
    headers = ((_ETAG, tag), *headers)
    if _IF_NONE_MATCH in asked and parameters.is_unmodified(ask.http, tag):
        return HttpResponse(status=304, headers=headers)
    if _JSON in asked.get(b"accept", b""):
        return json_response(200, item(record, context), ((b"vary", b"Accept"), *headers))
    return HttpResponse(status=200, headers=(*_BYTES, (b"vary", b"Accept"), *headers), body=record.value)


def item(record: KeyRecord, context: Context, *, keys_only: bool = False) -> Item:
    """A record as JSON shows it, alone or in a page."""
    return Item(
        key=value_to_json(record.key),
        value=UNSET if keys_only else value_to_json(record.value),
        version=record.version,
        revision=record.mod_revision,
        create_revision=record.create_revision,
        node=writer(record) or UNSET,
        ttl_left=ttl_left(record, context),
        lease=record.lease or UNSET,
    )


def parse_delete(request: HttpRequest, chosen: Writing, context: Context) -> Ask | HttpResponse:
    """``DELETE /kv/{key}``."""
    key = parameters.key_from_path(request.path, PREFIX, context.limits)
    return write_ask((Delete(key=key, match=chosen.match),), chosen, request, context, key)


def _deleted(ask: Ask, written: Written, done: Done, headers: Headers) -> HttpResponse:  # noqa: ARG001
    """200; 202 when the write is not committed yet, as the client asked."""
    if done is None:
        return json_response(202, Deleted(None, None), headers)
    return json_response(200, Deleted(1, done.revision, writer(done) or UNSET), headers)


def parse_list(request: HttpRequest, chosen: Listing, context: Context) -> Ask:
    """``GET /kv``: the keys with a prefix, or from ``start`` up to ``end``, or both at once.

    A larger ``limit`` than the server's own is none to refuse: whoever pages on by ``next`` gets all of it.
    """
    start, end = clients_span(chosen.prefix, chosen.start, chosen.end)
    query = List(
        start=start,
        end=end,
        limit=min(chosen.limit, context.limits.max_list_limit),
        keys_only=chosen.keys_only,
        revision=chosen.revision,
        at_ms=chosen.at_ms,
    )
    return read(query, chosen, request, context)


def render_list(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
    """A sorted page; ``next`` is the ``start`` of the page that follows, or null."""
    assert isinstance(outcome, Answer)
    page = outcome.content
    if isinstance(page, HistoryGone | HistoryAhead):
        return out_of_history(page, read_headers(outcome, context))
    assert isinstance(page, KeyPage)
    assert isinstance(ask.request, Read)
    assert isinstance(ask.request.query, List)
    keys_only = ask.request.query.keys_only
    items = [item(record, context, keys_only=keys_only) for record in page.records]
    next_start = None if page.next_start is None else value_to_json(page.next_start)
    return json_response(200, Listed(items, next_start, outcome.revision), read_headers(outcome, context))


def _check_no_precondition(request: HttpRequest) -> None:
    """Refuse what would not be looked at."""
    for header in (names.IF_MATCH, names.IF_NONE_MATCH):
        if header.raw in request.headers:
            refuse(Code.BAD_REQUEST, f"{header.name}: only PUT and DELETE of one key take it; compare in POST /txn")


def parse_delete_span(request: HttpRequest, chosen: Deleting, context: Context) -> Ask | HttpResponse:
    """``DELETE /kv``: the keys with a prefix, or from ``start`` up to ``end``; never all without a word."""
    _check_no_precondition(request)
    if not (chosen.prefix or chosen.start or chosen.end is not None):
        refuse(Code.BAD_REQUEST, "name what to delete: prefix, start or end")
    start, end = clients_span(chosen.prefix, chosen.start, chosen.end)
    return write_ask((DeleteSpan(start=start, end=end),), chosen, request, context)


def _span_deleted(_ask: Ask, result: AnyResult, headers: Headers, _context: Context) -> HttpResponse:
    assert isinstance(result, SpanDeleted)
    return json_response(200, KeysDeleted(result.count, result.revision), headers)


def parse_increment(request: HttpRequest, chosen: Batching, context: Context) -> Ask | HttpResponse:
    """``POST /kv/{key}/increment``."""
    _check_no_precondition(request)
    key = parameters.key_within_path(request.path, paths.INCREMENT, context.limits)
    body = bodies.body_of(request, bodies.decode_increment, allow_form_type=True) if request.body else IncrementBody()
    increment = Increment(key=key, by=body.by, minimum=body.min, maximum=body.max)
    return write_ask((increment,), chosen, request, context, key)


def _incremented(ask: Ask, result: AnyResult, headers: Headers, _context: Context) -> HttpResponse:
    assert isinstance(result, Incremented)
    told = Counted(value_to_json(ask.subject), result.value, result.version, result.revision)
    return json_response(200, told, ((_ETAG, names.tag(result.revision).encode()), *headers))


def parse_touch(request: HttpRequest, chosen: Batching, context: Context) -> Ask | HttpResponse:
    """``POST /kv/{key}/touch``."""
    _check_no_precondition(request)
    key = parameters.key_within_path(request.path, paths.TOUCH, context.limits)
    body = bodies.body_of(request, bodies.decode_touch, allow_form_type=True)
    return write_ask((Touch(key=key, ttl_ms=milliseconds(body.ttl)),), chosen, request, context, key)


def _touched(ask: Ask, result: AnyResult, headers: Headers, context: Context) -> HttpResponse:
    if isinstance(result, Missing):
        return not_found(ask.subject, headers)
    assert isinstance(result, Touched)
    told = KeyTouched(value_to_json(ask.subject), result.revision, left_of(result.expires_at_ms, context))
    return json_response(200, told, headers)


PUT = Handler(parse_put, one_write(_put), form_of(Putting))
GET = Handler(parse_get, one_read(_found), form_of(MomentReading))
DELETE = Handler(parse_delete, one_write(_deleted), form_of(Writing))
LIST = Handler(parse_list, render_list, form_of(Listing))
DELETE_SPAN = Handler(parse_delete_span, later_write(_span_deleted), form_of(Deleting))
INCREMENT = Handler(parse_increment, later_write(_incremented), form_of(Batching))
TOUCH = Handler(parse_touch, later_write(_touched), form_of(Batching))
