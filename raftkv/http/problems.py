"""Problems as responses: every error that leaves the server is made here, from ``raftkv.api.problems``.

This module must not import Flask.
"""

from __future__ import annotations

import math
from typing import Final, NoReturn

import msgspec

from raftkv.api import headers as names
from raftkv.api.answers import LockContender
from raftkv.api.paths import READ_METHODS
from raftkv.api.problems import INTERNAL_ERROR, TABLE, Problem
from raftkv.core.errors import Code, DefiniteError, Effect, Failure, RaftkvError, Refused
from raftkv.http.messages import Headers, HttpResponse, encode_json

PROBLEM_JSON: Final = (b"content-type", names.PROBLEM_JSON.encode())


def problem(
    code: Code,
    detail: str,
    *,
    retry_after_s: float | None = None,
    headers: Headers = (),
    revision: int | msgspec.UnsetType = msgspec.UNSET,
    compacted_revision: int | msgspec.UnsetType = msgspec.UNSET,
    holders: list[LockContender] | msgspec.UnsetType = msgspec.UNSET,
) -> HttpResponse:
    """The response for ``code``; for both revisions and the holders see ``Problem``."""
    kind = TABLE[code]
    told = Problem(
        title=kind.title,
        status=kind.status,
        detail=detail,
        code=code.value,
        applied=kind.applied.value,
        revision=revision,
        compacted_revision=compacted_revision,
        holders=holders,
    )
    wait_s = kind.retry_after_s if retry_after_s is None else max(1, math.ceil(retry_after_s))
    if wait_s is not None:
        headers = (*headers, (names.RETRY_AFTER.raw, b"%d" % wait_s))
    return HttpResponse(status=kind.status, headers=(PROBLEM_JSON, *headers), body=encode_json(told))


def failure(outcome: Failure, headers: Headers = ()) -> HttpResponse:
    """The response for an outcome that is a failure."""
    wait_s = outcome.retry_after_s if isinstance(outcome, Refused) else None
    return problem(outcome.code, outcome.detail, retry_after_s=wait_s, headers=headers)


def mistake(error: RaftkvError) -> HttpResponse:
    """The response for what the handlers raise: a client's mistake, mostly."""
    return problem(Code(error.code), error.detail, retry_after_s=error.retry_after_s)


def internal_error(method: str) -> HttpResponse:
    """The response for a defect of ours: the log has the rest. In doubt the request was applied, if it could be."""
    told = Problem(
        title="Internal error",
        status=500,
        detail="the server failed while it worked on this request; its log says how",
        code=INTERNAL_ERROR,
        applied=Effect.NO if method in READ_METHODS else Effect.UNKNOWN,
    )
    return HttpResponse(status=500, headers=(PROBLEM_JSON,), body=encode_json(told))


def refuse(code: Code, detail: str) -> NoReturn:
    """Raise a client's mistake."""
    raise DefiniteError(code, detail)
