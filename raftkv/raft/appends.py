"""Commands on their way into the leader's log, and the watch over how many replicas hold them.

A client that asks for a certain number of acknowledgements is answered when that many replicas hold its write
durably. Our own copy counts from the moment of appending, because the log is flushed before anyone hears of it. A
watch is given up once no client can be waiting for it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import msgspec

from raftkv.machine.command import stamp
from raftkv.raft.internals import Core, StableNode
from raftkv.raft.messages import Replicated
from raftkv.raft.proposals import Proposals
from raftkv.raft.transport import GuardedTransport

WATCH_S: Final = 60.0
"""No request may wait longer than this (``raftkv.http``), so no watch needs to."""


class _Watch(msgspec.Struct, frozen=True, kw_only=True):
    """Tell ``peer`` (``None``: this node itself) when ``acks`` replicas hold the log up to ``index``."""

    index: int
    acks: int
    peer: str | None
    sequence: int
    until_s: float


class Appends:
    """The leader's appending, for itself and for those who forward to it."""

    def __init__(
        self,
        *,
        core: Core,
        nodes: Collection[StableNode],
        proposals: Proposals,
        transport: GuardedTransport,
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
    ) -> None:
        self._core = core
        self._nodes = nodes
        self._proposals = proposals
        self._transport = transport
        self._clock = clock
        self._wall_ms = wall_ms
        self._watches: list[_Watch] = []

    def append(self, body: bytes, acks: int, peer: str | None, sequence: int) -> None:
        """Stamp a command with the leader's clock and append it; ``acks`` 0 asks for no watch."""
        index, _ = self._core.append(stamp(body, self._wall_ms()))
        if peer is not None:
            self._transport.await_commit(peer, index)
        if acks:
            until_s = self._clock() + WATCH_S
            self._watches.append(_Watch(index=index, acks=acks, peer=peer, sequence=sequence, until_s=until_s))

    def settle(self) -> None:
        """Tell everyone whose number of replicas is reached."""
        if not self._watches:
            return
        now_s = self._clock()
        matches = sorted((self._core.match_index(node) for node in self._nodes), reverse=True)
        held = [self._core.last_index, *matches]
        waiting = []
        for watch in self._watches:
            if held[watch.acks - 1] < watch.index:
                if now_s < watch.until_s:
                    waiting.append(watch)
            elif watch.peer is None:
                self._proposals.replicated(watch.sequence)
            else:
                self._transport.post(watch.peer, Replicated(sequence=watch.sequence))
        self._watches = waiting

    def forget(self) -> None:
        """Drop every watch: this node leads no more, or in another term."""
        self._watches.clear()
