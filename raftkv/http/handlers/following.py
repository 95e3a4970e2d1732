"""``GET /status`` as a stream: how the node stands now, and again whenever that has changed.

An event comes at most every ``EVENT_S`` and shows the newest; what changed in between is not queued. Nothing is looked
at on a timer but whether the replica has fallen silent. What changes with every heartbeat is no change. Must not import
Flask.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import msgspec

from raftkv.core.errors import Code
from raftkv.core.judgement import of_caller
from raftkv.core.measures import Measured
from raftkv.core.rights import Caller
from raftkv.core.status import QuorumStatus, RaftStatus, Status
from raftkv.http import events
from raftkv.http.choices import Timed, form_of
from raftkv.http.handlers import cluster
from raftkv.http.handlers.handler import Ask, Context, Conversation, Handler
from raftkv.http.messages import HttpRequest, HttpResponse, encode_json
from raftkv.http.problems import failure, problem

EVENT_S: Final = 0.1
LOOK_S: Final = 1.0
"""How often it is looked at whether the replica still says anything, and how time has changed what it said."""


def _parse(request: HttpRequest, chosen: Timed, context: Context) -> Ask | HttpResponse | Conversation:
    """A stream begins at once, whatever ``timeout`` says, and has no deadline then."""
    form = events.form_of(request)
    if form is None:
        return cluster.STATUS.parse(request, chosen, context)
    if context.status() is None:
        return problem(Code.NO_LEADER, context.silence(), headers=context.node_header)
    return events.response(form, events.stream(form, _changes(form, request.caller, context)), context.node_header)


async def _changes(form: events.EventForm, caller: Caller, context: Context) -> AsyncGenerator[bytes]:
    changed = asyncio.Event()
    subscription = context.subscribe(lambda _shown: changed.set())
    told: object = changed  # which no status equals
    try:
        while True:
            changed.clear()
            gone = _forbidden(caller, context)
            if gone is not None:
                yield form.frame(b"end", gone)
                return
            status = context.status()
            standing = None if status is None else standing_of(status, context)
            if standing != told:
                told = standing
                yield _event(form, status, context)
                await asyncio.sleep(EVENT_S)
            try:
                async with asyncio.timeout(LOOK_S):
                    await changed.wait()
            except TimeoutError:
                continue
    finally:
        subscription.end()


def _forbidden(caller: Caller, context: Context) -> bytes | None:
    """The problem, once ``caller`` is no user any more."""
    rights = context.callers.known.current
    refusal = None if rights is None else of_caller(rights, caller)
    if refusal is None:
        return None
    body = failure(refusal).body
    assert isinstance(body, bytes)
    return body.rstrip()


def standing_of(status: Status, context: Context) -> object:
    """What of ``status`` is worth an event."""
    replace = msgspec.structs.replace
    peers = tuple([replace(peer, match_index=None, outstanding_bytes=0, clock_ahead_s=None) for peer in status.peers])
    lasting = replace(status, peers=peers, level_at_s=None, log_lines_dropped=0, measures=Measured())
    if isinstance(lasting, RaftStatus):
        lasting = replace(lasting, commit_index=0, applied_index=0)
    elif isinstance(lasting, QuorumStatus):
        lasting = replace(lasting, members=tuple([replace(one, heard_ago_ms=None) for one in lasting.members]))
    return lasting, cluster.unready(status, context.monotonic_s())


def _event(form: events.EventForm, status: Status | None, context: Context) -> bytes:
    if status is not None:
        return form.frame(b"status", encode_json(cluster.node_status(status, context)).rstrip())
    silent = problem(Code.NO_LEADER, context.silence()).body
    assert isinstance(silent, bytes)
    return form.frame(b"problem", silent.rstrip())


STATUS = Handler(_parse, cluster.STATUS.render, form_of(Timed), streams=True)
