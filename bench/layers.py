"""To which layer of the code a sampled stack belongs: the innermost frame of raftkv decides.

What that frame called, in Python's own library or in others, counts to its layer as well, and is named beside it. Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

LOOP: Final = "loop"
GUNICORN: Final = "gunicorn"
OTHER: Final = "other"
RUNNERS: Final = ("asyncio/runners.py", "gunicorn/workers/gasgi.py")
"""Where a loop runs: what led there is in every stack, and counts for nothing."""

LAYERS: Final[Mapping[str, str]] = {
    "raftkv/http/door": "door",
    "raftkv/http": "handlers",
    "raftkv/api": "handlers",
    "raftkv/frontend": "socket",
    "raftkv/raft/engine": "engine",
    "raftkv/raft": "turn",
    "raftkv/machine": "machine",
    "raftkv/peers": "peers",
    "raftkv/quorum/data": "store",
    "raftkv/quorum": "quorum",
    "raftkv/coordination": "quorum",
    "raftkv/storage/disk.py": "disk",
    "raftkv/storage/log": "log",
    "raftkv/storage/engines/rocks.py": "store",
    "raftkv/storage": "state",
    "raftkv/formats": "formats",
    "raftkv/core": "core",
    "raftkv/node.py": "turn",
    "raftkv/replicas": "turn",
}
"""By path; the longest that fits counts."""

TOLD: Final[Mapping[str, str]] = {
    "door": "the connection, plain requests, admission, answers written",
    "handlers": "routes, parameters, bodies, JSON",
    "socket": "between front-end and replica, and the front-end's reads of the state",
    "turn": "what drives a replica, and what a raft replica does besides the engine",
    "engine": "the adapter of PySyncObj, and it",
    "machine": "commands applied to rows",
    "state": "LMDB: commits, views, seals, snapshots",
    "log": "entries appended, segments",
    "disk": "writes and flushes",
    "peers": "frames, proofs, sockets between nodes",
    "quorum": "coordination, members, repair",
    "store": "versions, hash trees, RocksDB",
    "formats": "bytes laid out and read, where nobody inlines it",
    "core": "values that all share",
    GUNICORN: "where none of ours called it",
    LOOP: "uvloop, asyncio, system calls of the loop, the interpreter itself",
    OTHER: "processes that were not sampled",
}
"""All layers, in the order of a request's way, and what is in them."""

_FRAME: Final = re.compile(r"(.*) \((.*?)(?::\d+)?\)")
_OWN: Final = "python"


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """How many samples fell into each layer, and into each pair of layer and library on top of its frame."""

    layers: dict[str, int]
    libraries: dict[str, dict[str, int]]

    @property
    def samples(self) -> int:
        """All of them, at least one, so that shares can be taken."""
        return max(1, sum(self.layers.values()))


def layer_of(path: str) -> str | None:
    """The layer of the file at ``path``, relative to where packages lie; ``None`` if it is none of raftkv's."""
    fitting = [prefix for prefix in LAYERS if path == prefix or path.startswith(f"{prefix}/")]
    if fitting:
        return LAYERS[max(fitting, key=len)]
    return OTHER if path.startswith("raftkv/") else None


def place(stack: Iterable[str]) -> tuple[str, str]:
    """The layer of a stack and the library on top of it; frames are ``function (path)``, the outermost first."""
    library, in_gunicorn = "", False
    for path in reversed(_paths_in_a_loop(stack)):
        layer = layer_of(path)
        if layer is not None:
            return layer, library
        library = library or _library(path)
        in_gunicorn = in_gunicorn or path.startswith("gunicorn/asgi/")
    return (GUNICORN if in_gunicorn else LOOP), ""


def _paths_in_a_loop(stack: Iterable[str]) -> list[str]:
    found: list[str] = []
    for frame in stack:
        matched = _FRAME.fullmatch(frame)
        path = matched[2] if matched else ""
        found = [] if path in RUNNERS else [*found, path]
    return found


def costs(lines: Iterable[str]) -> Costs:
    """Sum up collapsed stacks: frames joined by ``;``, a space, and how often each was seen."""
    layers: Counter[str] = Counter()
    libraries: dict[str, Counter[str]] = {}
    for line in lines:
        stack, _, count = line.rpartition(" ")
        layer, library = place(stack.split(";"))
        layers[layer] += int(count)
        libraries.setdefault(layer, Counter())[library or "raftkv"] += int(count)
    return Costs(layers=dict(layers), libraries={layer: dict(found) for layer, found in libraries.items()})


def _library(path: str) -> str:
    """The package that a file belongs to; single modules are Python's own library, most of them."""
    first, _, rest = path.partition("/")
    if not rest or first in ("asyncio", "json", "collections", "concurrent", "encodings", "logging", "urllib", "http"):
        return _OWN
    return first
