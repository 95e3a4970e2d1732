"""What every module keeps to: it says what it owns, it is used, and what documents and docstrings name exists."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "raftkv"
SOURCES = sorted(PACKAGE.rglob("*.py"))
DOCUMENTS = [*sorted(ROOT.glob("*.rst")), *sorted((ROOT / "docs").glob("*.rst"))]
STARTED_BY_NAME = {
    "raftkv.__main__": "python -m raftkv",
    "raftkv.etcd.grpc.carrier": "a door that has seen the preface of HTTP/2",
    "raftkv.backup.scheduled": "a node whose configuration has a schedule",
    "raftkv.http.door.worker": "gunicorn, by its name in the settings",
    "raftkv.quorum.data.export": "the front-end, by what a replica says",
    "raftkv.storage.backups.export": "likewise",
    "raftkv.instruments.lab.seeds": "python -m raftkv.instruments.lab.seeds, which tox -e sim runs",
}
"""Modules that nothing imports, and who starts them."""

_PATH = re.compile(r"``(raftkv(?:/[A-Za-z_0-9]+)+(?:\.[a-z]+)?)``")
_DOTTED = re.compile(r"``(raftkv(?:\.[A-Za-z_][A-Za-z_0-9]*)+)(?:\(\))?``")


def name_of(source: Path) -> str:
    parts = source.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(source: Path) -> ast.Module:
    return ast.parse(source.read_text())


def docstrings(source: Path) -> list[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [ast.get_docstring(node) for node in ast.walk(tree_of(source)) if isinstance(node, documented)]
    return [text for text in found if text]


def imported(source: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree_of(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("raftkv.cli."):
            found.add(node.value)  # commands are imported when they are asked for
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def exists(dotted: str) -> bool:
    """Is there such a module, or such a name in the module before it?"""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            source = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
            return length == len(parts) or parts[length] in names_in(source)
    return False


@cache
def names_in(source: Path) -> frozenset[str]:
    """Every name that a module defines or binds, at any depth."""
    found: set[str] = set()
    for node in ast.walk(tree_of(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[-1])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return frozenset(found)


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_every_module_opens_with_what_it_owns(source):
    assert ast.get_docstring(tree_of(source))


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_docstrings_name_only_what_exists(source):
    named = {dotted for text in docstrings(source) for dotted in _DOTTED.findall(text)}

    assert {dotted for dotted in named if not exists(dotted)} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_documents_name_only_what_exists(document):
    text = document.read_text()

    assert {dotted for dotted in _DOTTED.findall(text) if not exists(dotted)} == set()
    assert {path for path in _PATH.findall(text) if not (ROOT / path).exists()} == set()


def test_no_module_is_left_that_nobody_uses():
    used = set().union(*(imported(source) for source in SOURCES))
    modules = {name_of(source) for source in SOURCES if source.name != "__init__.py"}
    unused = modules - used

    assert unused - set(STARTED_BY_NAME) == set(), "nobody imports or starts these"
    assert all(find_spec(name) for name in STARTED_BY_NAME)


def test_the_layers_in_the_design_are_those_that_the_tool_checks():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [one["layers"] for one in contracts if one.get("containers") == ["raftkv"]]
    told = (ROOT / "docs" / "design.rst").read_text().split("The layers, from the bottom:")[1].split(". Imports")[0]
    groups = [set(re.findall(r"``([a-z]+)``", group)) for group in told.split(";")]

    wanted = [{module.strip() for module in layer.split("|")} for layer in reversed(layers)]
    assert groups == wanted


def test_bytes_at_rest_and_between_nodes_are_packed_by_formats_only():
    packing = re.compile(
        r"\bmsgspec\.(?:msgpack|json)\b|^(?:import|from) (?:struct|json|pickle|xxhash)\b", re.MULTILINE
    )
    rooms = {PACKAGE / room for room in ("core", "machine", "peers", "quorum", "raft", "storage")}
    of_one_build = {"raftkv.storage.snapshots.files", "raftkv.storage.snapshots.helper"}  # a child's report, a line
    others = [source for source in SOURCES if rooms & set(source.parents)]

    assert {name_of(source) for source in others if packing.search(source.read_text())} == of_one_build


def test_a_majority_is_computed_in_one_module_only():
    halves = re.compile(r"// 2 \+ [12]|[+-] 1\) // 2|size // 2")
    halving = {"raftkv.instruments.sim.nemesis", "raftkv.instruments.lab.reduction"}  # a network, and a list
    computing = {name_of(source) for source in SOURCES if halves.search(source.read_text())}

    assert computing - halving == {"raftkv.core.voters"}


NAMED_BY_OTHERS = {f"raftkv.etcd.{name}": "etcd's own names of its messages" for name in ("messages", "operating")}


def test_no_two_classes_of_the_package_share_a_name():
    places: dict[str, list[str]] = {}
    for source in SOURCES:
        for node in tree_of(source).body:
            if name_of(source) in NAMED_BY_OTHERS:
                continue
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(name_of(source))

    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_who_is_referred_to_exists():
    classes = {node.name for source in SOURCES for node in ast.walk(tree_of(source)) if isinstance(node, ast.ClassDef)}
    referred = {
        (name_of(source), name)
        for source in SOURCES
        for text in docstrings(source)
        for name in re.findall(r"See ``([A-Z][A-Za-z]+)``", text)
    }

    assert {(source, name) for source, name in referred if name not in classes} == set()
