"""What reads have in common: the level they ask for, what they say of themselves, and how a key is told, or is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from msgspec import UNSET

from raftkv.api import headers as names
from raftkv.api.answers import Sibling, SiblingsAnswer, TtlLeft
from raftkv.api.values import value_to_json
from raftkv.core.errors import Code
from raftkv.core.keys import quoted
from raftkv.core.requests import Consistency, Get, LaterQuery, Query, Read
from raftkv.core.results import (
    Answer,
    AnyResult,
    HistoryAhead,
    HistoryGone,
    KeyRecord,
    Missing,
    Outcome,
    Siblings,
    StampedAnswer,
    StampedDelete,
    StampedPut,
    StampedRecord,
)
from raftkv.http import replicas
from raftkv.http.choices import Reading, Timed
from raftkv.http.handlers.handler import Ask, Context, Render, timeout_s
from raftkv.http.messages import Headers, HttpRequest, HttpResponse, json_response
from raftkv.http.problems import problem, refuse

# As ``isinstance``, which takes ten times as long to say no.
_STAMPED: Final = frozenset({StampedPut, StampedDelete, StampedRecord})
_REVISION: Final = names.REVISION.raw
_LEVELS: Final = {level: (names.CONSISTENCY.raw, level.value.encode()) for level in Consistency}


def read(query: Query | LaterQuery, chosen: Reading, request: HttpRequest, context: Context) -> Ask:
    """A read at the level, and of as many replicas, as the request names."""
    status = context.last_status()
    level = _level(chosen, None if status is None else status.offers)
    if level is Consistency.EVENTUAL:
        wanted = Read(query=query, consistency=level, r=chosen.r, placing=chosen.placing, caller=request.caller)
    else:
        wanted = Read(query=query, consistency=level, caller=request.caller)
    return Ask(request=wanted, timeout_s=timeout_s(chosen, context), http=request)


def _level(chosen: Reading, offers: tuple[Consistency, ...] | None) -> Consistency:
    """The level, which must be one of ``offers`` (``None``: not known, the replica decides).

    Unless it is named, it is the first of the offers; eventual where the read says how many replicas to ask.
    """
    level = chosen.consistency
    if level is None and not (chosen.r or chosen.n or chosen.sloppy is not None):
        return offers[0] if offers else Consistency.LINEARIZABLE
    level = level or Consistency.EVENTUAL
    if offers is not None and level not in offers:
        known = ", ".join(offer.value for offer in offers) or "none"
        refuse(Code.NOT_SUPPORTED, f"consistency: this node cannot give {level.value} reads (it offers: {known})")
    if level is not Consistency.EVENTUAL and chosen.names_replicas:
        named = ", ".join(chosen.names_replicas)
        refuse(Code.BAD_REQUEST, f"{named}: only eventual reads take it, and this one names {level.value}")
    return level


def local_read(key: bytes, chosen: Timed, request: HttpRequest, context: Context) -> Ask:
    """A read of what this node has."""
    wanted = Read(query=Get(key=key), consistency=Consistency.LOCAL, caller=request.caller)
    return Ask(request=wanted, timeout_s=timeout_s(chosen, context), http=request)


def read_headers(answer: Answer, context: Context) -> Headers:
    """What every read says of itself."""
    stamped = answer if isinstance(answer, StampedAnswer) else None
    headers = (
        *context.node_header,
        _LEVELS[answer.consistency],
        (_REVISION, names.stamp(answer.revision, "" if stamped is None else stamped.node).encode()),
    )
    if answer.replicas:
        headers = (*headers, (names.REPLICAS.raw, ",".join(answer.replicas).encode()))
    if stamped is not None and stamped.context:
        headers = (*headers, (names.CONTEXT.raw, replicas.context_to_text(stamped.context)))
    if answer.consistency is not Consistency.LOCAL:
        return headers
    if answer.level_at_s is None:
        return (*headers, (names.STALENESS.raw, b"unknown"))
    staleness_ms = max(0, math.ceil((context.monotonic_s() - answer.level_at_s) * 1000))
    return (*headers, (names.STALENESS.raw, b"%d" % staleness_ms))


def one_read(shown: Callable[[Ask, KeyRecord, Headers, Context], HttpResponse]) -> Render:
    """Renders the read of one key; ``shown`` is how a value is told."""

    def render(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
        assert isinstance(outcome, Answer)
        headers, content = read_headers(outcome, context), outcome.content
        if isinstance(content, KeyRecord):
            return shown(ask, content, headers, context)
        if isinstance(content, Missing):
            return not_found(content.key, headers, outcome.consistency)
        if isinstance(content, HistoryGone | HistoryAhead):
            return out_of_history(content, headers)
        assert isinstance(content, Siblings)
        return siblings(content, headers, context)

    return render


def out_of_history(content: HistoryGone | HistoryAhead, headers: Headers) -> HttpResponse:
    """What was asked for is forgotten, or not there yet."""
    if isinstance(content, HistoryAhead):
        detail = f"the store is at revision {content.revision}, and no further"
        return problem(Code.BAD_REQUEST, detail, headers=headers, revision=content.revision)
    oldest = content.compacted_revision
    detail = f"the oldest revision that can be read is {oldest}"
    return problem(Code.COMPACTED, detail, headers=headers, compacted_revision=oldest)


def writer(result: AnyResult) -> str:
    """The node that stamped the version; empty where a leader numbers them all."""
    return result.node if type(result) in _STAMPED else ""  # type: ignore[union-attr]


def etag(record: KeyRecord) -> bytes:
    """The tag of a record as it stands."""
    return names.tag(record.mod_revision, writer(record)).encode()


def ttl_left(record: KeyRecord, context: Context) -> TtlLeft:
    """How many seconds the key has left, by this node's clock; unset when it never expires.

    A key is there until a command, stamped with the agreed time, has removed it: 0 is as little as it can have.
    """
    return left_of(record.expires_at_ms, context)


def left_of(expires_at_ms: int, context: Context) -> TtlLeft:
    """How many seconds are left until then; unset when it is never."""
    if not expires_at_ms:
        return UNSET
    return max(0, expires_at_ms - round(context.wall_s() * 1000)) / 1000


def siblings(found: Siblings, headers: Headers, context: Context) -> HttpResponse:
    """Several writers did not know of each other: every value, for the reader to choose, oldest stamp first."""
    shown = [
        Sibling(
            value_to_json(record.value), record.version, record.mod_revision, record.node, ttl_left(record, context)
        )
        for record in found.records
    ]
    return json_response(300, SiblingsAnswer(value_to_json(found.key), shown), headers)


def not_found(key: bytes, headers: Headers, level: Consistency | None = None) -> HttpResponse:
    """There is no such key; a local read (``level``) can only speak for this node."""
    where = " on this node" if level is Consistency.LOCAL else ""
    return problem(Code.NOT_FOUND, f"there is no key {quoted(key)}{where}", headers=headers)
