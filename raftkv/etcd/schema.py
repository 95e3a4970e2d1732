"""What a message is: a struct whose fields say their numbers, read once into a ``Shape`` that both codecs go by.

A field's kind follows from its type: ``bytes``, ``str``, ``bool``, ``int`` (64 bits, signed, unless its place says
otherwise), an ``IntEnum``, another message; a tuple of one of these is repeated. ``None`` as a default tells a field
that was not sent from a zero, as in a oneof. Numbers, names and types are those of etcd 3.5 (etcdserverpb, mvccpb,
authpb, v3lockpb, v3electionpb), which are its public contract.
"""

from __future__ import annotations

import enum
import types
from functools import cache
from typing import Annotated, Any, Final, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec


class FieldKind(enum.Enum):
    """How a value is written."""

    BYTES = "bytes"
    STRING = "string"
    BOOL = "bool"
    INT64 = "int64"
    UINT64 = "uint64"
    UINT32 = "uint32"
    ENUM = "enum"
    MESSAGE = "message"


class Place(NamedTuple):
    """Where a field stands, and what its integers are; ``name`` is its public name where the attribute's differs."""

    number: int
    integers: FieldKind = FieldKind.INT64
    name: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What one side says to the other."""


class Field(NamedTuple):
    """One field of a message. ``of`` is the type of an enum or a message; ``zero`` is what is never written."""

    attribute: str
    name: str
    number: int
    kind: FieldKind
    is_repeated: bool
    is_optional: bool
    of: type[Any] | None
    zero: Any

    @property
    def camel(self) -> str:
        """The name as JSON may also have it."""
        head, *rest = self.name.split("_")
        return head + "".join([part[:1].upper() + part[1:] for part in rest])


Shape = tuple[Field, ...]
"""The fields of a message, by number."""

_KINDS: Final[dict[type[Any], FieldKind]] = {bytes: FieldKind.BYTES, str: FieldKind.STRING, bool: FieldKind.BOOL}


@cache
def shape_of(message: type[Message]) -> Shape:
    """The fields of ``message``."""
    hints = get_type_hints(message, include_extras=True)
    defaults = {field.name: field.default for field in msgspec.structs.fields(message)}
    fields = [_field(name, hints[name], defaults[name]) for name in message.__struct_fields__]
    return tuple(sorted(fields, key=lambda field: field.number))


def _field(attribute: str, hint: Any, zero: Any) -> Field:
    assert get_origin(hint) is Annotated, f"{attribute} has no place"
    annotated, place = get_args(hint)
    assert isinstance(place, Place)
    is_optional = get_origin(annotated) in (Union, types.UnionType)
    if is_optional:
        annotated = next(one for one in get_args(annotated) if one is not type(None))
    is_repeated = get_origin(annotated) is tuple
    element = get_args(annotated)[0] if is_repeated else annotated
    kind, of = _KINDS.get(element), None
    if kind is None:
        if element is int:
            kind = place.integers
        else:
            kind, of = (FieldKind.ENUM if issubclass(element, enum.IntEnum) else FieldKind.MESSAGE), element
    return Field(attribute, place.name or attribute, place.number, kind, is_repeated, is_optional, of, zero)
