"""THE table of problems: code, HTTP status, title, whether the request may have been applied, and when to ask again.

Whether it may have been applied belongs to the code and is never decided elsewhere. Imports ``core``, msgspec and its
neighbours only.
"""

from __future__ import annotations

from typing import Final

import msgspec

from raftkv.api.answers import LockContender
from raftkv.core.errors import Code, Effect


class ProblemKind(msgspec.Struct, frozen=True):
    """How one code looks from outside; ``retry_after_s`` is the hint where nobody gives a better one."""

    status: int
    title: str
    applied: Effect = Effect.NO
    retry_after_s: int | None = None


TABLE: Final[dict[Code, ProblemKind]] = {
    Code.BAD_REQUEST: ProblemKind(400, "Bad request"),
    Code.NOT_SUPPORTED: ProblemKind(400, "Not supported"),
    Code.UNAUTHENTICATED: ProblemKind(401, "Unauthenticated"),
    Code.FORBIDDEN: ProblemKind(403, "Forbidden"),
    Code.CROSS_SITE: ProblemKind(403, "Cross-site request"),
    Code.NOT_FOUND: ProblemKind(404, "Not found"),
    Code.UNKNOWN_ROUTE: ProblemKind(404, "Unknown route"),
    Code.METHOD_NOT_ALLOWED: ProblemKind(405, "Method not allowed"),
    Code.PRECONDITION_FAILED: ProblemKind(412, "Precondition failed"),
    Code.LEASE_NOT_FOUND: ProblemKind(404, "Lease not found"),
    Code.LEASE_EXISTS: ProblemKind(409, "Lease exists"),
    Code.NOT_AN_INTEGER: ProblemKind(409, "Not an integer"),
    Code.OUT_OF_BOUNDS: ProblemKind(409, "Out of bounds"),
    Code.HELD: ProblemKind(409, "Held"),
    Code.COMPACTED: ProblemKind(410, "Compacted"),
    Code.TOO_MANY_CHANGES: ProblemKind(413, "Too many changes"),
    Code.VALUE_TOO_LARGE: ProblemKind(413, "Value too large"),
    Code.KEY_TOO_LARGE: ProblemKind(414, "Key too large"),
    Code.UNSUPPORTED_MEDIA_TYPE: ProblemKind(415, "Unsupported media type"),
    Code.EXPECTATION_FAILED: ProblemKind(417, "Expectation failed"),
    Code.MISDIRECTED: ProblemKind(421, "Misdirected request"),
    Code.HEADERS_TOO_LARGE: ProblemKind(431, "Headers too large"),
    Code.NOT_IMPLEMENTED: ProblemKind(501, "Not implemented"),
    Code.OVERLOADED: ProblemKind(429, "Overloaded", retry_after_s=1),
    Code.NO_LEADER: ProblemKind(503, "No leader", retry_after_s=1),
    Code.QUORUM_UNREACHABLE: ProblemKind(503, "Quorum unreachable", retry_after_s=1),
    Code.DISK_FULL: ProblemKind(503, "Disk full", retry_after_s=10),
    Code.OUTCOME_UNKNOWN: ProblemKind(504, "Outcome unknown", Effect.UNKNOWN),
}

INTERNAL_ERROR: Final = "internal_error"
"""The code of a 500, which is a defect, and therefore not in the table."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457, with a stable code and whether the request may have been applied.

    ``holders`` are those who hold what cannot be had. ``revision`` is where the key stands whose precondition failed, 0
    when it does not exist, or where the store does that was asked for a later one; ``compacted_revision`` the oldest
    that can be read, where an older one was asked for.
    """

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    code: str = ""
    applied: str = ""
    revision: int | msgspec.UnsetType = msgspec.UNSET
    compacted_revision: int | msgspec.UnsetType = msgspec.UNSET
    holders: list[LockContender] | msgspec.UnsetType = msgspec.UNSET

    @property
    def is_definite(self) -> bool:
        """Was nothing applied, and will nothing be? In doubt it is unknown."""
        return self.applied == Effect.NO


ALWAYS: Final = ("title", "status", "detail", "code", "applied")
"""What every problem of ours has; others' may lack any of it."""

_decode: Final = msgspec.json.Decoder(Problem).decode


def read_problem(body: bytes) -> Problem:
    """The problem in an answer; one that says nothing when there is none, since anybody may have answered."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Problem()
