"""The ring of a leaderless cluster, and what its nodes hold of one key: ``/cluster/ring``. Pure functions."""

from __future__ import annotations

from typing import Final

from raftkv.api import paths
from raftkv.api.cluster_answers import HeldVersion, KeptHint, KeyOnRing, ReplicaOfKey, TheRing
from raftkv.api.values import value_to_json
from raftkv.core.errors import Code
from raftkv.core.requests import ShowReplicas, ShowRing
from raftkv.core.results import Outcome
from raftkv.core.status import ReplicaShown, ReplicasShown, RingShown, VersionShown
from raftkv.http import parameters
from raftkv.http.choices import Timed, form_of
from raftkv.http.handlers.handler import Ask, Context, Handler, timeout_s
from raftkv.http.handlers.reading import left_of
from raftkv.http.messages import HttpRequest, HttpResponse, json_response
from raftkv.http.problems import refuse

TURN_DIGITS: Final = 6

_PREFIX: Final = paths.stem(paths.RING_KEY)


def _check_mode(context: Context) -> None:
    if not context.is_leaderless:
        refuse(Code.NOT_SUPPORTED, "where there is a leader every member holds every key, and there is no ring")


def _parse_ring(request: HttpRequest, chosen: Timed, context: Context) -> Ask:
    _check_mode(context)
    return Ask(request=ShowRing(), timeout_s=timeout_s(chosen, context), http=request)


def _render_ring(_ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
    assert isinstance(outcome, RingShown)
    tokens = [[round(turn, TURN_DIGITS), place] for turn, place in outcome.tokens]
    shown = TheRing(outcome.digest, outcome.n, list(outcome.nodes), tokens)
    return json_response(200, shown, context.node_header)


def _parse_key(request: HttpRequest, chosen: Timed, context: Context) -> Ask:
    _check_mode(context)
    key = parameters.key_from_path(request.path, _PREFIX, context.limits)
    return Ask(request=ShowReplicas(key=key), timeout_s=timeout_s(chosen, context), http=request, subject=key)


def _render_key(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
    assert isinstance(outcome, ReplicasShown)
    nodes = [_replica(one, context) for one in outcome.nodes]
    key, turn = value_to_json(ask.subject), round(outcome.turn, TURN_DIGITS)
    return json_response(
        200,
        KeyOnRing(key, turn, outcome.n, nodes),
        context.node_header,
    )


def _replica(shown: ReplicaShown, context: Context) -> ReplicaOfKey:
    hints = None if shown.hints is None else [KeptHint(one.target, one.counter, one.node) for one in shown.hints]
    return ReplicaOfKey(
        id=shown.node,
        part=shown.part,
        fate=shown.fate,
        behind=shown.is_behind,
        versions=[_version(one, context) for one in shown.versions],
        versions_count=shown.versions_count,
        seen=shown.seen,
        hints=hints,
        reason=shown.reason or None,
    )


def _version(shown: VersionShown, context: Context) -> HeldVersion:
    value = None if shown.head is None else value_to_json(shown.head)
    return HeldVersion(shown.counter, shown.node, value, shown.size_bytes, left_of(shown.expires_at_ms, context))


RING = Handler(_parse_ring, _render_ring, form_of(Timed))
KEY = Handler(_parse_key, _render_key, form_of(Timed))
