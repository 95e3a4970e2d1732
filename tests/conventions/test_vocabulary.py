"""Paths, headers and the words of problems are said in ``raftkv.api`` (codes in ``core``), and nowhere again."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from raftkv.api import headers, paths
from raftkv.api.problems import INTERNAL_ERROR
from raftkv.core.errors import Code

PACKAGE = Path(__file__).parents[2] / "raftkv"
SOURCES = [one for one in sorted(PACKAGE.rglob("*.py")) if PACKAGE / "api" not in one.parents]
STEMS = {
    paths.stem(path).decode().rstrip("/")
    for name, path in vars(paths).items()
    if name.isupper() and path != "/" and isinstance(path, str)
}
HEADERS = {one.low for one in vars(headers).values() if isinstance(one, headers.Header)}
MEDIA_TYPES = {headers.JSON, headers.PROBLEM_JSON, headers.BYTES}


def literals(source: Path) -> list[str]:
    """Every text in a source that is no docstring, bytes as text; of an f-string its pieces."""
    tree = ast.parse(source.read_text())
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in alone]
    return [one.decode("latin-1") if isinstance(one, bytes) else one for one in found if isinstance(one, str | bytes)]


def says_again(text: str) -> bool:
    path = text.partition("?")[0]
    is_path = path.startswith("/") and any(path == stem or path.startswith(f"{stem}/") for stem in STEMS)
    return is_path or text.lower() in HEADERS or text in MEDIA_TYPES or text == INTERNAL_ERROR


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(PACKAGE)))
def test_nobody_says_again_what_the_api_says(source):
    assert [text for text in literals(source) if says_again(text)] == []


@pytest.mark.parametrize(
    "source", [one for one in SOURCES if one.name != "errors.py" or one.parent.name != "core"], ids=str
)
def test_codes_are_compared_by_name(source):
    """A code is a member of ``Code``: a mistyped one would never be equal to any."""
    tree = ast.parse(source.read_text())
    compared = {
        side.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        if isinstance(side, ast.Constant)
    }

    assert compared & {code.value for code in Code} == set()


def test_the_words_are_told_from_others():
    assert [says_again(text) for text in ("/kv", "/kv/a?w=1", "/cluster/members", "Raftkv-Node", "etag")] == [True] * 5
    assert [says_again(text) for text in ("/kvx", "/proc/mounts", "/", "raftkv-lab", "/get_down")] == [False] * 5
