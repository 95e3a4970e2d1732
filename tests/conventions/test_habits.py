"""What CONTRIBUTING promises: tools in one version, PySyncObj touched in one place, configuration keys explained."""

import ast
import configparser
import importlib
import re
from pathlib import Path

import msgspec
import pytest

from raftkv.core.config import ClusterConfig, NodeSection

ROOT = Path(__file__).parents[2]


def pinned(text):
    return dict(re.findall(r"\b(ruff|import-linter)==([0-9.]+)", text))


def test_pre_commit_runs_the_tools_that_tox_runs():
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")

    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert pinned(hooks) == pinned("\n".join(section.get("deps", "") for section in tox.values()))


def test_only_the_adapter_of_the_engine_imports_pysyncobj():
    found = set()
    for source in (ROOT / "raftkv").rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "pysyncobj" for name in names):
                found.add(source.parent.relative_to(ROOT).as_posix())

    assert found == {"raftkv/raft/engine"}


def test_every_key_of_the_configuration_is_in_the_reference_with_a_word_about_it():
    text = (ROOT / "conf" / "reference.toml").read_text()
    sections = {section.name: section.type for section in msgspec.structs.fields(ClusterConfig)} | {"node": NodeSection}
    silent = []
    for name, section in sections.items():
        (told,) = re.findall(rf"^\[+{name}\][^\n]*\n(.*?)(?=^\[|\Z)", text, flags=re.MULTILINE | re.DOTALL)
        for key in msgspec.structs.fields(section):
            line = re.search(rf"^(#[^\n]*\n)?{key.name} += [^#\n]*(#.*)?$", told, flags=re.MULTILINE)
            if line is None or not (line[1] or line[2]):
                silent.append(f"{name}.{key.name}")

    assert silent == []


@pytest.mark.parametrize("source", sorted((ROOT / "bench").glob("*.py")), ids=lambda source: source.stem)
def test_what_benchmarks_import_is_there(source):
    importlib.import_module(f"bench.{source.stem}")
