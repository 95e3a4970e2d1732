"""Messages as protobuf has them on the wire (Protocol Buffers, "Encoding"), by the table of ``messages``.

A zero is never written, except where its field tells it from nothing. What is read may come in any order, unknown
fields and groups are skipped, of a field that comes twice the last counts, numbers in a row may be packed. Nothing is
trusted: lengths are held against what there is, and messages stand only so deep in each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple, TypeVar

from msgspec.structs import astuple

from raftkv.etcd.schema import Field, FieldKind, Message, shape_of

DEPTH_MAX: Final = 32
"""How deep messages stand in each other at most, transactions among them."""

_VARINT, _LENGTH, _GROUP, _GROUP_END = 0, 2, 3, 4
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
    return _large(number) if number >> 56 else _varint(number)


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


_large: Final = lru_cache(256)(_varint)
"""Numbers of members and clusters come again and again."""

_SMALL: Final = tuple(bytes([number]) for number in range(0x80))


@cache
def _encoder(message: type[Message]) -> Writer:
    """Writes a message from its end to its beginning, so that every length is known when its turn comes."""
    places = {attribute: place for place, attribute in enumerate(message.__struct_fields__)}
    fields = [(places[field.attribute], field.zero, _writer(field)) for field in reversed(shape_of(message))]

    def write(parts: list[bytes], value: Any) -> int:
        size, values = 0, astuple(value)
        for place, zero, write_field in fields:
            found = values[place]
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
    if place >= end:
        raise ValueError("a number is cut off")
    number = data[place]
    place += 1
    if number < 0x80:
        return number, place
    number, shift, byte = number & 0x7F, 7, 0x80
    while byte > 0x7F:
        if place >= end or shift > 63:
            raise ValueError("a number is cut off, or too long")
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        shift += 7
    return number & _MASK, place


def _read(message: type[AnyMessage], data: bytes, place: int, end: int, depth: int) -> AnyMessage:
    if depth > DEPTH_MAX:
        raise ValueError("messages stand too deep in each other")
    readers = _readers(message)
    found: dict[str, Any] = {}
    while place < end:
        tag, place = _varint_at(data, place, end)
        known = readers.get(tag)
        if known is None:
            place = _passed_over(message, tag, data, place, end)
            continue
        attribute, read, is_repeated = known
        value, place = read(data, place, end, depth)
        if is_repeated:
            found.setdefault(attribute, []).extend(value)
        else:
            found[attribute] = value
    for attribute, value in found.items():
        if isinstance(value, list):
            found[attribute] = tuple(value)
    return message(**found)


Reader = Callable[[bytes, int, int, int], tuple[Any, int]]
"""What a field says at that place, before that end and at that depth, of one that is repeated a list; and where the
next one begins."""


class _Known(NamedTuple):
    attribute: str
    read: Reader
    is_repeated: bool


@cache
def _readers(message: type[Message]) -> dict[int, _Known]:
    """What reads the fields of ``message``, by their tags: how it is written stands in one with a field's number."""
    readers = {}
    for field in shape_of(message):
        read, wire = _one_reader(field)
        readers[field.number << 3 | wire] = _Known(
            field.attribute, _listed(read) if field.is_repeated else read, field.is_repeated
        )
        if field.is_repeated and wire == _VARINT:
            readers[field.number << 3 | _LENGTH] = _Known(field.attribute, _packed(read), is_repeated=True)
    return readers


def _one_reader(field: Field) -> tuple[Reader, int]:
    """What reads one value, and how it is written."""
    if field.kind is FieldKind.MESSAGE:
        assert field.of is not None
        of: type[Message] = field.of

        def read_message(data: bytes, place: int, end: int, depth: int) -> tuple[Any, int]:
            place, stop = _content_at(data, place, end)
            return _read(of, data, place, stop, depth + 1), stop

        return read_message, _LENGTH
    if field.kind in (FieldKind.BYTES, FieldKind.STRING):
        is_text = field.kind is FieldKind.STRING

        def read_bytes(data: bytes, place: int, end: int, _depth: int) -> tuple[Any, int]:
            place, stop = _content_at(data, place, end)
            content = data[place:stop]
            return (content.decode() if is_text else content), stop

        return read_bytes, _LENGTH
    meaning = _meaning(field)

    def read_number(data: bytes, place: int, end: int, _depth: int) -> tuple[Any, int]:
        number, place = _varint_at(data, place, end)
        return meaning(number), place

    return read_number, _VARINT


