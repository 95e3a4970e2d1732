"""raftkv: a replicated key-value store with two replication modes behind one REST API.

The package is read from the bottom up: ``core`` holds the values everything speaks in, ``process`` what every process
has of its operating system, ``machine`` the deterministic key-value machine, ``storage`` and ``peers`` the disk and the
network, ``raft`` one replication mode, ``frontend`` and ``http`` what clients talk to, ``client`` the SDK, ``launch``
and ``cli`` what a person types.

``raftkv.Client``, ``raftkv.AsyncClient`` and what they raise are imported when they are first used, so that importing
one layer stays cheap. To a type checker they are plain imports: a module's ``__getattr__`` would make every name
``Any``, a mistyped one too.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raftkv.client import (
        AsyncClient,
        Client,
        DefiniteError,
        Forbidden,
        IndefiniteError,
        LeaderRecord,
        LeaseInfo,
        LeaseLost,
        LockHeld,
        LockLost,
        OperationResult,
        Page,
        PreconditionFailed,
        RaftkvError,
        Record,
        RequirementFailed,
        RevisionCompacted,
        SiblingsFound,
        Unauthenticated,
        WatchedChange,
        WatchedRevision,
        traced,
    )

    __version__: str

__all__ = [
    "AsyncClient",
    "Client",
    "DefiniteError",
    "Forbidden",
    "IndefiniteError",
    "LeaderRecord",
    "LeaseInfo",
    "LeaseLost",
    "LockHeld",
    "LockLost",
    "OperationResult",
    "Page",
    "PreconditionFailed",
    "RaftkvError",
    "Record",
    "RequirementFailed",
    "RevisionCompacted",
    "SiblingsFound",
    "Unauthenticated",
    "WatchedChange",
    "WatchedRevision",
    "__version__",
    "traced",
]


def __dir__() -> list[str]:
    return sorted(__all__)


if not TYPE_CHECKING:

    def __getattr__(name):  # noqa: ANN001, ANN202  no type checker sees it
        if name == "__version__":
            return _version()
        if name in __all__:
            # Not an import statement: the layers below the client import this package, but never, through it, the
            # client.
            found = globals()[name] = getattr(importlib.import_module("raftkv.client"), name)
            return found
        raise AttributeError(f"module 'raftkv' has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  slower to import than all of core

    try:
        return version("raftkv")
    except PackageNotFoundError:  # running from a source tree that was never installed
        return "0+unknown"
