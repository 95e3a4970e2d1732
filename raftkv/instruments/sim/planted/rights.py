"""Planted bugs of rights. Part of ``raftkv.instruments.sim.planted``."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from raftkv.core.rights import Caller, Rights
from raftkv.formats import commands
from raftkv.formats.rights import NEVER
from raftkv.instruments.sim.planted.swaps import Remedy, around, gives, instead, rule, then
from raftkv.machine import machine
from raftkv.machine.conversion import command_of
from raftkv.machine.judging import Judge
from raftkv.machine.machine import Machine
from raftkv.quorum.membership.rights import SharedRights
from raftkv.quorum.requests import QuorumRequests
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


def _forget_the_promise(offered: Any, self: Any, *more: Any) -> Any:
    self.promised = NEVER
    return offered(self, *more)


def _learn_nothing(shown: Any, self: Any, peer: str, message: Any) -> None:
    shown(self, peer, msgspec.structs.replace(message, document=None))


def _serve_at_once(serve: Any, self: Any) -> None:
    for reader in self._readers:
        reader.since_s = float("-inf")
    serve(self)


def _count_at_once(self: Any) -> None:
    self.counts = True


OF_QUORUM: Final[dict[str, Remedy]] = {
    "judged requests": rule("a node judges what it is asked", gives(QuorumRequests, "_forbidden")),
    "judging replicas": rule(
        "a replica judges, too, what a coordinator asks it to write", gives(Serving, "_forbidden")
    ),
    "promises of rights": rule(
        "who has promised to wait for a change of rights takes no earlier one",
        around(SharedRights, "_offered", _forget_the_promise),
    ),
    "latest rights": rule(
        "a change of rights is made of the latest that a majority shows",
        around(SharedRights, "_shown", _learn_nothing),
    ),
    "most members": rule(
        "a change of rights is done when most members have it", gives(SharedRights, "is_most", value=True)
    ),
    "rights heard lately": rule(
        "who has not heard lately from a majority what rights there are lets nobody in", gives(SharedRights, "doubt")
    ),
    "rights read anew": rule(
        "who reads users waits for the word of a majority", around(SharedRights, "_serve_readers", _serve_at_once)
    ),
    "who counts": rule(
        "who has lost its disk counts for rights once most others have said what they know",
        instead(SharedRights, "_see_whether_it_counts", _count_at_once),
    ),
}
