"""What the client returns, as frozen values, and how they are read from JSON. Pure: no socket, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET

from raftkv.api import headers as names
from raftkv.api.answers import Item, Listed, Sibling, SiblingsAnswer
from raftkv.api.cluster_answers import PROXY, NodeStatus, ProxyStatus
from raftkv.api.values import Value as JsonValue
from raftkv.api.values import text_from_json
from raftkv.client.http1 import HttpAnswer
from raftkv.core.errors import DefiniteError, IndefiniteError

Answer = TypeVar("Answer", bound=msgspec.Struct)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it stood when it was read, and what kind of read it was.

    ``ttl_left`` is how many seconds the key had left when it was read, ``None`` when it does not expire; ``lease`` is
    the lease with which it goes. ``revision`` is the store's revision of the last write to this key,
    ``create_revision`` that of the one which created it, ``version`` counts its writes since then. ``value`` is
    ``None`` when only keys were asked for. ``consistency`` is the level that the read was given at, ``node`` who
    answered. ``staleness_ms`` is how long ago that node last knew itself level with the leader: 0 unless the read was
    local, ``None`` when the node cannot tell.

    In a leaderless cluster the three numbers are the counter of the version's stamp and ``writer`` is who made it,
    ``replicas`` are the nodes that answered, and ``context`` is what a write that has seen this is to be given.
    """

    key: str
    value: bytes | None
    version: int
    revision: int
    create_revision: int
    consistency: str
    node: str
    staleness_ms: int | None = 0
    writer: str = ""
    replicas: tuple[str, ...] = ()
    context: str = ""
    ttl_left: float | None = None
    lease: int | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Records in key order, as they stood together at the store's ``revision``.

    ``next`` is the ``start`` of the page that follows, ``None`` when this was the last.
    """

    records: tuple[Record, ...]
    next: str | None
    revision: int
    consistency: str
    node: str
    staleness_ms: int | None = 0
    replicas: tuple[str, ...] = ()
    context: str = ""


_WRONG: Final = (msgspec.DecodeError, ValueError)  # of which bytes that are no text, or no base64, are kinds


def record_from_json(answer: HttpAnswer) -> Record:
    """The record in the JSON form of ``GET /kv/{key}``."""
    try:
        return record_of(msgspec.json.decode(answer.body, type=Item), provenance(answer))
    except _WRONG as error:
        raise not_raftkv(error) from None


def siblings_from_json(answer: HttpAnswer) -> tuple[Record, ...]:
    """The records in a 300 answer of ``GET /kv/{key}``, oldest stamp first."""
    try:
        found, origin = msgspec.json.decode(answer.body, type=SiblingsAnswer), provenance(answer)
        return tuple([record_of(_sibling(found.key, one), origin) for one in found.siblings])
    except _WRONG as error:
        raise not_raftkv(error) from None


def _sibling(key: JsonValue, one: Sibling) -> Item:
    revision = one.revision
    return Item(
        key=key,
        value=one.value,
        version=one.version,
        revision=revision,
        create_revision=revision,
        node=one.node,
        ttl_left=one.ttl_left,
    )


def page_from_json(answer: HttpAnswer) -> Page:
    """The page in the answer of ``GET /kv``."""
    try:
        found, origin = msgspec.json.decode(answer.body, type=Listed), provenance(answer)
        records = tuple([record_of(item, origin) for item in found.items])
        following = None if found.next is None else text_from_json(found.next)
    except _WRONG as error:
        raise not_raftkv(error) from None
    return Page(records=records, next=following, revision=found.revision, **origin)


def json_from_body(body: bytes) -> dict[str, Any]:
    """Any other JSON object."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except _WRONG as error:
        raise not_raftkv(error) from None


def outcome_from_body(body: bytes) -> dict[str, Any]:
    """The JSON object that answers a write; raises ``IndefiniteError`` for anything else.

    Whoever says "fine" in other words may have passed the write on.
    """
    try:
        return json_from_body(body)
    except DefiniteError as error:
        raise in_doubt(error) from None


def in_doubt(error: DefiniteError) -> IndefiniteError:
    """The same of a write, which may have been applied."""
    return IndefiniteError(error.code, f"{error.detail}; the write may have been applied")


def status_from_json(content: Mapping[str, object]) -> NodeStatus | ProxyStatus:
    """How a node, or a proxy, sees itself."""
    return typed(content, ProxyStatus) if content.get("role") == PROXY else typed(content, NodeStatus)


def typed(content: Mapping[str, object], kind: type[Answer], *, is_read: bool = True) -> Answer:
    """The answer of ``kind`` in a JSON object; what it says beyond that is for newer clients.

    Raises ``DefiniteError`` when it is none, and ``IndefiniteError`` where a write is answered so.
    """
    try:
        return msgspec.convert(content, kind)
    except _WRONG as error:
        found = not_raftkv(error)
        raise (found if is_read else in_doubt(found)) from None


def not_raftkv(why: object) -> DefiniteError:
    """Whoever answered a read does not speak as raftkv does."""
    return DefiniteError("bad_answer", f"the server's answer is not one of raftkv: {why}")


def provenance(answer: HttpAnswer) -> dict[str, Any]:
    """What a read says of itself in its headers."""
    staleness, replicas = answer.header(names.STALENESS.low) or "0", answer.header(names.REPLICAS.low)
    return {
        "consistency": answer.header(names.CONSISTENCY.low),
        "node": answer.header(names.NODE.low),
        "staleness_ms": int(staleness) if staleness.isascii() and staleness.isdigit() else None,
        "replicas": tuple(replicas.split(",")) if replicas else (),
        "context": answer.header(names.CONTEXT.low),
    }


def record_of(item: Item, origin: Mapping[str, Any]) -> Record:
    """The record of ``item`` in an answer of ``origin``."""
    return Record(
        key=text_from_json(item.key),
        value=item.content(),
        version=item.version,
        revision=item.revision,
        create_revision=item.create_revision,
        writer=item.node or "",
        ttl_left=None if item.ttl_left is UNSET else item.ttl_left,
        lease=None if item.lease is UNSET else item.lease,
        **origin,
    )
