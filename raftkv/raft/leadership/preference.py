"""Preference: a leader makes way for the member that is configured to lead, once that has been well for a while.

Each node says for itself that it wants to lead rather than others, by its own file (``raft.preferred_leader``). So
files that differ can send leadership to and fro no more than once: who wants to lead itself makes way for nobody. Where
nobody wants to, or nobody who wants to is well, whoever leads goes on.

The member says so once an election timeout, as long as it counts and has room. It is well if by then it holds all that
the log held the time before: it writes to its disk, and keeps up. An attempt that comes to nothing costs clients a
moment and the leader its lease (``handover``), so each one in a term waits twice as long as the one before.

Time enters as a value, in seconds, monotonic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from raftkv.formats.commands import CALLERS_FORMAT
from raftkv.formats.raft_messages import WantToLead
from raftkv.raft.electorate import Electorate
from raftkv.raft.leadership.handover import Handover
from raftkv.raft.ports import Handlers, Leading, Outgoing
from raftkv.raft.room import DiskRoom
from raftkv.raft.standing.readmission import Readmission

WELL_TIMES: Final = 10
"""So many times on end, an election timeout apart, a member must have been well: what comes and goes is not to lead."""

WELL_TIMES_MAX: Final = 640


class LogWithEnd(Leading, Protocol):
    """The engine, as far as a leader knows by it who holds what."""

    leader_id: str | None
    last_index: int

    def match_index(self, peer: str) -> int:
        """Up to which index ``peer`` is known to hold the same log."""


class _Wish(msgspec.Struct):
    """What a leader knows of a member that wants to lead: ``well_count`` times on end it held all up to the index."""

    heard_at_s: float
    end_index: int
    well_count: int = 0


@dataclass(kw_only=True, eq=False, repr=False)
class Preference:
    """One node's part in it; ``is_preferred``: by its file it is to lead itself."""

    is_preferred: bool
    electorate: Electorate
    core: LogWithEnd
    outgoing: Outgoing
    handover: Handover
    readmission: Readmission
    room: DiskRoom
    reads: Callable[[str], int]
    """Tells the newest format of commands that a peer is known to read, and by that whether it knows the message."""

    election_timeout_s: float

    _due_s: float = field(default=float("-inf"), init=False)
    _wishes: dict[str, _Wish] = field(default_factory=dict, init=False)
    _term: int = field(default=0, init=False)
    _times: int = field(default=WELL_TIMES, init=False)

    def handlers(self) -> Handlers:
        """See ``Part``."""
        return {WantToLead: self._on_want_to_lead}

    def lost(self, peer: str) -> None:
        """The connection to ``peer`` is gone."""
        self._wishes.pop(peer, None)

    def work(self, now_s: float) -> None:
        """Tell the leader if this node is to lead."""
        core = self.core
        if not self.is_preferred or core.is_leader or now_s < self._due_s:
            return
        self._due_s = now_s + self.election_timeout_s
        leader = core.leader_id
        could = self.readmission.counts and not self.room.is_full
        if could and leader in self.electorate.others and self.reads(leader) >= CALLERS_FORMAT:
            self.outgoing.post(leader, WantToLead(term=core.term))

    def _on_want_to_lead(self, peer: str, wish: WantToLead, now_s: float) -> None:
        core = self.core
        if self.is_preferred or not core.is_leader or wish.term != core.term:
            return
        if core.term != self._term:
            self._term, self._times, self._wishes = core.term, WELL_TIMES, {}
        before = self._wishes.get(peer)
        count = self._well_count(peer, before, now_s)
        self._wishes[peer] = _Wish(now_s, core.last_index, count)
        if count >= self._times and peer in self.electorate.voters.names and self.handover.hand_over(peer, now_s):
            self._times = min(2 * self._times, WELL_TIMES_MAX)
            self._wishes.clear()

    def _well_count(self, peer: str, before: _Wish | None, now_s: float) -> int:
        """How many times on end ``peer`` has been well by now."""
        if before is None or now_s - before.heard_at_s > 2 * self.election_timeout_s:
            return 0
        return before.well_count + 1 if self.core.match_index(peer) >= before.end_index else 0
