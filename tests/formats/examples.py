"""An example of every struct that is a format, each field with a value that its name alone decides.

So whoever moves, swaps, renames or retypes a field finds other bytes. Each truth value has an example of its own, in
which only it is true: two of them would look alike.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from zlib import crc32

import msgspec
from msgspec import inspect as kinds

import raftkv.formats

OTHERWISE = {
    "raftkv.formats.layout.Event",
    "raftkv.formats.layout.HistoryNumbers",
    "raftkv.formats.quorum_messages.Said",
    "raftkv.formats.rows.Held",
    "raftkv.formats.segments.Content",
}
"""Those that are bases of others only, or are packed by hand, which ``test_layouts`` pins."""

JSON = {
    "raftkv.formats.backups.BackupManifest",
    "raftkv.formats.backups.RestoredFrom",
    "raftkv.formats.identity.Identity",
    "raftkv.formats.identity.Identity1",
}
"""The others are msgpack."""


def structs() -> dict[str, type[msgspec.Struct]]:
    """Every struct that is a format, by its full name."""
    found = {}
    for found_module in pkgutil.iter_modules(raftkv.formats.__path__):
        module = importlib.import_module(f"raftkv.formats.{found_module.name}")
        for name, value in vars(module).items():
            full = f"{module.__name__}.{name}"
            is_struct = isinstance(value, type) and issubclass(value, msgspec.Struct)
            if is_struct and value.__module__ == module.__name__ and full not in OTHERWISE:
                found[full] = value
    return found


def examples() -> Iterator[tuple[str, type[msgspec.Struct], msgspec.Struct]]:
    """(What it is, its type, the value) of every example."""
    for name, struct in structs().items():
        fields = kinds.type_info(struct).fields
        plain = {field.name: value_of(field.type, field.name) for field in fields}
        yield name, struct, struct(**plain)
        for field in fields:
            if isinstance(field.type, kinds.BoolType):
                yield f"{name} {field.name}", struct, struct(**{**plain, field.name: True})


def encoded(name: str, value: msgspec.Struct) -> bytes:
    """Its bytes, as they lie on the disk or go over the wire."""
    return (msgspec.json if name.partition(" ")[0] in JSON else msgspec.msgpack).encode(value)


def decoded(name: str, struct: type[msgspec.Struct], data: bytes) -> msgspec.Struct:
    """What is read from them."""
    return (msgspec.json if name.partition(" ")[0] in JSON else msgspec.msgpack).decode(data, type=struct)


def value_of(kind: kinds.Type, name: str):
    """A value of ``kind`` that ``name`` decides."""
    return _VALUES[type(kind)](kind, name)


def _number(kind, name):
    least, most = kind.ge or 0, kind.le if kind.le is not None else 1 << 32
    return least + crc32(name.encode()) % (most - least + 1)


def _text(kind, name):
    if kind.pattern and ":" in kind.pattern:
        return f"{name}:{crc32(name.encode()) % 60_000 + 1}"
    return name[: kind.max_length]


def _first(kind, name):
    return value_of(next(one for one in kind.types if not isinstance(one, kinds.NoneType)), name)


def _member(kind, name):
    members = list(kind.cls)
    return members[crc32(name.encode()) % len(members)]


_VALUES = {
    kinds.UnionType: _first,
    kinds.IntType: _number,
    kinds.FloatType: lambda _, name: crc32(name.encode()) % 3600 + 0.5,
    kinds.BoolType: lambda _, __: False,
    kinds.NoneType: lambda _, __: None,
    kinds.BytesType: lambda kind, name: name.encode().ljust(kind.min_length or 0, b".")[: kind.max_length],
    kinds.StrType: _text,
    kinds.EnumType: _member,
    kinds.VarTupleType: lambda kind, name: tuple(value_of(kind.item_type, f"{name}{one}") for one in range(2)),
    kinds.TupleType: lambda kind, name: tuple(
        value_of(one, f"{name}{number}") for number, one in enumerate(kind.item_types)
    ),
    kinds.DictType: lambda kind, name: {value_of(kind.key_type, name): value_of(kind.value_type, f"{name} value")},
    kinds.StructType: lambda kind, name: kind.cls(
        **{field.name: value_of(field.type, f"{name}.{field.name}") for field in kind.fields}
    ),
}
