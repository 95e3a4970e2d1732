"""What a handler is, what it knows, and what writes and reads have in common. Pure functions, no Flask, no ASGI.

A handler is a pair: ``parse`` turns an HTTP request into an ``Ask`` (a request of ``core`` and how long to wait for
it), or answers at once; ``render`` turns the outcome into an HTTP response. Whoever carries it calls ``begin``, submits
what comes out, and gives the outcome to ``finish``.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET

from raftkv.api import headers as names
from raftkv.api.answers import Sibling, SiblingsAnswer, TtlLeft
from raftkv.api.values import value_to_json
from raftkv.coordination.feed import Feed
from raftkv.coordination.onlookers import Onlookers
from raftkv.coordination.steps import Circumstances, Step
from raftkv.core.config import HttpSection, NodeSection
from raftkv.core.errors import NO_ONE_ORDER, Code, DefiniteError, Refused, Unknown, of_read
from raftkv.core.replicator import Hear, Subscription
from raftkv.core.requests import (
    AboutNodes,
    AnyOperation,
    Barrier,
    Consistency,
    Get,
    LaterQuery,
    List,
    Query,
    Read,
    Request,
    Write,
    is_read,
    quoted,
)
from raftkv.core.results import (
    Answer,
    AnyResult,
    DeleteDone,
    HistoryAhead,
    HistoryGone,
    KeyRecord,
    Mismatch,
    Missing,
    Outcome,
    PutDone,
    QuorumWritten,
    Siblings,
    StampedAnswer,
    StampedDelete,
    StampedPut,
    StampedRecord,
    Written,
)
from raftkv.core.rights import NOBODY, Caller
from raftkv.core.status import QuorumStatus, RaftStatus, Status
from raftkv.http import problems, replicas
from raftkv.http.choices import Batching, Form, Nothing, Reading, Timed, form_of
from raftkv.http.counts import Counts
from raftkv.http.door.admission import Admission
from raftkv.http.door.callers import Callers
from raftkv.http.exports import Exports
from raftkv.http.messages import Headers, HttpRequest, HttpResponse, json_response
from raftkv.http.needs import Needs
from raftkv.http.problems import problem, refuse

_STAMPED: Final = frozenset({StampedPut, StampedDelete, StampedRecord})
_FAILURES: Final = frozenset({Refused, Unknown})
_LOOKING: Final = frozenset({Get, List})
# Most outcomes are none of these, and to look a type up takes a tenth of what ``isinstance`` does.
_REVISION, _DURABILITY = names.REVISION.raw, names.DURABILITY.raw
_LEVELS: Final = {level: (names.CONSISTENCY.raw, level.value.encode()) for level in Consistency}


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What handlers know of the node. Both clocks give seconds; ``monotonic_s`` is the clock of deadlines.

    ``status`` is the replica's last status while it is alive, ``silence`` why there is none, ``last_status`` the last
    one ever heard; ``subscribe`` is the replicator's, and ``feed`` what changes, for all who watch here; ``onlookers``
    are those who look at ``cluster``, which is its name. ``callers`` are who may ask; while authentication is off,
    ``admission`` judges who may change it, or ask this replica past the others. ``exports`` are backups made here.
    """

    node: str
    version: str
    scheme: str
    limits: HttpSection
    members: tuple[NodeSection, ...]
    status: Callable[[], Status | None]
    silence: Callable[[], str]
    subscribe: Callable[[Hear], Subscription]
    feed: Feed
    onlookers: Onlookers
    last_status: Callable[[], Status | None]
    monotonic_s: Callable[[], float]
    wall_s: Callable[[], float]
    node_header: Headers
    """``Raftkv-Node``, ready made."""

    admission: Admission
    callers: Callers
    cluster: str = "raftkv"
    counted: Callable[[], Mapping[str, int]] = dict
    """How many keys, leases and events of the past are in the applied state, where that can be read here."""

    certificate_ends: Callable[[], Mapping[str, float]] = dict
    """When this node's certificates end, by what they are for (seconds since 1970)."""

    exports: Exports = msgspec.field(default_factory=Exports)
    counts: Counts | None = None
    """What all workers count, where there is anything that counts."""

    def addresses(self) -> dict[str, str]:
        """Where clients reach each node: as the members in force have it, else as the configuration does."""
        status = self.last_status()
        told = status.members if isinstance(status, RaftStatus | QuorumStatus) else ()
        return {node.id: node.http for node in self.members} | {
            member.id: member.http for member in told if member.http
        }

    @property
    def cluster_size(self) -> int:
        """How many replicas vote, as far as this node knows."""
        status = self.last_status()
        return len(self.members) if status is None else status.cluster_size

    def sizes(self) -> replicas.KnownSizes:
        """What the numbers of a request are held against."""
        return replicas.sizes(self.last_status(), len(self.members))


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A request for the replica, and what rendering its outcome needs. ``subject`` is the key it is about."""

    request: Request
    timeout_s: float
    http: HttpRequest
    subject: bytes = b""


class Aside(NamedTuple):
    """A step of a plan that the replica has no part in: gives what ``work`` comes to, or raises what it raises."""

    work: Callable[[], Awaitable[Any]]


HttpPlan = Generator[Step | Aside, Any, HttpResponse]
"""A plan that may step aside."""


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """Several requests for the replica, one after another: ``plan`` makes them, and the response in the end.

    They are ``caller``'s. ``is_long``: it waits for others, and so takes a seat of those that are kept for that.
    """

    plan: Callable[[Circumstances], HttpPlan]
    is_long: bool = False


Render = Callable[[Ask, Outcome, Context], HttpResponse]
Done = PutDone | DeleteDone | None


class Handler(msgspec.Struct, frozen=True):
    """``parse`` raises ``DefiniteError`` for a client's mistake; ``render`` never sees a failure.

    ``needs`` is what whoever asks has to show.
    """

    parse: Callable[[HttpRequest, Any, Context], Ask | HttpResponse | Conversation]
    render: Render
    form: Form
    needs: Needs = Needs.USER
    streams: bool = False
    """May the answer be a stream, where the client wishes so?"""

    is_short: bool = False
    """Does what it converses about wait for nobody?"""

    @property
    def is_plain(self) -> bool:
        """Is it answered in one piece, and without waiting for others?"""
        return (self.is_short or self.render is not _never) and not self.streams


def begin(handler: Handler, request: HttpRequest, context: Context) -> Ask | HttpResponse | Conversation:
    """What to submit, or what to converse about, or the response when there is nothing to.

    The one place where it is judged whether whoever asks may ask for that at all.
    """
    refusal = None
    if context.callers.is_asked:
        refusal = context.callers.refusal(handler.needs, request.caller, context.node_header)
    elif handler.needs in (Needs.OPERATOR, Needs.OWNER):
        refusal = context.admission.refusal(request, context.node_header)
    if refusal is not None:
        return refusal
    try:
        chosen = handler.form.read(request, context.sizes)
        begun = handler.parse(request, chosen, context)
    except DefiniteError as error:
        return problems.mistake(error)
    if request.caller is NOBODY or not isinstance(begun, Ask):
        return begun
    return msgspec.structs.replace(begun, request=asked_by(request.caller, begun.request))


def asked_by(caller: Caller, request: Request) -> Request:
    """``request``, with who asks, unless it says so itself. A write of nobody's is one that does not say it."""
    if isinstance(request, Barrier | AboutNodes) or request.caller is not None:
        return request
    if caller is NOBODY and not isinstance(request, Read):
        return request
    return msgspec.structs.replace(request, caller=caller)


