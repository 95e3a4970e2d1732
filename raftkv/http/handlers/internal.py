"""One replica asked directly, past every quorum: ``/internal/write``, ``/internal/kv``, ``/internal/read``. Pure.

The reference systems' nodes speak to each other this way; raftkv's own never do. Who writes to one replica alone can
make replicas differ, so the guard is that of changes to the cluster (``admission``).
"""

from __future__ import annotations

from raftkv.api.answers import StoredHere
from raftkv.api.bodies import InternalWrite
from raftkv.api.values import value_to_json
from raftkv.core.config import is_node_id
from raftkv.core.errors import Code
from raftkv.core.requests import StoreHere
from raftkv.core.results import Outcome, StoredVersion
from raftkv.http import bodies, parameters
from raftkv.http.choices import LocalReading, Timed, form_of
from raftkv.http.handlers.handler import Ask, Context, Handler, timeout_s
from raftkv.http.handlers.operations import checked
from raftkv.http.handlers.reading import local_read
from raftkv.http.handlers.reference import GET
from raftkv.http.messages import HttpRequest, HttpResponse, json_response
from raftkv.http.needs import Needs
from raftkv.http.problems import refuse


def _check_mode(context: Context) -> None:
    if not context.is_leaderless:
        detail = "this belongs to leaderless clusters; here no replica takes or gives a value without the others"
        refuse(Code.NOT_SUPPORTED, detail)


def _parse_write(request: HttpRequest, chosen: Timed, context: Context) -> Ask:
    _check_mode(context)
    body: InternalWrite = bodies.body_of(request, bodies.decode_internal_write, allow_form_type=True)
    key = parameters.key_from_json(body.key, context.limits)
    value = None if body.value is None else checked(body.value, context)
    if body.node and not is_node_id(body.node):
        refuse(Code.BAD_REQUEST, "node: must be 1 to 63 letters, digits, '_', '.' or '-'")
    change = StoreHere(key=key, value=value, counter=body.timestamp or 0, node=body.node)
    return Ask(request=change, timeout_s=timeout_s(chosen, context), http=request, subject=key)


def _render_stored(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
    assert isinstance(outcome, StoredVersion)
    shown = StoredHere("ok", value_to_json(ask.subject), outcome.taken, outcome.counter, outcome.node)
    return json_response(200, shown, context.node_header)


def _parse_read(request: HttpRequest, chosen: LocalReading, context: Context) -> Ask:
    _check_mode(context)
    key = parameters.key_from_query(chosen.key, context.limits)
    return local_read(key, chosen, request, context)


WRITE = Handler(_parse_write, _render_stored, form_of(Timed), needs=Needs.OPERATOR)
READ = Handler(_parse_read, GET.render, form_of(LocalReading), needs=Needs.OPERATOR)
