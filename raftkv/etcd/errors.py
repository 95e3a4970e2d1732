"""What etcd answers where it cannot do what it is asked: codes of gRPC, and the texts that clients look for.

The texts are etcd's own (api/v3rpc/rpctypes of 3.5), word by word, because clients compare them: they are an interface.
"""

from __future__ import annotations

import enum
from typing import Final, NoReturn

from raftkv.core.errors import Code, Failure, Refused
from raftkv.etcd.grpc.status import GrpcStatus

HTTP_STATUSES: Final = {
    GrpcStatus.OK: 200,
    GrpcStatus.CANCELLED: 408,
    GrpcStatus.UNKNOWN: 500,
    GrpcStatus.INVALID_ARGUMENT: 400,
    GrpcStatus.DEADLINE_EXCEEDED: 504,
    GrpcStatus.NOT_FOUND: 404,
    GrpcStatus.ALREADY_EXISTS: 409,
    GrpcStatus.PERMISSION_DENIED: 403,
    GrpcStatus.RESOURCE_EXHAUSTED: 429,
    GrpcStatus.FAILED_PRECONDITION: 400,
    GrpcStatus.ABORTED: 409,
    GrpcStatus.OUT_OF_RANGE: 400,
    GrpcStatus.UNIMPLEMENTED: 501,
    GrpcStatus.INTERNAL: 500,
    GrpcStatus.UNAVAILABLE: 503,
    GrpcStatus.DATA_LOSS: 500,
    GrpcStatus.UNAUTHENTICATED: 401,
}
"""As the gateway of etcd 3.5 has it."""


