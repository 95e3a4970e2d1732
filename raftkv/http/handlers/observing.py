"""``GET /elections/{name}/observe``: who leads, now and from each revision on at which that changes, as a stream.

It begins with linearizable reads, and goes on by the feed of this front-end, as ``watching`` does. Must not import
Flask.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Final

import msgspec

from raftkv.api import paths
from raftkv.api.answers import LeaderTold
from raftkv.coordination import succession
from raftkv.coordination.audience import Interest
from raftkv.coordination.feed import RETRY_S, Feed
from raftkv.coordination.names import ELECTIONS, contender_of
from raftkv.coordination.steps import Circumstances, Plan
from raftkv.coordination.succession import Accession, Beginning
from raftkv.core.errors import Refused
from raftkv.core.requests import Get
from raftkv.core.results import Answer, Change, HistoryAhead, HistoryGone, KeyRecord, Outcome
from raftkv.http import problems
from raftkv.http.choices import Observing
from raftkv.http.events import EventForm
from raftkv.http.futures import settle
from raftkv.http.handlers.handler import Context, Conversation, conversing, timeout_s
from raftkv.http.handlers.holding import leader_shown, queue_of
from raftkv.http.handlers.reading import out_of_history
from raftkv.http.handlers.watching import ChangeStream, event_form
from raftkv.http.messages import HttpRequest, HttpResponse, encode_json


def _observe(request: HttpRequest, chosen: Observing, context: Context) -> Conversation:
    queue = queue_of(ELECTIONS, request, paths.OBSERVE, context)
    limit_s = timeout_s(chosen, context)

    def converse(circumstances: Circumstances) -> Plan[HttpResponse]:
        begun = yield from succession.begin(queue, chosen.last_event_id, limit_s, circumstances)
        if isinstance(begun, Refused):
            return problems.failure(begun, context.node_header)
        if isinstance(begun, HistoryGone | HistoryAhead):
            return out_of_history(begun, context.node_header)
        interest = succession.interest_in(queue)
        stream = ChangeStream(event_form(request), context, chosen.progress_s, request.caller)
        return stream.response(_leaders(stream, interest, begun, context.feed), context.node_header)

    return Conversation(plan=converse)


async def _leaders(stream: ChangeStream, interest: Interest, begun: Beginning, feed: Feed) -> AsyncGenerator[bytes]:
    """The messages as they come."""
    with stream.listening(interest, _lines, begun.revision):
        if begun.first is not None:
            yield stream.tells(_told(stream.form, begun.first, begun.first.record))
        while isinstance(heard := await stream.hear(), bytes):
            for accession in begun.succession.accessions(_changes_of(heard)):
                query = accession.value_read
                record = accession.record if query is None else await _found(feed, query)
                if isinstance(record, HistoryGone):
                    yield stream.farewell(record)
                    return
                yield stream.tells(_told(stream.form, accession, record))
        yield stream.farewell(heard)


async def _found(feed: Feed, query: Get) -> KeyRecord | HistoryGone:
    """What was there then, which is shown already, or will be again."""
    while True:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        feed.read(query, partial(settle, future))
        outcome = await future
        if isinstance(outcome, Answer) and isinstance(outcome.content, KeyRecord | HistoryGone):
            return outcome.content
        await asyncio.sleep(RETRY_S)


def _told(form: EventForm, accession: Accession, record: KeyRecord | None) -> bytes:
    leader = None if record is None else leader_shown(contender_of(ELECTIONS, record))
    return form.frame(b"leader", encode_json(LeaderTold(accession.revision, leader)).rstrip(), accession.revision)


# -- what a stream hears: each revision whole, as a line, for all who observe the same election -------------------

_changes_of: Final = msgspec.json.Decoder(tuple[int, tuple[Change, ...]]).decode_lines


def _lines(revision: int, changes: Sequence[Change], _: Interest) -> bytes:
    return msgspec.json.encode((revision, [msgspec.structs.replace(one, previous=None) for one in changes])) + b"\n"


OBSERVE: Final = conversing(_observe, Observing)
