"""The Python SDK: ``raftkv.Client``, ``raftkv.AsyncClient`` and what they return and raise.

They speak the HTTP API and nothing else: they need no other part of raftkv than the names and failures in ``core``.
``AsyncClient`` is imported when it is first used: with asyncio it takes as long as all the rest, and no command does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftkv.client.client import Client
from raftkv.client.errors import (
    Forbidden,
    LeaseLost,
    LockHeld,
    LockLost,
    PreconditionFailed,
    RequirementFailed,
    RevisionCompacted,
    SiblingsFound,
    Unauthenticated,
)
from raftkv.client.holds import LeaderRecord
from raftkv.client.lease_plans import LeaseInfo
from raftkv.client.records import Page, Record
from raftkv.client.traces import traced
from raftkv.client.transactions import OperationResult
from raftkv.client.watching import WatchedChange, WatchedRevision
from raftkv.core.errors import DefiniteError, IndefiniteError, RaftkvError

if TYPE_CHECKING:
    from raftkv.client.async_client import AsyncClient

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
    "traced",
]

if not TYPE_CHECKING:

    def __getattr__(name):  # noqa: ANN001, ANN202  no type checker sees it
        if name != "AsyncClient":
            raise AttributeError(f"module 'raftkv.client' has no attribute {name!r}")
        from raftkv.client.async_client import AsyncClient  # noqa: PLC0415

        globals()[name] = AsyncClient
        return AsyncClient
