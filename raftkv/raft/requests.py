"""Clients' requests: what becomes of each, from what it asks to the part of the replica that does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from raftkv.core.errors import Code, Refused
from raftkv.core.judgement import of_operator
from raftkv.core.replicator import Pending
from raftkv.core.requests import (
    DEFAULT,
    MAJORITY,
    Barrier,
    Compact,
    Configure,
    Consistency,
    HoldState,
    Inspect,
    KeepAlive,
    MembersRequest,
    Operation,
    Read,
    Repair,
    Request,
    ShowSights,
    Write,
    is_read,
)
from raftkv.core.results import Configured, Outcome, Ready, StateHeld
from raftkv.core.sights import SightsShower
from raftkv.core.status import RaftStatus
from raftkv.machine.conversion import Change, proposal_of
from raftkv.machine.machine import Machine
from raftkv.raft.electorate import Electorate
from raftkv.raft.membership.changes import MemberChanges
from raftkv.raft.reading.readers import Readers
from raftkv.raft.settings import NOT_OF_RAFT, ReplicaSettings, not_read, out_of_service, overloaded
from raftkv.raft.standing.participation import Participation
from raftkv.raft.standing.readmission import Readmission
from raftkv.raft.writing.proposals import BATCH_OVERHEAD_BYTES, Proposals


@dataclass(kw_only=True, eq=False, repr=False)
class RaftRequests:
    """Every request of this node's clients, on its way in."""

    settings: ReplicaSettings
    electorate: Electorate
    proposals: Proposals
    readers: Readers
    readmission: Readmission
    participation: Participation
    machine: Callable[[], Machine]
    state_path: Callable[[], str]
    changes: MemberChanges
    clock: Callable[[], float]
    reads: Callable[[str], int]
    """Tells the newest format of commands that a peer is known to read."""

    show_sights: SightsShower

    def submit(self, request: Request, deadline_s: float, pending: Pending, status: Callable[[], RaftStatus]) -> None:
        """Begin to do what ``request`` asks."""
        if self.readmission.is_stopped and not isinstance(request, Inspect | ShowSights | Repair):
            pending.resolve(out_of_service(self.readmission.reason))
        elif isinstance(request, Write):
            self._write(request, deadline_s, pending)
        elif isinstance(request, Read | Barrier):
            self.readers.submit(request, deadline_s, pending)
        elif isinstance(request, Inspect):
            pending.resolve(status())
        elif isinstance(request, ShowSights):
            pending.resolve(self.show_sights(request.after))
        elif isinstance(request, Configure):
            self._configure(request, deadline_s, pending)
        elif isinstance(request, Repair | HoldState | MembersRequest):
            self._operate(request, deadline_s, pending)
        elif isinstance(request, KeepAlive | Compact):
            self._propose(request, MAJORITY, deadline_s, pending)
        else:
            pending.resolve(NOT_OF_RAFT)

    def _operate(self, request: Repair | HoldState | MembersRequest, deadline_s: float, pending: Pending) -> None:
        """Do what only an operator may ask."""
        refusal = of_operator(self.machine().rights, request.caller)
        if refusal is not None:
            pending.resolve(refusal)
        elif isinstance(request, Repair):
            self.participation.repair(pending, deadline_s)
        elif isinstance(request, HoldState):
            self._hold_state(request, deadline_s, pending)
        else:
            self.changes.submit(request, deadline_s, pending, self.clock())

    def _hold_state(self, request: HoldState, deadline_s: float, pending: Pending) -> None:
        """Where the state lies once it is fit to be read, which is then as new as any linearizable read."""
        settings, reached = self.settings, Pending()

        def held(outcome: Outcome) -> None:
            command = (*settings.export, self.state_path(), *settings.export_arguments)
            pending.resolve(StateHeld(command=command) if isinstance(outcome, Ready) else outcome)

        reached.when_done(held)
        level = Consistency.LOCAL if request.is_local else Consistency.LINEARIZABLE
        self.readers.submit(Barrier(consistency=level), deadline_s, reached)

    def _configure(self, request: Configure, deadline_s: float, pending: Pending) -> None:
        """Set R and W of requests that name none, through the log, so that every node has the same."""
        size, majority = self.electorate.size, self.electorate.majority
        usual_r, usual_w = self.machine().sizes
        r, w = request.r or usual_r or majority, request.w or usual_w or majority
        if request.n not in (DEFAULT, size):
            reason = f"n: every node of a raft cluster has every key, so n is {size}; leave it out"
            pending.resolve(Refused(code=Code.BAD_REQUEST, detail=reason))
            return
        for name, number in (("r", r), ("w", w)):
            if not 1 <= number <= size:
                reason = f"{name}: {number} is not between 1 and {size}"
                pending.resolve(Refused(code=Code.BAD_REQUEST, detail=reason))
                return
        changed = Pending()
        changed.when_done(
            lambda outcome: pending.resolve(
                msgspec.structs.replace(outcome, n=size) if isinstance(outcome, Configured) else outcome
            )
        )
        self._propose(Configure(r=r, w=w, caller=request.caller), MAJORITY, deadline_s, changed)

    def _write(self, write: Write, deadline_s: float, pending: Pending) -> None:
        size, majority, usual_w = self.electorate.size, self.electorate.majority, self.machine().sizes[1]
        acks = usual_w if write.acks == MAJORITY and usual_w != majority else write.acks
        if 0 < acks < majority and not _is_plain(write):
            # What a count, a lease or a transaction came to, and what a user may do, is known only at the commit.
            acks = MAJORITY
        if not 0 <= acks <= size:
            pending.resolve(Refused(code=Code.BAD_REQUEST, detail=f"w={acks}, but the cluster has {size} nodes"))
        elif write.placing is not None:
            pending.resolve(NOT_OF_RAFT)
        elif is_read(write):
            self.readers.submit_several(write, deadline_s, pending)
        else:
            self._propose(write, acks, deadline_s, pending)

    def _propose(self, change: Change, acks: int, deadline_s: float, pending: Pending) -> None:
        """Queue ``change`` for the log; its outcome comes when it is applied, held by ``acks`` replicas."""
        proposal, limit_bytes = proposal_of(change), self.settings.largest_command_bytes - BATCH_OVERHEAD_BYTES
        if isinstance(proposal, Refused):
            pending.resolve(proposal)
        elif proposal.size_bytes > limit_bytes:
            detail = f"one request may carry {limit_bytes} bytes"
            pending.resolve(Refused(code=Code.VALUE_TOO_LARGE, detail=detail))
        elif (refusal := self._not_read(proposal.least_format)) is not None:
            pending.resolve(refusal)
        elif not self.proposals.add(proposal, acks=acks, deadline_s=deadline_s, pending=pending):
            pending.resolve(overloaded("writes"))

    def _not_read(self, command_format: int) -> Refused | None:
        """Why a command may not be proposed now: a member that does not read it would have to stop."""
        for peer in self.electorate.other_voters:
            reads = self.reads(peer)
            if reads < command_format:
                return not_read(peer, command_format, reads)
        return None


def _is_plain(write: Write) -> bool:
    """Is nothing of it known only at the commit?"""
    return write.caller is None and all(isinstance(one, Operation) for one in write.operations)
