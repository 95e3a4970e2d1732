"""The JSON bodies of requests, as types; encoded they leave out what is as by default.

Imports ``core`` and msgspec only.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from raftkv.api.values import Value
from raftkv.core.config import Zone

PERMITS_MAX: Final = 100
"""A contender waits for as many keys, and there are as many to show."""

Key = Annotated[Value, Meta(description="1 to max_key_bytes bytes; in leaderless clusters UTF-8")]
Revision = Annotated[int, Meta(ge=0, le=10**18)]
Ttl = Annotated[float, Meta(gt=0, le=10 * 365 * 86_400)]


class KeyAndValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of the reference systems' writes."""

    key: Key
    value: Value


LeaseId = Annotated[int, Meta(ge=1, le=(1 << 53) - 1)]
Integer = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
LeaseTtl = Annotated[float, Meta(ge=1, le=10 * 365 * 86_400)]


class PutOperation(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="put", tag_field="op"
):
    """Store a value; ``if_revision`` is the revision the key must stand at (0: it must not exist), ``ttl`` seconds.

    With a ``lease`` the key goes when that ends.
    """

    key: Key
    value: Value
    if_revision: Revision | None = None
    ttl: Ttl | None = None
    lease: LeaseId | None = None


class DeleteOperation(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="delete", tag_field="op"
):
    """Remove a key."""

    key: Key
    if_revision: Revision | None = None


class GetOperation(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="get", tag_field="op"
):
    """Read a key."""

    key: Key


class IncrementOperation(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="increment", tag_field="op"
):
    """Add ``by`` to the integer in a key, 0 if there is none; not beyond ``min`` and ``max``."""

    key: Key
    by: Integer = 1
    min: Integer | None = None
    max: Integer | None = None


class TouchOperation(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="touch", tag_field="op"
):
    """Let a key live for ``ttl`` seconds from now on, null for ever; its value and revision stay."""

    key: Key
    ttl: Ttl | None


class ListOperation(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="list", tag_field="op"
):
    """A page of keys: those with ``prefix``, or from ``start`` up to ``end``, or both at once."""

    prefix: Value = ""
    start: Value = ""
    end: Value | None = None
    limit: Annotated[int, Meta(ge=1, le=999_999_999)] | None = None
    keys_only: bool = False


class DeletePrefixOperation(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="delete_prefix", tag_field="op"
):
    """Remove every key with ``prefix``."""

    prefix: Value


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Does the ``target`` of ``key``, or of every key with ``prefix``, stand to ``with`` as ``op`` says?"""

    target: Literal["value", "version", "revision", "create_revision", "lease", "exists"]
    operand: Integer | bool | Value = msgspec.field(name="with")
    op: Literal["==", "!=", "<", ">"] = "=="
    key: Key | None = None
    prefix: Value | None = None


class TransactionOperation(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="txn", tag_field="op"
):
    """A transaction in a transaction; see ``TransactionBody``."""

    compare: list[Comparison] = []
    success: list[BranchOperation] = []
    failure: list[BranchOperation] = []


BranchOperation = (
    PutOperation
    | DeleteOperation
    | GetOperation
    | ListOperation
    | DeletePrefixOperation
    | IncrementOperation
    | TouchOperation
    | TransactionOperation
)


class TransactionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``POST /txn``: if every comparison holds, ``success``, else ``failure``; wholly or not at all."""

    compare: list[Comparison] = []
    success: list[BranchOperation] = []
    failure: list[BranchOperation] = []


class IncrementBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``POST /kv/{key}/increment``, which may be empty."""

    by: Integer = 1
    min: Integer | None = None
    max: Integer | None = None


class TouchBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``POST /kv/{key}/touch``: seconds from now on, null for ever."""

    ttl: Ttl | None


class NewLease(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``POST /leases``: seconds, and the number, if it is not left to the cluster."""

    ttl: LeaseTtl
    id: LeaseId | None = None


class LeaseIds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``POST /leases/keepalive``."""

    ids: Annotated[list[LeaseId], Meta(min_length=1, max_length=10_000)]


Wait = Annotated[float, Meta(ge=0, le=3600)]
"""Seconds; longer than an hour nobody waits with one request."""

Token = Annotated[int, Meta(ge=1, le=(1 << 53) - 1)]


class LockBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``POST /locks/{name}``: with which lease to hold it, or for how many seconds, and how long to wait.

    ``holder`` is shown to others; ``permits`` may hold it at once, and all must say the same.
    """

    lease: LeaseId | None = None
    ttl: LeaseTtl | None = None
    wait: Wait = 0
    holder: str = ""
    permits: Annotated[int, Meta(ge=1, le=PERMITS_MAX)] = 1


class CampaignBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``POST /elections/{name}/campaign``: as for a lock, and by which value the leader is to be known."""

    lease: LeaseId | None = None
    ttl: LeaseTtl | None = None
    wait: Wait = 0
    value: Value = ""


class ProclaimBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``POST /elections/{name}/proclaim``: the leader's token, and its value from now on."""

    token: Token
    value: Value


class ResignBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``POST /elections/{name}/resign``."""

    token: Token


class CompactBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``POST /compact``."""

    revision: Revision


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``POST /batch``."""

    operations: Annotated[
        list[PutOperation | DeleteOperation | GetOperation | IncrementOperation | TouchOperation],
        Meta(extra_json_schema={"minItems": 1}),
    ]


class NewSizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``POST /config``; what is left out stays as it is."""

    n: Annotated[int, Meta(ge=1, le=1000)] | None = None
    r: Annotated[int, Meta(ge=1, le=1000)] | None = None
    w: Annotated[int, Meta(ge=1, le=1000)] | None = None


class NewMember(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``POST /cluster/members``: who joins, and where clients (``http``) and nodes (``peer``) reach it."""

    id: str
    http: str
    peer: str
    zone: Zone = ""


class NewAddresses(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``PUT /cluster/members/{id}``: where clients (``http``) and nodes (``peer``) reach it from now on."""

    http: str
    peer: str


class NewLeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``POST /cluster/transfer``: who is to lead."""

    to: str


class InternalWrite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A version for one replica; a null value deletes.

    ``timestamp`` and ``node`` are its stamp; without a timestamp the replica makes one, without a node it is the node.
    """

    key: Key
    value: Value | None
    timestamp: Annotated[int, Meta(ge=1, le=1 << 53)] | None = None
    node: str = ""


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``POST /auth/login``."""

    user: str
    password: str


class BackupForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The form of ``POST /backup``: a token, where the request shows none in its head."""

    token: str = ""


class UserBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``PUT /auth/users/{name}``; what is left out stays as it is."""

    password: str | None = None
    roles: Annotated[list[str], Meta(max_length=100)] | None = None


class NewPassword(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``POST /auth/users/{name}/password``; who sets its own says the ``old`` one."""

    password: str
    old: str | None = None


AccessWord = Literal["read", "write", "both"]


class PermissionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Access to one key, to those with a prefix, or to those from ``start`` up to ``end``, which may be left open."""

    access: AccessWord
    key: Key | None = None
    prefix: Value | None = None
    start: Value | None = None
    end: Value | None = None


class RoleBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``PUT /auth/roles/{name}``."""

    permissions: Annotated[list[PermissionBody], Meta(max_length=100)] = []
