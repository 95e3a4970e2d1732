"""How an action of the history is asked of a server over HTTP, and what its answer means for the history.

Pure. ``CompareAndSet`` names values, HTTP names revisions: the two mean the same because a workload never writes one
value twice, so that a revision stands for the value that was read with it. In doubt an outcome is unknown.
"""

from __future__ import annotations

import base64
from urllib.parse import quote

import msgspec

from raftkv.client.connection import Answer
from raftkv.core.errors import Code
from raftkv.instruments.lab.history import ANY, Action, CompareAndSet, Delete, Get, Outcome, Put


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing for a client to do.

    ``revision`` is what ``CompareAndSet.expected`` was read with, 0 where none is needed. ``retry_key`` is sent as
    Idempotency-Key; with one, a client may send the step again. ``context`` is the causal context of a read whose
    values this write replaces.
    """

    key: bytes
    action: Action
    revision: int = 0
    retry_key: str = ""
    context: str = ""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A step as HTTP."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer means. ``revision`` is where the key stood then, 0 when absent, ``None`` when not told.

    Of several values that a read was given, ``result`` is the newest and ``siblings`` are the others, oldest first;
    ``context`` stands for all of them.
    """

    outcome: Outcome
    result: bytes | bool | None = None
    siblings: tuple[bytes, ...] = ()
    revision: int | None = None
    context: str = ""
    note: str = ""


def request_of(step: Step, *, timeout_s: float, query: str = "", write_query: str = "") -> Request:
    """The request for ``step``; ``query`` is more of a read's query string, ``write_query`` of a write's."""
    target = f"/kv/{quote(step.key, safe='')}?timeout={timeout_s:g}"
    headers = {"Idempotency-Key": step.retry_key} if step.retry_key else {}
    action = step.action
    if isinstance(action, Get):
        return Request(method="GET", target=f"{target}&{query}" if query else target, headers=headers, body=b"")
    target = f"{target}&{write_query}" if write_query else target
    if step.context:
        headers["Raftkv-Context"] = step.context
    if isinstance(action, CompareAndSet):
        headers |= _precondition(action, step.revision)
    value = None if isinstance(action, Delete) else action.value
    method = "DELETE" if value is None else "PUT"
    return Request(method=method, target=target, headers=headers, body=value or b"")


def _precondition(action: CompareAndSet, revision: int) -> dict[str, str]:
    if action.expected is None:
        return {"If-None-Match": "*"}
    if action.expected is ANY:
        return {"If-Match": "*"}
    return {"If-Match": f'"{revision}"'}


def finding(action: Action, answer: Answer) -> Finding:
    """What ``answer`` says about ``action``."""
    if isinstance(action, Get):
        return _found(answer)
    if 200 <= answer.status < 300:
        result = None if isinstance(action, Put) else True
        note = "not yet on a majority" if answer.status == 202 else ""
        return Finding(outcome=Outcome.OK, result=result, revision=_revision(answer), note=note)
    if isinstance(action, CompareAndSet) and (answer.status == 412 or _is_absent(answer)):
        return Finding(outcome=Outcome.OK, result=False)
    if isinstance(action, Delete) and _is_absent(answer):
        return Finding(outcome=Outcome.OK, result=False, revision=0)
    return _failure(answer)


def _found(answer: Answer) -> Finding:
    context = answer.header("raftkv-context")
    if answer.status == 200:
        return Finding(outcome=Outcome.OK, result=answer.body, revision=_revision(answer), context=context)
    if answer.status == 300:
        *siblings, newest = msgspec.json.decode(answer.body, type=_Several).values()
        return Finding(outcome=Outcome.OK, result=newest, siblings=tuple(siblings), context=context)
    if _is_absent(answer):
        return Finding(outcome=Outcome.OK, result=None, revision=0, context=context)
    return _failure(answer)


def _revision(answer: Answer) -> int | None:
    tag = answer.header("etag").strip('"')
    return int(tag) if tag.isdigit() else None


class _Sibling(msgspec.Struct, frozen=True):
    value: str | dict[str, str]


class _Several(msgspec.Struct, frozen=True):
    """The body of 300 Multiple Choices."""

    siblings: list[_Sibling]

    def values(self) -> list[bytes]:
        """Oldest first."""
        return [
            each.value.encode() if isinstance(each.value, str) else base64.b64decode(each.value["base64"])
            for each in self.siblings
        ]


class _Problem(msgspec.Struct, frozen=True):
    code: str
    applied: str


def _is_absent(answer: Answer) -> bool:
    """Is there no such key? That there is no such route is another 404."""
    return answer.status == 404 and _failure(answer).note == Code.NOT_FOUND


def _failure(answer: Answer) -> Finding:
    try:
        problem = msgspec.json.decode(answer.body, type=_Problem)
    except msgspec.DecodeError:
        return Finding(outcome=Outcome.UNKNOWN, note=f"status {answer.status}")
    is_definite = problem.applied == "no"
    return Finding(outcome=Outcome.FAILED if is_definite else Outcome.UNKNOWN, note=problem.code)
