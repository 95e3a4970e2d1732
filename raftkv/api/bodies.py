"""The JSON bodies of requests, as types. Imports ``core`` and msgspec only."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from raftkv.api.values import Value
from raftkv.core.config import Zone

Key = Annotated[str, Meta(description="1 to max_key_bytes bytes of UTF-8", extra_json_schema={"minLength": 1})]
Revision = Annotated[int, Meta(ge=0, le=10**18)]
Ttl = Annotated[float, Meta(gt=0, le=10 * 365 * 86_400)]


class KeyAndValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of the reference systems' writes."""

    key: Key
    value: Value


class PutOperation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="put", tag_field="op"):
    """Store a value; ``if_revision`` is the revision the key must stand at (0: it must not exist), ``ttl`` seconds."""

    key: Key
    value: Value
    if_revision: Revision | None = None
    ttl: Ttl | None = None


class DeleteOperation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="delete", tag_field="op"):
    """Remove a key."""

    key: Key
    if_revision: Revision | None = None


class GetOperation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="get", tag_field="op"):
    """Read a key."""

    key: Key


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /batch``."""

    operations: Annotated[list[PutOperation | DeleteOperation | GetOperation], Meta(extra_json_schema={"minItems": 1})]


class NewSizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /config``; what is left out stays as it is."""

    n: Annotated[int, Meta(ge=1, le=1000)] | None = None
    r: Annotated[int, Meta(ge=1, le=1000)] | None = None
    w: Annotated[int, Meta(ge=1, le=1000)] | None = None


class NewMember(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /cluster/members``: who joins, and where clients (``http``) and nodes (``peer``) reach it."""

    id: str
    http: str
    peer: str
    zone: Zone = ""


class InternalWrite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version for one replica; a null value deletes.

    ``timestamp`` and ``node`` are its stamp; without a timestamp the replica makes one, without a node it is the node.
    """

    key: Key
    value: Value | None
    timestamp: Annotated[int, Meta(ge=1, le=1 << 53)] | None = None
    node: str = ""
