"""What a handler is, what it knows, and what writes and reads have in common. Pure functions, no Flask, no ASGI.

A handler is a pair: ``parse`` turns an HTTP request into an ``Ask`` (a request of ``core`` and how long to wait for
it), or answers at once; ``render`` turns the outcome into an HTTP response. Whoever carries it calls ``begin``, submits
what comes out, and gives the outcome to ``finish``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from raftkv.core.config import HttpSection, NodeSection
from raftkv.core.errors import Code, DefiniteError, Refused, Unknown
from raftkv.core.requests import MAJORITY, Consistency, Query, Read, Request, Write
from raftkv.core.results import Answer, Outcome, Status, Written
from raftkv.http import parameters, problems
from raftkv.http.messages import Headers, HttpRequest, HttpResponse
from raftkv.http.problems import problem, refuse

READ_PARAMETERS: Final = frozenset({"consistency", "timeout"})
WRITE_PARAMETERS: Final = frozenset({"w", "redirect", "timeout"})


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What handlers know of the node. Both clocks give seconds; ``monotonic_s`` is the clock of deadlines.

    ``status`` is the replica's last status while it is alive, ``last_status`` the last one ever heard.
    """

    node: str
    mode: str
    version: str
    scheme: str
    limits: HttpSection
    members: tuple[NodeSection, ...]
    status: Callable[[], Status | None]
    last_status: Callable[[], Status | None]
    monotonic_s: Callable[[], float]
    wall_s: Callable[[], float]
    node_header: Headers
    """``Raftkv-Node``, ready made."""

    @property
    def cluster_size(self) -> int:
        """How many replicas vote, as far as this node knows."""
        status = self.last_status()
        return len(self.members) if status is None else status.cluster_size


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A request for the replica, and what rendering its outcome needs. ``subject`` is the key it is about."""

    request: Request
    timeout_s: float
    http: HttpRequest
    subject: bytes = b""


class Handler(msgspec.Struct, frozen=True):
    """``parse`` raises ``DefiniteError`` for a client's mistake; ``render`` never sees a failure."""

    parse: Callable[[HttpRequest, Context], Ask | HttpResponse]
    render: Callable[[Ask, Outcome, Context], HttpResponse]


def begin(handler: Handler, request: HttpRequest, context: Context) -> Ask | HttpResponse:
    """What to submit, or the response when there is nothing to."""
    try:
        return handler.parse(request, context)
    except DefiniteError as error:
        return problems.mistake(error)


def finish(handler: Handler, ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
    """The response for an outcome."""
    if isinstance(outcome, Refused | Unknown):
        return problems.failure(outcome, context.node_header)
    return handler.render(ask, outcome, context)


def at_once(answer: Callable[[HttpRequest, Context], HttpResponse]) -> Handler:
    """A handler that needs no replica."""
    return Handler(answer, _never)


def _never(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:  # noqa: ARG001  a handler's signature
    raise AssertionError("a handler that answers at once has nothing to render")


def timeout_s(found: dict[str, str], context: Context) -> float:
    """How long this request may take."""
    if "timeout" not in found:
        return context.limits.request_timeout_s
    chosen = parameters.seconds(found, "timeout", parameters.MAX_TIMEOUT_S)
    assert chosen is not None
    return chosen


# -- reads --------------------------------------------------------------------------------------------------------


def read(
    query: Query, found: dict[str, str], request: HttpRequest, context: Context, level: Consistency | None = None
) -> Ask:
    """A read at the level that the request names (or at ``level``)."""
    if level is None:
        status = context.status()
        level = parameters.consistency(found, None if status is None else status.offers)
    return Ask(request=Read(query=query, consistency=level), timeout_s=timeout_s(found, context), http=request)


def read_headers(answer: Answer, context: Context) -> Headers:
    """What every read says of itself."""
    headers = (
        *context.node_header,
        (b"raftkv-consistency", answer.consistency.value.encode()),
        (b"raftkv-revision", b"%d" % answer.revision),
    )
    if answer.consistency is not Consistency.LOCAL:
        return headers
    status = context.last_status()
    heard_at_s = None if status is None else status.heard_at_s
    if heard_at_s is None:
        return (*headers, (b"raftkv-staleness-ms", b"unknown"))
    staleness_ms = max(0, round((context.monotonic_s() - heard_at_s) * 1000))
    return (*headers, (b"raftkv-staleness-ms", b"%d" % staleness_ms))


def not_found(key: bytes, headers: Headers) -> HttpResponse:
    """There is no such key."""
    return problem(Code.NOT_FOUND, f"there is no key {key.decode()!r}", headers=headers)


# -- writes -------------------------------------------------------------------------------------------------------


def write_ask(
    write: Write, found: dict[str, str], request: HttpRequest, context: Context, subject: bytes = b""
) -> Ask | HttpResponse:
    """``write`` with its ``acks`` and idempotency key; or a redirect to the leader, when the client asked for one."""
    key = parameters.idempotency_key(request)
    acks = _acks(found["w"], context) if "w" in found else MAJORITY
    if parameters.flag(found, "redirect"):
        elsewhere = _redirect(request, context)
        if elsewhere is not None:
            return elsewhere
    if key is not None or acks != MAJORITY:
        write = Write(operations=write.operations, acks=acks, idempotency_key=key)
    return Ask(request=write, timeout_s=timeout_s(found, context), http=request, subject=subject)


def _acks(text: str, context: Context) -> int:
    named = {"leader": 1, "majority": MAJORITY, "all": context.cluster_size}
    if text in named:
        return named[text]
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= context.cluster_size):
        refuse(
            Code.BAD_REQUEST,
            f"w: {text[:100]!r} is none of leader, majority, all or a number from 1 to {context.cluster_size}",
        )
    return int(text)


def _redirect(request: HttpRequest, context: Context) -> HttpResponse | None:
    status = context.status()
    if status is None or status.leader is None or status.leader == context.node:
        return None
    for member in context.members:
        if member.id == status.leader:
            target = request.path + (b"?" + request.query if request.query else b"")
            location = f"{context.scheme}://{member.http}".encode() + target
            return HttpResponse(status=307, headers=((b"location", location), *context.node_header))
    return None


def durability(ask: Ask, written: Written, context: Context) -> Headers:
    """Who holds the write for certain, beside ``Raftkv-Node``."""
    assert isinstance(ask.request, Write)
    if not written.committed:
        held = b"leader" if ask.request.acks == 1 else b"%d" % ask.request.acks
    elif ask.request.acks >= context.cluster_size:
        held = b"all"
    else:
        held = b"majority"
    return (*context.node_header, (b"raftkv-durability", held))


def reused_key(written: Written, headers: Headers) -> HttpResponse:
    """The whole write was turned down."""
    assert written.refused is not None
    return problem(Code.BAD_REQUEST, written.refused, headers=headers)


def mismatch(key: bytes, revision: int, headers: Headers) -> HttpResponse:
    """The precondition failed."""
    stands = f"stands at revision {revision}" if revision else "does not exist"
    detail = f"the precondition failed: key {key.decode()!r} {stands}"
    headers = (*headers, (b"etag", b'"%d"' % revision)) if revision else headers
    return problem(Code.PRECONDITION_FAILED, detail, headers=headers, revision=revision)
