"""Reads that the front-end answers itself from the applied state, once a barrier says that the state is fit.

Readers that wait share a barrier (Raft dissertation, section 6.4: one round of heartbeats serves every read that came
before it). The one rule that everything rests on: a reader never joins a barrier that was already sent, because the
round behind it may have begun before a write that the reader must see. Pure bookkeeping: no sockets, no clock. Must not
import ``raft`` or ``http``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol, Self

from raftkv.core.errors import Refused
from raftkv.core.requests import Barrier, Consistency, LaterQuery, Query
from raftkv.core.results import Found
from raftkv.core.rights import Caller, Rights
from raftkv.frontend.outstanding import Waiting

ROUNDS_IN_FLIGHT: Final = 2
"""Barriers of one level under way at a time: the second keeps late readers from waiting for all of the first."""


class StateReader(Protocol):
    """The applied state as the front-end sees it. One thread owns it; a read takes microseconds and does not block.

    It is read within a ``with`` statement, which sees what was applied before it began, and nothing after. ``rights``
    and ``revision`` are those of the newest such view. All of it raises when the state is gone.
    """

    rights: Rights
    revision: int

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def read(self, query: Query | LaterQuery, caller: Caller | None) -> Found | Refused:
        """The answer of ``query``.

        It is refused if ``caller`` (``None``: the front-end itself) has no right to it, by what this very view says.
        """

    def counted(self) -> Mapping[str, int]:
        """How many keys, leases and events of the past there are."""

    def close(self) -> None:
        """Let go of the state."""


class BarrierRounds:
    """The barriers of one level: who waits for the next, and how many are under way."""

    def __init__(self, consistency: Consistency) -> None:
        self.barrier = Barrier(consistency=consistency)
        self._waiting: list[Waiting] = []
        self._in_flight = 0

    def add(self, reader: Waiting) -> None:
        """``reader`` waits for a barrier that is still to be sent."""
        self._waiting.append(reader)

    def next_round(self) -> list[Waiting]:
        """The readers of a barrier to send now; empty when nobody waits or enough barriers are under way."""
        if not self._waiting or self._in_flight >= ROUNDS_IN_FLIGHT:
            return []
        readers = [reader for reader in self._waiting if reader.outcome is None]
        self._waiting = []
        if readers:
            self._in_flight += 1
        return readers

    def finished(self) -> None:
        """A barrier was answered, refused or lost."""
        assert self._in_flight > 0
        self._in_flight -= 1

    def forget(self) -> None:
        """Those who still wait have their outcome."""
        self._waiting = []
