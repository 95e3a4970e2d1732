"""The cluster as clients see it: status, members, health for machines, and what is not built yet. Pure functions."""

from __future__ import annotations

from typing import Any, Final

from raftkv.core.errors import Code
from raftkv.core.requests import Inspect
from raftkv.core.results import Outcome, Status
from raftkv.http import parameters
from raftkv.http.handlers import Ask, Context, Handler, at_once, timeout_s
from raftkv.http.messages import HttpRequest, HttpResponse, json_response
from raftkv.http.problems import problem

NOT_RUNNING = "the replica of this node is not running or does not answer"


LEVEL_WITHIN_S: Final = 5.0
"""A follower that was not level with its leader for this long is catching up, and sends its readers waiting."""


def unready(status: Status | None, now_s: float) -> tuple[Code, str] | None:
    """Why a node with this status cannot serve writes and linearizable reads; ``None`` when it can."""
    if status is None:
        return Code.NO_LEADER, NOT_RUNNING
    reachable = 1 + sum(peer.reachable for peer in status.peers)
    if reachable < status.cluster_size // 2 + 1:
        return Code.QUORUM_UNREACHABLE, f"no quorum: {reachable} of {status.cluster_size}"
    if status.mode == "raft" and status.leader is None:
        return Code.NO_LEADER, "no leader"
    if status.mode == "raft" and status.role != "leader":
        level_s = now_s - status.heard_at_s if status.heard_at_s is not None else float("inf")
        if level_s > LEVEL_WITHIN_S:
            return Code.QUORUM_UNREACHABLE, "catching up with the leader"
    return None


def _parse_status(request: HttpRequest, context: Context) -> Ask:
    found = parameters.arguments(request, frozenset({"timeout"}))
    return Ask(request=Inspect(), timeout_s=timeout_s(found, context), http=request)


def _render_status(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:  # noqa: ARG001  a handler's signature
    assert isinstance(outcome, Status)
    return json_response(200, status_to_json(outcome, context), context.node_header)


def status_to_json(status: Status, context: Context) -> dict[str, Any]:
    """The body of ``GET /status``."""
    addresses = {member.id: member.http for member in context.members}
    reason = unready(status, context.monotonic_s())
    return {
        "node": status.node,
        "mode": status.mode,
        "role": status.role,
        "leader": status.leader,
        "term": status.term,
        "commit_index": status.commit_index,
        "applied_index": status.applied_index,
        "revision": status.revision,
        "peers": [
            {
                "id": peer.id,
                "http": addresses.get(peer.id),
                "reachable": peer.reachable,
                "match_index": peer.match_index,
            }
            for peer in status.peers
        ],
        "version": context.version,
        "offers": [level.value for level in status.offers],
        "cluster_size": status.cluster_size,
        "can_write": status.can_write,
        "ready": reason is None,
        "reason": None if reason is None else reason[1],
    }


def _members(request: HttpRequest, context: Context) -> HttpResponse:
    """The members of the configuration; what is known of their reachability is this node's own view."""
    parameters.arguments(request, frozenset())
    status = context.status()
    reachable = {} if status is None else {peer.id: peer.reachable for peer in status.peers}
    if status is not None:
        reachable[context.node] = True
    members = [
        {"id": member.id, "http": member.http, "peer": member.peer, "reachable": reachable.get(member.id)}
        for member in context.members
    ]
    return json_response(
        200, {"members": members, "leader": None if status is None else status.leader}, context.node_header
    )


def _livez(request: HttpRequest, context: Context) -> HttpResponse:
    parameters.arguments(request, frozenset())
    return json_response(200, {"status": "alive"}, context.node_header)


def _readyz(request: HttpRequest, context: Context) -> HttpResponse:
    parameters.arguments(request, frozenset())
    reason = unready(context.status(), context.monotonic_s())
    if reason is not None:
        return problem(*reason, headers=context.node_header)
    return json_response(200, {"status": "ready"}, context.node_header)


def not_built(sentence: str) -> Handler:
    """A route of the contract that is not there yet: refused, never approximated."""
    return at_once(lambda request, context: problem(Code.NOT_SUPPORTED, sentence))  # noqa: ARG005  a handler's signature


STATUS = Handler(_parse_status, _render_status)
MEMBERS = at_once(_members)
LIVEZ = at_once(_livez)
READYZ = at_once(_readyz)
