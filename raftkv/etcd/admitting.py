"""Who asks, as etcd's clients say it: by a token in ``authorization`` or ``token``, whatever word stands before it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from raftkv.coordination.steps import Step
from raftkv.core.errors import DefiniteError
from raftkv.core.judgement import of_operator
from raftkv.core.rights import NOBODY, Caller
from raftkv.etcd.errors import CallStatus, Known
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.http.door.callers import UnauthenticatedError
from raftkv.http.handlers.handler import Aside, Context
from raftkv.http.messages import HttpRequest
from raftkv.http.needs import Needs


def is_open(needs: Needs, context: Context) -> bool:
    """May anybody ask for this, whatever they show?"""
    return needs is Needs.NOTHING or not (context.callers.is_asked or needs in (Needs.OPERATOR, Needs.OWNER))


def admitted(
    request: HttpRequest, needs: Needs, context: Context, certificate: str = "", *, takes_expired: bool = False
) -> Generator[Step | Aside, Any, Caller]:
    """Who asks, and may ask for what ``needs`` so much. Raises ``CallStatus``.

    ``certificate`` is the name in the connection's certificate, which counts where there is no token.
    ``takes_expired``: a token is still taken when its time is over, though not when its user has another password. So
    leases are kept alive, of which etcd asks for no token at all: there are clients that get no new one for this.
    """
    callers = context.callers
    if is_open(needs, context):
        return NOBODY
    if not callers.is_asked:
        if context.admission.refusal(request, ()) is not None:
            raise Known.PERMISSION_DENIED.status
        return NOBODY
    rights = callers.known.current
    if rights is None:
        raise Known.NO_LEADER.status
    if callers.missing:
        raise CallStatus(GrpcStatus.UNAVAILABLE, f"etcdserver: {callers.missing}")
    token = request.headers.get(b"authorization") or request.headers.get(b"token")
    if not token and not certificate:
        raise Known.USER_EMPTY.status
    expired = callers.tokens.named(_without_word(token)) if takes_expired and token else None
    if expired is not None and rights.knows(expired):
        return expired
    caller = yield from _caller(token or b"", certificate, request, context)
    if needs in (Needs.ROOT, Needs.OPERATOR) and of_operator(rights, caller) is not None:
        raise Known.PERMISSION_DENIED.status
    return caller


def _without_word(shown: bytes) -> bytes:
    return shown.strip().rpartition(b" ")[2]


def _caller(
    token: bytes, certificate: str, request: HttpRequest, context: Context
) -> Generator[Step | Aside, Any, Caller]:
    callers = context.callers
    shown = token.strip()
    if shown and b" " not in shown:
        shown = b"Bearer " + shown
    headers = {b"authorization": shown} if shown else {}
    known = callers.known_at_once(headers, certificate)
    if known is not None:
        return known
    try:
        caller: Caller = yield Aside(lambda: callers.find(headers, certificate, request.client))
    except UnauthenticatedError:
        # A certificate that names no user is no token that a client could get anew: Go's would try, and break down.
        raise (Known.INVALID_TOKEN if shown else Known.PERMISSION_DENIED).status from None
    except DefiniteError as error:
        raise CallStatus(GrpcStatus.UNAVAILABLE, f"etcdserver: {error.detail}") from None
    return caller
