"""The configuration as a process finds it: a file, and over it variables of the environment, one for each key.

Owns how variables are called: ``RAFTKV_<SECTION>__<KEY>``, in capitals, for ``[section] key``, and ``RAFTKV_NODE`` for
the whole list of nodes. Two underscores make a variable ours: none of raftkv's others has them. A key that holds text
takes the variable as it stands; every other takes what would stand behind its ``=`` in the file. What a variable says
counts instead of what the file says; nothing is passed over, so that a slip of the pen is refused and not lost.

All processes of a node read it by ``read_config``, from the environment that they have in common. Imports the standard
library, msgspec and ``raftkv.core`` only.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from raftkv.core.config import ClusterConfig, ConfigError, config_of, read_document
from raftkv.core.errors import StartupError
from raftkv.core.refusals import readable

NODES: Final = "RAFTKV_NODE"
"""All ``[[node]]`` in one variable: an array of inline tables."""

FILE_BYTES_MAX: Final = 1 << 20
"""No cluster's file comes near it, and what is named by mistake, such as a device, must not fill the memory."""

_OURS: Final = re.compile(rf"{NODES}|RAFTKV_.*__.*", re.DOTALL)
_PATH: Final = re.compile(r"(?P<section>[a-z_]+)(?:\[\d+\])?(?:\.(?P<key>\w+))?(?:\[\d+\])?")


def read_config(path: Path | None, environment: Mapping[str, str]) -> ClusterConfig:
    """The configuration in the file at ``path``, if any, and over it in ``environment``; raises ``StartupError``.

    The error is one line: the file or the variable, the key, the reason.
    """
    try:
        return config_of(document_of(path, environment))
    except ConfigError as error:
        raise refusal(error, path, environment) from None


def document_of(path: Path | None, environment: Mapping[str, str]) -> dict[str, Any]:
    """What file and variables say, neither checked nor filled up; raises ``StartupError`` or ``ConfigError``."""
    document = {} if path is None else read_document(_text_at(path))
    for variable in sorted(filter(_OURS.fullmatch, environment)):
        section, key, kind = _meant(variable)
        value = _value(variable, environment[variable], kind)
        if key is None:
            document[section] = value
            continue
        keys = document.setdefault(section, {})
        if isinstance(keys, dict):  # what else it is, is refused as the file's own mistake
            keys[key] = value
    return document


def _text_at(path: Path) -> bytes:
    """All that stands in the file at ``path``, which may be a pipe, but no device that never ends."""
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror}") from None
    if len(text) > FILE_BYTES_MAX:
        raise StartupError(f"{path}: more than {FILE_BYTES_MAX >> 20} MiB are no configuration")
    return text


def variable_of(path: str) -> str | None:
    """The variable that sets the key at ``path``, such as ``http.workers`` or ``node[0].id``; ``None`` for no key."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    if found["section"] == "node":
        return NODES
    return f"RAFTKV_{found['section']}__{found['key']}".upper() if found["key"] else None


def without_configuration(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` for processes whose configuration is in their files and nowhere else."""
    return {name: value for name, value in environment.items() if not _OURS.fullmatch(name)}


def refusal(error: ConfigError, path: Path | None, environment: Mapping[str, str]) -> StartupError:
    """``error`` as one line that begins with where the refused value stands: a variable, or else the file."""
    text = " ".join(str(error).split())
    named, _, reason = text.partition(": ")
    variable = named if _OURS.fullmatch(named) else variable_of(named)
    if variable is not None and variable in environment:
        detail = text if variable == NODES != named else reason
        return StartupError(f"{variable}: {detail}")
    if path is None:
        return StartupError(f"{text} (no configuration file is given)")
    return StartupError(f"{path}: {text}")


def _keys() -> Iterator[tuple[str, str, Any]]:
    """Section, key and type of everything that a variable of its own sets."""
    for section in msgspec.structs.fields(ClusterConfig):
        if section.name != "node":
            yield from ((section.name, key.name, key.type) for key in msgspec.structs.fields(section.type))


def _meant(variable: str) -> tuple[str, str | None, Any]:
    """Section, key and type of what ``variable`` sets; raises ``ConfigError`` if there is no such key."""
    if variable == NODES:
        return "node", None, list[dict[str, Any]]
    known = {variable_of(f"{section}.{key}"): (section, key, kind) for section, key, kind in _keys()}
    if variable not in known:
        close = difflib.get_close_matches(variable.upper(), [NODES, *filter(None, known)], n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; all nodes are in {NODES}"
        raise ConfigError(f"{variable}: there is no such key{hint}")
    return known[variable]


def _value(variable: str, text: str, kind: Any) -> Any:
    """What ``text`` stands for in a key of the type ``kind``; raises ``ConfigError``."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{variable}: not UTF-8 text") from None
    value: Any = text
    if not isinstance(msgspec.inspect.type_info(kind), msgspec.inspect.StrType | msgspec.inspect.LiteralType):
        try:
            (value,) = tomllib.loads(f"value = {text.strip()}").values()
        except ValueError:
            raise ConfigError(f"{variable}: {text!r} is no value as TOML writes one") from None
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{variable}: {readable(str(error)).removeprefix(': ')}") from None
    return value
