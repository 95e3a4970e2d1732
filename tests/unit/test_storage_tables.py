"""What is staged over an engine reads as it will once it is committed, and each row's part in the sum is known."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.formats.seals import RAW_KEY_BYTES, part_of
from raftkv.storage.disk import DiskError
from raftkv.storage.engines.memory import MemoryEngine
from raftkv.storage.state.tables import StateTables
from raftkv.storage.state.trust import open_state

NAMES = (b"keys", b"expiry")
KEYS = [b"k", b"other", b"k" * RAW_KEY_BYTES, b"k" * (RAW_KEY_BYTES + 1), b"k" * 1000]
VALUES = [b"", b"v", b"v" * 100, bytes(70_000)]


@pytest.fixture(params=["memory", "lmdb"])
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> StateTables:
    engine = MemoryEngine(NAMES) if request.param == "memory" else open_state(tmp_path / "s", NAMES)
    return StateTables(engine, NAMES, tmp_path / "s")


@pytest.mark.parametrize("value", VALUES, ids=len)
@pytest.mark.parametrize("key", KEYS, ids=len)
def test_the_part_of_a_row_is_known_as_it_is_staged_and_once_it_is_read_back(
    tables: StateTables, key: bytes, value: bytes
) -> None:
    expected = value, part_of(b"keys", key, value)

    tables.put(b"keys", key, value)
    assert tables.find(b"keys", key) == expected
    tables.commit()
    assert tables.find(b"keys", key) == expected
    tables.put(b"keys", key, value, expected[1])
    tables.commit()
    assert tables.find(b"keys", key) == expected
    assert tables.find(b"expiry", key) == (None, 0)


def test_other_readers_see_what_is_staged_after_the_commit_and_not_before(tables: StateTables) -> None:
    others = StateTables(tables.engine, NAMES, Path("state"))
    tables.put(b"keys", b"a", b"1")

    assert tables.get(b"keys", b"a") == b"1"
    assert others.get(b"keys", b"a") is None

    tables.commit()
    tables.delete(b"keys", b"a")

    assert tables.get(b"keys", b"a") is None
    assert others.get(b"keys", b"a") == b"1"

    tables.commit()

    assert others.get(b"keys", b"a") is None


def test_what_was_staged_stays_so_when_the_commit_fails() -> None:
    engine = MemoryEngine(NAMES)
    tables = StateTables(engine, NAMES, Path("state"))

    def fail() -> None:
        raise DiskError("no space left on the device", full=True)

    engine.before_commit = fail
    tables.put(b"keys", b"a", b"1")
    with pytest.raises(DiskError):
        tables.commit()

    assert tables.get(b"keys", b"a") == b"1"
    assert list(engine.scan(b"keys", b"", None)) == []

    engine.before_commit = None
    tables.commit()

    assert StateTables(engine, NAMES, Path("state")).get(b"keys", b"a") == b"1"


SHORT = st.binary(min_size=1, max_size=2)
STEPS = st.lists(
    st.tuples(st.just("put"), SHORT, st.binary(max_size=2))
    | st.tuples(st.just("delete"), SHORT, st.just(b""))
    | st.tuples(st.just("scan"), st.binary(max_size=2), st.binary(max_size=2))
    | st.tuples(st.just("commit"), st.just(b""), st.just(b"")),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_a_scan_goes_through_staged_and_committed_rows_as_through_one_table(
    steps: list[tuple[str, bytes, bytes]],
) -> None:
    tables, model = StateTables(MemoryEngine(NAMES), NAMES, Path("state")), dict[bytes, bytes]()
    for step, key, value in steps:
        if step == "put":
            tables.put(b"keys", key, value)
            model[key] = value
        elif step == "delete":
            tables.delete(b"keys", key)
            model.pop(key, None)
        elif step == "commit":
            tables.commit()
        else:
            expected = sorted(row for row in model.items() if key <= row[0] < value)

            assert list(tables.scan(b"keys", key, value)) == expected
            assert list(tables.scan(b"keys", key, None)) == sorted(row for row in model.items() if key <= row[0])
