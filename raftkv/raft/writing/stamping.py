"""The stamps of a leader's commands: the agreed time, and how far lease time has come where that has leapt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from raftkv.formats import entries
from raftkv.formats.commands import LeaseTimeCommand
from raftkv.machine.machine import Machine
from raftkv.raft.leadership.agreed_time import AgreedTime
from raftkv.raft.leadership.lease_time import LeaseTime

LEADER_ORIGIN: Final = 0
"""Origin of what the leader proposes of its own accord, which nobody waits for."""


class StampedLog(Protocol):
    """The engine's log, for a leader's own entries."""

    term: int
    is_leader: bool
    leads_committed_term: bool

    def append(self, *command: bytes) -> tuple[int, int]:
        """As leader, put the parts of a command into the log; returns its (index, term)."""


@dataclass(kw_only=True, eq=False, repr=False)
class Stamping:
    """What this node stamps with, as leader."""

    core: StampedLog
    agreed_time: AgreedTime
    lease_time: LeaseTime
    machine: Callable[[], Machine]
    clock: Callable[[], float]
    wall_ms: Callable[[], int]
    all_read: Callable[[], bool]
    """Is every member known to read that lease time has come less far?"""

    _said_term: int = field(default=0, init=False)
    _said_index: int = field(default=0, init=False)
    _said_leapt_ms: int = field(default=0, init=False)
    """The newest entry of this leader that says how far lease time has come, and what was leapt by then."""

    def stamp_ms(self) -> int:
        """The time to stamp the next entry with; where it leaps, an entry that says so is in the log already."""
        machine, now_s, term = self.machine(), self.clock(), self.core.term
        time_ms = self.agreed_time.read(term=term, wall_ms=self.wall_ms(), machine_ms=machine.clock_ms, now_s=now_s)
        leapt_ms = machine.leapt_ms
        if term == self._said_term and machine.applied_index < self._said_index:
            leapt_ms = self._said_leapt_ms
        lease_ms = self.lease_time.led(time_ms - leapt_ms, now_s)
        if lease_ms is None:
            return time_ms
        if not machine.adopted.events and not self.all_read():
            # Whether members read it shows when all that was committed before is applied; a leap can wait until then.
            return time_ms if self.core.leads_committed_term else lease_ms + leapt_ms
        self._said_leapt_ms = time_ms - lease_ms
        entry = entries.encode(time_ms, LEADER_ORIGIN, 0, LeaseTimeCommand(lease_ms))
        self._said_index, self._said_term = self.core.append(entry)
        return time_ms

    def applied(self, term: int) -> None:
        """The state has come to the stamp of an entry of ``term``; a leader's own tell it nothing new."""
        if not self.core.is_leader:
            self.lease_time.followed(self.machine().lease_ms, self.clock())
        elif term < self.core.term:
            self.lease_time.inherited(self.machine().lease_ms, self.clock())
