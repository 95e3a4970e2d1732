"""The Python SDK: ``raftkv.Client``, ``raftkv.AsyncClient`` and what they return and raise.

They speak the HTTP API and nothing else: they need no other part of raftkv than the names and failures in ``core``.
"""

from raftkv.client.async_client import AsyncClient
from raftkv.client.client import Client
from raftkv.client.errors import (
    LeaseLost,
    LockHeld,
    LockLost,
    PreconditionFailed,
    RequirementFailed,
    RevisionCompacted,
    SiblingsFound,
)
from raftkv.client.holds import LeaderRecord
from raftkv.client.lease_plans import LeaseInfo
from raftkv.client.records import Page, Record
from raftkv.client.transactions import OperationResult
from raftkv.client.watching import WatchedChange, WatchedRevision
from raftkv.core.errors import DefiniteError, IndefiniteError, RaftkvError

__all__ = [
    "AsyncClient",
    "Client",
    "DefiniteError",
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
    "WatchedChange",
    "WatchedRevision",
]
