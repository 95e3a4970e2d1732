"""Handing over: a leader makes way for a member that it chose, within a round trip and without an election timeout.

After the leadership transfer of the Raft thesis (section 3.10): the leader takes no more proposals, waits until the
member holds all of its log, and tells it to stand for election at once. What differs from an ordinary election, and why
it is safe:

- Who stands because it was told to says so in its request, and votes are not withheld from it (21): the promise to
  withhold them is made to the leader of the term before, which gave it back. It proves itself by that term: the word
  counts for the very term of the leader that gave it, and the request for the term after it, and for no other.
- Lease reads rest on that promise (22). So whoever hands over never again holds a lease in that term, whatever comes of
  it: the word may be long on its way. Should it go on to lead, lease reads take a round, as linearizable ones do.
- Everything else is an election like any other, so loss, duplication and pauses cost time only. When nothing has come
  of it after an election timeout, the leader takes proposals again, and may choose another member later.

Proposals that come in meanwhile are held, within bounds: they go into the log of this leader or are declined, and then
their proposers turn to the next one.

Pure bookkeeping: no clock, no I/O; what ``step`` says is posted. Times in seconds, monotonic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from raftkv.formats.raft_messages import HandOver, Propose
from raftkv.process.loggers import get_logger
from raftkv.raft.electorate import Electorate
from raftkv.raft.ports import Leading, Outgoing
from raftkv.raft.room import DiskRoom

HELD_COUNT: Final = 1024
"""Proposals of peers held at most; a peer has one under way unless its clients ask for the leader alone."""

REST_TIMEOUTS: Final = 2
"""So many election timeouts after one attempt comes the next."""


log_line = get_logger("raftkv.raft")


class LedLog(Leading, Protocol):
    """The engine, as far as a leader knows by it who holds what."""

    last_index: int
    leads_committed_term: bool

    def match_index(self, peer: str) -> int:
        """Up to which index ``peer`` is known to hold the same log."""

    def match_indexes(self) -> dict[str, int]:
        """The same of every follower that is connected; empty if this node does not lead."""


class _Attempt(msgspec.Struct, kw_only=True):
    term: int
    target: str
    until_s: float
    told: bool = False


class Handover:
    """One node's part in handing over, as the leader that does it; ``under_way`` while it takes no proposals."""

    def __init__(
        self,
        *,
        electorate: Electorate,
        core: LedLog,
        outgoing: Outgoing,
        room: DiskRoom,
        election_timeout_s: float,
        held_bytes: int,
        forswear: Callable[[int], None],
    ) -> None:
        """``forswear`` gives up the lease of a term for good; ``held_bytes`` bounds the proposals that are held."""
        self._electorate = electorate
        self._core = core
        self._outgoing = outgoing
        self._room = room
        self._timeout_s = election_timeout_s
        self._held_limit_bytes = held_bytes
        self._forswear = forswear
        self._attempt: _Attempt | None = None
        self._rested_at_s = float("-inf")
        self._has_room: dict[str, bool] = {}
        self._held: list[tuple[str, Propose]] = []
        self._held_bytes = 0

    @property
    def under_way(self) -> bool:
        """Does this leader take no proposals because it hands over?"""
        return self._attempt is not None

    @property
    def is_due(self) -> bool:
        """Is there anything for ``work`` to do?"""
        return self._room.is_full or self._attempt is not None or bool(self._held)

    @property
    def takes_writes(self) -> bool:
        """Does this leader take writes, or hold them until another takes them?"""
        return not self._room.is_full or self._attempt is not None

    def work(self, now_s: float) -> None:
        """A leader whose disk is full makes way for a member that has room."""
        core = self._core
        if self._room.is_full:
            self.hand_over(None, now_s)
        word = self.step(
            led_term=core.term if core.is_leader else None,
            match_index=core.match_index,
            last_index=core.last_index,
            now_s=now_s,
        )
        if word is not None:
            self._outgoing.post(*word)

    def hand_over(self, target: str | None, now_s: float, *, asked: bool = False) -> bool:
        """As leader, begin to hand over to ``target``, or to whoever has room and lacks least; did it begin?

        ``asked``: by a person, who need not wait because this was tried a moment ago.
        """
        core = self._core
        if not core.leads_committed_term:
            return False
        voters = self._electorate.other_voters
        matches = {peer: index for peer, index in core.match_indexes().items() if peer in voters}
        if asked and self._attempt is None:
            self._rested_at_s = now_s
        target = self.choose(matches) if target is None else target
        if target not in matches or not self.begin(target, term=core.term, now_s=now_s):
            return False
        log_line.info("handing over", to=target, term=core.term)
        return True

    def told(self, peer: str, *, has_room: bool) -> None:
        """``peer`` said whether its disk has room."""
        self._has_room[peer] = has_room

    def has_room(self, peer: str) -> bool:
        """May ``peer`` have room for what a leader writes: it has not said otherwise since it was connected?"""
        return self._has_room.get(peer, True)

    def lost(self, peer: str) -> None:
        """The connection to ``peer`` is gone."""
        self._has_room.pop(peer, None)

    def choose(self, match_indexes: Mapping[str, int]) -> str | None:
        """Of the connected followers that have room, the one that lacks least; ``None`` if there is none."""
        able = [(index, peer) for peer, index in match_indexes.items() if self._has_room.get(peer)]
        return max(able)[1] if able else None

    def begin(self, target: str, *, term: int, now_s: float) -> bool:
        """As leader of ``term``, start to hand over to ``target``; false while an attempt is under way, or just was."""
        if self._attempt is not None or now_s < self._rested_at_s:
            return False
        self._attempt = _Attempt(term=term, target=target, until_s=now_s + self._timeout_s)
        self._rested_at_s = now_s + (1 + REST_TIMEOUTS) * self._timeout_s
        return True

    def step(
        self, *, led_term: int | None, match_index: Callable[[str], int], last_index: int, now_s: float
    ) -> tuple[str, HandOver] | None:
        """Go on; returns the word and whom to send it to, once, when the target holds the log up to ``last_index``.

        ``led_term`` is the term that this node leads now. The attempt ends with its term, or after its time.
        """
        attempt = self._attempt
        if attempt is None:
            return None
        if led_term != attempt.term or now_s >= attempt.until_s:
            self._attempt = None
        elif not attempt.told and match_index(attempt.target) >= last_index:
            attempt.told = True
            self._forswear(attempt.term)
            return attempt.target, HandOver(term=attempt.term)
        return None

    def hold(self, peer: str, proposal: Propose) -> bool:
        """Keep a proposal until the attempt is over; false when there are too many."""
        size_bytes = self._held_bytes + len(proposal.body)
        if len(self._held) >= HELD_COUNT or size_bytes > self._held_limit_bytes:
            return False
        self._held.append((peer, proposal))
        self._held_bytes = size_bytes
        return True

    def release(self) -> list[tuple[str, Propose]]:
        """The proposals that were held, once no attempt is under way."""
        if self._attempt is not None or not self._held:
            return []
        held, self._held, self._held_bytes = self._held, [], 0
        return held
