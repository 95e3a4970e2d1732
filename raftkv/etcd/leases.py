"""The Lease service, as plans of native requests. Times to live are whole seconds."""

from __future__ import annotations

from typing import Final

from raftkv.coordination.steps import Plan
from raftkv.core.requests import FindLease, FindLeases, Grant, KeepAlive, Revoke
from raftkv.core.results import Granted, KeptAlive, LeasePage, LeaseRecord, Revoked
from raftkv.etcd.calls import EtcdCall, asked, header, read, written
from raftkv.etcd.errors import Known
from raftkv.etcd.kv import LEASE_MAX
from raftkv.etcd.messages import (
    EmptyRequest,
    HeaderResponse,
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseLeasesResponse,
    LeaseRevokeRequest,
    LeaseStatus,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
)

TTL_LEAST_S: Final = 2
"""A shorter life is raised to this, as etcd does with its default timing."""

TTL_MOST_S: Final = 9_000_000_000
"""Beyond it etcd refuses; here a lease ends after nine thousand years at the latest, which is as good as never."""

_NATIVE_MOST_MS: Final = 1 << 48


def grant(request: LeaseGrantRequest, call: EtcdCall) -> Plan[LeaseGrantResponse]:
    """``Lease.LeaseGrant``."""
    if request.ttl > TTL_MOST_S:
        raise Known.LEASE_TTL_TOO_LARGE.status
    if not 0 <= request.id <= LEASE_MAX:
        raise Known.LEASE_EXISTS.status
    ttl_s = max(request.ttl, TTL_LEAST_S)
    outcome = yield from written((Grant(ttl_ms=min(ttl_s * 1000, _NATIVE_MOST_MS), lease=request.id),), call)
    (granted,) = outcome.results
    assert isinstance(granted, Granted)
    return LeaseGrantResponse(header=header(call, outcome.revision), id=granted.lease, ttl=ttl_s)


def revoke(request: LeaseRevokeRequest, call: EtcdCall) -> Plan[HeaderResponse]:
    """``Lease.LeaseRevoke``."""
    if not 0 < request.id <= LEASE_MAX:
        raise Known.LEASE_NOT_FOUND.status
    outcome = yield from written((Revoke(lease=request.id),), call)
    assert isinstance(outcome.results[0], Revoked)
    return HeaderResponse(header=header(call, outcome.revision))


def keep_alive(request: LeaseKeepAliveRequest, call: EtcdCall) -> Plan[LeaseKeepAliveResponse]:
    """One message of ``Lease.LeaseKeepAlive``: of a lease that is not there no time is told."""
    status = call.context.last_status()
    head = header(call, 0 if status is None else status.revision)
    if 0 < request.id <= LEASE_MAX:
        outcome = yield from asked(KeepAlive(leases=(request.id,)), call)
        assert isinstance(outcome, KeptAlive)
        (found,) = outcome.leases
        if isinstance(found, LeaseRecord):
            return LeaseKeepAliveResponse(header=head, id=request.id, ttl=found.ttl_ms // 1000)
    return LeaseKeepAliveResponse(header=head, id=request.id)


def time_to_live(request: LeaseTimeToLiveRequest, call: EtcdCall) -> Plan[LeaseTimeToLiveResponse]:
    """``Lease.LeaseTimeToLive``."""
    answer = yield from read(FindLease(lease=max(0, min(request.id, LEASE_MAX))), call)
    found, head = answer.content, header(call, answer.revision)
    if not isinstance(found, LeaseRecord) or found.lease != request.id:
        return LeaseTimeToLiveResponse(header=head, id=request.id, ttl=-1)
    left_ms = max(0, found.expires_at_ms - round(call.context.wall_s() * 1000))
    return LeaseTimeToLiveResponse(
        header=head,
        id=request.id,
        ttl=min(left_ms, found.ttl_ms) // 1000,
        granted_ttl=found.ttl_ms // 1000,
        keys=(found.keys or ()) if request.keys else (),
    )


def leases(_: EmptyRequest, call: EtcdCall) -> Plan[LeaseLeasesResponse]:
    """``Lease.LeaseLeases``."""
    start: int | None = 0
    found: list[LeaseStatus] = []
    revision = 0
    while start is not None:
        answer = yield from read(FindLeases(start=start), call)
        assert isinstance(answer.content, LeasePage)
        found += [LeaseStatus(id=lease.lease) for lease in answer.content.leases]
        start, revision = answer.content.next_start, answer.revision
    return LeaseLeasesResponse(header=header(call, revision), leases=tuple(found))