def finish(handler: Handler, ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
    """The response for an outcome."""
    if type(outcome) in _FAILURES:
        assert isinstance(outcome, Refused | Unknown)
        return problems.failure(of_read(outcome) if is_read(ask.request) else outcome, context.node_header)
    return handler.render(ask, outcome, context)


def at_once(
    answer: Callable[[HttpRequest, Any, Context], HttpResponse],
    choices: type[msgspec.Struct] = Nothing,
    *,
    needs: Needs = Needs.USER,
) -> Handler:
    """A handler that needs no replica."""
    return Handler(answer, _never, form_of(choices), needs)


def conversing(
    converse: Callable[[HttpRequest, Any, Context], Conversation | HttpResponse],
    choices: type[msgspec.Struct],
    *,
    needs: Needs = Needs.USER,
    is_short: bool = False,
) -> Handler:
    """A handler that asks the replica several things, and makes the response itself."""
    return Handler(converse, _never, form_of(choices), needs, is_short=is_short)


def _never(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:  # noqa: ARG001  a handler's signature
    raise AssertionError("a handler that makes its response itself has nothing to render")


def check_order(context: Context) -> None:
    """Refuse what needs one order of writes, where there is none."""
    if context.sizes().is_leaderless:
        refuse(NO_ONE_ORDER.code, NO_ONE_ORDER.detail)


def timeout_s(chosen: Timed, context: Context) -> float:
    """How long this request may take."""
    return chosen.timeout or context.limits.request_timeout_s


def milliseconds(seconds: float | None) -> int:
    """A life in seconds, ``None`` for ever, as ``core`` has it."""
    return 0 if seconds is None else max(1, round(seconds * 1000))


# -- reads --------------------------------------------------------------------------------------------------------


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


# -- writes -------------------------------------------------------------------------------------------------------


def write_ask(
    operations: tuple[AnyOperation, ...], chosen: Batching, request: HttpRequest, context: Context, subject: bytes = b""
) -> Ask | HttpResponse:
    """The write of ``operations`` as it was chosen; or a redirect to the leader, when the client asked for one."""
    if chosen.redirect:
        elsewhere = _redirect(request, context)
        if elsewhere is not None:
            return elsewhere
    write = Write(operations=operations, acks=chosen.w, idempotency_key=chosen.idempotency_key, placing=chosen.placing)
    return Ask(request=write, timeout_s=timeout_s(chosen, context), http=request, subject=subject)


def one_write(done: Callable[[Ask, Written, Done, Headers], HttpResponse]) -> Render:
    """Renders the write of one key; ``done`` is told no result where it is not committed yet, as the client asked."""

    def render(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
        assert isinstance(outcome, Written)
        headers = durability(ask, outcome, context)
        if outcome.refused is not None:
            return reused_key(outcome, headers)
        result = outcome.results[0] if outcome.committed else None
        if isinstance(result, Done):
            return done(ask, outcome, result, headers)
        if isinstance(result, Refused):
            return problems.failure(result, headers)
        if isinstance(result, Mismatch):
            return mismatch(ask.subject, result.revision, headers)
        assert isinstance(result, Missing)
        return not_found(ask.subject, headers)

    return render


def later_write(done: Callable[[Ask, AnyResult, Headers, Context], HttpResponse]) -> Render:
    """Renders a write of one operation that may be refused by itself."""

    def render(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
        assert isinstance(outcome, Written)
        headers = durability(ask, outcome, context)
        if outcome.refused is not None:
            return reused_key(outcome, headers)
        (result,) = outcome.results
        return problems.failure(result, headers) if isinstance(result, Refused) else done(ask, result, headers, context)

    return render


def _redirect(request: HttpRequest, context: Context) -> HttpResponse | None:
    status = context.status()
    if status is None or status.leader is None or status.leader == context.node:
        return None
    address = context.addresses().get(status.leader)
    if address is None:
        return None
    target = request.path + (b"?" + request.query if request.query else b"")
    location = f"{context.scheme}://{address}".encode() + target
    return HttpResponse(status=307, headers=((b"location", location), *context.node_header))


def durability(ask: Ask, written: Written, context: Context) -> Headers:
    """Who holds the write for certain, beside ``Raftkv-Node``; nothing where nothing was to be written."""
    assert isinstance(ask.request, Write)
    if isinstance(written, QuorumWritten) and written.replicas:
        return (
            *context.node_header,
            (names.DURABILITY.raw, b"w=%d" % written.acks),
            (names.REPLICAS.raw, ",".join(written.replicas).encode()),
            (names.HINTED.raw, b"%d" % written.hinted),
        )
    if not written.committed:
        held = b"leader" if written.acks == 1 else b"%d" % written.acks
    elif _only_looks(ask.request):
        return context.node_header
    elif written.acks >= context.cluster_size:
        held = b"all"
    else:
        held = b"majority"
    return (*context.node_header, (_DURABILITY, held))


def _only_looks(write: Write) -> bool:
    for operation in write.operations:  # noqa: SIM110  as in ``is_read``
        if type(operation) not in _LOOKING:
            return False
    return True


def reused_key(written: Written, headers: Headers) -> HttpResponse:
    """The whole write was turned down."""
    assert written.refused is not None
    return problem(Code.BAD_REQUEST, written.refused, headers=headers)


def mismatch(key: bytes, revision: int, headers: Headers) -> HttpResponse:
    """The precondition failed."""
    stands = f"stands at revision {revision}" if revision else "does not exist"
    detail = f"the precondition failed: key {quoted(key)} {stands}"
    headers = (*headers, (names.ETAG.raw, names.tag(revision).encode())) if revision else headers
    return problem(Code.PRECONDITION_FAILED, detail, headers=headers, revision=revision)
