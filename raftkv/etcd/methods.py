"""THE list of methods: what each is called in gRPC and in JSON, what it is given, and what carries it out."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from raftkv.etcd import (
    auth,
    cluster,
    contending,
    health,
    kv,
    leases,
    maintenance,
    messages,
    operating,
    ranges,
    transactions,
)
from raftkv.etcd.calls import EtcdCall, Method, Steps, Unary
from raftkv.etcd.errors import CallStatus
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.etcd.schema import Message
from raftkv.http.needs import Needs


def _method(path: str, request: type[Message], call: Unary, *gateway: str, **more: Any) -> Method:
    return Method(path=path, gateway=gateway, request=request, call=call, **more)


RANGE: Final = _method("/etcdserverpb.KV/Range", messages.RangeRequest, ranges.range_, "/v3/kv/range")
KV: Final = (
    RANGE,
    _method("/etcdserverpb.KV/Put", messages.PutRequest, kv.put, "/v3/kv/put"),
    _method("/etcdserverpb.KV/DeleteRange", messages.DeleteRangeRequest, kv.delete_range, "/v3/kv/deleterange"),
    _method("/etcdserverpb.KV/Txn", messages.TxnRequest, transactions.txn, "/v3/kv/txn"),
    _method("/etcdserverpb.KV/Compact", messages.CompactionRequest, kv.compact, "/v3/kv/compaction"),
)
LEASE: Final = (
    _method("/etcdserverpb.Lease/LeaseGrant", messages.LeaseGrantRequest, leases.grant, "/v3/lease/grant"),
    _method(
        "/etcdserverpb.Lease/LeaseRevoke",
        messages.LeaseRevokeRequest,
        leases.revoke,
        "/v3/lease/revoke",
        "/v3/kv/lease/revoke",
    ),
    _method(
        "/etcdserverpb.Lease/LeaseTimeToLive",
        messages.LeaseTimeToLiveRequest,
        leases.time_to_live,
        "/v3/lease/timetolive",
        "/v3/kv/lease/timetolive",
    ),
    _method(
        "/etcdserverpb.Lease/LeaseLeases",
        messages.EmptyRequest,
        leases.leases,
        "/v3/lease/leases",
        "/v3/kv/lease/leases",
    ),
)


def _alike(call: Unary) -> Unary:
    """As a service that is itself a client of the others: whatever goes wrong is told with one code."""

    def carried_out(request: Any, of: EtcdCall) -> Steps[Message]:
        try:
            return (yield from call(request, of))
        except CallStatus as status:
            code = status.code if status.code is GrpcStatus.CANCELLED else GrpcStatus.UNKNOWN
            raise CallStatus(code, status.message) from None

    return carried_out


LOCK: Final = (
    _method("/v3lockpb.Lock/Lock", messages.LockRequest, _alike(contending.lock), "/v3/lock/lock", is_long=True),
    _method("/v3lockpb.Lock/Unlock", messages.UnlockRequest, _alike(contending.unlock), "/v3/lock/unlock"),
)
ELECTION: Final = (
    _method(
        "/v3electionpb.Election/Campaign",
        messages.CampaignRequest,
        _alike(contending.campaign),
        "/v3/election/campaign",
        is_long=True,
    ),
    _method(
        "/v3electionpb.Election/Proclaim",
        messages.ProclaimRequest,
        _alike(contending.proclaim),
        "/v3/election/proclaim",
    ),
    _method(
        "/v3electionpb.Election/Leader", messages.LeaderRequest, _alike(contending.leader_of), "/v3/election/leader"
    ),
    _method("/v3electionpb.Election/Resign", messages.ResignRequest, _alike(contending.resign), "/v3/election/resign"),
)
_operated: Final = partial(_method, needs=Needs.OPERATOR)
"""For who may change the cluster."""

CLUSTER: Final = (
    _method(
        "/etcdserverpb.Cluster/MemberList",
        operating.MemberListRequest,
        cluster.list_,
        "/v3/cluster/member/list",
        needs=Needs.NOTHING,  # clients look where the members are before they log in
    ),
    _operated("/etcdserverpb.Cluster/MemberAdd", operating.MemberAddRequest, cluster.add, "/v3/cluster/member/add"),
    _operated(
        "/etcdserverpb.Cluster/MemberRemove",
        operating.MemberRemoveRequest,
        cluster.remove,
        "/v3/cluster/member/remove",
    ),
    _operated(
        "/etcdserverpb.Cluster/MemberUpdate",
        operating.MemberUpdateRequest,
        cluster.update,
        "/v3/cluster/member/update",
    ),
    _operated(
        "/etcdserverpb.Cluster/MemberPromote",
        operating.MemberPromoteRequest,
        cluster.promote,
        "/v3/cluster/member/promote",
    ),
)
_rooted: Final = partial(_method, needs=Needs.ROOT)
"""For who may see everything."""

MAINTENANCE: Final = (
    _method("/etcdserverpb.Maintenance/Status", messages.EmptyRequest, maintenance.status, "/v3/maintenance/status"),
    _method("/etcdserverpb.Maintenance/Alarm", operating.AlarmRequest, maintenance.alarm, "/v3/maintenance/alarm"),
    _operated(
        "/etcdserverpb.Maintenance/Defragment",
        messages.EmptyRequest,
        maintenance.defragment,
        "/v3/maintenance/defragment",
    ),
    _rooted("/etcdserverpb.Maintenance/Hash", messages.EmptyRequest, maintenance.hash_, "/v3/maintenance/hash"),
    _rooted("/etcdserverpb.Maintenance/HashKV", operating.HashKVRequest, maintenance.hash_kv, "/v3/maintenance/hashkv"),
    _operated(
        "/etcdserverpb.Maintenance/MoveLeader",
        operating.MoveLeaderRequest,
        maintenance.move_leader,
        "/v3/maintenance/transfer-leadership",
    ),
    _operated(
        "/etcdserverpb.Maintenance/Downgrade",
        operating.DowngradeRequest,
        maintenance.downgrade,
        "/v3/maintenance/downgrade",
    ),
)
HEALTH: Final = (
    _method("/grpc.health.v1.Health/Check", messages.HealthCheckRequest, health.check, needs=Needs.NOTHING),
)
"""No service of etcd's API, but of its server."""


