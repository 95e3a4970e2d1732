"""``GET /backup``: all that this node holds, as one file, while writes go on; and ``POST /restore``, which is refused.

A replica says which process writes its state; that one's output is the body. Must not import Flask.
"""

from __future__ import annotations

from typing import Final

from raftkv.api.headers import BYTES
from raftkv.coordination.steps import Circumstances, Plan, read_failure, submitted
from raftkv.core.errors import Code
from raftkv.core.requests import Consistency, HoldState
from raftkv.core.results import StateHeld
from raftkv.http.choices import BackingUp
from raftkv.http.exports import LIMIT
from raftkv.http.handlers.handler import Context, Conversation, conversing, timeout_s
from raftkv.http.messages import BodyStream, HttpRequest, HttpResponse
from raftkv.http.needs import Needs
from raftkv.http.problems import failure, problem, refuse

_LEVELS: Final = (Consistency.LINEARIZABLE, Consistency.LOCAL)
_LEADERLESS: Final = "a leaderless node gives what it holds itself; raftkv backup gathers it from enough of them"
RESTORE_INSTEAD: Final = (
    "a running cluster takes no backup in: its nodes would have to forget what they have acknowledged. "
    "Make the data of a new cluster (raftkv restore FILE --config CONFIG), and start that"
)


def _back_up(request: HttpRequest, chosen: BackingUp, context: Context) -> Conversation:  # noqa: ARG001  a handler's signature
    level = chosen.consistency
    if level not in (None, *_LEVELS):
        refuse(Code.BAD_REQUEST, "consistency: a backup is linearizable or local")
    if level is Consistency.LINEARIZABLE and context.is_leaderless:
        refuse(Code.NOT_SUPPORTED, f"consistency: {_LEADERLESS}")
    wanted = HoldState(is_local=level is Consistency.LOCAL)
    limit_s = timeout_s(chosen, context)

    def converse(circumstances: Circumstances) -> Plan[HttpResponse]:
        if context.exports.count >= LIMIT:
            return problem(Code.OVERLOADED, f"{LIMIT} backups are being made already; try again later")
        outcome = yield from submitted(wanted, circumstances.now_s() + limit_s)
        if not isinstance(outcome, StateHeld):
            return failure(read_failure(outcome), context.node_header)
        headers = ((b"content-type", BYTES.encode()), *context.node_header)
        return HttpResponse(status=200, headers=headers, body=BodyStream(chunks=context.exports.body(outcome.command)))

    return Conversation(plan=converse)


BACKUP: Final = conversing(_back_up, BackingUp, needs=Needs.OPERATOR)
