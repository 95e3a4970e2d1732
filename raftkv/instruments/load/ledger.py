"""Which write of each key was acknowledged when, and so: how old is what a read returned? Pure; time is a value.

Every write has a number, which its value carries. Version v is *older* than version u when v had certainly taken effect
before u began: v was acknowledged, or a read had returned it. Writes that were under way together have no order that a
client could know, and are never held against the store. Then a read is

- *stale* when every version it returned is older than the newest write of the key that was acknowledged before the
  read began, or when it returned none although there was such a write (then it also *missed* the key);
- *backward* when what it returned is older than what another read had already returned before it began: the key went
  back in time. A linearizable store never does either (Herlihy and Wing 1990).

The ledger keeps 16 bytes for every write and 40 for every key.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

import msgspec

NEVER_S: Final = float("inf")
BEFORE_ALL_S: Final = float("-inf")
FOREIGN: Final = -1
"""The number of a value that an earlier run left: older than any write of this one."""


class Before(msgspec.Struct, frozen=True):
    """What was known of a key when a read of it began.

    ``acknowledged_s`` and ``seen_s`` are when the newest write began that had been acknowledged, or seen by a read.
    ``newest`` and ``newest_began_s`` are the last write that had begun, and ``under_way`` whether any was unanswered.
    """

    acknowledged_s: float
    seen_s: float
    newest: int
    newest_began_s: float
    under_way: bool


class ReadJudgement(msgspec.Struct, frozen=True):
    """What a read's answer is; ``missed`` implies ``stale``. ``older_than_newest``: not (yet) the last write begun."""

    stale: bool
    missed: bool
    backward: bool
    older_than_newest: bool


class Ledger:
    """All writes of one run to keys 0 to ``keys`` - 1."""

    def __init__(self, keys: int) -> None:
        self._began_s = array("d")
        self._effective_s = array("d")
        self._acknowledged_s = array("d", [BEFORE_ALL_S]) * keys
        self._seen_s = array("d", [BEFORE_ALL_S]) * keys
        self._newest = array("q", [FOREIGN]) * keys
        self._newest_began_s = array("d", [BEFORE_ALL_S]) * keys
        self._under_way = array("q", [0]) * keys

    def write_begins(self, key: int, now_s: float) -> int:
        """A write of ``key`` is about to be sent; returns its number."""
        number = len(self._began_s)
        self._began_s.append(now_s)
        self._effective_s.append(NEVER_S)
        self._newest[key] = number
        self._newest_began_s[key] = now_s
        self._under_way[key] += 1
        return number

    def touched(self) -> list[int]:
        """The keys of which a write has begun."""
        return [key for key, number in enumerate(self._newest) if number != FOREIGN]

    def write_ends(self, key: int, number: int, now_s: float, *, acknowledged: bool) -> None:
        """The fate of a write is known, or will never be: without acknowledgement it proves nothing."""
        self._under_way[key] -= 1
        if acknowledged:
            self._effective_s[number] = min(self._effective_s[number], now_s)
            self._acknowledged_s[key] = max(self._acknowledged_s[key], self._began_s[number])

    def read_begins(self, key: int) -> Before:
        """A read of ``key`` is about to be sent."""
        return Before(
            self._acknowledged_s[key],
            self._seen_s[key],
            self._newest[key],
            self._newest_began_s[key],
            self._under_way[key] > 0,
        )

    def read_ends(self, key: int, before: Before, numbers: Sequence[int], now_s: float) -> ReadJudgement:
        """A read returned the versions ``numbers``, none when the key was not there."""
        effective_s = BEFORE_ALL_S
        newest = FOREIGN
        for number in numbers:
            if number == FOREIGN:
                continue
            newest = max(newest, number)
            effective_s = max(effective_s, self._effective_s[number])
            self._effective_s[number] = min(self._effective_s[number], now_s)
            self._seen_s[key] = max(self._seen_s[key], self._began_s[number])
        stale = effective_s < before.acknowledged_s
        return ReadJudgement(
            stale=stale,
            missed=stale and not numbers,
            backward=effective_s < before.seen_s,
            older_than_newest=newest < before.newest,
        )
