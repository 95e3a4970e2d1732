"""Messages as protobuf has them on the wire (Protocol Buffers, "Encoding"), by the table of ``messages``.

A zero is never written, except where its field tells it from nothing. What is read may come in any order, unknown
fields are skipped, of a field that comes twice the last counts, numbers in a row may be packed. Nothing is trusted:
lengths are held against what there is, and messages stand only so deep in each other.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final, TypeVar

from raftkv.etcd.schema import Field, FieldKind, Message, shape_of

DEPTH_MAX: Final = 32
"""How deep messages stand in each other at most, transactions among them."""

_VARINT, _LENGTH = 0, 2
_FIXED: Final = {1: 8, 5: 4}
"""How a field is written, and of those of fixed size, how long it is."""

_MASK: Final = (1 << 64) - 1

AnyMessage = TypeVar("AnyMessage", bound=Message)
Writer = Callable[[list[bytes], Any], int]
"""Appends a field's bytes, the last first; returns how many."""


def encode(message: Message) -> bytes:
    """The bytes of ``message``."""
    parts: list[bytes] = []
    _encoder(type(message))(parts, message)
    parts.reverse()
    return b"".join(parts)


def varint(number: int) -> bytes:
    """A number of 64 bits, seven at a time; a negative one as its two's complement."""
    number &= _MASK
    if number < 0x80:
        return _SMALL[number]
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


_SMALL: Final = tuple(bytes([number]) for number in range(0x80))


@cache
def _encoder(message: type[Message]) -> Writer:
    """Writes a message from its end to its beginning, so that every length is known when its turn comes."""
    fields = tuple((field.attribute, field.zero, _writer(field)) for field in reversed(shape_of(message)))

    def write(parts: list[bytes], value: Any) -> int:
        size = 0
        for attribute, zero, write_field in fields:
            found = getattr(value, attribute)
            if found != zero:
                size += write_field(parts, found)
        return size

    return write


def _writer(field: Field) -> Writer:
    write_one = _one_writer(field)
    if not field.is_repeated:
        return write_one
    if field.kind not in (FieldKind.BYTES, FieldKind.STRING, FieldKind.MESSAGE):
        tag = varint(field.number << 3 | _LENGTH)

        def write_packed(parts: list[bytes], values: Any) -> int:
            packed = b"".join([varint(int(one)) for one in values])
            return _append(parts, packed, varint(len(packed)), tag)

        return write_packed

    def write_all(parts: list[bytes], values: Any) -> int:
        return sum([write_one(parts, one) for one in reversed(values)])

    return write_all


def _append(parts: list[bytes], content: bytes, length: bytes, tag: bytes) -> int:
    parts += (content, length, tag)
    return len(content) + len(length) + len(tag)


def _one_writer(field: Field) -> Writer:
    if field.kind is FieldKind.MESSAGE:
        assert field.of is not None
        of: type[Message] = field.of
        tag = varint(field.number << 3 | _LENGTH)

        def write_message(parts: list[bytes], value: Any) -> int:
            size = _encoder(of)(parts, value)
            length = varint(size)
            parts += (length, tag)
            return size + len(length) + len(tag)

        return write_message
    if field.kind in (FieldKind.BYTES, FieldKind.STRING):
        tag, is_text = varint(field.number << 3 | _LENGTH), field.kind is FieldKind.STRING

        def write_bytes(parts: list[bytes], value: Any) -> int:
            content = value.encode() if is_text else value
            return _append(parts, content, varint(len(content)), tag)

        return write_bytes
    tag = varint(field.number << 3 | _VARINT)

    def write_number(parts: list[bytes], value: Any) -> int:
        number = tag + varint(int(value))
        parts.append(number)
        return len(number)

    return write_number


# -- reading ------------------------------------------------------------------------------------------------------


def decode(message: type[AnyMessage], data: bytes) -> AnyMessage:
    """The message in ``data``; raises ``ValueError`` where there is none."""
    return _read(message, data, 0, len(data), 0)