def _listed(read: Reader) -> Reader:
    def read_listed(data: bytes, place: int, end: int, depth: int) -> tuple[Any, int]:
        value, place = read(data, place, end, depth)
        return [value], place

    return read_listed


def _packed(read: Reader) -> Reader:
    def read_packed(data: bytes, place: int, end: int, depth: int) -> tuple[Any, int]:
        place, stop = _content_at(data, place, end)
        values = []
        while place < stop:
            value, place = read(data, place, stop, depth)
            values.append(value)
        return values, stop

    return read_packed


def _content_at(data: bytes, place: int, end: int) -> tuple[int, int]:
    """Where what has its length before it begins, and where it ends."""
    size, place = _varint_at(data, place, end)
    if place + size > end:
        raise ValueError("a field is cut off")
    return place, place + size


def _passed_over(message: type[Message], tag: int, data: bytes, place: int, end: int) -> int:
    """Where the field after one that is not known ends; one that is known has to be written as it is."""
    for field in shape_of(message):
        if field.number == tag >> 3:
            raise ValueError(f"{field.name} is written as something else")
    return _end_of(tag, data, place, end)


def _end_of(tag: int, data: bytes, place: int, end: int) -> int:
    """Where the content ends that stands behind ``tag``."""
    number, wire = tag >> 3, tag & 7
    if not 0 < number < 1 << 29:
        raise ValueError("a field has no number")
    if wire == _VARINT:
        return _varint_at(data, place, end)[1]
    if wire == _LENGTH:
        return _content_at(data, place, end)[1]
    if wire == _GROUP:
        return _end_of_group(tag, data, place, end)
    size = _FIXED.get(wire, -1)
    if size < 0:
        raise ValueError(f"a field is written in a way ({wire}) that nobody uses")
    if place + size > end:
        raise ValueError("a field is cut off")
    return place + size


def _end_of_group(tag: int, data: bytes, place: int, end: int) -> int:
    """Where the group ends that ``tag`` begins, the older way to put fields together; others may stand in it."""
    open_numbers = [tag >> 3]
    while open_numbers:
        tag, place = _varint_at(data, place, end)
        if tag & 7 == _GROUP:
            open_numbers.append(tag >> 3)
            if len(open_numbers) > DEPTH_MAX:
                raise ValueError("groups stand too deep in each other")
        elif tag & 7 != _GROUP_END:
            place = _end_of(tag, data, place, end)
        elif open_numbers.pop() != tag >> 3:
            raise ValueError("a group ends as another than it began")
    return place


def field_ends(data: bytes) -> Iterator[int]:
    """Where each field of a message ends; raises ``ValueError`` where it is none."""
    place = 0
    while place < len(data):
        tag, place = _varint_at(data, place, len(data))
        place = _end_of(tag, data, place, len(data))
        yield place


def _meaning(field: Field) -> Callable[[int], Any]:
    """What a number on the wire stands for."""
    if field.kind is FieldKind.BOOL:
        return bool
    if field.kind is FieldKind.UINT64:
        return int
    if field.kind is FieldKind.UINT32:
        return lambda number: number & 0xFFFFFFFF
    if field.of is None:
        return _signed
    return lambda number: enum_value(field, _signed(number))


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def enum_value(field: Field, number: int) -> Any:
    """The value of an enum; a number that none has stays a number, for whoever is asked to refuse it."""
    assert field.of is not None
    return field.of._value2member_map_.get(number, number)
