"""Artificial delays, so that windows of inconsistency can be seen: waits are scheduled, nothing here blocks.

After each message that carries entries the leader waits before it sends to the next follower, so the follower at
place k, counted from 0, gets them k times the wait later; a follower waits before it takes entries in, and before it
answers a read. Entries stay in their order. Heartbeats, votes, pings and everything else that holds a cluster together
are never delayed: entries that are held leave a heartbeat in their place, and an append without entries that would
overtake some becomes one, because a follower would take it for a gap. The commit index it carried goes with the entries
that it overtook. What finds no room is dropped, as a network would; the leader sends it again.

Pure bookkeeping: time enters as a value. All is 0 unless configured, and then messages pass unchanged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import msgspec

from raftkv.core.delays import DelaysSection
from raftkv.formats.raft_messages import Append


class AppendLine:
    """Appends from a leader to one follower, each with entries ``delay_s`` late."""

    def __init__(self, delay_s: float, limit_bytes: int) -> None:
        self._delay_s = delay_s
        self._limit_bytes = limit_bytes
        self._waiting: deque[tuple[float, int, Append]] = deque()
        self._told = (0, 0)
        self.waiting_bytes = 0

    @property
    def next_s(self) -> float:
        """When the next one is due; infinite when none waits."""
        return self._waiting[0][0] if self._waiting else float("inf")

    def put(self, append: Append, now_s: float) -> Append:
        """Take ``append`` in; returns what goes on at once in its place."""
        if not self._delay_s:
            return append
        if append.entries:
            size_bytes = sum([len(entry[0]) for entry in append.entries])
            if not self._waiting or self.waiting_bytes + size_bytes <= self._limit_bytes:
                self._waiting.append((now_s + self._delay_s, size_bytes, append))
                self.waiting_bytes += size_bytes
        elif not self._waiting or not append.previous_index:
            return append
        else:
            self._told = (append.term, append.commit_index)
        return Append(term=append.term, commit_index=append.commit_index, sequence=append.sequence)

    def due(self, now_s: float) -> Iterator[Append]:
        """Take out what has waited long enough."""
        while self._waiting and self._waiting[0][0] <= now_s:
            _, size_bytes, append = self._waiting.popleft()
            self.waiting_bytes -= size_bytes
            told_term, told_commit_index = self._told
            if told_term == append.term and told_commit_index > append.commit_index:
                append = msgspec.structs.replace(append, commit_index=told_commit_index)
            yield append

    def clear(self) -> None:
        """The connection is gone, and with it what was on its way."""
        self._waiting.clear()
        self.waiting_bytes = 0


class Delays:
    """All delays of one node."""

    def __init__(self, section: DelaysSection, *, peers: Sequence[str], limit_bytes: int, max_waiting: int) -> None:
        """``limit_bytes`` bounds what waits in each direction for each peer, ``max_waiting`` the reads."""
        step_s = section.leader_after_message_s
        self._step_s, self._update_s, self._limit_bytes = step_s, section.follower_update_s, limit_bytes
        self._leaving: dict[str, AppendLine] = {}
        self._arriving: dict[str, AppendLine] = {}
        for peer in peers:
            self._add(peer)
        self._reads: deque[tuple[float, Callable[[], None]]] = deque()
        self._max_waiting = max_waiting
        self.read_s = section.follower_read_s
        self.active = section != DelaysSection()

    @property
    def next_s(self) -> float:
        """When something is due; infinite when nothing waits."""
        lines = (*self._leaving.values(), *self._arriving.values())
        next_read_s = self._reads[0][0] if self._reads else float("inf")
        return min([next_read_s, *[line.next_s for line in lines]])

    @property
    def peers(self) -> tuple[str, ...]:
        """Those between whom and this node anything may wait; a node that is let in knows the members only later."""
        return tuple(self._leaving)

    def _add(self, peer: str) -> None:
        """Members that came later are behind the others."""
        self._leaving[peer] = AppendLine(len(self._leaving) * self._step_s, self._limit_bytes)
        self._arriving[peer] = AppendLine(self._update_s, self._limit_bytes)

    def leaving(self, peer: str) -> AppendLine:
        """What this node, as leader, sends to ``peer``."""
        if peer not in self._leaving:
            self._add(peer)
        return self._leaving[peer]

    def arriving(self, peer: str) -> AppendLine:
        """What ``peer``, as leader, sent to this node."""
        if peer not in self._arriving:
            self._add(peer)
        return self._arriving[peer]

    def link_down(self, peer: str) -> None:
        """The connection to ``peer`` is gone."""
        self.leaving(peer).clear()
        self.arriving(peer).clear()

    def before_read(self, action: Callable[[], None], now_s: float) -> bool:
        """Do ``action`` once a follower's reads may be answered; false when too many wait."""
        if not self.read_s:
            action()
            return True
        if len(self._reads) >= self._max_waiting:
            return False
        self._reads.append((now_s + self.read_s, action))
        return True

    def due_reads(self, now_s: float) -> Iterator[Callable[[], None]]:
        """The actions whose time has come."""
        while self._reads and self._reads[0][0] <= now_s:
            yield self._reads.popleft()[1]