def _varint_at(data: bytes, place: int, end: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if place >= end or shift > 63:
            raise ValueError("a number is cut off, or too long")
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & _MASK, place
        shift += 7


@cache
def _by_number(message: type[Message]) -> dict[int, Field]:
    return {field.number: field for field in shape_of(message)}


def _read(message: type[AnyMessage], data: bytes, place: int, end: int, depth: int) -> AnyMessage:
    if depth > DEPTH_MAX:
        raise ValueError("messages stand too deep in each other")
    fields, found = _by_number(message), {}
    repeated: dict[str, list[Any]] = {}
    while place < end:
        number, wire, value, place = _field_at(data, place, end)
        field = fields.get(number)
        if field is None:
            continue
        values = _values(field, wire, value, data, depth)
        if field.is_repeated:
            repeated.setdefault(field.attribute, []).extend(values)
        elif values:
            found[field.attribute] = values[-1]
    for attribute, values in repeated.items():
        found[attribute] = tuple(values)
    return message(**found)


Raw = int | tuple[int, int]
"""A field as it is written: a number, or where its content lies."""


def _field_at(data: bytes, place: int, end: int) -> tuple[int, int, Raw, int]:
    """The number of the field at ``place``, how it is written, what is, and where the next one begins."""
    tag, place = _varint_at(data, place, end)
    number, wire = tag >> 3, tag & 7
    if not 0 < number < 1 << 29:
        raise ValueError("a field has no number")
    if wire == _VARINT:
        value, place = _varint_at(data, place, end)
        return number, wire, value, place
    if wire == _LENGTH:
        size, place = _varint_at(data, place, end)
    else:
        size = _FIXED.get(wire, -1)
        if size < 0:
            raise ValueError(f"a field is written in a way ({wire}) that nobody uses")
    if place + size > end:
        raise ValueError("a field is cut off")
    return number, wire, (place, place + size), place + size


def field_ends(data: bytes) -> Iterator[int]:
    """Where each field of a message ends; raises ``ValueError`` where it is none."""
    place = 0
    while place < len(data):
        _, _, _, place = _field_at(data, place, len(data))
        yield place


def _values(field: Field, wire: int, value: Raw, data: bytes, depth: int) -> list[Any]:
    if field.kind in (FieldKind.BYTES, FieldKind.STRING, FieldKind.MESSAGE):
        if wire != _LENGTH:
            raise ValueError(f"{field.name} is written as something else")
        assert isinstance(value, tuple)
        if field.kind is FieldKind.MESSAGE:
            assert field.of is not None
            return [_read(field.of, data, *value, depth + 1)]
        content = data[value[0] : value[1]]
        return [content if field.kind is FieldKind.BYTES else content.decode()]
    if isinstance(value, int) and wire == _VARINT:
        return [_number(field, value)]
    if wire == _LENGTH and field.is_repeated:
        assert isinstance(value, tuple)
        numbers, (place, end) = [], value
        while place < end:
            number, place = _varint_at(data, place, end)
            numbers.append(_number(field, number))
        return numbers
    raise ValueError(f"{field.name} is written as something else")


def _number(field: Field, number: int) -> Any:
    if field.kind is FieldKind.BOOL:
        return number != 0
    if field.kind is FieldKind.UINT64:
        return number
    if field.kind is FieldKind.UINT32:
        return number & 0xFFFFFFFF
    signed: int = _SIGNED.unpack(_UNSIGNED.pack(number))[0]
    return signed if field.of is None else enum_value(field, signed)


_SIGNED: Final = struct.Struct("<q")
_UNSIGNED: Final = struct.Struct("<Q")


def enum_value(field: Field, number: int) -> Any:
    """The value of an enum; a number that none has stays a number, for whoever is asked to refuse it."""
    assert field.of is not None
    return field.of._value2member_map_.get(number, number)
