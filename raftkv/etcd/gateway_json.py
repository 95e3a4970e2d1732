"""Messages as etcd's JSON gateway has them, by the table of ``messages``.

Bytes are base64, integers of 64 bits are strings, enums are their names, and what is zero is left out. What is read may
have names as in the table or in camel case, integers as numbers or as strings, enums by name or number; unknown names
are passed over, and no body is an empty message.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeVar

import msgspec

from raftkv.etcd.schema import Field, FieldKind, Message, shape_of

DEPTH_MAX: Final = 32

AnyMessage = TypeVar("AnyMessage", bound=Message)
_RANGES: Final = {
    FieldKind.INT64: (-(1 << 63), (1 << 63) - 1),
    FieldKind.UINT64: (0, (1 << 64) - 1),
    FieldKind.UINT32: (0, (1 << 32) - 1),
}
_INTEGER: Final = re.compile(r"[ \t\r\n]*-?(0|[1-9][0-9]{0,19})[ \t\r\n]*")
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class GatewayError(ValueError):
    """What was sent is no such message; the text is for whoever sent it."""


def encode(message: Message) -> bytes:
    """The JSON of ``message``."""
    return _encode(shown(message))


def shown(message: Message) -> dict[str, Any]:
    """``message`` as JSON's own values."""
    told = {}
    for attribute, name, zero, show in _showing(type(message)):
        value = getattr(message, attribute)
        if value != zero:
            told[name] = show(value)
    return told


@cache
def _showing(message: type[Message]) -> tuple[tuple[str, str, Any, Callable[[Any], Any]], ...]:
    return tuple((field.attribute, field.name, field.zero, _shower(field)) for field in shape_of(message))


def _shower(field: Field) -> Callable[[Any], Any]:
    show = _SHOWERS[field.kind]
    return (lambda values: [show(one) for one in values]) if field.is_repeated else show


def _text(content: bytes) -> str:
    return binascii.b2a_base64(content, newline=False).decode()


def _name(value: Any) -> Any:
    return getattr(value, "name", value)


_SHOWERS: Final[dict[FieldKind, Callable[[Any], Any]]] = {
    FieldKind.BYTES: _text,
    FieldKind.STRING: str,
    FieldKind.BOOL: bool,
    FieldKind.INT64: str,
    FieldKind.UINT64: str,
    FieldKind.UINT32: int,
    FieldKind.ENUM: _name,
    FieldKind.MESSAGE: shown,
}


# -- reading ----------------------------------------------------------------------------------------------------------


def decode(message: type[AnyMessage], body: bytes) -> AnyMessage:
    """The message in ``body``; raises ``GatewayError`` where there is none."""
    if not body.strip(b" \t\r\n"):
        return message()
    try:
        found = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise GatewayError(_syntax_error(body)) from None
    return _message(message, {} if found is None else found, 0)


def _syntax_error(body: bytes) -> str:
    try:
        json.loads(body)
    except RecursionError:
        return "exceeded max depth"
    except ValueError as error:
        place = getattr(error, "pos", len(body))
        if place >= len(body.rstrip()):
            return "unexpected EOF"
        return f"invalid character {chr(body[place])!r} looking for beginning of value"
    return "invalid JSON"


@cache
def _by_name(message: type[Message]) -> dict[str, Field]:
    fields = shape_of(message)
    return {field.camel: field for field in fields} | {field.name: field for field in fields}


def _message(message: type[AnyMessage], found: Any, depth: int) -> AnyMessage:
    if depth > DEPTH_MAX:
        raise GatewayError("exceeded max depth")
    if not isinstance(found, dict):
        raise GatewayError(f"json: cannot unmarshal {_kind(found)} into Go value of type map[string]json.RawMessage")
    fields, values = _by_name(message), {}
    for name, value in found.items():
        field = fields.get(name)
        if field is None or value is None:
            continue
        if not field.is_repeated:
            values[field.attribute] = _value(field, value, depth)
        elif isinstance(value, list):
            values[field.attribute] = tuple([_value(field, one, depth) for one in value])
        else:
            raise GatewayError(f"json: cannot unmarshal {_kind(value)} into Go value of type []json.RawMessage")
    return message(**values)


def _value(field: Field, value: Any, depth: int) -> Any:
    if field.kind is FieldKind.MESSAGE:
        assert field.of is not None
        return _message(field.of, {} if value is None else value, depth + 1)
    return _READERS[field.kind](field, value)


def _kind(value: Any) -> str:
    """What Go's reader calls it."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    kinds: dict[type[Any], str] = {str: "string", dict: "object", list: "array"}
    return kinds.get(type(value), "null")


def _mistaken(value: Any, wanted: str) -> GatewayError:
    return GatewayError(f"json: cannot unmarshal {_kind(value)} into Go value of type {wanted}")


def _bytes(_: Field, value: Any) -> bytes:
    if not isinstance(value, str):
        raise _mistaken(value, "[]uint8")
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:  # binascii.Error among them
        return _bytes_loosely(value)


def _bytes_loosely(text: str) -> bytes:
    """The same where line ends stand between; raises with the place of what does not belong there."""
    joined = text.replace("\r", "").replace("\n", "")
    if joined != text:
        try:
            return base64.b64decode(joined, validate=True)
        except ValueError:
            pass
    whole = len(joined) // 4 * 4
    place = next((at for at, one in enumerate(text) if not (one.isascii() and (one.isalnum() or one in "+/"))), None)
    if place is None or text[place] == "=":
        place = whole if place is None or place >= whole else place
    raise GatewayError(f"illegal base64 data at input byte {place}")


def _string(_: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise _mistaken(value, "string")
    return value


def _bool(_: Field, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _mistaken(value, "bool")
    return value


def _integer(field: Field, value: Any) -> int:
    number = value
    if isinstance(value, str):
        number = int(value) if _INTEGER.fullmatch(value) else None
    least, most = _RANGES[field.kind]
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        raise _mistaken(value, field.kind.value)
    return number


def _enum(field: Field, value: Any) -> Any:
    assert field.of is not None
    if isinstance(value, str):
        found = field.of.__members__.get(value)
        if found is None:
            raise GatewayError(f'unknown value "{value[:100]}" for enum {field.name}')
        return found
    if isinstance(value, bool) or not isinstance(value, int) or not -(1 << 31) <= value < 1 << 31:
        raise _mistaken(value, "int32")
    return field.of._value2member_map_.get(value, value)


_READERS: Final[dict[FieldKind, Callable[[Field, Any], Any]]] = {
    FieldKind.BYTES: _bytes,
    FieldKind.STRING: _string,
    FieldKind.BOOL: _bool,
    FieldKind.INT64: _integer,
    FieldKind.UINT64: _integer,
    FieldKind.UINT32: _integer,
    FieldKind.ENUM: _enum,
}
