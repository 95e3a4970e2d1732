"""The Python SDK: ``raftkv.Client`` and what it returns and raises.

It speaks the HTTP API and nothing else: it needs no other part of raftkv than the names and failures in ``core``.
"""

from raftkv.client.client import Client
from raftkv.client.errors import PreconditionFailed, SiblingsFound
from raftkv.client.records import Page, Record
from raftkv.core.errors import DefiniteError, IndefiniteError, RaftkvError

__all__ = [
    "Client",
    "DefiniteError",
    "IndefiniteError",
    "Page",
    "PreconditionFailed",
    "RaftkvError",
    "Record",
    "SiblingsFound",
]
