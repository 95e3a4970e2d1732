"""What is at rest and on the wire has the bytes that it had: ``golden.txt`` holds those of every struct of a format.

A struct that was released does not change (``docs/formats.rst``). ``RAFTKV_GOLDEN=write`` writes the file anew, after
a struct was added; whoever finds another line of it changed has broken a format.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from tests.formats.examples import decoded, encoded, examples, structs

GOLDEN = Path(__file__).with_name("golden.txt")
EXAMPLES = list(examples())


def kept() -> dict[str, str]:
    return dict(line.split(": ") for line in GOLDEN.read_text().splitlines())


@pytest.fixture(scope="module", autouse=True)
def _written_anew():
    if os.environ.get("RAFTKV_GOLDEN") == "write":
        GOLDEN.write_text("".join(f"{name}: {encoded(name, value).hex()}\n" for name, _, value in EXAMPLES))


@pytest.mark.parametrize(("name", "struct", "value"), EXAMPLES, ids=[name for name, _, _ in EXAMPLES])
def test_it_has_the_bytes_that_it_had_and_is_read_from_them(name, struct, value):
    golden = kept().get(name)

    assert golden is not None, "no golden bytes yet: RAFTKV_GOLDEN=write"
    assert encoded(name, value).hex() == golden
    assert decoded(name, struct, bytes.fromhex(golden)) == value


def test_every_struct_has_golden_bytes_and_no_others_are_kept():
    assert set(kept()) == {name for name, _, _ in EXAMPLES}
    assert {name.partition(" ")[0] for name in kept()} == set(structs())


@pytest.mark.parametrize(("name", "struct"), structs().items(), ids=list(structs()))
def test_no_two_fields_of_an_example_look_alike(name, struct):
    """Else they could change places; truth values have examples of their own."""
    if not struct.__struct_config__.array_like:
        pytest.skip("its fields have names")
    (value,) = [value for one, _, value in EXAMPLES if one == name]
    fields = [getattr(value, field) for field in struct.__struct_fields__]
    shown = [msgspec.msgpack.encode(field) for field in fields if not isinstance(field, bool)]

    assert len(set(shown)) == len(shown)
