"""The native resource API: ``/kv/{key}`` and ``/kv``. Pure functions, no Flask, no ASGI."""

from __future__ import annotations

from typing import Final

from msgspec import UNSET

from raftkv.api import headers as names
from raftkv.api import paths
from raftkv.api.answers import Deleted, Item, Listed, Stored
from raftkv.api.values import value_to_json
from raftkv.core.requests import Delete, Get, List, Put, Read, prefix_end
from raftkv.core.results import Answer, KeyPage, KeyRecord, Outcome, PutDone, Written
from raftkv.http import parameters
from raftkv.http.choices import Listing, Putting, Reading, Writing, form_of
from raftkv.http.handlers.handler import (
    Ask,
    Context,
    Done,
    Handler,
    etag,
    mismatch,
    one_read,
    one_write,
    read,
    read_headers,
    ttl_left,
    write_ask,
    writer,
)
from raftkv.http.messages import JSON, Headers, HttpRequest, HttpResponse, encode_json, json_response

PREFIX: Final = paths.stem(paths.KEY)
_JSON: Final = names.JSON.encode()
_ETAG, _IF_MATCH, _IF_NONE_MATCH = names.ETAG.raw, names.IF_MATCH.raw, names.IF_NONE_MATCH.raw
_BYTES: Final = ((b"content-type", names.BYTES.encode()), (b"x-content-type-options", b"nosniff"))


def parse_put(request: HttpRequest, chosen: Putting, context: Context) -> Ask | HttpResponse:
    """``PUT /kv/{key}``: the body is the value, byte for byte."""
    key = parameters.key_from_path(request.path, PREFIX, context.limits)
    put = Put(
        key=key, value=parameters.checked_value(request.body, context.limits), match=chosen.match, ttl_ms=chosen.ttl_ms
    )
    return write_ask((put,), chosen, request, context, key)


def _put(ask: Ask, written: Written, done: Done, headers: Headers) -> HttpResponse:  # noqa: ARG001
    """201 created or 200 replaced; 202 when the write is not committed yet, as the client asked."""
    key = ask.subject.decode()
    if done is None:
        return json_response(202, Stored(key, None, None), headers)
    assert isinstance(done, PutDone)
    return HttpResponse(
        status=201 if done.created else 200,
        headers=(JSON, (_ETAG, names.tag(done.revision, writer(done)).encode()), *headers),
        body=encode_json(Stored(key, done.version, done.revision, writer(done) or UNSET)),
    )


def parse_get(request: HttpRequest, chosen: Reading, context: Context) -> Ask:
    """``GET`` and ``HEAD /kv/{key}``."""
    key = parameters.key_from_path(request.path, PREFIX, context.limits)
    return read(Get(key=key), chosen, request, context)


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
        key=record.key.decode(),
        value=UNSET if keys_only else value_to_json(record.value),
        version=record.version,
        revision=record.mod_revision,
        create_revision=record.create_revision,
        node=writer(record) or UNSET,
        ttl_left=ttl_left(record, context),
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
    ends = [end for end in (prefix_end(chosen.prefix), chosen.end) if end is not None]
    query = List(
        start=max(chosen.start, chosen.prefix),
        end=min(ends) if ends else None,
        limit=min(chosen.limit, context.limits.max_list_limit),
        keys_only=chosen.keys_only,
    )
    return read(query, chosen, request, context)


def render_list(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
    """A sorted page; ``next`` is the ``start`` of the page that follows, or null."""
    assert isinstance(outcome, Answer)
    page = outcome.content
    assert isinstance(page, KeyPage)
    assert isinstance(ask.request, Read)
    assert isinstance(ask.request.query, List)
    keys_only = ask.request.query.keys_only
    items = [item(record, context, keys_only=keys_only) for record in page.records]
    next_start = None if page.next_start is None else page.next_start.decode()
    return json_response(200, Listed(items, next_start, outcome.revision), read_headers(outcome, context))


PUT = Handler(parse_put, one_write(_put), form_of(Putting))
GET = Handler(parse_get, one_read(_found), form_of(Reading))
DELETE = Handler(parse_delete, one_write(_deleted), form_of(Writing))
LIST = Handler(parse_list, render_list, form_of(Listing))
