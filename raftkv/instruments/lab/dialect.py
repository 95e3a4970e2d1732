"""How an action of the history is asked of a server over HTTP, and what its answer means for the history.

Pure. ``CompareAndSet`` names values, HTTP names revisions: the two mean the same because a workload never writes one
value twice, so that a revision stands for the value that was read with it. In doubt an outcome is unknown.
"""

from __future__ import annotations

from typing import Final

import msgspec

from raftkv.api import headers, paths
from raftkv.api.answers import SiblingsAnswer
from raftkv.api.problems import read_problem
from raftkv.client.http1 import HttpAnswer
from raftkv.core.errors import Code
from raftkv.instruments.lab.history import (
    ANY,
    Action,
    CompareAndSet,
    DeleteAction,
    GetAction,
    ObservedOperation,
    Outcome,
    PutAction,
)

WEAK: Final = "not yet on a majority"
"""The note on writes that fewer nodes have acknowledged than it takes, as their clients wanted."""


class ClientStep(msgspec.Struct, frozen=True, kw_only=True):
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


class Meaning(msgspec.Struct, frozen=True, kw_only=True):
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

    def observed(
        self, step: ClientStep, *, client: int, node: str, invoked_ns: int, ended_ns: int, note: str
    ) -> ObservedOperation:
        """What the history keeps of ``step``, which ``client`` took at ``node``; what is unknown has not returned."""
        return ObservedOperation(
            client=client,
            key=step.key,
            action=step.action,
            invoked_ns=invoked_ns,
            returned_ns=None if self.outcome is Outcome.UNKNOWN else ended_ns,
            outcome=self.outcome,
            result=self.result,
            siblings=self.siblings,
            node=node,
            note=note,
        )


def request_of(step: ClientStep, *, timeout_s: float, query: str = "", write_query: str = "") -> Request:
    """The request for ``step``; ``query`` is more of a read's query string, ``write_query`` of a write's."""
    target = f"{paths.filled(paths.KEY, step.key)}?timeout={timeout_s:g}"
    shown = {headers.IDEMPOTENCY_KEY.name: step.retry_key} if step.retry_key else {}
    action = step.action
    if isinstance(action, GetAction):
        return Request(method="GET", target=f"{target}&{query}" if query else target, headers=shown, body=b"")
    target = f"{target}&{write_query}" if write_query else target
    if step.context:
        shown[headers.CONTEXT.name] = step.context
    if isinstance(action, CompareAndSet):
        shown |= _precondition(action, step.revision)
    value = None if isinstance(action, DeleteAction) else action.value
    method = "DELETE" if value is None else "PUT"
    return Request(method=method, target=target, headers=shown, body=value or b"")


def _precondition(action: CompareAndSet, revision: int) -> dict[str, str]:
    if action.expected is None:
        return {headers.IF_NONE_MATCH.name: headers.ANY}
    if action.expected is ANY:
        return {headers.IF_MATCH.name: headers.ANY}
    return {headers.IF_MATCH.name: headers.tag(revision)}


def finding(action: Action, answer: HttpAnswer) -> Meaning:
    """What ``answer`` says about ``action``."""
    if isinstance(action, GetAction):
        return _found(answer)
    if 200 <= answer.status < 300:
        result = None if isinstance(action, PutAction) else True
        note = WEAK if answer.status == 202 else ""
        return Meaning(outcome=Outcome.OK, result=result, revision=_revision(answer), note=note)
    if isinstance(action, CompareAndSet) and (answer.status == 412 or _is_absent(answer)):
        return Meaning(outcome=Outcome.OK, result=False)
    if isinstance(action, DeleteAction) and _is_absent(answer):
        return Meaning(outcome=Outcome.OK, result=False, revision=0)
    return _failure(answer)


def _found(answer: HttpAnswer) -> Meaning:
    context = answer.header(headers.CONTEXT.low)
    if answer.status == 200:
        return Meaning(outcome=Outcome.OK, result=answer.body, revision=_revision(answer), context=context)
    if answer.status == 300:
        *siblings, newest = msgspec.json.decode(answer.body, type=SiblingsAnswer).values()
        return Meaning(outcome=Outcome.OK, result=newest, siblings=tuple(siblings), context=context)
    if _is_absent(answer):
        return Meaning(outcome=Outcome.OK, result=None, revision=0, context=context)
    return _failure(answer)


def _revision(answer: HttpAnswer) -> int | None:
    return headers.revision_in(answer.header(headers.ETAG.low))


def _is_absent(answer: HttpAnswer) -> bool:
    """Is there no such key? That there is no such route is another 404."""
    return answer.status == 404 and _failure(answer).note == Code.NOT_FOUND


def _failure(answer: HttpAnswer) -> Meaning:
    problem = read_problem(answer.body)
    outcome = Outcome.FAILED if problem.is_definite else Outcome.UNKNOWN
    return Meaning(outcome=outcome, note=problem.code or f"status {answer.status}")
