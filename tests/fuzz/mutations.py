"""Values of any type that a door takes, as its types allow them and worse; and bytes that almost are such values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

EXTREMES = [0, 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**64 - 1, -1, -(2**63)]
MEMBERS = ("n1", "n2", "n3", "n4")
BYTES = st.binary(max_size=64) | st.sampled_from([b"\x00\x01", b"\x01", b"\x02x"]) | st.just(1 << 12).map(bytes)
TEXT = st.text(max_size=16) | st.sampled_from(MEMBERS)
SCALARS = {
    inspect.FloatType: st.floats(),
    inspect.BoolType: st.booleans(),
    inspect.NoneType: st.none(),
    inspect.StrType: TEXT,
}
JUNK = st.recursive(
    st.none() | st.booleans() | st.sampled_from(EXTREMES) | st.floats() | st.binary(max_size=8) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


def numbers(known: Iterable[int]) -> st.SearchStrategy[int]:
    """Numbers near ``known`` ones, mostly, and some far out."""
    near = [max(0, value + step) for value in known for step in (-1, 0, 1)]
    return st.one_of(*[st.sampled_from([0, 1, *near])] * 8, st.sampled_from(EXTREMES), st.integers(0, 2**64 - 1))


def values(kind: Any, number: st.SearchStrategy[int], data: st.SearchStrategy[bytes] = BYTES) -> st.SearchStrategy[Any]:
    """Values of the type ``kind``, with numbers and bytes that keep to none of its limits."""
    return _values(inspect.type_info(kind), number, data, {})


Known = dict[type, st.SearchStrategy[Any]]


def _values(
    info: inspect.Type, number: st.SearchStrategy[int], data: st.SearchStrategy[bytes], known: Known
) -> st.SearchStrategy[Any]:
    """``known`` has the structs that are begun already: one may hold others of its own type."""
    if type(info) in SCALARS:
        found = SCALARS[type(info)]
    elif isinstance(info, inspect.IntType):
        found = number
    elif isinstance(info, inspect.BytesType):
        found = data
    elif isinstance(info, inspect.EnumType):
        found = st.sampled_from(list(info.cls))
    elif isinstance(info, inspect.VarTupleType):
        found = st.lists(_values(info.item_type, number, data, known), max_size=3).map(tuple)
    elif isinstance(info, inspect.TupleType):
        found = st.tuples(*(_values(item, number, data, known) for item in info.item_types))
    elif isinstance(info, inspect.DictType):
        keys, held = (_values(one, number, data, known) for one in (info.key_type, info.value_type))
        found = st.dictionaries(keys, held, max_size=3)
    elif isinstance(info, inspect.UnionType):
        found = st.one_of([_values(one, number, data, known) for one in info.types])
    else:
        assert isinstance(info, inspect.StructType), info
        if info.cls not in known:
            known[info.cls] = st.deferred(lambda: fields)
            fields = st.builds(
                info.cls, **{field.name: _values(field.type, number, data, known) for field in info.fields}
            )
        found = known[info.cls]
    return found


@st.composite
def bent(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Messages with a few bytes replaced, left out or put in."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(data) or b"\xc1"


@st.composite
def rearranged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Messages with a part replaced by one of another type, left out, or given twice."""
    parts = msgspec.msgpack.decode(draw(whole))
    at = draw(st.integers(0, len(parts) - 1))
    parts[at : at + draw(st.integers(0, 2))] = draw(st.lists(JUNK, max_size=3))
    return msgspec.msgpack.encode(parts)
