"""What writes have in common: where they are done, how durable they are, and why they were turned down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raftkv.api import headers as names
from raftkv.core.errors import Code, Refused
from raftkv.core.keys import quoted
from raftkv.core.requests import AnyOperation, Get, List, Write
from raftkv.core.results import AnyResult, DeleteDone, Mismatch, Missing, Outcome, PutDone, QuorumWritten, Written
from raftkv.http import problems
from raftkv.http.choices import Batching
from raftkv.http.handlers.handler import Ask, Context, Render, timeout_s
from raftkv.http.handlers.reading import not_found
from raftkv.http.messages import Headers, HttpRequest, HttpResponse
from raftkv.http.problems import problem

Done = PutDone | DeleteDone | None

# As ``isinstance``, which takes ten times as long to say no.
_LOOKING: Final = frozenset({Get, List})
_DURABILITY: Final = names.DURABILITY.raw


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
