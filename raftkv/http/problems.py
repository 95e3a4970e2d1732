"""THE table of errors: code, HTTP status, title, and whether the request may have been applied (RFC 9457).

Every error that leaves the server is made here. ``applied`` is ``"no"`` (definitely not applied, safe to retry) or
``"unknown"``; it belongs to the code and is never decided elsewhere. This module must not import Flask.
"""

from __future__ import annotations

import math
from typing import Any, Final, NoReturn

import msgspec

from raftkv.core.errors import Code, DefiniteError, Failure, Refused
from raftkv.http.messages import Headers, HttpResponse, encode_json

PROBLEM_JSON: Final = (b"content-type", b"application/problem+json")


class Kind(msgspec.Struct, frozen=True):
    """How one code looks from outside."""

    status: int
    title: str
    applied: str = "no"
    retry_after_s: int | None = None


TABLE: Final[dict[Code, Kind]] = {
    Code.BAD_REQUEST: Kind(400, "Bad request"),
    Code.NOT_SUPPORTED: Kind(400, "Not supported"),
    Code.UNAUTHENTICATED: Kind(401, "Unauthenticated"),
    Code.FORBIDDEN: Kind(403, "Forbidden"),
    Code.CROSS_SITE: Kind(403, "Cross-site request"),
    Code.NOT_FOUND: Kind(404, "Not found"),
    Code.UNKNOWN_ROUTE: Kind(404, "Unknown route"),
    Code.METHOD_NOT_ALLOWED: Kind(405, "Method not allowed"),
    Code.PRECONDITION_FAILED: Kind(412, "Precondition failed"),
    Code.VALUE_TOO_LARGE: Kind(413, "Value too large"),
    Code.KEY_TOO_LARGE: Kind(414, "Key too large"),
    Code.UNSUPPORTED_MEDIA_TYPE: Kind(415, "Unsupported media type"),
    Code.EXPECTATION_FAILED: Kind(417, "Expectation failed"),
    Code.MISDIRECTED: Kind(421, "Misdirected request"),
    Code.HEADERS_TOO_LARGE: Kind(431, "Headers too large"),
    Code.NOT_IMPLEMENTED: Kind(501, "Not implemented"),
    Code.OVERLOADED: Kind(429, "Overloaded", retry_after_s=1),
    Code.NO_LEADER: Kind(503, "No leader", retry_after_s=1),
    Code.QUORUM_UNREACHABLE: Kind(503, "Quorum unreachable", retry_after_s=1),
    Code.DISK_FULL: Kind(503, "Disk full", retry_after_s=10),
    Code.OUTCOME_UNKNOWN: Kind(504, "Outcome unknown", "unknown"),
}


def problem(
    code: Code, detail: str, *, retry_after_s: float | None = None, headers: Headers = (), **members: Any
) -> HttpResponse:
    """The response for ``code``; ``members`` join the standard ones in the body."""
    kind = TABLE[code]
    body = {
        "type": "about:blank",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": code.value,
        "applied": kind.applied,
        **members,
    }
    wait_s = kind.retry_after_s if retry_after_s is None else max(1, math.ceil(retry_after_s))
    if wait_s is not None:
        headers = (*headers, (b"retry-after", b"%d" % wait_s))
    return HttpResponse(status=kind.status, headers=(PROBLEM_JSON, *headers), body=encode_json(body))


def failure(outcome: Failure, headers: Headers = ()) -> HttpResponse:
    """The response for an outcome that is a failure."""
    wait_s = outcome.retry_after_s if isinstance(outcome, Refused) else None
    return problem(outcome.code, outcome.detail, retry_after_s=wait_s, headers=headers)


def mistake(error: DefiniteError) -> HttpResponse:
    """The response for a client's mistake, as the handlers raise it."""
    return problem(Code(error.code), error.detail, retry_after_s=error.retry_after_s)


READ_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that have no effect (RFC 9110, section 9.2.1)."""


def internal_error(method: str) -> HttpResponse:
    """The response for a defect of ours: the log has the rest. In doubt the request was applied, if it could be."""
    body = {
        "type": "about:blank",
        "title": "Internal error",
        "status": 500,
        "detail": "the server failed while it worked on this request; its log says how",
        "code": "internal_error",
        "applied": "no" if method in READ_METHODS else "unknown",
    }
    return HttpResponse(status=500, headers=(PROBLEM_JSON,), body=encode_json(body))


def refuse(code: Code, detail: str) -> NoReturn:
    """Raise a client's mistake."""
    raise DefiniteError(code, detail)
