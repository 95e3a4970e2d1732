"""Changes on their way to the leader, and what came of them on its way back, as messages between nodes.

Pure; it imports ``core`` and ``formats``.
"""

from __future__ import annotations

from typing import Any, Final

from raftkv.core.errors import Refused, Unknown
from raftkv.core.requests import (
    AddMember,
    ChangeMember,
    MembersRequest,
    PromoteMember,
    RemoveMember,
    TransferLeadership,
)
from raftkv.core.results import LeaderChanged, MembersChanged, Outcome
from raftkv.formats.configurations import Configuration
from raftkv.formats.peers import refusal_of, refused_by
from raftkv.formats.raft_messages import AskChange, ChangeAnswer
from raftkv.raft.membership.amending import shown

_ACTS: Final = (AddMember, RemoveMember, PromoteMember, ChangeMember, TransferLeadership)


def message_of(number: int, request: MembersRequest) -> AskChange:
    """What the leader is asked, under ``number``."""
    node = request.to if isinstance(request, TransferLeadership) else request.id
    said: dict[str, Any] = {name: getattr(request, name) for name in ("http", "peer", "zone") if hasattr(request, name)}
    return AskChange(number=number, act=_ACTS.index(type(request)), node=node, **said)


def request_of(ask: AskChange) -> MembersRequest | None:
    """What it is asked; ``None``: an act of a later version."""
    if ask.act >= len(_ACTS):
        return None
    kind = _ACTS[ask.act]
    if kind is AddMember:
        return AddMember(id=ask.node, http=ask.http, peer=ask.peer, zone=ask.zone)
    if kind is ChangeMember:
        return ChangeMember(id=ask.node, http=ask.http, peer=ask.peer)
    if kind is TransferLeadership:
        return TransferLeadership(to=ask.node)
    return RemoveMember(id=ask.node) if kind is RemoveMember else PromoteMember(id=ask.node)


def answer_of(number: int, outcome: Outcome, configuration: Configuration) -> ChangeAnswer:
    """What the leader answers; ``configuration`` is the one in force then."""
    if isinstance(outcome, Refused):
        return ChangeAnswer(number=number, refusal=refusal_of(outcome))
    if isinstance(outcome, Unknown):
        return ChangeAnswer(number=number, in_doubt=outcome.detail[:300])
    if isinstance(outcome, LeaderChanged):
        return ChangeAnswer(number=number, leader=outcome.leader, term=outcome.term)
    return ChangeAnswer(number=number, configuration=configuration)


def outcome_of(answer: ChangeAnswer) -> Outcome:
    """What a client is told."""
    if answer.refusal is not None:
        return refused_by(answer.refusal)
    if answer.in_doubt:
        return Unknown(detail=answer.in_doubt)
    if answer.configuration is not None:
        return MembersChanged(members=shown(answer.configuration))
    return LeaderChanged(leader=answer.leader, term=answer.term)
