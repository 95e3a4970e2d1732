"""Failures as values and as exceptions, each *definite* or *indefinite* by its type.

A definite failure says: the operation did not take effect and never will; a retry is safe. An indefinite failure says:
it may have taken effect, or may still. In doubt a failure is indefinite. The words in ``Code`` are part of the public
contract (``code`` in problem+json) and never change their meaning.

::

    RaftkvError
     +-- DefiniteError       the operation was not applied
     +-- IndefiniteError     the operation may have been applied

What somebody asked for that makes no sense is a ``UsageError``: nothing was begun.

This module imports nothing but the standard library and msgspec.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final

import msgspec
from msgspec import Meta


class Effect(enum.StrEnum):
    """May what failed have taken effect all the same? Public words, like those of ``Code``."""

    NO = "no"
    UNKNOWN = "unknown"


class Code(enum.StrEnum):
    """Stable words for what went wrong; the HTTP status of each stands in ``raftkv.api.problems``."""

    BAD_REQUEST = "bad_request"
    NOT_SUPPORTED = "not_supported"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    UNKNOWN_ROUTE = "unknown_route"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    CROSS_SITE = "cross_site"
    MISDIRECTED = "misdirected"
    EXPECTATION_FAILED = "expectation_failed"
    HEADERS_TOO_LARGE = "headers_too_large"
    NOT_IMPLEMENTED = "not_implemented"
    PRECONDITION_FAILED = "precondition_failed"
    VALUE_TOO_LARGE = "value_too_large"
    KEY_TOO_LARGE = "key_too_large"
    LEASE_NOT_FOUND = "lease_not_found"
    LEASE_EXISTS = "lease_exists"
    COMPACTED = "compacted"
    NOT_AN_INTEGER = "not_an_integer"
    OUT_OF_BOUNDS = "out_of_bounds"
    TOO_MANY_CHANGES = "too_many_changes"
    HELD = "held"
    OVERLOADED = "overloaded"
    NO_LEADER = "no_leader"
    QUORUM_UNREACHABLE = "quorum_unreachable"
    DISK_FULL = "disk_full"
    OUTCOME_UNKNOWN = "outcome_unknown"


class Refused(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="refused"):
    """A definite failure: the request was not applied and never will be.

    ``retry_after_s`` is a hint in seconds, or ``None`` when a retry of the same request cannot help.
    """

    code: Code
    detail: str
    retry_after_s: Annotated[float, Meta(ge=0, le=3600)] | None = None


NO_ONE_ORDER: Final = Refused(
    code=Code.NOT_SUPPORTED,
    detail="a leaderless cluster has no one order of writes, and so neither revisions to read or watch from, nor"
    " transactions, increments, leases or locks; run raft mode for these",
)
"""What a leaderless cluster cannot do, and never approximates."""

KEEPS_NO_HISTORY: Final = Refused(
    code=Code.NOT_SUPPORTED,
    detail="the cluster keeps no history yet, so it has no transactions, leases or watches: not all nodes can run them",
    retry_after_s=1.0,
)
"""What a cluster answers until its leader has seen that every member can read the commands that this takes."""


class Unknown(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="unknown"):
    """An indefinite failure: the request may have been applied, or may still be."""

    detail: str
    code: Code = Code.OUTCOME_UNKNOWN


Failure = Refused | Unknown


def of_read(failure: Failure) -> Refused:
    """``failure`` as that of a read, which has no effect to be in doubt about."""
    if isinstance(failure, Refused):
        return failure
    return Refused(code=Code.QUORUM_UNREACHABLE, detail=failure.detail, retry_after_s=1.0)


class RaftkvError(Exception):
    """Base of everything raftkv raises on purpose; ``code`` is the stable word, ``applied`` is "no" or "unknown"."""

    applied = Effect.UNKNOWN

    def __init__(self, code: Code | str, detail: str, *, retry_after_s: float | None = None) -> None:
        """``detail`` is a full sentence for a person; ``retry_after_s`` a hint in seconds, if a retry can help."""
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s


class DefiniteError(RaftkvError):
    """The operation was not applied and never will be; a retry is safe."""

    applied = Effect.NO


class IndefiniteError(RaftkvError):
    """The operation may have been applied; only an idempotency key makes a retry safe."""

    applied = Effect.UNKNOWN


class UsageError(ValueError):
    """What was asked for makes no sense, and nothing was begun; the message is a sentence for who asked."""


class StartupError(Exception):
    """The node cannot start, or cannot go on: the message is one line for a person, the exit status is 2."""


class DataDiscarded(StartupError):  # noqa: N818  no error: somebody asked for it
    """The node gives up its data, as it was told to, and must begin anew without it."""
