"""JSON bodies: their types, and how a wrong one is told to the client. Pure functions, no Flask, no ASGI."""

from __future__ import annotations

import json
import re
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from raftkv.core.config import Zone
from raftkv.core.errors import Code
from raftkv.http.messages import JSON, Base64, HttpRequest
from raftkv.http.problems import refuse

Key = Annotated[str, Meta(description="1 to max_key_bytes bytes of UTF-8", extra_json_schema={"minLength": 1})]
Value = str | Base64
Revision = Annotated[int, Meta(ge=0, le=10**18)]
Ttl = Annotated[float, Meta(gt=0, le=10 * 365 * 86_400)]

SHOWN_CHARACTERS_MAX: Final = 200
"""What is repeated of a mistake."""

_FORM: Final = b"application/x-www-form-urlencoded"
_LOCATED: Final = re.compile(r"(.*) - at `\$\.?(.*?)`", re.DOTALL)


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


Body = TypeVar("Body")

decode_key_and_value: Final = msgspec.json.Decoder(KeyAndValue)
decode_batch: Final = msgspec.json.Decoder(Batch)
decode_new_sizes: Final = msgspec.json.Decoder(NewSizes)
decode_new_member: Final = msgspec.json.Decoder(NewMember)
decode_internal_write: Final = msgspec.json.Decoder(InternalWrite)


def body_of(request: HttpRequest, decoder: msgspec.json.Decoder[Body], *, allow_form_type: bool = False) -> Body:
    """The body, decoded.

    ``allow_form_type``: what ``curl -d '{...}'`` says without ``-H`` is let pass, because people type that.
    """
    content_type = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    is_form = content_type == _FORM and allow_form_type
    if content_type and content_type != JSON[1] and not content_type.endswith(b"+json") and not is_form:
        shown = content_type[:100].decode("latin-1")
        refuse(Code.UNSUPPORTED_MEDIA_TYPE, f"the body must be application/json, not {shown}")
    try:
        decoded = decoder.decode(request.body)
        _check_each_name_once(request.body, decoder.type)
    except msgspec.ValidationError as error:
        refuse(Code.BAD_REQUEST, f"body: {_readable(str(error))}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if is_form and not request.body.lstrip().startswith(b"{"):
            refuse(Code.UNSUPPORTED_MEDIA_TYPE, "the body must be application/json, not a form")
        refuse(Code.BAD_REQUEST, f"body: not valid JSON: {_cut(str(error))}")
    return decoded


def _check_each_name_once(body: bytes, kind: type[object]) -> None:
    """Refuse an object with a name given twice, of which only the last would count; raises ``DefiniteError``.

    The decoder does not tell. Where a flat body has no more names than ``kind`` and nothing is escaped, none is.
    """
    if kind is KeyAndValue and b"\\" not in body and body.count(b":") == 2:
        return
    json.loads(body, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for place, (name, _) in enumerate(pairs) if name in {other for other, _ in pairs[:place]})
        refuse(Code.BAD_REQUEST, f"body: {twice[:100]!r} is given twice")
    return found


def _cut(text: str) -> str:
    """A sentence about what a stranger sent, and not all of that."""
    return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}..."


def _readable(message: str) -> str:
    """Turn msgspec's ``reason - at `$.field` `` into ``field: reason``."""
    found = _LOCATED.fullmatch(message)
    if found is None or not found[2]:
        return _cut(message)
    return f"{_cut(found[2])}: {_cut(found[1])}"
