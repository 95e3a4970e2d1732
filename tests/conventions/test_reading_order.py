"""The reading order of the source is one in which nothing needs what comes later, and no room is left out."""

import ast
import re
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "reading_order.rst").read_text()
LISTED = re.findall(r"``(raftkv/[a-z_0-9/]+\.py)``", TEXT)


def imported_by(source):
    found = set()
    for node in ast.walk(ast.parse((ROOT / source).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            found |= {name.replace(".", "/") + ".py" for name in names}
    return found


def test_what_is_listed_is_there_once():
    assert len(LISTED) > 40
    assert len(set(LISTED)) == len(LISTED)
    assert [source for source in LISTED if not (ROOT / source).is_file()] == []


def test_nothing_needs_what_comes_later():
    later = {source: set(LISTED[place + 1 :]) for place, source in enumerate(LISTED)}

    assert {source: found for source in LISTED if (found := imported_by(source) & later[source])} == {}


def test_every_room_is_visited():
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "raftkv").rglob("*.py")}
    visited = {parent.as_posix() for source in LISTED for parent in Path(source).parents}

    assert rooms - visited == set()


def test_the_numbers_count():
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", TEXT, re.MULTILINE)]

    assert numbers[0] == 1
    assert all(after == before + 1 for before, after in pairwise(numbers))
