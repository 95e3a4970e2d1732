"""The Cluster service: the members there are, by numbers that follow from their names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

from raftkv.coordination.steps import Plan
from raftkv.core.requests import AddMember, ChangeMember, Inspect, MembersRequest, PromoteMember, RemoveMember
from raftkv.core.results import MembersChanged
from raftkv.core.status import MemberState, MemberStatus, RaftStatus
from raftkv.etcd.calls import EtcdCall, asked, header, member_number
from raftkv.etcd.errors import CallStatus, Known
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.etcd.operating import (
    Member,
    MemberAddRequest,
    MemberAddResponse,
    MemberListRequest,
    MemberPromoteRequest,
    MemberRemoveRequest,
    MembersResponse,
    MemberUpdateRequest,
)

_UNKNOWN_NODE: Final = CallStatus(
    GrpcStatus.FAILED_PRECONDITION,
    "etcdserver: the configuration names no node with that peer address; start the node with raftkv node --join,"
    " and it asks to be a member by itself",
)


def list_(_: MemberListRequest, call: EtcdCall) -> Plan[MembersResponse]:
    """``Cluster.MemberList``: as the configuration in force here has them."""
    members = yield from _members(call)
    return MembersResponse(header=header(call, None), members=_shown(members, call))


def add(request: MemberAddRequest, call: EtcdCall) -> Plan[MemberAddResponse]:
    """``Cluster.MemberAdd``: a node that the configuration names, and that is no member yet. It learns first."""
    peer = _address(request.peer_urls)
    members = yield from _members(call)
    if any(member.peer == peer for member in members):
        raise Known.PEER_URL_EXISTS.status
    node = next((node for node in call.context.members if node.peer == peer), None)
    if node is None:
        raise _UNKNOWN_NODE
    changed = yield from _change(AddMember(id=node.id, http=node.http, peer=node.peer), call)
    shown = _shown(changed, call)
    number = member_number(node.id)
    added = next(member for member in shown if member.id == number)
    return MemberAddResponse(header=header(call, None), member=added, members=shown)


def remove(request: MemberRemoveRequest, call: EtcdCall) -> Plan[MembersResponse]:
    """``Cluster.MemberRemove``."""
    member = yield from _named(request.id, call)
    return (yield from _changed(RemoveMember(id=member.id), call))


def promote(request: MemberPromoteRequest, call: EtcdCall) -> Plan[MembersResponse]:
    """``Cluster.MemberPromote``."""
    member = yield from _named(request.id, call)
    if member.state is not MemberState.LEARNER:
        raise Known.MEMBER_NOT_LEARNER.status
    return (yield from _changed(PromoteMember(id=member.id), call, Known.LEARNER_NOT_READY))


def update(request: MemberUpdateRequest, call: EtcdCall) -> Plan[MembersResponse]:
    """``Cluster.MemberUpdate``: another address for its peers."""
    peer = _address(request.peer_urls)
    member = yield from _named(request.id, call)
    return (yield from _changed(ChangeMember(id=member.id, http=member.http, peer=peer), call))


def _members(call: EtcdCall) -> Plan[tuple[MemberStatus, ...]]:
    status = yield from asked(Inspect(), call)
    assert isinstance(status, RaftStatus)
    if status.members:
        return status.members
    return tuple(
        [
            MemberStatus(id=node.id, http=node.http, peer=node.peer, state=MemberState.VOTER)
            for node in call.context.members
        ]
    )


def _shown(members: Iterable[MemberStatus], call: EtcdCall) -> tuple[Member, ...]:
    """In the order of their numbers; clients are sent to the addresses for them, where the configuration has any."""
    addresses = {node.id: node.etcd for node in call.context.members if node.etcd}
    return tuple(
        [
            Member(
                id=member_number(member.id),
                name=member.id,
                peer_urls=(f"http://{member.peer}",),
                client_urls=(f"{call.context.scheme}://{addresses.get(member.id, member.http)}",),
                is_learner=member.state is MemberState.LEARNER,
            )
            for member in sorted(members, key=lambda one: member_number(one.id))
        ]
    )


def _named(number: int, call: EtcdCall) -> Plan[MemberStatus]:
    members = yield from _members(call)
    for member in members:
        if member_number(member.id) == number:
            return member
    raise Known.MEMBER_NOT_FOUND.status


def _change(
    change: MembersRequest, call: EtcdCall, refused_as: Known = Known.NOT_ENOUGH_STARTED
) -> Plan[tuple[MemberStatus, ...]]:
    try:
        outcome = yield from asked(change, call)
    except CallStatus as status:
        if status.code in (GrpcStatus.INVALID_ARGUMENT, GrpcStatus.FAILED_PRECONDITION):
            raise refused_as.status from status
        raise
    assert isinstance(outcome, MembersChanged)
    return outcome.members


def _changed(
    change: MembersRequest, call: EtcdCall, refused_as: Known = Known.NOT_ENOUGH_STARTED
) -> Plan[MembersResponse]:
    members = yield from _change(change, call, refused_as)
    return MembersResponse(header=header(call, None), members=_shown(members, call))


def _address(urls: Sequence[str]) -> str:
    """The one ``host:port`` in ``urls``."""
    try:
        (url,) = urls
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Known.BAD_URLS.status from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port or parts.path not in ("", "/"):
        raise Known.BAD_URLS.status
    return f"{parts.hostname}:{port}"