def _auth(name: str, request: type[Message], call: Unary, gateway: str, needs: Needs = Needs.OPERATOR) -> Method:
    return _method(f"/etcdserverpb.Auth/{name}", request, call, f"/v3/auth/{gateway}", needs=needs)


AUTH: Final = (
    _auth("AuthEnable", messages.EmptyRequest, auth.enable, "enable"),
    _auth("AuthDisable", messages.EmptyRequest, auth.disable, "disable"),
    _auth("AuthStatus", messages.EmptyRequest, auth.status, "status", Needs.ROOT),
    _auth("Authenticate", operating.AuthenticateRequest, auth.authenticate, "authenticate", Needs.NOTHING),
    _auth("UserAdd", operating.UserAddRequest, auth.user_add, "user/add"),
    _auth("UserGet", operating.NameRequest, auth.user_get, "user/get", Needs.OWNER),
    _auth("UserList", messages.EmptyRequest, auth.user_list, "user/list"),
    _auth("UserDelete", operating.NameRequest, auth.user_delete, "user/delete"),
    _auth("UserChangePassword", operating.UserChangePasswordRequest, auth.user_change_password, "user/changepw"),
    _auth("UserGrantRole", operating.UserGrantRoleRequest, auth.user_grant_role, "user/grant"),
    _auth("UserRevokeRole", operating.UserRevokeRoleRequest, auth.user_revoke_role, "user/revoke"),
    _auth("RoleAdd", operating.NameRequest, auth.role_add, "role/add"),
    _auth("RoleGet", operating.RoleRequest, auth.role_get, "role/get", Needs.OWNER),
    _auth("RoleList", messages.EmptyRequest, auth.role_list, "role/list"),
    _auth("RoleDelete", operating.RoleRequest, auth.role_delete, "role/delete"),
    _auth("RoleGrantPermission", operating.RoleGrantPermissionRequest, auth.role_grant_permission, "role/grant"),
    _auth("RoleRevokePermission", operating.RoleRevokePermissionRequest, auth.role_revoke_permission, "role/revoke"),
)
METHODS: Final = (*AUTH, *CLUSTER, *MAINTENANCE, *HEALTH, *KV, *LEASE, *LOCK, *ELECTION)
