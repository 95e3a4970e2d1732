"""The headers with a meaning of their own, and what stands in them. Imports the standard library only.

A header is sent under its ``name``; received ones are looked up as ``low`` (text) or ``raw`` (bytes), in lower case.
"""

from __future__ import annotations

from typing import Final


class Header:
    """One header; see the module."""

    __slots__ = ("low", "name", "raw")

    def __init__(self, name: str) -> None:
        self.name = name
        self.low = name.lower()
        self.raw = self.low.encode()


IF_MATCH: Final = Header("If-Match")
IF_NONE_MATCH: Final = Header("If-None-Match")
ETAG: Final = Header("ETag")
RETRY_AFTER: Final = Header("Retry-After")
IDEMPOTENCY_KEY: Final = Header("Idempotency-Key")
LAST_EVENT_ID: Final = Header("Last-Event-ID")

NODE: Final = Header("Raftkv-Node")
CONSISTENCY: Final = Header("Raftkv-Consistency")
REVISION: Final = Header("Raftkv-Revision")
STALENESS: Final = Header("Raftkv-Staleness-Ms")
REPLICAS: Final = Header("Raftkv-Replicas")
CONTEXT: Final = Header("Raftkv-Context")
DURABILITY: Final = Header("Raftkv-Durability")
HINTED: Final = Header("Raftkv-Hinted")
PAGE: Final = Header("Raftkv-Page")
"""A page of the console asks, whose requests are not among the traffic that it shows."""

ANY: Final = "*"
"""In a precondition: whatever revision the key stands at."""

JSON: Final = "application/json"
PROBLEM_JSON: Final = "application/problem+json"
BYTES: Final = "application/octet-stream"
FORM: Final = "application/x-www-form-urlencoded"
EVENTS: Final = "text/event-stream"
LINES: Final = "application/x-ndjson"


def stamp(revision: int, node: str = "") -> str:
    """A revision in a header; without a leader, which would number all writes, the writer's name is part of it."""
    return f"{revision}@{node}" if node else str(revision)


def tag(revision: int, node: str = "") -> str:
    """The entity tag of a value that was written at ``revision``."""
    return f'"{revision}@{node}"' if node else f'"{revision}"'


def revision_in(tag: str) -> int | None:
    """The revision in the entity tag ``tag``; ``None`` where there is none, or a writer beside it."""
    text = tag.strip('"')
    return int(text) if text.isascii() and text.isdigit() else None
