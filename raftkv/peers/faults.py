"""Faults on purpose, at this node's own link: what tests and the laboratory use to drop, delay and cut.

``LinkFaults`` holds what is wanted now; ``FaultGate`` applies it to one direction of one connection. Both are pure:
time enters as a value. With no fault set the link pays one attribute look per batch. Imports the standard library and
msgspec only.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Mapping

import msgspec


class Direction(enum.Enum):
    """As seen from the node that holds the faults."""

    TO_PEER = "to_peer"
    FROM_PEER = "from_peer"


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to messages of one peer in one direction.

    ``drop``: they vanish while the connection stays; when that ends the connection is closed and made anew, for no
    stream resumes behind a gap. ``delay_s``: they pass later, in order. ``cut``: the connection is closed and no new
    one comes about, whichever direction names it.
    """

    drop: bool = False
    delay_s: float = 0.0
    cut: bool = False


NO_FAULT = Fault()


class LinkFaults:
    """The faults wanted now at one node's link; changed and read on the loop's thread."""

    def __init__(self) -> None:
        self.active = False
        self.on_change: Callable[[], None] | None = None
        self._faults: dict[tuple[str, Direction], Fault] = {}

    def set(self, peer: str, fault: Fault, *directions: Direction) -> None:
        """Wish ``fault`` upon ``peer``, in both directions unless some are named; ``Fault()`` takes it back."""
        for direction in directions or tuple(Direction):
            self._faults.pop((peer, direction), None)
            if fault != NO_FAULT:
                self._faults[peer, direction] = fault
        self._changed()

    def clear(self) -> None:
        """Take all faults back; what is delayed already still passes in its time and order."""
        self.replace({})

    def replace(self, faults: Mapping[tuple[str, Direction], Fault]) -> None:
        """Wish for exactly ``faults``, by peer and direction, in one change."""
        self._faults = {place: fault for place, fault in faults.items() if fault != NO_FAULT}
        self._changed()

    def fault(self, peer: str, direction: Direction) -> Fault:
        """What applies to ``peer`` in ``direction``."""
        return self._faults.get((peer, direction), NO_FAULT)

    def is_cut(self, peer: str) -> bool:
        """Is a connection with ``peer`` ruled out?"""
        return self.active and any(self.fault(peer, direction).cut for direction in Direction)

    def _changed(self) -> None:
        self.active = bool(self._faults)
        if self.on_change is not None:
            self.on_change()


class FaultGate:
    """One direction of one connection: what passes now, and what is held for later, always first in first out."""

    def __init__(self) -> None:
        self.held_bytes = 0
        self.has_gap = False
        self._held: deque[tuple[float, bytes]] = deque()

    @property
    def due_s(self) -> float | None:
        """When the next held message passes; ``None`` when none is held."""
        return self._held[0][0] if self._held else None

    def admit(self, payloads: list[bytes], fault: Fault, now_s: float) -> list[bytes]:
        """Offer ``payloads`` at ``now_s``; returns what passes at once."""
        if fault.drop:
            self.has_gap = self.has_gap or bool(payloads)
            return []
        if not self._held and not fault.delay_s:
            return payloads
        # A message never overtakes one sent before it, even when the delay has since become shorter.
        due_s = max(now_s + fault.delay_s, self._held[-1][0] if self._held else 0.0)
        self._held.extend((due_s, payload) for payload in payloads)
        self.held_bytes += sum(map(len, payloads))
        return []

    def release(self, now_s: float) -> list[bytes]:
        """What is due by ``now_s``, in order."""
        passed: list[bytes] = []
        while self._held and self._held[0][0] <= now_s:
            passed.append(self._held.popleft()[1])
        self.held_bytes -= sum(map(len, passed))
        return passed
