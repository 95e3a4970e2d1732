"""The Lock and Election services: who comes first under a name, by keys that go with their leases, as etcd builds them.

A contender's key is the name, a slash and its lease in hexadecimal digits, so clients that contend by keys of their own
and those that ask the service meet. Whoever has the oldest key under the name holds it; the others wait for the key
just before their own to go. One that leaves while it waits takes its key back.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from raftkv.coordination.steps import AwaitChange, Plan
from raftkv.core.keys import clients_span
from raftkv.core.requests import ComparedField, Delete, Get, Grant, KeyComparison, List, Put, Transaction
from raftkv.core.results import AnyResult, Granted, KeyPage, KeyRecord, PutDone, Transacted
from raftkv.etcd.calls import EtcdCall, header, key_value, read, revision_compared, revision_told, written
from raftkv.etcd.errors import CallStatus, Known
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.etcd.kv import check_key, checked_lease
from raftkv.etcd.messages import (
    CampaignRequest,
    CampaignResponse,
    HeaderResponse,
    LeaderKey,
    LeaderRequest,
    LeaderResponse,
    LockRequest,
    LockResponse,
    ProclaimRequest,
    ResignRequest,
    ResponseHeader,
    UnlockRequest,
)

TTL_S: Final = 60
"""Of a lease that is granted because none was named."""

LOOK_AGAIN_S: Final = 30.0
PAGE_KEYS: Final = 1000

_EXPIRED: Final = CallStatus(GrpcStatus.UNKNOWN, "mutex: session is expired")
_NO_LEADER: Final = CallStatus(GrpcStatus.UNKNOWN, "election: no leader")
_NOT_LEADER: Final = CallStatus(GrpcStatus.UNKNOWN, "election: not leader")
_CANCELED: Final = CallStatus(GrpcStatus.CANCELLED, "context canceled")


class _Contender(NamedTuple):
    """A key that stands for who contends, when it came to be, its lease, and where the store stood when it was seen."""

    key: bytes
    created: int
    lease: int
    seen: int = 0


def lock(request: LockRequest, call: EtcdCall) -> Plan[LockResponse]:
    """``Lock.Lock``; waits as long as its client does."""
    contender, _ = yield from _contend(request.name, request.lease, b"", call)
    yield from _await_turn(request.name, contender, call)
    return LockResponse(header=header(call, contender.seen), key=contender.key)


def unlock(request: UnlockRequest, call: EtcdCall) -> Plan[HeaderResponse]:
    """``Lock.Unlock``: of a key that is not there, too."""
    if not request.key:
        raise Known.EMPTY_KEY.status
    check_key(request.key, call)
    outcome = yield from written((Delete(key=request.key),), call)
    return HeaderResponse(header=header(call, outcome.revision))


def campaign(request: CampaignRequest, call: EtcdCall) -> Plan[CampaignResponse]:
    """``Election.Campaign``; waits as long as its client does."""
    contender, said = yield from _contend(request.name, request.lease, request.value, call)
    if said != request.value:
        yield from _put_as(contender, request.value, call)
    yield from _await_turn(request.name, contender, call)
    leader = LeaderKey(
        name=request.name, key=contender.key, rev=revision_told(contender.created), lease=contender.lease
    )
    return CampaignResponse(header=header(call, contender.seen), leader=leader)


def proclaim(request: ProclaimRequest, call: EtcdCall) -> Plan[HeaderResponse]:
    """``Election.Proclaim``."""
    leader = _named(request.leader, call)
    contender = _Contender(leader.key, revision_compared(leader.rev), leader.lease)
    revision = yield from _put_as(contender, request.value, call)
    return HeaderResponse(header=header(call, revision))


def resign(request: ResignRequest, call: EtcdCall) -> Plan[HeaderResponse]:
    """``Election.Resign``: of who leads no more, too."""
    leader = _named(request.leader, call)
    is_still = _is_created(leader.key, revision_compared(leader.rev))
    outcome = yield from written((Transaction(comparisons=(is_still,), success=(Delete(key=leader.key),)),), call)
    return HeaderResponse(header=header(call, outcome.revision))


def _named(leader: LeaderKey | None, call: EtcdCall) -> LeaderKey:
    if leader is None:
        raise CallStatus(GrpcStatus.UNKNOWN, '"leader" field must be provided')
    check_key(leader.key, call)
    return leader


def leader_of(request: LeaderRequest, call: EtcdCall) -> Plan[LeaderResponse]:
    """``Election.Leader``."""
    found, head = yield from contenders(request.name, call)
    if not found:
        raise _NO_LEADER
    return LeaderResponse(header=head, kv=key_value(found[0]))


def contenders(name: bytes, call: EtcdCall) -> Plan[tuple[list[KeyRecord], ResponseHeader]]:
    """The keys under ``name``, who leads first, and of when that is."""
    found, revision = yield from _under(name, call)
    return found, header(call, revision)


# -- how one contends -------------------------------------------------------------------------------------------------


def _contend(name: bytes, lease: int, value: bytes, call: EtcdCall) -> Plan[tuple[_Contender, bytes]]:
    """Come to be a contender, or find that one is; and what its key says."""
    if not lease:
        outcome = yield from written((Grant(ttl_ms=TTL_S * 1000),), call)
        granted = outcome.results[0]
        assert isinstance(granted, Granted)
        lease = granted.lease
    key = b"%b/%x" % (name, checked_lease(lease))
    check_key(key, call)
    is_new = _is_created(key, 0)
    begin = Transaction(
        comparisons=(is_new,), success=(Put(key=key, value=value, lease=lease),), failure=(Get(key=key),)
    )
    outcome = yield from written((begin,), call)
    result = _only_result(outcome.results[0])
    if isinstance(result, PutDone):
        return _Contender(key, result.revision, lease, outcome.revision), value
    assert isinstance(result, KeyRecord)
    return _Contender(key, result.create_revision, lease, outcome.revision), result.value


def _only_result(transacted: AnyResult) -> AnyResult | None:
    assert isinstance(transacted, Transacted)
    return transacted.results[0] if transacted.results else None


def _is_created(key: bytes, revision: int) -> KeyComparison:
    return KeyComparison(start=key, target=ComparedField.CREATE_REVISION, operand=revision)


def _put_as(contender: _Contender, value: bytes, call: EtcdCall) -> Plan[int]:
    """Let the key say something else, if it is still the contender's; the store's revision then."""
    if not contender.key:
        raise Known.EMPTY_KEY.status
    put = Put(key=contender.key, value=value, lease=checked_lease(contender.lease))
    is_still = _is_created(contender.key, contender.created)
    outcome = yield from written((Transaction(comparisons=(is_still,), success=(put,)),), call)
    if not isinstance(_only_result(outcome.results[0]), PutDone):
        raise _NOT_LEADER
    return outcome.revision


def _await_turn(name: bytes, contender: _Contender, call: EtcdCall) -> Plan[None]:
    """Wait until nobody is before ``contender``."""
    while True:
        if call.circumstances.has_left():
            yield from written((Delete(key=contender.key),), _with_time(call))
            raise _CANCELED
        found, revision = yield from _under(name, _with_time(call))
        own = [one for one in found if one.key == contender.key]
        if not own or own[0].create_revision != contender.created:
            raise _EXPIRED
        before = [one for one in found if one.create_revision < contender.created]
        if not before:
            return
        yield AwaitChange((before[-1].key, contender.key), revision, call.circumstances.now_s() + LOOK_AGAIN_S)


def _with_time(call: EtcdCall) -> EtcdCall:
    """``call``, which has waited and has its time for one more question."""
    return call._replace(deadline_s=call.circumstances.now_s() + call.context.limits.request_timeout_s)


def _under(name: bytes, call: EtcdCall) -> Plan[tuple[list[KeyRecord], int]]:
    """The keys under ``name``, the oldest first, and the revision that they are of."""
    start, end = clients_span(name + b"/")
    found: list[KeyRecord] = []
    revision, next_start = 0, start
    while True:
        query = List(start=next_start, end=end, limit=PAGE_KEYS, revision=revision)
        answer = yield from read(query, call)
        page = answer.content
        if not isinstance(page, KeyPage):
            found, revision, next_start = [], 0, start  # it was forgotten meanwhile: begin anew
            continue
        found += page.records
        revision = revision or answer.revision
        if page.next_start is None:
            return sorted(found, key=lambda record: record.create_revision), revision
        next_start = page.next_start
