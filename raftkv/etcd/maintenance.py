"""The Maintenance service but for its stream: where a member stands, alarms, hashes, who leads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from zlib import crc32

from raftkv.coordination.steps import Plan
from raftkv.core.keys import SYSTEM
from raftkv.core.requests import ChangesAfter, Inspect, List, TransferLeadership
from raftkv.core.results import HistoryGone, KeyPage, LeaderChanged
from raftkv.core.status import RaftStatus
from raftkv.etcd.calls import (
    FIRST_REVISION,
    EtcdCall,
    asked,
    compacted_told,
    header,
    member_number,
    read,
    revision_asked,
)
from raftkv.etcd.errors import CallStatus, Known
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.etcd.messages import EmptyRequest, HeaderResponse
from raftkv.etcd.operating import (
    AlarmAction,
    AlarmMember,
    AlarmRequest,
    AlarmResponse,
    AlarmType,
    DowngradeRequest,
    DowngradeResponse,
    HashKVRequest,
    HashKVResponse,
    HashResponse,
    MoveLeaderRequest,
    StatusResponse,
)
from raftkv.etcd.ranges import kept_after

HASH_PAGE_KEYS: Final = 1000
_RECORD_NUMBERS: Final = 8
_NO_KEYS: Final = crc32(b"keys")
"""Clients take 0 for no hash at all, so it is not that of a store without keys."""


def status(_: EmptyRequest, call: EtcdCall) -> Plan[StatusResponse]:
    """``Maintenance.Status``."""
    found = yield from _status(call)
    size = _size_bytes(found.state_path)
    errors = [found.misfit] if found.misfit else []
    if found.leader is None:
        errors.append(Known.NO_LEADER.status.message)
    alarms = [f"memberID:{one.member_id} alarm:{AlarmType(one.alarm).name} " for one in _alarms(found)]
    return StatusResponse(
        header=header(call, found.revision),
        version=call.version,
        db_size=size,
        leader=0 if found.leader is None else member_number(found.leader),
        raft_index=found.commit_index,
        raft_term=found.term,
        raft_applied_index=found.applied_index,
        errors=tuple(errors + alarms),
        db_size_in_use=size,
        is_learner=found.node in found.learners,
    )


def _status(call: EtcdCall) -> Plan[RaftStatus]:
    found = yield from asked(Inspect(), call)
    assert isinstance(found, RaftStatus)
    return found


def _size_bytes(path: str) -> int:
    """How much the applied state takes up on the disk."""
    try:
        return sum(entry.stat().st_blocks * 512 for entry in os.scandir(Path(path))) if path else 0
    except OSError:
        return 0  # it was thrown away meanwhile


def alarm(request: AlarmRequest, call: EtcdCall) -> Plan[AlarmResponse]:
    """``Maintenance.Alarm``: here alarms rise and end by themselves, with what they are about."""
    if request.action == AlarmAction.ACTIVATE:
        raise CallStatus(GrpcStatus.UNIMPLEMENTED, "etcdserver: alarms rise by themselves here")
    found = yield from _status(call)
    alarms = _alarms(found) if request.action == AlarmAction.GET else []
    return AlarmResponse(header=header(call, found.revision), alarms=tuple(alarms))


def _alarms(found: RaftStatus) -> list[AlarmMember]:
    number, alarms = member_number(found.node), []
    if not (found.has_room and found.can_write):
        alarms.append(AlarmMember(member_id=number, alarm=AlarmType.NOSPACE))
    if found.diverged:
        alarms.append(AlarmMember(member_id=number, alarm=AlarmType.CORRUPT))
    return alarms


def defragment(_: EmptyRequest, call: EtcdCall) -> Plan[HeaderResponse]:
    """``Maintenance.Defragment``: nothing to do, as free pages of the state are used again."""
    found = yield from _status(call)
    return HeaderResponse(header=header(call, found.revision))


def move_leader(request: MoveLeaderRequest, call: EtcdCall) -> Plan[HeaderResponse]:
    """``Maintenance.MoveLeader``; whichever node is asked. The answer has no header, as etcd's has none."""
    found = yield from _status(call)
    nodes = [member.id for member in found.members] or [node.id for node in call.context.members]
    to = next((node for node in nodes if member_number(node) == request.target_id), None)
    if to is None or to in found.learners:
        raise Known.BAD_TRANSFEREE.status
    outcome = yield from asked(TransferLeadership(to=to), call)
    assert isinstance(outcome, LeaderChanged)
    return HeaderResponse()


def downgrade(_request: DowngradeRequest, _call: EtcdCall) -> Plan[DowngradeResponse]:
    """``Maintenance.Downgrade``: there is no other version of etcd here."""
    raise CallStatus(GrpcStatus.UNIMPLEMENTED, "etcdserver: this is raftkv; see its page on upgrades")
    yield  # a plan, if one that never asks


def hash_kv(request: HashKVRequest, call: EtcdCall) -> Plan[HashKVResponse]:
    """``Maintenance.HashKV``: equal on all members at a revision, and no other server's."""
    revision = max(0, revision_asked(request.revision)) if request.revision > FIRST_REVISION else 0
    if revision:
        yield from kept_after(revision - 1, call, serializable=True)
    found, at = yield from _hashed(revision, call)
    kept = yield from read(ChangesAfter(revision=0, start=SYSTEM, end=SYSTEM, limit_bytes=0), call, serializable=True)
    gone = kept.content
    compacted = compacted_told(gone.compacted_revision) if isinstance(gone, HistoryGone) else -1
    return HashKVResponse(header=header(call, at), hash=found, compact_revision=compacted)


def hash_(_: EmptyRequest, call: EtcdCall) -> Plan[HashResponse]:
    """``Maintenance.Hash``: the same of all keys as they are now."""
    found, at = yield from _hashed(0, call)
    return HashResponse(header=header(call, at), hash=found)


def _hashed(revision: int, call: EtcdCall) -> Plan[tuple[int, int]]:
    """A hash over all keys at ``revision`` (0: now), and the store's revision."""
    found, start, at = _NO_KEYS, b"", 0
    while True:
        query = List(start=start, end=SYSTEM, limit=HASH_PAGE_KEYS, revision=revision)
        answer = yield from read(query, call, serializable=True)
        page = answer.content
        if not isinstance(page, KeyPage):
            raise (Known.COMPACTED if isinstance(page, HistoryGone) else Known.FUTURE_REVISION).status
        at, revision = at or answer.revision, revision or answer.revision
        for record in page.records:
            numbers = (record.version, record.create_revision, record.mod_revision, record.lease)
            row = b"".join([number.to_bytes(_RECORD_NUMBERS, "big") for number in (*numbers, len(record.key))])
            found = crc32(record.value, crc32(record.key, crc32(row, found)))
        if page.next_start is None:
            return found, at
        start = page.next_start
