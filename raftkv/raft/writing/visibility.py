"""Which index readers of each node's applied state see, for writes that are answered once every replica shows them.

A replica that holds an entry durably may not have applied it yet, so a client told "on all replicas" could read an old
value at one of them a moment later. Acknowledgements beyond the majority, and that of every replica, therefore count
replicas that *show* the entry: it is applied, and committed to the tables that local readers look at. The leader asks
for an index; a follower answers whenever its own has moved, until it has reached what was asked for. Questions and
answers may be lost with a connection, so the leader repeats the question.

Nobody is asked as long as nobody waits. Pure bookkeeping: no clock, no I/O.
"""

from __future__ import annotations

from raftkv.formats.raft_messages import AppliedShown, AskApplied
from raftkv.raft.electorate import Electorate
from raftkv.raft.ports import Handlers, Leading
from raftkv.raft.standing.readmission import Readmission


def shown_from(electorate: Electorate) -> int:
    """From how many acknowledgements on replicas must show a write, not only hold it."""
    return max(2, min(electorate.majority + 1, electorate.size))


class Visibility:
    """The visible index of this node, and, on a leader, what is known of the others'."""

    def __init__(self, core: Leading, readmission: Readmission, visible_index: int) -> None:
        self._core = core
        self._readmission = readmission
        self._index = visible_index
        self._awaited_index = 0
        self._asked: tuple[str, int] | None = None
        self._of_peers: dict[str, int] = {}
        self._to_tell = False

    def handlers(self) -> Handlers:
        """See ``Part``."""
        return {AskApplied: self._on_ask_applied, AppliedShown: self._on_applied}

    @property
    def awaited(self) -> bool:
        """Does anyone wait for an index that is not visible here?"""
        return self._index < self._awaited_index

    def committed(self, applied_index: int) -> None:
        """Everything up to ``applied_index`` can be read now."""
        self._to_tell = self._to_tell or self.awaited
        self._index = applied_index

    def forget(self) -> None:
        """Another term, another leader: whoever waits asks again."""
        self._awaited_index = 0
        self._asked = None
        self._of_peers.clear()
        self._to_tell = False

    # --- on a follower

    def _on_ask_applied(self, peer: str, ask: AskApplied, _now_s: float) -> None:
        """The leader waits until this node shows an index."""
        if ask.term != self._core.term or self._core.is_leader or self._readmission.is_stopped:
            return
        self._asked = (peer, ask.term)
        self.awaits(ask.index)
        self._to_tell = True

    def news(self) -> tuple[str, AppliedShown] | None:
        """What to tell the leader now, if it asked and there is something to tell."""
        if not self._to_tell or self._asked is None:
            return None
        self._to_tell = False
        peer, term = self._asked
        return peer, AppliedShown(term=term, index=self._index)

    # --- on the leader

    def awaits(self, index: int) -> None:
        """Somebody waits until ``index`` is visible."""
        self._awaited_index = max(self._awaited_index, index)

    def _on_applied(self, peer: str, applied: AppliedShown, _now_s: float) -> None:
        if self._core.is_leader and applied.term == self._core.term:
            self._of_peers[peer] = max(applied.index, self._of_peers.get(peer, 0))

    def lost(self, peer: str) -> None:
        """The connection to ``peer`` is gone; it may come back with less."""
        self._of_peers.pop(peer, None)

    def indexes(self) -> list[int]:
        """The visible indexes of all that are known, the highest first."""
        return sorted([self._index, *self._of_peers.values()], reverse=True)

    def shows(self, peer: str, index: int) -> bool:
        """Is ``peer`` known to show everything up to ``index``?"""
        return self._of_peers.get(peer, 0) >= index
