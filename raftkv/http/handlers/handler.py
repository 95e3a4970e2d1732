"""What a handler is, what it knows, and who may ask for it. Pure functions, no Flask, no ASGI.

A handler is a pair: ``parse`` turns an HTTP request into an ``Ask`` (a request of ``core`` and how long to wait for
it), or answers at once; ``render`` turns the outcome into an HTTP response. Whoever carries it calls ``begin``, submits
what comes out, and gives the outcome to ``finish``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from raftkv.coordination.feed import Feed
from raftkv.coordination.onlookers import Onlookers
from raftkv.coordination.steps import Circumstances, Step
from raftkv.core.config import HttpSection, NodeSection
from raftkv.core.errors import NO_ONE_ORDER, DefiniteError, Refused, Unknown, of_read
from raftkv.core.replicator import Hear, Subscription
from raftkv.core.requests import AboutNodes, Barrier, Read, Request, is_read
from raftkv.core.results import Outcome
from raftkv.core.rights import NOBODY, Caller
from raftkv.core.status import QuorumStatus, RaftStatus, Status
from raftkv.http import problems, replicas
from raftkv.http.choices import Form, Nothing, Timed, form_of
from raftkv.http.counts import Counts
from raftkv.http.door.admission import Admission
from raftkv.http.door.callers import Callers
from raftkv.http.exports import Exports
from raftkv.http.messages import Headers, HttpRequest, HttpResponse
from raftkv.http.needs import Needs
from raftkv.http.problems import refuse
from raftkv.http.telling import Telling

# Most outcomes are none of these, and to look a type up takes a tenth of what ``isinstance`` does.
_FAILURES: Final = frozenset({Refused, Unknown})


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
    telling: Telling = msgspec.field(default_factory=Telling)
    """What ``onlookers`` are told."""

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

    @property
    def is_leaderless(self) -> bool:
        """Does this cluster have no leader, as far as this node knows?"""
        return isinstance(self.last_status(), QuorumStatus)

    def sizes(self) -> replicas.KnownSizes:
        """What the numbers of a request are held against."""
        return replicas.sizes(self.last_status(), len(self.members))


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A request for the replica, and what rendering its outcome needs. ``subject`` is the key it is about.

    ``tell``, where there is one, makes the response of any outcome, failures included, instead of its handler.
    """

    request: Request
    timeout_s: float
    http: HttpRequest
    subject: bytes = b""
    tell: Callable[[Outcome], HttpResponse] | None = None


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

    takes_token_in_form: bool = False
    """May the request say who asks by a token in its body, where a browser that saves the answer can put it?"""

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
    if ask.tell is not None:
        return ask.tell(outcome)
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
    converse: Callable[[HttpRequest, Any, Context], Conversation | Ask | HttpResponse],
    choices: type[msgspec.Struct],
    *,
    needs: Needs = Needs.USER,
    is_short: bool = False,
    takes_token_in_form: bool = False,
) -> Handler:
    """A handler that asks the replica several things, or says how the one is told, and makes the response itself."""
    form = form_of(choices)
    return Handler(converse, _never, form, needs, is_short=is_short, takes_token_in_form=takes_token_in_form)


def _never(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:  # noqa: ARG001  a handler's signature
    raise AssertionError("a handler that makes its response itself has nothing to render")


def check_order(context: Context) -> None:
    """Refuse what needs one order of writes, where there is none."""
    if context.is_leaderless:
        refuse(NO_ONE_ORDER.code, NO_ONE_ORDER.detail)


def timeout_s(chosen: Timed, context: Context) -> float:
    """How long this request may take."""
    return chosen.timeout or context.limits.request_timeout_s


def milliseconds(seconds: float | None) -> int:
    """A life in seconds, ``None`` for ever, as ``core`` has it."""
    return 0 if seconds is None else max(1, round(seconds * 1000))
