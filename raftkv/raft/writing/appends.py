"""Commands on their way into the leader's log, and the watch over how many replicas hold them.

A client that asks for a certain number of acknowledgements is answered when that many replicas hold its write durably;
beyond a majority, when that many show it to readers (``raftkv.raft.writing.visibility``). Our own copy counts from the
moment of appending, because the log is flushed before anyone hears of it. A watch is given up once no client can be
waiting for it any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from raftkv.core.errors import Code, Refused
from raftkv.formats.entries import stamp
from raftkv.formats.raft_messages import AskApplied, Replicated
from raftkv.raft.electorate import Electorate
from raftkv.raft.ports import Outgoing
from raftkv.raft.writing.proposals import Proposals
from raftkv.raft.writing.visibility import Visibility, shown_from

WATCH_S: Final = 60.0
"""No request may wait longer than this (``raftkv.http``), so no watch needs to."""

ASK_AGAIN_S: Final = 0.1
"""How often followers are asked anew how far they show the log; answers need not be asked for twice, losses do."""


class LeadersLog(Protocol):
    """The engine's log, for the appending of a leader, and who is known to hold it."""

    term: int
    last_index: int

    def append(self, *command: bytes) -> tuple[int, int]:
        """Put the parts of a command into the log and towards the peers; returns its (index, term)."""

    def match_index(self, peer: str) -> int:
        """Up to which index ``peer`` is known to hold the same log."""


class _Watch(msgspec.Struct, frozen=True, kw_only=True):
    """Tell ``peer`` (``None``: this node itself) when ``acks`` replicas hold the log up to ``index``."""

    index: int
    acks: int
    peer: str | None
    sequence: int
    until_s: float


@dataclass(kw_only=True, eq=False, repr=False)
class Appends:
    """The leader's appending, for itself and for those who forward to it."""

    electorate: Electorate
    core: LeadersLog
    proposals: Proposals
    outgoing: Outgoing
    visibility: Visibility
    clock: Callable[[], float]
    stamp_ms: Callable[[], int]

    _asked_at_s: float = field(default=float("-inf"), init=False)
    _watches: list[_Watch] = field(default_factory=list, init=False)

    def too_few(self, acks: int) -> Refused | None:
        """Why a write that asks for ``acks`` replicas cannot have them now, if it cannot: nobody waits for the gone.

        A majority is not asked about: whether there is one is for elections to find out.
        """
        electorate = self.electorate
        connected = 1 + sum(self.outgoing.is_up(peer) for peer in electorate.other_voters)
        if acks <= max(connected, electorate.majority):
            return None
        detail = f"w={acks}, but the leader reaches only {connected} of {electorate.size} nodes, itself included"
        return Refused(code=Code.QUORUM_UNREACHABLE, detail=detail, retry_after_s=1.0)

    def append(self, command_format: int, body: tuple[bytes, ...], acks: int, peer: str | None, sequence: int) -> None:
        """Stamp the parts of a body with the agreed time and append them; ``acks`` 0 asks for no watch."""
        index, _ = self.core.append(stamp(command_format, self.stamp_ms()), *body)
        if peer is not None:
            self.outgoing.await_commit(peer, index)
        if acks:
            now_s = self.clock()
            watch = _Watch(index=index, acks=acks, peer=peer, sequence=sequence, until_s=now_s + WATCH_S)
            self._watches.append(watch)
            if acks >= shown_from(self.electorate):
                self.visibility.awaits(index)
                self._ask_applied(index, now_s)

    def settle(self) -> None:
        """Tell everyone whose number of replicas is reached."""
        if not self._watches:
            return
        now_s = self.clock()
        matches = sorted((self.core.match_index(peer) for peer in self.electorate.other_voters), reverse=True)
        held, shown = [self.core.last_index, *matches], self.visibility.indexes()
        from_shown = shown_from(self.electorate)
        waiting = []
        for watch in self._watches:
            reached = held if watch.acks < from_shown else shown
            if len(reached) < watch.acks or reached[watch.acks - 1] < watch.index:
                if now_s < watch.until_s:
                    waiting.append(watch)
            elif watch.peer is None:
                self.proposals.replicated(watch.sequence)
            else:
                self.outgoing.post(watch.peer, Replicated(sequence=watch.sequence))
        self._watches = waiting
        if now_s - self._asked_at_s >= ASK_AGAIN_S:
            self._ask_applied(max((w.index for w in waiting if w.acks >= from_shown), default=0), now_s)

    def _ask_applied(self, index: int, now_s: float) -> None:
        """Have every follower told of the commit of ``index`` without delay, and tell when it shows it."""
        self._asked_at_s = now_s
        for peer in self.electorate.others:
            if not self.visibility.shows(peer, index):
                self.outgoing.await_commit(peer, index)
                self.outgoing.post(peer, AskApplied(term=self.core.term, index=index))

    def forget(self) -> None:
        """Drop every watch: this node leads no more, or in another term."""
        self._watches.clear()
