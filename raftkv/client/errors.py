"""What the client raises, and how an answer is told apart: fine, a definite failure, or an indefinite one.

::

    RaftkvError                  code, detail, retry_after_s
     +-- DefiniteError           it was not applied and never will be
     |    +-- PreconditionFailed revision: where the key stands now, 0 when it does not exist
     |    +-- Unauthenticated    the cluster wants to know who asks, and does not by what it was shown
     |    +-- Forbidden          whoever asks may not do that
     |    +-- SiblingsFound      records: the values of a key whose writers did not know of each other
     |    +-- RequirementFailed  the transaction was not done: what it requires does not hold
     |    +-- RevisionCompacted  oldest: the oldest revision that can still be read
     |    +-- LeaseLost          the lease has ended, or may have by now
     |    |    +-- LockLost      what was held with it may be held by others
     |    +-- LockHeld           holders: who held it, still when the wait was over
     +-- IndefiniteError         it may have been applied

What the caller gave and makes no sense is a ``UsageError``, which is a ``ValueError``: nothing was sent.

A missing key is no failure: ``get`` returns its default, ``delete`` says ``False``; only the mapping style raises
``KeyError``. A read that got no answer is always a ``DefiniteError``: there was nothing to apply. Everything here is
pure: no socket, no clock.
"""

from __future__ import annotations

from typing import Final

import msgspec

from raftkv.api import headers as names
from raftkv.api.answers import LockContender
from raftkv.api.problems import Problem, read_problem
from raftkv.client.http1 import HttpAnswer
from raftkv.client.records import Record
from raftkv.core.errors import Code, DefiniteError, IndefiniteError, RaftkvError

UNREACHABLE: Final = "unreachable"
"""``code`` when no server could be asked, or none answered a read in time."""

STRANGER: Final = "has no such path; is it a raftkv server?"

_DECIDED: Final = frozenset(
    {Code.LEASE_EXISTS, Code.LEASE_NOT_FOUND, Code.NOT_AN_INTEGER, Code.OUT_OF_BOUNDS, Code.TOO_MANY_CHANGES}
)

_RETRIED: Final = frozenset({429, 503})
_NO_FAILURE: Final = frozenset({200, 201, 202, 300, 304})


class PreconditionFailed(DefiniteError):  # noqa: N818  named as RFC 9110 and the code in the contract name it
    """The key does not stand at the expected revision; nothing was written. ``revision`` is where it stands, or 0."""

    def __init__(self, detail: str, revision: int) -> None:
        super().__init__(Code.PRECONDITION_FAILED, detail)
        self.revision = revision


class Unauthenticated(DefiniteError):  # noqa: N818  as above
    """The cluster wants to know who asks: nothing said so, or it was the wrong password, or a token that has ended."""

    def __init__(self, detail: str) -> None:
        super().__init__(Code.UNAUTHENTICATED, detail)


class Forbidden(DefiniteError):  # noqa: N818  as above
    """Whoever asks may not do that."""

    def __init__(self, detail: str) -> None:
        super().__init__(Code.FORBIDDEN, detail)


class SiblingsFound(DefiniteError):  # noqa: N818  as above
    """A key has several values, and which one is meant only its reader can know; ``records`` are all of them.

    They share one ``context``; a write that is given it replaces them.
    """

    def __init__(self, records: tuple[Record, ...]) -> None:
        super().__init__("siblings", f"the key {records[0].key!r} has {len(records)} concurrent values")
        self.records = records


class RequirementFailed(DefiniteError):  # noqa: N818  as above
    """What a transaction requires does not hold, and it had no other branch: nothing was done.

    ``revision`` is where the store stood.
    """

    def __init__(self, revision: int) -> None:
        super().__init__(
            Code.PRECONDITION_FAILED, f"what the transaction requires does not hold at revision {revision}"
        )
        self.revision = revision


class RevisionCompacted(DefiniteError):  # noqa: N818  as above
    """That revision cannot be read any more; ``oldest`` is the oldest that can."""

    def __init__(self, detail: str, oldest: int) -> None:
        super().__init__(Code.COMPACTED, detail)
        self.oldest = oldest


class LeaseLost(DefiniteError):  # noqa: N818  as above
    """The lease has ended, or may have by now: nothing may rest on it any more."""

    def __init__(self, detail: str) -> None:
        super().__init__(Code.LEASE_NOT_FOUND, detail)


class LockLost(LeaseLost):
    """A lock, or the lead, was lost: others may hold it, and whatever was done meanwhile may have met with theirs."""


