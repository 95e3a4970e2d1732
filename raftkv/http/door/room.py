"""What the clients of one worker make it hold, in bytes over all connections, and who is let go when it is too much.

Counted are request heads and bodies while they come in, requests that are being worked on, and answers that their
readers have not taken. Rules: what is held stays under one bound, give or take what one turn of the loop brings; while
room is short, those who move fewer than ``SHORT_BYTES_PER_S`` are let go, those who hold most first, and when that is
not enough, new requests are refused; with room enough, nobody who moves ``SLOWEST_BYTES_PER_S`` is let go. Connections
are bounded as well: the longest idle makes room for a new one. No sockets, no clock of its own; whoever reads sockets,
gunicorn's worker or another front door, reports to it. Must not import Flask.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final, Protocol

PATIENCE_S: Final = 30.0
SLOWEST_BYTES_PER_S: Final = 16 << 10
"""A body or an answer may take this long, and more while it moves faster than this: one that drips holds nobody."""

SHORT_PATIENCE_S: Final = 1.0
SHORT_BYTES_PER_S: Final = 256 << 10
"""The same while room is short."""

LOOK_EVERY_S: Final = 0.1
"""Those who are slow are looked for no more often: there may be thousands."""

IDLE_S: Final = 1.0
"""A connection that was silent for less is in use: the client may be about to ask again."""

SPARE_CONNECTIONS: Final = 32
"""Connections beyond the bound, for health alone; the one that is silent longest makes room at once."""


class Holding:
    """What one body, head or answer holds. ``look`` says, where it is given, how many bytes of it are left now."""

    __slots__ = ("_let_go", "_look", "_room", "_whole_bytes", "began_s", "held_bytes", "moved_bytes")

    def __init__(
        self, room: HeldBytes, let_go: Callable[[], None], look: Callable[[], int] | None, now_s: float
    ) -> None:
        self._room = room
        self._let_go = let_go
        self._look = look
        self._whole_bytes = 0 if look is None else look()
        self.began_s = now_s
        self.held_bytes = 0
        self.moved_bytes = 0
        self.grow(self._whole_bytes)

    def grow(self, size_bytes: int) -> None:
        """So many bytes more came in."""
        self.held_bytes += size_bytes
        self._room.held_bytes += size_bytes

    def moved(self, size_bytes: int) -> None:
        """So many bytes came in, or were taken, in all."""
        self.moved_bytes = size_bytes

    def refresh(self) -> None:
        """See what is left."""
        if self._look is not None:
            left_bytes = self._look()
            self.grow(left_bytes - self.held_bytes)
            self.moved_bytes = self._whole_bytes - left_bytes

    def is_slow(self, now_s: float, *, patience_s: float, bytes_per_s: int) -> bool:
        """Has it had its time, and moved too little in it?"""
        age_s = now_s - self.began_s
        return age_s > patience_s and self.moved_bytes < age_s * bytes_per_s

    def let_go(self) -> None:
        """Its client was too slow: give its room back, and have it ended."""
        self.close()
        self._let_go()

    def close(self) -> None:
        """It is over, however it ended."""
        self._room.forget(self)


class HeldBytes:
    """The bytes of one worker. ``limit_bytes`` bounds what all hold together."""

    def __init__(self, limit_bytes: int, *, monotonic_s: Callable[[], float]) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._monotonic_s = monotonic_s
        self._holdings: dict[Holding, None] = {}
        self._looked_s = 0.0

    @property
    def is_full(self) -> bool:
        """Is there no room left, unless those who are slow are let go?"""
        return self.held_bytes > self.limit_bytes

    def hold(self, let_go: Callable[[], None], look: Callable[[], int] | None = None) -> Holding:
        """A new holding; ``let_go`` is called when its client is too slow."""
        holding = Holding(self, let_go, look, self._monotonic_s())
        self._holdings[holding] = None
        return holding

    def forget(self, holding: Holding) -> None:
        """``holding`` is over."""
        if self._holdings.pop(holding, self) is not self:
            self.held_bytes -= holding.held_bytes

    def has_room(self, size_bytes: int = 0) -> bool:
        """Is there room for so many bytes more, if need be when those who are slow are let go?"""
        if self.held_bytes + size_bytes <= self.limit_bytes:
            return True
        now_s = self._monotonic_s()
        if now_s - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now_s
            self._make(size_bytes, now_s)
        return self.held_bytes + size_bytes <= self.limit_bytes

    def _make(self, size_bytes: int, now_s: float) -> None:
        for holding in self._holdings:
            holding.refresh()
        slow = [
            holding
            for holding in self._holdings
            if holding.is_slow(now_s, patience_s=SHORT_PATIENCE_S, bytes_per_s=SHORT_BYTES_PER_S)
        ]
        for holding in sorted(slow, key=lambda one: -one.held_bytes):
            if self.held_bytes + size_bytes <= self.limit_bytes:
                return
            holding.let_go()


class Seated(Protocol):
    """A connection, as ``Seats`` sees it."""

    def idle_since_s(self) -> float | None:
        """Since when nothing was asked on it (monotonic); ``None`` while something is."""

    def give_way(self) -> None:
        """Close; ``leave`` was called already."""


class Seats:
    """Who is connected: at most ``limit``, and a few more for health alone."""

    def __init__(self, limit: int, *, monotonic_s: Callable[[], float]) -> None:
        self._limit = limit
        self._monotonic_s = monotonic_s
        self._taken: dict[Seated, None] = {}
        self._spare: dict[Seated, None] = {}

    def enter(self, seated: Seated) -> bool:
        """Take a seat; false: one of the spare ones, from which only health is asked."""
        if len(self._taken) >= self._limit:
            self._make_room()
        if len(self._taken) < self._limit:
            self._taken[seated] = None
            return True
        if len(self._spare) >= SPARE_CONNECTIONS:
            first = next(iter(self._spare))
            self.leave(first)
            first.give_way()
        self._spare[seated] = None
        return False

    def leave(self, seated: Seated) -> None:
        """The connection is closed."""
        self._taken.pop(seated, None)
        self._spare.pop(seated, None)

    def _make_room(self) -> None:
        """Let several go at a time, since to find them all have to be looked at."""
        latest_s = self._monotonic_s() - IDLE_S
        idle = [
            (since_s, place) for place, one in enumerate(self._taken) if (since_s := one.idle_since_s()) is not None
        ]
        longest = heapq.nsmallest(max(1, self._limit // 64), [found for found in idle if found[0] <= latest_s])
        seated = list(self._taken) if longest else []
        for _, place in longest:
            self.leave(seated[place])
            seated[place].give_way()
