"""``GET /cluster/live``: what this node sees of all nodes, again and again, as a stream of events.

Each event has sights (``raftkv.core.sights``): how each node stands, and what has happened to it since the last one.
Whoever wishes hears between them how the asked node stands, and what clients ask of it (``raftkv.http.telling``), so
that a page needs one stream. It begins once the node's own replica has shown what it sees. Nothing is asked of any node
for it while nobody looks. Whoever is no user any more is told so, and nothing more. Must not import Flask.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

from raftkv.api.cluster_answers import StandingTold, TrafficTold
from raftkv.coordination.onlookers import ANSWER_WITHIN_S
from raftkv.coordination.steps import Circumstances, Plan, read_failure, submitted
from raftkv.core.judgement import of_caller
from raftkv.core.requests import ShowSights
from raftkv.core.rights import Caller
from raftkv.core.sights import SightsShown, View
from raftkv.http import events
from raftkv.http.choices import Looking
from raftkv.http.events import EventForm
from raftkv.http.handlers import cluster
from raftkv.http.handlers.following import standing_of
from raftkv.http.handlers.handler import Context, Conversation, conversing
from raftkv.http.handlers.watching import event_form
from raftkv.http.messages import HttpRequest, HttpResponse
from raftkv.http.problems import failure
from raftkv.http.traffic import traffic

Event = tuple[bytes, bytes]
"""Its kind, and its content."""


def _look(request: HttpRequest, chosen: Looking, context: Context) -> Conversation:
    def converse(circumstances: Circumstances) -> Plan[HttpResponse]:
        outcome = yield from submitted(ShowSights(), circumstances.now_s() + ANSWER_WITHIN_S)
        if not isinstance(outcome, SightsShown):
            return failure(read_failure(outcome), context.node_header)
        form = event_form(request)
        body = events.stream(form, _frames(form, context, request.caller, chosen, outcome))
        return events.response(form, body, context.node_header)

    return Conversation(plan=converse)


async def _frames(
    form: EventForm, context: Context, caller: Caller, chosen: Looking, shown: SightsShown
) -> AsyncGenerator[bytes]:
    """The events as they come; the newest counts, and older ones that were not taken are not made up for."""
    came = asyncio.Event()
    told: dict[bytes, bytes] = {}
    onlooker = context.onlookers.join(came.set, shown)
    try:
        while True:
            rights = context.callers.known.current
            refusal = None if rights is None else of_caller(rights, caller)
            if refusal is not None:
                body = failure(refusal).body
                assert isinstance(body, bytes)
                yield form.frame(b"end", body.rstrip())
                return
            view = onlooker.take()
            if view is None:
                await came.wait()
                came.clear()
            else:
                events_now = _events(view, chosen, context, told)
                yield b"".join([form.frame(kind, content) for kind, content in events_now])
    finally:
        onlooker.leave()


def _events(view: View, chosen: Looking, context: Context, told: dict[bytes, bytes]) -> Iterator[Event]:
    """What one of them is told who has been ``told`` the last of each kind; that is kept there."""
    yield b"sights", context.telling.sights(view)
    found = (
        (b"standing", chosen.standing and _standing(context)),
        (b"traffic", chosen.traffic and _traffic(context)),
    )
    for kind, content in found:
        if content and told.get(kind) is not content:
            told[kind] = content
            yield kind, content


def _standing(context: Context) -> bytes:
    status = context.status()

    def tell() -> StandingTold:
        shown = None if status is None else cluster.node_status(status, context)
        return StandingTold(shown, cluster.member_list(context).members)

    return context.telling.standing(
        context.monotonic_s(), lambda: None if status is None else standing_of(status, context), tell
    )


def _traffic(context: Context) -> bytes:
    counts, now_s = context.counts, context.monotonic_s()
    if counts is None:
        return b""
    return context.telling.traffic(now_s, lambda: TrafficTold(traffic(counts, context.status(), now_s)))


LIVE = conversing(_look, Looking)