class CallStatus(Exception):  # noqa: N818  what a call ends with
    """How a call ends that is not carried out; ``code`` and ``message`` are what its client sees."""

    def __init__(self, code: GrpcStatus, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Known(enum.Enum):
    """What etcd's clients know by its text."""

    EMPTY_KEY = GrpcStatus.INVALID_ARGUMENT, "etcdserver: key is not provided"
    KEY_NOT_FOUND = GrpcStatus.INVALID_ARGUMENT, "etcdserver: key not found"
    VALUE_PROVIDED = GrpcStatus.INVALID_ARGUMENT, "etcdserver: value is provided"
    LEASE_PROVIDED = GrpcStatus.INVALID_ARGUMENT, "etcdserver: lease is provided"
    TOO_MANY_OPS = GrpcStatus.INVALID_ARGUMENT, "etcdserver: too many operations in txn request"
    DUPLICATE_KEY = GrpcStatus.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request"
    INVALID_SORT = GrpcStatus.INVALID_ARGUMENT, "etcdserver: invalid sort option"
    COMPACTED = GrpcStatus.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted"
    FUTURE_REVISION = GrpcStatus.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"
    NO_SPACE = GrpcStatus.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"
    LEASE_NOT_FOUND = GrpcStatus.NOT_FOUND, "etcdserver: requested lease not found"
    LEASE_EXISTS = GrpcStatus.FAILED_PRECONDITION, "etcdserver: lease already exists"
    LEASE_TTL_TOO_LARGE = GrpcStatus.OUT_OF_RANGE, "etcdserver: too large lease TTL"
    WATCH_CANCELED = GrpcStatus.CANCELLED, "etcdserver: watch canceled"
    PEER_URL_EXISTS = GrpcStatus.FAILED_PRECONDITION, "etcdserver: Peer URLs already exists"
    NOT_ENOUGH_STARTED = (
        GrpcStatus.FAILED_PRECONDITION,
        "etcdserver: re-configuration failed due to not enough started members",
    )
    BAD_URLS = GrpcStatus.INVALID_ARGUMENT, "etcdserver: given member URLs are invalid"
    MEMBER_NOT_FOUND = GrpcStatus.NOT_FOUND, "etcdserver: member not found"
    MEMBER_NOT_LEARNER = GrpcStatus.FAILED_PRECONDITION, "etcdserver: can only promote a learner member"
    LEARNER_NOT_READY = (
        GrpcStatus.FAILED_PRECONDITION,
        "etcdserver: can only promote a learner member which is in sync with leader",
    )
    TOO_MANY_LEARNERS = GrpcStatus.FAILED_PRECONDITION, "etcdserver: too many learner members in cluster"
    REQUEST_TOO_LARGE = GrpcStatus.INVALID_ARGUMENT, "etcdserver: request is too large"
    TOO_MANY_REQUESTS = GrpcStatus.RESOURCE_EXHAUSTED, "etcdserver: too many requests"
    ROOT_USER_MISSING = GrpcStatus.FAILED_PRECONDITION, "etcdserver: root user does not exist"
    ROOT_ROLE_MISSING = GrpcStatus.FAILED_PRECONDITION, "etcdserver: root user does not have root role"
    USER_EXISTS = GrpcStatus.FAILED_PRECONDITION, "etcdserver: user name already exists"
    USER_EMPTY = GrpcStatus.INVALID_ARGUMENT, "etcdserver: user name is empty"
    USER_NOT_FOUND = GrpcStatus.FAILED_PRECONDITION, "etcdserver: user name not found"
    ROLE_EXISTS = GrpcStatus.FAILED_PRECONDITION, "etcdserver: role name already exists"
    ROLE_NOT_FOUND = GrpcStatus.FAILED_PRECONDITION, "etcdserver: role name not found"
    ROLE_EMPTY = GrpcStatus.INVALID_ARGUMENT, "etcdserver: role name is empty"
    AUTH_FAILED = GrpcStatus.INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password"
    PERMISSION_NOT_GIVEN = GrpcStatus.INVALID_ARGUMENT, "etcdserver: permission not given"
    PERMISSION_DENIED = GrpcStatus.PERMISSION_DENIED, "etcdserver: permission denied"
    ROLE_NOT_GRANTED = GrpcStatus.FAILED_PRECONDITION, "etcdserver: role is not granted to the user"
    PERMISSION_NOT_GRANTED = GrpcStatus.FAILED_PRECONDITION, "etcdserver: permission is not granted to the role"
    AUTH_NOT_ENABLED = GrpcStatus.FAILED_PRECONDITION, "etcdserver: authentication is not enabled"
    INVALID_TOKEN = GrpcStatus.UNAUTHENTICATED, "etcdserver: invalid auth token"
    INVALID_AUTH_MANAGEMENT = GrpcStatus.INVALID_ARGUMENT, "etcdserver: invalid auth management"
    NO_LEADER = GrpcStatus.UNAVAILABLE, "etcdserver: no leader"
    STOPPED = GrpcStatus.UNAVAILABLE, "etcdserver: server stopped"
    TIMED_OUT = GrpcStatus.UNAVAILABLE, "etcdserver: request timed out"
    UNHEALTHY = GrpcStatus.UNAVAILABLE, "etcdserver: unhealthy cluster"
    CORRUPT = GrpcStatus.DATA_LOSS, "etcdserver: corrupt cluster"
    BAD_TRANSFEREE = GrpcStatus.FAILED_PRECONDITION, "etcdserver: bad leader transferee"

    @property
    def status(self) -> CallStatus:
        """It, to be raised."""
        return CallStatus(*self.value)


_OF_CODES: Final = {
    Code.UNAUTHENTICATED: Known.INVALID_TOKEN,
    Code.FORBIDDEN: Known.PERMISSION_DENIED,
    Code.VALUE_TOO_LARGE: Known.REQUEST_TOO_LARGE,
    Code.KEY_TOO_LARGE: Known.REQUEST_TOO_LARGE,
    Code.TOO_MANY_CHANGES: Known.REQUEST_TOO_LARGE,
    Code.NOT_FOUND: Known.KEY_NOT_FOUND,
    Code.LEASE_NOT_FOUND: Known.LEASE_NOT_FOUND,
    Code.LEASE_EXISTS: Known.LEASE_EXISTS,
    Code.COMPACTED: Known.COMPACTED,
    Code.OVERLOADED: Known.TOO_MANY_REQUESTS,
    Code.NO_LEADER: Known.NO_LEADER,
    Code.QUORUM_UNREACHABLE: Known.TIMED_OUT,
    Code.DISK_FULL: Known.NO_SPACE,
    Code.OUTCOME_UNKNOWN: Known.TIMED_OUT,
}
_CODES_ALONE: Final = {
    Code.BAD_REQUEST: GrpcStatus.INVALID_ARGUMENT,
    Code.NOT_SUPPORTED: GrpcStatus.UNIMPLEMENTED,
}


def fail(failure: Failure) -> NoReturn:
    """End a call as etcd would where raftkv has said ``failure``."""
    known = _OF_CODES.get(failure.code)
    if known is not None:
        raise known.status
    default = GrpcStatus.UNAVAILABLE if isinstance(failure, Refused) else GrpcStatus.UNKNOWN
    raise CallStatus(_CODES_ALONE.get(failure.code, default), f"etcdserver: {failure.detail}")
