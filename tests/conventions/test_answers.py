"""Answers of the API are read, and bodies written, as types of ``raftkv.api``, never by the names of fields."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec
import pytest

from raftkv.api import answers, bodies, cluster_answers
from raftkv.http.choices import Batching, KeyReading, Listing, Putting

ROOT = Path(__file__).parents[2]
CLIENTS = ("cli", "client", "launch", "proxy", "instruments/lab", "instruments/load", "instruments/local")
SOURCES = [
    *[source for room in CLIENTS for source in sorted((ROOT / "raftkv" / room).rglob("*.py"))],
    ROOT / "raftkv" / "joining.py",
    *sorted((ROOT / "bench").glob("*.py")),
]
OTHERS = {
    "raftkv/cli/keys.py": {"if_revision", "deleted", "siblings"},  # an option, and what commands print as JSON
    "raftkv/cli/transactions.py": {"value"},  # what a command prints as JSON
    "raftkv/client/arguments.py": {"value"},  # of operations as callers of ``batch`` write them
    "raftkv/client/records.py": {"role"},  # tells which type it is
    "bench/clusters.py": {"leader"},  # etcd's
    "bench/dialects.py": {"value", "op", "compare", "success", "target", "result"},  # likewise
    "bench/user_programs.py": {"value", "succeeded", "result", "type"},  # likewise
    "bench/watch.py": {"value"},  # likewise
    "raftkv/instruments/load/dialect.py": {"value"},  # likewise
    "raftkv/instruments/lab/playground/likeness.py": {"op", "value"},  # of operations as ``batch`` is given them
    "raftkv/instruments/lab/history.py": {"type"},  # which kind of line it is
}
"""Names that are those of fields and mean something else where they stand."""


def fields(*kinds: type) -> set[str]:
    return {name for kind in kinds for name in kind.__struct_fields__}


STRUCTS = [
    kind
    for module in (answers, cluster_answers, bodies)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
]
# A parameter of a request, or a key of a configuration, may have the name of a field.
PARAMETERS = fields(Batching, KeyReading, Listing, Putting)
NAMES = fields(*STRUCTS) - PARAMETERS


def said_again(source: str) -> set[str]:
    """The names by which fields are looked up, and those of dictionaries that have no other keys than fields'."""
    found: set[object] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Subscript):
            found |= values(node.slice)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            found |= values(*node.args[:1])
        elif isinstance(node, ast.Dict) and len(node.keys) > 1 and values(*node.keys) <= NAMES | PARAMETERS:
            found |= values(*node.keys)
    return {name for name in found if isinstance(name, str)} & NAMES


def values(*expressions: ast.expr | None) -> set[object]:
    return {one.value if isinstance(one, ast.Constant) else None for one in expressions}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(ROOT)))
def test_answers_are_read_as_types_and_every_exception_is_needed(source):
    assert said_again(source.read_text()) == OTHERS.get(str(source.relative_to(ROOT)), set())


@pytest.mark.parametrize("source", ['status["term"]', 'found.get("hints_pending", 0)', '{"id": 1, "http": ""}'])
def test_a_name_of_a_field_is_found_however_it_is_used(source):
    assert said_again(source)


@pytest.mark.parametrize("source", ["status.term", '{"n": 3, "r": 1}', 'found["server"]', '{"id": 1, "server": ""}'])
def test_other_names_are_left_alone(source):
    assert not said_again(source)


@pytest.mark.parametrize("kind", [kind for kind in STRUCTS if kind.__module__ == bodies.__name__])
def test_every_body_leaves_out_what_is_as_by_default(kind):
    """Names that are given twice are found by that (``raftkv.http.bodies``)."""
    assert kind.__struct_config__.omit_defaults
