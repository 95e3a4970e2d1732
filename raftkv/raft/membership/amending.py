"""What a request makes of a configuration, or why it makes nothing of it; and configurations in words.

Of one voter more or less at most. Pure; it imports ``core`` and ``formats``.
"""

from __future__ import annotations

import msgspec

from raftkv.core.errors import Code, Refused
from raftkv.core.requests import AddMember, Amendment, PromoteMember, RemoveMember
from raftkv.core.status import MemberState, MemberStatus
from raftkv.formats.configurations import FORMER_MAX, MEMBERS_MAX, Configuration, ConfiguredMember


def shown(configuration: Configuration) -> tuple[MemberStatus, ...]:
    """The members, for people and programs."""
    return tuple(
        MemberStatus(
            id=member.id,
            http=member.http,
            peer=member.peer,
            zone=member.zone,
            state=MemberState.VOTER if member.votes else MemberState.LEARNER,
        )
        for member in configuration.members
    )


def amended(before: Configuration, request: Amendment, *, disk: str = "") -> Configuration | Refused:
    """``before`` as ``request`` wants it, or why not; ``before`` itself where it is so already.

    ``disk`` is that of a member that comes to vote.
    """
    member = before.find(request.id)
    if isinstance(request, AddMember):
        return _added(before, request, member)
    if member is None:
        return Refused(code=Code.NOT_FOUND, detail=f"there is no member {request.id}")
    rest = tuple([other for other in before.members if other.id != member.id])
    if isinstance(request, RemoveMember):
        if not any(other.votes for other in rest):
            return Refused(code=Code.BAD_REQUEST, detail=f"{member.id} is the last member that votes")
        former = (*[name for name in before.former if name != member.id], member.id)[-FORMER_MAX:]
        return Configuration(rest, former)
    if isinstance(request, PromoteMember):
        after = member if member.votes else msgspec.structs.replace(member, votes=True, disk=disk)
    else:
        taken = _taken(rest, request.http, request.peer)
        if taken is not None:
            return taken
        after = msgspec.structs.replace(member, http=request.http, peer=request.peer)
    return before if after == member else Configuration(_sorted((*rest, after)), before.former)


def _added(before: Configuration, request: AddMember, member: ConfiguredMember | None) -> Configuration | Refused:
    if member is not None:
        if (member.http, member.peer) == (request.http, request.peer):
            return before
        detail = (
            f"{member.id} is a member already, at {member.http} and {member.peer}: move it to other addresses instead"
        )
        return Refused(code=Code.BAD_REQUEST, detail=detail)
    if len(before.members) >= MEMBERS_MAX:
        return Refused(code=Code.BAD_REQUEST, detail=f"a cluster has {MEMBERS_MAX} members at most")
    taken = _taken(before.members, request.http, request.peer)
    if taken is not None:
        return taken
    learner = ConfiguredMember(request.id, request.http, request.peer, request.zone, votes=False)
    return Configuration(_sorted((*before.members, learner)), before.former)


def _taken(members: tuple[ConfiguredMember, ...], *addresses: str) -> Refused | None:
    for member in members:
        for address in addresses:
            if address and address in (member.http, member.peer):
                return Refused(code=Code.BAD_REQUEST, detail=f"{address} is the address of {member.id}")
    return None


def _sorted(members: tuple[ConfiguredMember, ...]) -> tuple[ConfiguredMember, ...]:
    return tuple(sorted(members, key=lambda member: member.id))


def names(configuration: Configuration) -> str:
    """The members, for a line of the log."""
    return ",".join([member.id if member.votes else f"{member.id}(learns)" for member in configuration.members])