class LockHeld(DefiniteError):  # noqa: N818  as above
    """Others hold it, still when the wait was over; ``holders`` are they. The attempt has left the queue."""

    def __init__(self, detail: str, holders: tuple[LockContender, ...]) -> None:
        super().__init__(Code.HELD, detail)
        self.holders = holders


class Setback(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt failed; ``retriable`` says whether the same request may fare better later or elsewhere.

    ``settled``: the cluster decided on this very request, so the failure stands whatever became of earlier attempts.
    ``is_final``: asking this server again never helps, though another one may. ``is_refused``: nothing listens there.
    ``unreachable`` says why a server gave no answer, without its name; empty when it gave one.
    """

    error: RaftkvError
    retriable: bool
    settled: bool = False
    is_final: bool = False
    is_refused: bool = False
    unreachable: str = ""


def judge(answer: HttpAnswer, *, is_read: bool) -> Setback | None:
    """What the answer means; ``None`` when it is not a failure.

    That there is no such key or member (404 ``not_found``) is left to the caller, and only that.
    """
    if answer.status in _NO_FAILURE:
        return None
    problem = _problem(answer)
    if answer.status == 404:
        if _speaks_of_what_was_asked(answer, problem):
            return None
        if problem.code not in (Code.UNKNOWN_ROUTE, Code.LEASE_NOT_FOUND):
            return Setback(error=DefiniteError(UNREACHABLE, STRANGER), retriable=True)
    code, detail = problem.code, problem.detail or f"answered with status {answer.status}"
    retry_after_s = _retry_after_s(answer)
    decided = _decision(answer.status, code, detail, problem)
    if decided is not None:
        return Setback(error=decided, retriable=False, settled=True)
    retriable = answer.status in _RETRIED or answer.status >= 500
    if is_read or _is_definite(answer.status, problem):
        return Setback(error=_definite(code, detail, retry_after_s), retriable=retriable)
    unknown = IndefiniteError(code or Code.OUTCOME_UNKNOWN, detail, retry_after_s=retry_after_s)
    return Setback(error=unknown, retriable=True)


def _decision(status: int, code: str, detail: str, problem: Problem) -> DefiniteError | None:
    """What the state says of this very request, which no repetition changes: its outcome is kept under its key."""
    if status == 412:
        return PreconditionFailed(detail, problem.revision or 0)
    if code == Code.COMPACTED:
        return RevisionCompacted(detail, problem.compacted_revision or 0)
    if code == Code.HELD:
        return LockHeld(detail, tuple(problem.holders or ()))
    return DefiniteError(code, detail) if code in _DECIDED else None


def _definite(code: str, detail: str, retry_after_s: float | None = None) -> DefiniteError:
    if code == Code.UNAUTHENTICATED:
        return Unauthenticated(detail)
    if code == Code.FORBIDDEN:
        return Forbidden(detail)
    return DefiniteError(code or UNREACHABLE, detail, retry_after_s=retry_after_s)


def failure_of(problem: Problem) -> DefiniteError:
    """What ended a stream."""
    if problem.code == Code.COMPACTED:
        return RevisionCompacted(problem.detail, problem.compacted_revision or 0)
    return _definite(problem.code, problem.detail)


def not_found(answer: HttpAnswer) -> DefiniteError:
    """The failure behind a 404 that is not about a key."""
    return DefiniteError(Code.NOT_FOUND, _problem(answer).detail)


def _is_definite(status: int, problem: Problem) -> bool:
    """Only who says so, or who turned the request down as wrong, definitely did not apply it."""
    if problem.applied:
        return problem.is_definite
    return 400 <= status < 500 and status != 408


def _speaks_of_what_was_asked(answer: HttpAnswer, problem: Problem) -> bool:
    """Does a 404 speak of a key or a member? Any web server has one for a path that it does not know.

    An answer to HEAD has no body to say so in; raftkv's has the header that every read of a key has.
    """
    return problem.code == Code.NOT_FOUND or (not answer.body and bool(answer.header(names.NODE.low)))


def _problem(answer: HttpAnswer) -> Problem:
    return read_problem(answer.body) if "json" in answer.header("content-type") else Problem()


def _retry_after_s(answer: HttpAnswer) -> float | None:
    """Seconds; a date, which ``Retry-After`` may also carry, is none of our servers' words and is passed over."""
    text = answer.header(names.RETRY_AFTER.low)
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None
