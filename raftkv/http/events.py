"""Events in a body that need not end, in the form that the reader accepts: server-sent events, or JSON a line each.

Server-sent events are those of the WHATWG's HTML standard, section 9.2. Knows no route; must not import Flask.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final, Protocol

import msgspec

from raftkv.api import headers
from raftkv.http.messages import BodyStream, Headers, HttpRequest, HttpResponse


class Framing(Protocol):
    """See ``EventForm``."""

    def __call__(self, kind: bytes, content: bytes, number: int | None = None) -> bytes:
        """The bytes of one event."""


def _server_sent(kind: bytes, content: bytes, number: int | None = None) -> bytes:
    head = b"" if number is None else b"id: %d\n" % number
    return b"%sevent: %s\ndata: %s\n\n" % (head, kind, content)


def _line(kind: bytes, content: bytes, number: int | None = None) -> bytes:  # noqa: ARG001  the content says it all
    return content + b"\n"


class EventForm(msgspec.Struct, frozen=True, kw_only=True):
    """How one form of events looks.

    ``frame`` makes the bytes of an event from its kind, its content, which is JSON on one line, and, where there is
    one, the number by which a reader says later that it has had it. ``idle`` is what
    readers skip: a comment, or an empty line. An event ends with ``end``, which is nowhere else in it.
    """

    media_type: bytes
    idle: bytes
    end: bytes
    frame: Framing


FORMS: Final = {
    form.media_type: form
    for form in (
        EventForm(
            media_type=headers.EVENTS.encode(),
            idle=b":\n\n",
            end=b"\n\n",
            frame=_server_sent,
        ),
        EventForm(media_type=headers.LINES.encode(), idle=b"\n", end=b"\n", frame=_line),
    )
}


def form_of(request: HttpRequest) -> EventForm | None:
    """The first form that ``request`` names as one it accepts; ``None`` when it wants no events."""
    accepted = request.headers.get(b"accept", b"")
    for part in accepted.split(b",") if accepted else ():
        form = FORMS.get(part.partition(b";")[0].strip().lower())
        if form is not None:
            return form
    return None


def response(form: EventForm, body: BodyStream, more: Headers) -> HttpResponse:
    """The response whose ``body`` has events, framed by ``form`` already; ``more`` headers go with it."""
    own = ((b"content-type", form.media_type), (b"cache-control", b"no-store"), (b"vary", b"Accept"))
    return HttpResponse(status=200, headers=(*own, *more), body=body)


def stream(form: EventForm, chunks: AsyncGenerator[bytes]) -> BodyStream:
    """A body of events, which may come in pieces."""
    return BodyStream(chunks=chunks, idle=form.idle, between=form.end)
