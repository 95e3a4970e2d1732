"""``GET /watch``: what changes, as a stream, one message a revision, from now on or from a revision that is kept.

It begins with a linearizable read: what was acknowledged before lies behind the watcher, what comes after will be told.
From there on the feed of this front-end tells it what the node's own state comes to show. While nothing that it wants
changes, a watcher is told how far it has seen. Whoever loses the right to read all that it watches is told that, and
nothing more. Must not import Flask.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Final

from msgspec import UNSET

from raftkv.api.answers import ChangesTold, ChangeTold, PreviousTold, ProgressTold
from raftkv.api.headers import EVENTS
from raftkv.api.values import value_to_json
from raftkv.coordination.audience import Interest, Tell
from raftkv.coordination.feed import ChangeListener, Heard
from raftkv.coordination.steps import Circumstances, Plan, read_failure, submitted
from raftkv.core.errors import KEEPS_NO_HISTORY, Code, Refused
from raftkv.core.judgement import of_span
from raftkv.core.keys import SYSTEM, clients_span
from raftkv.core.requests import ChangesAfter, Read
from raftkv.core.results import Answer, Change, HistoryAhead, HistoryGone, KeyRecord
from raftkv.core.rights import CLUSTER, Access, Caller
from raftkv.http import events, parameters
from raftkv.http.choices import Watching
from raftkv.http.events import FORMS, EventForm
from raftkv.http.futures import settle
from raftkv.http.handlers.handler import Context, Conversation, check_order, conversing, timeout_s
from raftkv.http.handlers.reading import out_of_history, read_headers
from raftkv.http.messages import BodyStream, Headers, HttpRequest, HttpResponse, encode_json
from raftkv.http.problems import failure, refuse

Ending = HistoryGone | Refused
"""Why nothing more can be told."""

PROGRESS_S: Final = 5.0
"""A watcher that is told nothing for so long is told how far it has seen, unless it wishes otherwise."""


def _watch(request: HttpRequest, chosen: Watching, context: Context) -> Conversation:
    """What is wrong with what was chosen is said before anything is asked."""
    check_order(context)
    interest, after = _interest(chosen, context), _after(chosen)
    limit_s = timeout_s(chosen, context)
    # No key is there: what is asked is where the store stands, and whether ``after`` has been, and is kept.
    query = ChangesAfter(revision=after or 0, start=SYSTEM, end=SYSTEM, limit_bytes=0)

    def converse(circumstances: Circumstances) -> Plan[HttpResponse]:
        outcome = yield from submitted(Read(query=query, caller=CLUSTER), circumstances.now_s() + limit_s)
        if not isinstance(outcome, Answer):
            return failure(read_failure(outcome), context.node_header)
        headers, content = read_headers(outcome, context), outcome.content
        if isinstance(content, HistoryGone) and content.compacted_revision > outcome.revision:
            return failure(KEEPS_NO_HISTORY, headers)
        if after is not None and isinstance(content, HistoryGone | HistoryAhead):
            return out_of_history(content, headers)
        refused = forbidden(context, request.caller, interest)
        if refused is not None:
            return failure(refused, headers)
        stream = ChangeStream(event_form(request), context, chosen.progress_s, request.caller)
        return stream.response(_changes(stream, interest, outcome.revision if after is None else after), headers)

    return Conversation(plan=converse)


def _interest(chosen: Watching, context: Context) -> Interest:
    if chosen.key is not None:
        if chosen.prefix or chosen.start or chosen.end is not None:
            refuse(Code.BAD_REQUEST, "key: one key is no range; leave out prefix, start and end")
        start = parameters.key_from_query(chosen.key, context.limits)
        end = start + b"\x00"
    else:
        start, end = clients_span(chosen.prefix, chosen.start, chosen.end)
    return Interest(start=start, end=max(start, end), previous=chosen.previous, only=chosen.only)


def _after(chosen: Watching) -> int | None:
    """The last revision that is not to be told; ``None``: whichever is the newest."""
    if chosen.last_event_id is not None:
        return chosen.last_event_id
    return None if chosen.from_revision is None else chosen.from_revision - 1


def event_form(request: HttpRequest) -> EventForm:
    """The form of events where there is nothing else to choose."""
    return events.form_of(request) or FORMS[EVENTS.encode()]


def forbidden(context: Context, caller: Caller, interest: Interest) -> Refused | None:
    """Why ``caller`` may not watch that, by the rights of the newest state that was read here, if it may not."""
    rights = context.callers.known.current
    return None if rights is None else of_span(rights, caller, Access.READ, interest.start, interest.end)


class ChangeStream:
    """What one stream hears of changes, and how it says how far the reader has seen: every ``progress_s`` seconds."""

    def __init__(self, form: EventForm, context: Context, progress_s: float | None, caller: Caller) -> None:
        self.form = form
        self._caller = caller
        self._refusal: Refused | None = None
        self._progress_s = progress_s or PROGRESS_S
        self._context = context
        self._listener: ChangeListener | None = None
        self._told_s = context.monotonic_s()
        self._write: Callable[[bytes], bool] | None = None
        self._awaited: asyncio.Future[bytes | Ending] | None = None

    @contextmanager
    def listening(self, interest: Interest, tell: Tell, after: int) -> Generator[None]:
        """See ``Feed.listen``."""
        known = self._context.callers.known
        self._listener = self._context.feed.listen(interest, tell, after)
        judging = known.listen(lambda: self._judge(interest))
        self._judge(interest)
        try:
            yield
        finally:
            judging.end()
            self._listener.end()

    def _judge(self, interest: Interest) -> None:
        """End, if the right to all of this is gone, before anything is told of the state that says so."""
        self._refusal = forbidden(self._context, self._caller, interest)
        if self._refusal is not None and self._awaited is not None:
            settle(self._awaited, self._refusal)

    async def hear(self) -> bytes | Ending:
        """What comes next; it is looked for now, when the reader has taken what was told last."""
        return await self._await(self._hear)

    def _hear(self, heard: Heard) -> None:
        assert self._awaited is not None
        settle(self._awaited, heard if isinstance(heard, HistoryGone) else heard.content)

    async def _await(self, hear: Callable[[Heard], bool | None]) -> bytes | Ending:
        assert self._listener is not None
        if self._refusal is not None:
            return self._refusal
        self._awaited = asyncio.get_running_loop().create_future()
        self._listener.ask(hear)
        return await self._awaited

    async def next_chunk(self) -> bytes | Ending:
        """The messages that the reader is told next, save those that its connection takes meanwhile just so."""
        found = await self._await(self._take)
        self._told_s = self._context.monotonic_s()
        return found

    def _take(self, heard: Heard) -> bool:
        """Write it, if the connection takes it just so; returns whether that takes more."""
        assert self._awaited is not None
        if self._awaited.done():
            return False
        if isinstance(heard, HistoryGone):
            self._awaited.set_result(heard)
        elif self._write is None:
            self._awaited.set_result(heard.content)
        else:
            self._told_s = self._context.monotonic_s()
            if self._write(heard.content):
                return True
            self._awaited.set_result(b"")  # nothing more until the reader has taken that
        return False

    def _write_by(self, write: Callable[[bytes], bool]) -> None:
        """See ``BodyStream.offer``."""
        self._write = write

    def tells(self, chunk: bytes) -> bytes:
        """``chunk``, which the reader is told now."""
        self._told_s = self._context.monotonic_s()
        return chunk

    def farewell(self, ending: Ending) -> bytes:
        """How it ends when history does not reach back any more, or the right to it is gone."""
        response = failure(ending) if isinstance(ending, Refused) else out_of_history(ending, ())
        body = response.body
        assert isinstance(body, bytes)
        return self.form.frame(b"end", body.rstrip())

    def _idle(self) -> bytes:
        """What is said while nothing is: how far the reader has seen, if nothing is on its way to it."""
        listener, now_s = self._listener, self._context.monotonic_s()
        if listener is None or listener.hear is None or now_s - self._told_s < self._progress_s:
            return self.form.idle
        self._told_s, through = now_s, listener.through
        return _progress(self.form, through)

    def response(self, chunks: AsyncGenerator[bytes], headers: Headers) -> HttpResponse:
        """The response that is told in ``chunks``."""
        body = BodyStream(
            chunks=chunks,
            idle=self._idle,
            idle_s=self._progress_s,
            between=self.form.end,
            offer=self._write_by,
        )
        return events.response(self.form, body, headers)


async def _changes(stream: ChangeStream, interest: Interest, after: int) -> AsyncGenerator[bytes]:
    """The messages as they come."""
    with stream.listening(interest, _TELL[stream.form.media_type], after):
        while isinstance(chunk := await stream.next_chunk(), bytes):
            yield chunk
        yield stream.farewell(chunk)


@lru_cache(maxsize=16)
def _progress(form: EventForm, through: int) -> bytes:
    """Made once for all who are equally far."""
    return form.frame(b"progress", encode_json(ProgressTold(through)).rstrip(), through)


# -- how changes are told ---------------------------------------------------------------------------------------------


def _tell(form: EventForm, revision: int, changes: Sequence[Change], interest: Interest) -> bytes:
    told = [_change_told(change, with_previous=interest.previous) for change in changes]
    return form.frame(
        b"changes",
        encode_json(ChangesTold(revision=revision, time_ms=changes[0].time_ms, changes=told)).rstrip(),
        revision,
    )


_TELL: Final[dict[bytes, Tell]] = {form.media_type: partial(_tell, form) for form in FORMS.values()}
"""By the form of events: one function each, so that all watchers of one range and form share what is made."""


def _change_told(change: Change, *, with_previous: bool) -> ChangeTold:
    record, previous = change.record, change.previous if with_previous else None
    shown = UNSET if previous is None else _previous_told(previous)
    key = value_to_json(change.key)
    if record is None:
        expired = change.expired or UNSET
        return ChangeTold(type="delete", key=key, revision=change.revision, expired=expired, previous=shown)
    return ChangeTold(
        type="put",
        key=key,
        value=value_to_json(record.value),
        version=record.version,
        create_revision=record.create_revision,
        revision=record.mod_revision,
        lease=record.lease or UNSET,
        previous=shown,
    )


def _previous_told(record: KeyRecord) -> PreviousTold:
    return PreviousTold(
        value=value_to_json(record.value),
        version=record.version,
        create_revision=record.create_revision,
        revision=record.mod_revision,
        lease=record.lease or UNSET,
    )


WATCH: Final = conversing(_watch, Watching)
