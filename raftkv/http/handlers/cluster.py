"""The cluster as clients see it: status, members, who leads, repair, health for machines, and what is not built yet.

Pure functions. What a node says of a ring is in its status where there is one; no mode is asked for here.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from raftkv.api import cluster_answers, paths
from raftkv.api.bodies import NewAddresses, NewLeader, NewMember
from raftkv.core.config import is_node_id, parse_address
from raftkv.core.errors import Code
from raftkv.core.requests import (
    AddMember,
    ChangeMember,
    Consistency,
    Inspect,
    PromoteMember,
    RemoveMember,
    Repair,
    TransferLeadership,
)
from raftkv.core.results import LeaderChanged, MembersChanged, Outcome, Repaired
from raftkv.core.status import MemberState, MemberStatus, QuorumStatus, RaftStatus, Status
from raftkv.http import bodies, parameters
from raftkv.http.choices import Anything, Nothing, Timed, form_of
from raftkv.http.handlers.handler import Ask, Context, Handler, at_once, timeout_s
from raftkv.http.messages import HttpRequest, HttpResponse, json_response
from raftkv.http.needs import Needs
from raftkv.http.problems import problem, refuse

_MEMBER: Final = paths.stem(paths.MEMBER)
_PROMOTE: Final = b"/promote"

NO_DATA_YET: Final = "this node has no data: it waits for all members to say that it had none, or to give it back"

LEVEL_WITHIN_S: Final = 5.0
"""A follower that was not level with its leader for this long is catching up, and sends its readers waiting."""

REPAIR_S: Final = parameters.MAX_TIMEOUT_S
"""A repair compares everything; it may take as long as any request may."""


def unready(status: Status, now_s: float) -> tuple[Code, str] | None:
    """Why a node with this status cannot serve writes and reads as they are by default; ``None`` when it can."""
    lack = _quorum_lack(status)
    if lack:
        return Code.QUORUM_UNREACHABLE, lack
    if Consistency.LINEARIZABLE in status.offers and status.role != "leader":
        if status.leader is None:
            return Code.NO_LEADER, "no leader"
        if not status.can_write:
            return _no_room(status)
        if status.level_at_s is None or now_s - status.level_at_s > LEVEL_WITHIN_S:
            return Code.QUORUM_UNREACHABLE, "catching up with the leader"
    return _no_room(status)


def _no_room(status: Status) -> tuple[Code, str] | None:
    """Why no writes are taken, if that is for want of room."""
    if status.can_write:
        return None
    is_here = status.leader in (None, status.node) or not status.has_room
    whose = "the disk" if is_here else f"the disk of the leader, {status.leader},"
    return Code.DISK_FULL, f"{whose} is full: writes are refused, below half of the reserve deletions too; reads go on"


def _quorum_lack(status: Status) -> str:
    """What keeps a quorum from being there, members or the data of this one; empty when nothing does."""
    if status.misfit:
        return f"this node takes no part: {status.misfit}"
    reachable = status.reached_count
    _, r, w = status.sizes
    misfits = [peer.misfit for peer in status.peers if peer.misfit]
    if reachable < max(r, w):
        return "; ".join([f"no quorum: {reachable} of {status.cluster_size}", *misfits])
    if isinstance(status, QuorumStatus) and status.short_share:
        part, size = max(1, round(100 * status.short_share)), len(status.peers) + 1
        detail = f"no quorum for {part} % of the keys: {reachable} of {size} members are reachable"
        return "; ".join([detail, *misfits])
    if isinstance(status, QuorumStatus) and status.clock_fault:
        return "; ".join([status.clock_fault, *misfits])
    if isinstance(status, QuorumStatus) and status.rights_fault:
        return status.rights_fault
    return "" if status.can_read else NO_DATA_YET


def _parse_status(request: HttpRequest, chosen: Timed, context: Context) -> Ask:
    return Ask(request=Inspect(), timeout_s=timeout_s(chosen, context), http=request)


def _render_status(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:  # noqa: ARG001  a handler's signature
    assert isinstance(outcome, Status)
    return json_response(200, node_status(outcome, context), context.node_header)


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def node_status(status: Status, context: Context) -> cluster_answers.NodeStatus:
    """The body of ``GET /status``."""
    now_s, numbers = context.monotonic_s(), status.measures.numbers
    ends_s = min(context.certificate_ends().values(), default=None)
    pushed = context.last_status()  # only the node's process, beside its replica, knows of backups
    backups = {} if pushed is None else pushed.measures.numbers
    backed_up_s = backups.get("backup_last_success_timestamp_seconds")
    addresses = context.addresses()
    reason = unready(status, now_s)
    n, r, w = status.sizes
    peers = [
        cluster_answers.Peer(
            id=peer.id,
            http=addresses.get(peer.id),
            reachable=peer.reachable,
            match_index=peer.match_index,
            misfit=peer.misfit or None,
            clock_ahead_s=peer.clock_ahead_s,
        )
        for peer in status.peers
    ]
    shown = cluster_answers.NodeStatus(
        node=status.node,
        mode=status.mode,
        role=status.role,
        leader=status.leader,
        term=0,
        commit_index=0,
        applied_index=0,
        revision=status.revision,
        peers=peers,
        version=context.version,
        offers=[level.value for level in status.offers],
        cluster_size=status.cluster_size,
        can_write=status.can_write,
        has_room=status.has_room,
        ready=reason is None,
        reason=None if reason is None else reason[1],
        misfit=status.misfit or None,
        n=n,
        r=r,
        w=w,
        staleness_ms=None if status.level_at_s is None else max(0, math.ceil((now_s - status.level_at_s) * 1000)),
        disk_free_bytes=_whole(numbers.get("disk_free_bytes")),
        disk_reserve_bytes=_whole(numbers.get("disk_reserve_bytes")),
        certificate_ends_in_s=None if ends_s is None else int(ends_s - context.wall_s()),
        backup_interval_s=_whole(backups.get("backup_interval_seconds")),
        backup_age_s=None if backed_up_s is None else max(0, int(context.wall_s() - backed_up_s)),
    )
    if isinstance(status, RaftStatus):
        return msgspec.structs.replace(
            shown,
            term=status.term,
            commit_index=status.commit_index,
            applied_index=status.applied_index,
            members=_voters(status) or msgspec.UNSET,
            configuration_index=status.configuration_index,
        )
    return _with_ring(shown, status, _reachable(status)) if isinstance(status, QuorumStatus) else shown


def _with_ring(
    shown: cluster_answers.NodeStatus, quorum: QuorumStatus, reachable: dict[str, bool]
) -> cluster_answers.NodeStatus:
    moving = quorum.transfer
    return msgspec.structs.replace(
        shown,
        ring=quorum.ring,
        vnodes=quorum.vnodes,
        conflicts=quorum.conflicts,
        hints_pending=quorum.hints_pending,
        repaired_keys=quorum.repaired_keys,
        transfer=moving and cluster_answers.Moving(moving.ranges_done, moving.ranges, moving.keys, moving.bytes),
        members=[_member(member, reachable.get(member.id)) for member in quorum.members],
    )


def _member(member: MemberStatus, reachable: bool | None) -> cluster_answers.Member:  # noqa: FBT001  as JSON has it
    shown = cluster_answers.Member(
        id=member.id,
        http=member.http,
        peer=member.peer,
        reachable=reachable,
        state=member.state.value,
        zone=member.zone,
    )
    if member.state in (MemberState.VOTER, MemberState.LEARNER):  # each has all keys
        return shown
    return msgspec.structs.replace(shown, share=member.share, heard_ago_ms=member.heard_ago_ms, hints=member.hints)


def _reachable(status: Status) -> dict[str, bool]:
    """Whom this node reaches, itself included: its own view."""
    return {status.node: True, **{peer.id: peer.reachable for peer in status.peers}}


def _voters(raft: RaftStatus) -> list[cluster_answers.Member]:
    """The members of the configuration in force."""
    reachable = _reachable(raft)
    return [_member(member, reachable.get(member.id)) for member in raft.members]


def _members(request: HttpRequest, chosen: Timed, context: Context) -> HttpResponse:  # noqa: ARG001  a handler's signature
    """At once, whatever ``timeout`` says."""
    return json_response(200, member_list(context), context.node_header)


def member_list(context: Context) -> cluster_answers.MemberList:
    """The members that the log or gossip knows of, or those of the file."""
    status = context.status()
    reachable = {} if status is None else _reachable(status)
    if isinstance(status, QuorumStatus):
        members = [_member(member, reachable.get(member.id)) for member in status.members]
        return cluster_answers.MemberList(members, None, status.ring, status.vnodes, status.sizes[0])
    if isinstance(status, RaftStatus) and status.members:
        return cluster_answers.MemberList(
            _voters(status), status.leader, configuration_index=status.configuration_index
        )
    members = [
        cluster_answers.Member(member.id, member.http, member.peer, reachable.get(member.id))
        for member in context.members
    ]
    return cluster_answers.MemberList(members, None if status is None else status.leader)


def _parse_new_member(request: HttpRequest, chosen: Timed, context: Context) -> Ask:
    body: NewMember = bodies.body_of(request, bodies.decode_new_member)
    _check_addresses(body)
    if not is_node_id(body.id):
        refuse(Code.BAD_REQUEST, "id: must be 1 to 63 letters, digits, '_', '.' or '-'")
    change = AddMember(id=body.id, http=body.http, peer=body.peer, zone=body.zone)
    return Ask(request=change, timeout_s=timeout_s(chosen, context), http=request)


def _check_addresses(body: NewMember | NewAddresses) -> None:
    for name, text in (("http", body.http), ("peer", body.peer)):
        try:
            parse_address(text)
        except ValueError as error:
            refuse(Code.BAD_REQUEST, f"{name}: {error}")


def _render_new_member(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
    return _render_change(ask, outcome, context, 201)


def _parse_leaving(request: HttpRequest, chosen: Timed, context: Context) -> Ask:
    return Ask(request=RemoveMember(id=_named(request)), timeout_s=timeout_s(chosen, context), http=request)


def _parse_promoted(request: HttpRequest, chosen: Timed, context: Context) -> Ask:
    return Ask(request=PromoteMember(id=_named(request)), timeout_s=timeout_s(chosen, context), http=request)


def _parse_moved(request: HttpRequest, chosen: Timed, context: Context) -> Ask:
    body: NewAddresses = bodies.body_of(request, bodies.decode_new_addresses)
    _check_addresses(body)
    change = ChangeMember(id=_named(request), http=body.http, peer=body.peer)
    return Ask(request=change, timeout_s=timeout_s(chosen, context), http=request)


def _named(request: HttpRequest) -> str:
    """The member in the path."""
    raw = request.path.removeprefix(_MEMBER).removesuffix(_PROMOTE)
    return parameters.unescape(raw, "id").decode("utf-8", "replace")


def _render_changed(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:
    return _render_change(ask, outcome, context, 200)


def _render_change(ask: Ask, outcome: Outcome, context: Context, status: int) -> HttpResponse:  # noqa: ARG001
    """The members as they are from here on. Without a leader the change spreads, and data moves, after this answer."""
    assert isinstance(outcome, MembersChanged)
    last = context.last_status()
    members = [_member(member, None) for member in outcome.members]
    changed = cluster_answers.MemberList(members, None if last is None else last.leader)
    return json_response(status, changed, context.node_header)


def _parse_transfer(request: HttpRequest, chosen: Timed, context: Context) -> Ask:
    body: NewLeader = bodies.body_of(request, bodies.decode_new_leader)
    return Ask(request=TransferLeadership(to=body.to), timeout_s=timeout_s(chosen, context), http=request)


def _render_transfer(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:  # noqa: ARG001  a handler's signature
    assert isinstance(outcome, LeaderChanged)
    return json_response(200, cluster_answers.LeaderNow(outcome.leader, outcome.term), context.node_header)


def _parse_repair(request: HttpRequest, chosen: Timed, context: Context) -> Ask:  # noqa: ARG001  a handler's signature
    return Ask(request=Repair(), timeout_s=chosen.timeout or REPAIR_S, http=request)


def _render_repair(ask: Ask, outcome: Outcome, context: Context) -> HttpResponse:  # noqa: ARG001  a handler's signature
    assert isinstance(outcome, Repaired)
    return json_response(200, cluster_answers.RepairDone(**msgspec.structs.asdict(outcome)), context.node_header)


def _livez(request: HttpRequest, chosen: Nothing, context: Context) -> HttpResponse:  # noqa: ARG001  a handler's signature
    return json_response(200, cluster_answers.Alive("alive"), context.node_header)


def _readyz(request: HttpRequest, chosen: Nothing, context: Context) -> HttpResponse:  # noqa: ARG001  a handler's signature
    status = context.status()
    if status is None:
        return problem(Code.NO_LEADER, context.silence(), headers=context.node_header)
    reason = unready(status, context.monotonic_s())
    if reason is not None:
        return problem(*reason, headers=context.node_header)
    if context.callers.missing:
        return problem(Code.NO_LEADER, context.callers.missing, headers=context.node_header)
    return json_response(200, cluster_answers.Alive("ready"), context.node_header)


def not_built(sentence: str) -> Handler:
    """A route of the contract that is not there: refused, never approximated."""
    return at_once(lambda request, chosen, context: problem(Code.NOT_SUPPORTED, sentence), Anything)  # noqa: ARG005  a handler's signature


STATUS = Handler(_parse_status, _render_status, form_of(Timed))
MEMBERS = at_once(_members, Timed)
ADD_MEMBER = Handler(_parse_new_member, _render_new_member, form_of(Timed), needs=Needs.OPERATOR)
REMOVE_MEMBER = Handler(_parse_leaving, _render_changed, form_of(Timed), needs=Needs.OPERATOR)
PROMOTE_MEMBER = Handler(_parse_promoted, _render_changed, form_of(Timed), needs=Needs.OPERATOR)
MOVE_MEMBER = Handler(_parse_moved, _render_changed, form_of(Timed), needs=Needs.OPERATOR)
TRANSFER = Handler(_parse_transfer, _render_transfer, form_of(Timed), needs=Needs.OPERATOR)
REPAIR = Handler(_parse_repair, _render_repair, form_of(Timed), needs=Needs.OPERATOR)
LIVEZ = at_once(_livez, needs=Needs.NOTHING)
READYZ = at_once(_readyz, needs=Needs.NOTHING)
