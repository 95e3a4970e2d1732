"""``/backup``: all that this node holds, as one file, while writes go on; and ``POST /restore``, which is refused.

A replica says which process writes its state; that one's output is the body. ``POST`` is ``GET`` for a page's form: a
browser writes the answer of a form to disk as it comes, but sends no header with it that a page could choose, so the
token is in the body (as in RFC 6750, section 2.2), and not in the address, which is kept and logged. Must not import
Flask.
"""

from __future__ import annotations

import time
from typing import Final

from raftkv.api.headers import BYTES
from raftkv.coordination.steps import Circumstances, Plan, read_failure, submitted
from raftkv.core.errors import Code
from raftkv.core.requests import Consistency, HoldState
from raftkv.core.results import StateHeld
from raftkv.http.bodies import backup_form
from raftkv.http.choices import BackingUp
from raftkv.http.exports import LIMIT
from raftkv.http.handlers.handler import Context, Conversation, conversing, timeout_s
from raftkv.http.messages import BodyStream, Headers, HttpRequest, HttpResponse
from raftkv.http.needs import Needs
from raftkv.http.problems import failure, problem, refuse

_LEVELS: Final = (Consistency.LINEARIZABLE, Consistency.LOCAL)
_LEADERLESS: Final = "a leaderless node gives what it holds itself; raftkv backup gathers it from enough of them"
RESTORE_INSTEAD: Final = (
    "a running cluster takes no backup in: its nodes would have to forget what they have acknowledged. "
    "Make the data of a new cluster (raftkv restore FILE --config CONFIG), and start that"
)


def _back_up(_request: HttpRequest, chosen: BackingUp, context: Context) -> Conversation:
    return _backing_up(chosen, context)


def _save(request: HttpRequest, chosen: BackingUp, context: Context) -> Conversation:
    """The same for a form, with a name under which a browser saves it."""
    token = backup_form(request.headers, request.body).token
    if token and request.headers.get(b"authorization") != b"Bearer " + token.encode():
        refuse(Code.BAD_REQUEST, "token: Authorization says who asks already")
    at = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime(context.wall_s()))
    name = f'attachment; filename="raftkv-{at}.backup"'.encode()
    return _backing_up(chosen, context, (b"content-disposition", name))


def _backing_up(chosen: BackingUp, context: Context, *more: tuple[bytes, bytes]) -> Conversation:
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
        headers: Headers = ((b"content-type", BYTES.encode()), *more, *context.node_header)
        return HttpResponse(status=200, headers=headers, body=BodyStream(chunks=context.exports.body(outcome.command)))

    return Conversation(plan=converse)


BACKUP: Final = conversing(_back_up, BackingUp, needs=Needs.OPERATOR)
SAVE: Final = conversing(_save, BackingUp, needs=Needs.OPERATOR, takes_token_in_form=True)
