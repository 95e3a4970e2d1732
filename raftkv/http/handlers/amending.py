"""How users and roles are read and changed: plans over the replication interface. Pure functions.

All of it are keys of the cluster's own, so a change is a transaction like any other: it says at which revisions stood
what it was decided by, and is decided anew where something else came first, so that of two who change users at once
neither undoes what the other did. Who may change them is judged where it is applied. What a change left is read once
more before it is answered, so that this front-end knows it too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final, NamedTuple

from raftkv.coordination.contention import result_of
from raftkv.coordination.steps import Circumstances, Plan, read_failure, submitted
from raftkv.core.errors import Code, DefiniteError, Refused, Unknown
from raftkv.core.requests import AnyOperation, ComparedField, KeyComparison, List, Operator, Read, Transaction, Write
from raftkv.core.results import Answer, KeyPage, Transacted, Written
from raftkv.core.rights import CLUSTER, Caller, Rights, Role, User
from raftkv.formats.rights import AUTH, AUTH_END, ENABLED, rights_of
from raftkv.http.handlers.handler import HttpPlan
from raftkv.http.messages import HttpResponse
from raftkv.http.problems import failure, mistake, problem, refuse

ATTEMPTS: Final = 10
"""So many others may come first, one after another."""

PAGE_KEYS: Final = 1_000


class Roster(NamedTuple):
    """All users and roles as they stood at ``revision``, and at which one each of their keys did."""

    rights: Rights
    standing: dict[bytes, int]
    revision: int

    def user(self, name: str) -> User:
        """Raises ``DefiniteError`` where there is no such user."""
        found = self.rights.users.get(name)
        if found is None:
            refuse(Code.NOT_FOUND, f"there is no user {name!r}")
        return found

    def role(self, name: str) -> Role:
        """Raises ``DefiniteError`` where there is no such role."""
        found = self.rights.roles.get(name)
        if found is None:
            refuse(Code.NOT_FOUND, f"there is no role {name!r}")
        return found


class Amendment(NamedTuple):
    """What is to be done, and what it is answered with, which is told the store's revision then.

    ``relies_on`` are keys that must stand as they did; ``caller`` is who does it, ``None`` whoever asks.
    """

    operations: tuple[AnyOperation, ...]
    answer: Callable[[int], HttpResponse]
    relies_on: tuple[bytes, ...] = ()
    caller: Caller | None = None


def roster(limit_s: float, circumstances: Circumstances) -> Plan[Roster]:
    """All of it, no older than this question; raises ``DefiniteError``."""
    rows: dict[bytes, bytes] = {}
    standing: dict[bytes, int] = {}
    start: bytes | None = AUTH
    revision = 0
    while start is not None:
        read = Read(query=List(start=start, end=AUTH_END, limit=PAGE_KEYS), caller=CLUSTER)
        outcome = yield from submitted(read, circumstances.now_s() + limit_s)
        if not isinstance(outcome, Answer):
            refused = read_failure(outcome)
            raise DefiniteError(refused.code, refused.detail, retry_after_s=refused.retry_after_s)
        assert isinstance(outcome.content, KeyPage)
        for record in outcome.content.records:
            rows[record.key], standing[record.key] = record.value, record.mod_revision
        revision = revision or outcome.revision
        start = outcome.content.next_start
    return Roster(rights_of(rows.items()), standing, revision)


def amended(amend: Callable[[Roster], Amendment], limit_s: float, circumstances: Circumstances) -> HttpPlan:
    """Carry out what ``amend`` makes of all that stands, anew as often as something else came first."""
    for _ in range(ATTEMPTS):
        read = yield from roster(limit_s, circumstances)
        amendment = amend(read)
        write = Write(operations=(_transaction(read, amendment),), caller=amendment.caller)
        outcome = yield from submitted(write, circumstances.now_s() + limit_s)
        result = result_of(outcome)
        if isinstance(result, Refused | Unknown):
            return failure(result)
        assert isinstance(outcome, Written)
        assert isinstance(result, Transacted)
        if result.succeeded:
            with contextlib.suppress(DefiniteError):  # it is done, and this front-end will hear of it
                yield from roster(limit_s, circumstances)
            return amendment.answer(outcome.revision)
    return problem(Code.OVERLOADED, "others change users and roles all the time; nothing was done")


def _transaction(read: Roster, amendment: Amendment) -> Transaction:
    """Do it, if nothing was written since that was read, and what it relies on is still there."""
    untouched = KeyComparison(
        start=AUTH,
        end=AUTH_END,
        several=True,
        target=ComparedField.REVISION,
        operator=Operator.LESS,
        operand=read.revision + 1,
    )
    standing = [
        KeyComparison(start=key, target=ComparedField.REVISION, operand=read.standing.get(key, 0))
        for key in dict.fromkeys((ENABLED, *amendment.relies_on))
    ]
    return Transaction(comparisons=(untouched, *standing), success=amendment.operations)


def told(plan: Callable[[], HttpPlan]) -> HttpPlan:
    """What ``plan`` makes, whose mistakes are the client's."""
    try:
        return (yield from plan())
    except DefiniteError as error:
        return mistake(error)
