"""Planted bugs of rights. Part of ``raftkv.instruments.sim.planted``."""

from __future__ import annotations

from typing import Any, Final

from raftkv.core.rights import Caller, Rights
from raftkv.formats import commands
from raftkv.instruments.sim.planted.swaps import Remedy, around, gives, instead, rule, then
from raftkv.machine import machine
from raftkv.machine.conversion import command_of
from raftkv.machine.judging import Judge
from raftkv.machine.machine import Machine
from raftkv.quorum.membership import rights
from raftkv.quorum.membership.rights import SharedRights
from raftkv.quorum.serving.serving import Serving
from raftkv.raft.applied import AppliedMachine
from raftkv.raft.reading.readers import Readers
from raftkv.raft.requests import RaftRequests

_judged_at_apply = Judge.refusal


def _judge_here(propose: Any, self: Any, change: Any, *more: Any) -> None:
    """By what this node knows now, and by nothing later."""
    command = command_of(change)
    if isinstance(command, commands.CallersCommand):
        caller = Caller(command.user, command.generation)
        refusal = _judged_at_apply(self.machine()._judge, caller, command.command)
        if refusal is not None:
            more[-1].resolve(refusal)
            return
    propose(self, change, *more)


def _keep_what_was_known(over: Any, self: Any, tables: Any) -> Any:
    made = over(self, tables)
    made._judge.rights = self._judge.rights
    made._handlers = made._all_handlers()
    return made


def _learn_when_shown(self: Any, *_: Any) -> None:
    """What readers are shown is what is judged by."""
    if getattr(self.machine, "unlearnt", False):
        self.machine.unlearnt = False
        _learn(self.machine)


_learn = Machine._learn_rights


def _leave_unlearnt(self: Any) -> None:
    self._changes.has_changed_rights = False
    self.unlearnt = True


def _user_of_any_generation(self: Any, caller: Caller) -> Any:
    return self.users.get(caller.user) or _user(self, caller)


_user = Rights._user


def _anybody(self: Any) -> Any:
    return {**self._asked, **self._own}


def _answer_anybody(answer: Any, self: Any, pending: Any, request: Any) -> None:
    rights = self.rights
    self.rights = Rights
    answer(self, pending, request)
    self.rights = rights


def _first_branch_only(self: Any, caller: Caller, operation: Any) -> Any:
    return self._of_each(caller, operation.success)


RIGHTS: Final[dict[str, Remedy]] = {
    "judged where it is applied": rule(
        "a command is judged by the state that it is applied to",
        around(RaftRequests, "_propose", _judge_here),
        gives(Judge, "refusal"),
    ),
    "rights of a snapshot": rule(
        "a state that is taken over brings its rights", around(Machine, "over", _keep_what_was_known)
    ),
    "rights at the index": rule(
        "what is judged by is the state at the command's index, not what readers are shown",
        instead(Machine, "_learn_rights", _leave_unlearnt),
        then(AppliedMachine, "_show", _learn_when_shown),
    ),
    "generations": rule("a user made anew is another", instead(Rights, "_user", _user_of_any_generation)),
    "nobody's commands": rule(
        "once authentication is on, commands that say nothing of who asks are refused",
        instead(Machine, "_all_handlers", _anybody),
    ),
    "names of outcomes": rule(
        "nobody is told what another user did by the same idempotency key",
        instead(machine, "name_of", lambda _caller, key: key.encode()),
    ),
    "judged reads": rule("a read is judged by the state that it reads", around(Readers, "answer", _answer_anybody)),
    "both branches": rule(
        "a transaction is judged by both of its branches, and by what it compares",
        instead(Judge, "_of_transaction", _first_branch_only),
    ),
}


def _whole_document(_merge: Any, rows: Any, others: Any) -> Any:
    """Of two documents the one that was changed last."""
    held = tuple(rows.values())
    return max(held, others, key=lambda document: max([row.stamp for row in document], default=(0, "")))


def _forget_the_deleted(take: Any, self: Any, document: Any) -> None:
    take(self, tuple(row for row in document if row.value is not None))


OF_QUORUM: Final[dict[str, Remedy]] = {
    "judging replicas": rule(
        "a replica judges, too, what a coordinator asks it to write", gives(Serving, "_forbidden")
    ),
    "row by row": rule(
        "of rights that two have changed at once each row stands by itself",
        around(rights, "_merged", _whole_document),
    ),
    "most members": rule(
        "a change of rights is done when most members have it", instead(rights, "majority", lambda _size: 1)
    ),
    "deleted rights": rule(
        "of a deleted user it stays known that it is", around(SharedRights, "_take", _forget_the_deleted)
    ),
}
