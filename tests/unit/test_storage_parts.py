"""The part of a row in the sum of rows is known from its seal, and is what hashing the row anew gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftkv.storage.engines.lmdb import LmdbTables
from raftkv.storage.state.long_keys import RAW_KEY_BYTES
from raftkv.storage.state.parts import row_hash
from raftkv.storage.state.tables import MemoryTables, Tables

KEYS = [b"k", b"other", b"k" * RAW_KEY_BYTES, b"k" * (RAW_KEY_BYTES + 1), b"k" * 1000]
VALUES = [b"", b"v", b"v" * 100, bytes(70_000)]


@pytest.fixture(params=["memory", "lmdb"])
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Tables:
    names = (b"keys", b"expiry")
    return MemoryTables() if request.param == "memory" else LmdbTables.create_or_open(tmp_path / "s", tables=names)


@pytest.mark.parametrize("value", VALUES, ids=len)
@pytest.mark.parametrize("key", KEYS, ids=len)
def test_the_part_of_a_row_is_told_as_it_is_stored_and_once_it_was_read(
    tables: Tables, key: bytes, value: bytes
) -> None:
    expected = row_hash(b"keys", key, value)

    assert tables.put(b"keys", key, value) == expected
    assert tables.part(b"keys", key, value) == expected
    read = tables.get(b"keys", key)
    assert read is not None
    assert tables.part(b"keys", key, read) == expected


@pytest.mark.parametrize("value", VALUES, ids=len)
def test_what_was_read_last_says_nothing_of_another_row_that_holds_the_very_same_value(
    tables: Tables, value: bytes
) -> None:
    tables.put(b"keys", b"k", value)
    read = tables.get(b"keys", b"k")
    assert read is not None

    assert tables.part(b"keys", b"other", read) == row_hash(b"keys", b"other", value)
    assert tables.part(b"expiry", b"k", read) == row_hash(b"expiry", b"k", value)
    assert tables.part(b"keys", b"k", value + b"x") == row_hash(b"keys", b"k", value + b"x")
