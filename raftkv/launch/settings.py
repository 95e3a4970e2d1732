"""``raftkv config show``: the configuration in force, key by key, and where each value comes from.

What is told is TOML again. A value that is a secret itself is never told. This module must not import ``raftkv.node``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from raftkv.core.config import ClusterConfig
from raftkv.core.environment import document_of, read_config, variable_of

_SECRET: Final = re.compile(r"(password|secret|token|access_key|credentials)$")
"""Keys that hold a secret; those that only name a file of one end in ``_file``."""


class Setting(msgspec.Struct, frozen=True):
    """A key in force: its section's heading, its value as TOML writes it, and where that comes from."""

    section: str
    key: str
    value: str
    source: str


def settings(path: Path | None, environment: Mapping[str, str]) -> Iterator[Setting]:
    """Every key of the configuration in force; what is a secret itself is not told. Raises as ``read_config``."""
    config = read_config(path, environment)
    document = document_of(path, {})
    for section in msgspec.structs.fields(ClusterConfig):
        listed = section.name == "node"
        values = config.node if listed else (getattr(config, section.name),)
        given = document.get(section.name, {})
        for number, one in enumerate(values):
            heading = f"[[node]]  # {number + 1}" if listed else f"[{section.name}]"
            for key in msgspec.structs.fields(type(one)):
                variable = variable_of(f"{section.name}.{key.name}")
                told = given[number] if listed and number < len(given) else given
                source = variable if variable in environment else path if key.name in told else "default"
                value = getattr(one, key.name)
                hidden = _SECRET.search(key.name) is not None and value
                yield Setting(heading, key.name, '"..."' if hidden else _as_toml(value), str(source))


def _as_toml(value: Any) -> str:
    """Numbers, texts and lists of them are written alike in TOML and in JSON."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
