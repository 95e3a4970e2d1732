"""A follower's side of replication: appends as they arrive, late if so configured, while there is room for them.

Must not decide what an append means; that is the engine's, behind its guards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from raftkv.formats.peers import MalformedMessageError
from raftkv.formats.raft_messages import Append
from raftkv.raft.delays import Delays
from raftkv.raft.leadership.elections import Elections
from raftkv.raft.ports import Handlers
from raftkv.raft.room import DiskRoom


class FollowedLog(Protocol):
    """The engine as a follower's log."""

    def take_append(self, peer: str, append: Append, now_s: float) -> bool:
        """Take an append in as far as it may be; false when it belongs to an older term. Raises as handlers do."""


@dataclass(kw_only=True, eq=False, repr=False)
class Arrivals:
    """Appends on their way from the connection into the engine."""

    engine: FollowedLog
    elections: Elections
    delays: Delays
    room: DiskRoom

    def handlers(self) -> Handlers:
        """See ``Part``."""
        return {Append: self._on_append}

    def take_late(self, now_s: float, refuse: Callable[[str, MalformedMessageError], None]) -> None:
        """Take in the appends that artificial delays have held until now."""
        for peer in self.delays.peers:
            try:
                for append in self.delays.arriving(peer).due(now_s):
                    self._take(peer, append, now_s)
            except MalformedMessageError as error:
                refuse(peer, error)

    def _on_append(self, peer: str, append: Append, now_s: float) -> None:
        self._take(peer, self.delays.arriving(peer).put(append, now_s), now_s)

    def _take(self, peer: str, append: Append, now_s: float) -> None:
        if self.room.is_gone and append.entries:  # they come again, once what follows them does not fit our log
            append = Append(term=append.term, commit_index=append.commit_index, sequence=append.sequence)
        if self.engine.take_append(peer, append, now_s):
            self.elections.heard(now_s)
