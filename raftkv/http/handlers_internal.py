"""One replica asked directly, past every quorum: ``/internal/write``, ``/internal/kv``, ``/internal/read``. Pure.

The reference systems' nodes speak to each other this way; raftkv's own never do. Who writes to one replica alone can
make replicas differ, so the guard is that of peers: where the configuration names a secret, a request brings a token
made from it, never the secret itself, which the network must not see; where it names none, all peers are on this
machine, and so must be whoever asks. A request that a proxy carried is not from this machine, whatever it looks like.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from typing import Final

from raftkv.core.config import is_node_id
from raftkv.core.errors import Code
from raftkv.core.requests import Consistency, Get, StoreHere
from raftkv.core.results import Outcome, Stored
from raftkv.http import bodies, parameters
from raftkv.http.handlers import Ask, Context, Handler, read, timeout_s
from raftkv.http.handlers_batch import checked
from raftkv.http.handlers_reference import GET
from raftkv.http.messages import HttpRequest, HttpResponse, json_response
from raftkv.http.problems import refuse

TOKEN_MESSAGE: Final = b"raftkv internal"
_BEARER: Final = b"bearer "
_CARRIED: Final = (b"forwarded", b"x-forwarded-for", b"via")


def token_from_secret(secret: bytes) -> str:
    """The token: HMAC-SHA256 of ``raftkv internal`` under the cluster's secret, in hexadecimal (RFC 2104)."""
    return hmac.new(secret, TOKEN_MESSAGE, hashlib.sha256).hexdigest()


def _guard(request: HttpRequest, context: Context) -> None:
    if not context.sizes.is_leaderless:
        detail = "this belongs to leaderless clusters; here no replica takes or gives a value without the others"
        refuse(Code.NOT_SUPPORTED, detail)
    if context.internal_token is None:
        if not _is_loopback(request.client) or any(name in request.headers for name in _CARRIED):
            refuse(Code.FORBIDDEN, "one replica may be asked directly from its own machine only")
        return
    header = request.headers.get(b"authorization", b"")
    if not header.lower().startswith(_BEARER):
        refuse(Code.UNAUTHENTICATED, "one replica may be asked directly only with the cluster's token")
    if not hmac.compare_digest(header[len(_BEARER) :].strip().lower(), context.internal_token.encode()):
        refuse(Code.FORBIDDEN, "the token is not that of this cluster")


def _is_loopback(client: str) -> bool:
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _parse_write(request: HttpRequest, context: Context) -> Ask:
    _guard(request, context)
    found = parameters.arguments(request, frozenset({"timeout"}))
    body: bodies.InternalWrite = bodies.body_of(request, bodies.decode_internal_write, allow_form_type=True)
    key = parameters.key_from_text(body.key, context.limits)
    value = None if body.value is None else checked(body.value, context)
    if body.node and not is_node_id(body.node):
        refuse(Code.BAD_REQUEST, "node: must be 1 to 63 letters, digits, '_', '.' or '-'")
    change = StoreHere(key=key, value=value, counter=body.timestamp or 0, node=body.node)
    return Ask(request=change, timeout_s=timeout_s(found, context), http=request, subject=key)


def _render_stored(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
    assert isinstance(outcome, Stored)
    shown = {"result": "ok", "key": ask.subject.decode(), "taken": outcome.taken}
    return json_response(200, {**shown, "timestamp": outcome.counter, "node": outcome.node}, context.node_header)


def _parse_read(request: HttpRequest, context: Context) -> Ask:
    _guard(request, context)
    found = parameters.arguments(request, frozenset({"key", "timeout"}))
    key = parameters.key_from_text(found.get("key"), context.limits)
    return read(Get(key=key), found, request, context, Consistency.LOCAL)


WRITE = Handler(_parse_write, _render_stored)
READ = Handler(_parse_read, GET.render)
