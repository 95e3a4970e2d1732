"""Who wants to hear of which changes, and what they are told: the same bytes for all who want the same.

A group is told in messages, one a revision; a bounded number of bytes of the last ones is kept for those of its
listeners who are a moment behind. Groups are found by key: those of one key and those of a prefix by looking it up,
whatever their number, those of other ranges one by one. Pure: imports ``core`` only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final, Generic, Literal, TypeVar

import msgspec

from raftkv.core.keys import prefix_end
from raftkv.core.results import Change

KEPT_BYTES: Final = 4 << 20
"""What all groups together keep for those who are a moment behind, in equal shares."""

Who = TypeVar("Who")
Message = tuple[int, bytes]
"""A revision, and what is told of it."""


class Interest(msgspec.Struct, frozen=True, kw_only=True):
    """The changes of keys with ``start`` <= key < ``end``: with what was there before, or one kind ``only``."""

    start: bytes
    end: bytes
    previous: bool = False
    only: Literal["put", "delete"] | None = None

    def wants(self, change: Change) -> bool:
        """Is ``change``, which lies in the range, of the kind that is wanted?"""
        return self.only is None or (self.only == "put") == (change.record is not None)


Tell = Callable[[int, Sequence[Change], Interest], bytes]
"""Makes the message of a revision from those of its changes that are wanted; equal functions make equal messages.

What was there before may be at hand though it is not wanted.
"""


class ListenerGroup(Generic[Who]):
    """Those who want the same, told in the same way. ``waiting`` are those who have had all that was told."""

    def __init__(self, interest: Interest, tell: Tell) -> None:
        self.interest = interest
        self.waiting: dict[Who, None] = {}
        self.member_count = 0
        self.complete_from: int | None = None
        """``since`` has all messages after this revision; ``None``: it has nothing that is of use."""

        self._tell = tell
        self._kept: deque[Message] = deque()
        self._kept_bytes = 0

    def messages(self, changes: Iterable[Change]) -> list[Message]:
        """What is told of ``changes``, whole revisions in order, all of them wanted."""
        tell, interest = self._tell, self.interest
        return [
            (revision, tell(revision, tuple(found), interest))
            for revision, found in groupby(changes, attrgetter("revision"))
        ]

    def keep(self, messages: Iterable[Message], limit_bytes: int) -> None:
        """Keep ``messages``, the newest, and of all the newest that are within ``limit_bytes``."""
        for message in messages:
            self._kept.append(message)
            self._kept_bytes += len(message[1])
        while self._kept_bytes > limit_bytes:
            self.complete_from, dropped = self._kept.popleft()
            self._kept_bytes -= len(dropped)

    def forget(self, complete_from: int | None) -> None:
        """Keep nothing but what comes after ``complete_from``."""
        self._kept.clear()
        self._kept_bytes = 0
        self.complete_from = complete_from

    def since(self, revision: int) -> list[Message] | None:
        """What was told after ``revision``; ``None`` where it is not kept."""
        if self.complete_from is None or revision < self.complete_from:
            return None
        return [message for message in self._kept if message[0] > revision]


class Audience(Generic[Who]):
    """All groups."""

    def __init__(self) -> None:
        self._groups: dict[tuple[Interest, Tell], ListenerGroup[Who]] = {}
        self._by_key: dict[bytes, list[ListenerGroup[Who]]] = {}
        self._by_prefix: dict[bytes, list[ListenerGroup[Who]]] = {}
        self._by_range: list[ListenerGroup[Who]] = []
        self._prefix_lengths: dict[int, int] = {}
        self._hull: tuple[bytes, bytes, bool] | None = None
        """Widened by who joins, and found anew when one has left on whom it rested."""

    def __iter__(self) -> Iterator[ListenerGroup[Who]]:
        return iter(self._groups.values())

    @property
    def share_bytes(self) -> int:
        """What a group may keep."""
        return KEPT_BYTES // max(1, len(self._groups))

    @property
    def hull(self) -> tuple[bytes, bytes, bool]:
        """From which key up to which one must read for all, and whether somebody wants what was there before."""
        if self._hull is None:
            all_of_them = [interest for interest, _ in self._groups]
            self._hull = (
                min(interest.start for interest in all_of_them),
                max(interest.end for interest in all_of_them),
                any(interest.previous for interest in all_of_them),
            )
        return self._hull

    def join(self, interest: Interest, tell: Tell) -> ListenerGroup[Who]:
        """The group of those who want this, with one member more."""
        group = self._groups.get((interest, tell))
        if group is None:
            group = self._groups[interest, tell] = ListenerGroup(interest, tell)
            if self._hull is not None:
                start, end, previous = self._hull
                self._hull = min(start, interest.start), max(end, interest.end), previous or interest.previous
            self._table(interest).append(group)
            if self._is_prefix(interest):
                length = len(interest.start)
                self._prefix_lengths[length] = self._prefix_lengths.get(length, 0) + 1
        group.member_count += 1
        return group

    def leave(self, group: ListenerGroup[Who], tell: Tell) -> None:
        """One member less."""
        group.member_count -= 1
        if group.member_count:
            return
        interest = group.interest
        del self._groups[interest, tell]
        if self._hull is not None and (
            interest.start == self._hull[0] or interest.end == self._hull[1] or interest.previous
        ):
            self._hull = None
        self._table(interest).remove(group)
        if self._is_prefix(interest):
            length = len(interest.start)
            self._prefix_lengths[length] -= 1
            if not self._prefix_lengths[length]:
                del self._prefix_lengths[length]
        for table in (self._by_key, self._by_prefix):
            if table.get(interest.start) == []:
                del table[interest.start]

    def _table(self, interest: Interest) -> list[ListenerGroup[Who]]:
        if interest.end == interest.start + b"\x00":
            return self._by_key.setdefault(interest.start, [])
        return self._by_prefix.setdefault(interest.start, []) if self._is_prefix(interest) else self._by_range

    @staticmethod
    def _is_prefix(interest: Interest) -> bool:
        return interest.end == prefix_end(interest.start)

    def sort(self, changes: Iterable[Change]) -> dict[ListenerGroup[Who], list[Change]]:
        """What of ``changes`` each group wants, in order."""
        found: dict[ListenerGroup[Who], list[Change]] = {}
        by_key, by_prefix, by_range, lengths = self._by_key, self._by_prefix, self._by_range, self._prefix_lengths
        for change in changes:
            key = change.key
            groups = list(by_key.get(key, ()))
            for length in lengths:
                if length <= len(key):
                    groups += by_prefix.get(key[:length], ())
            groups += [one for one in by_range if one.interest.start <= key < one.interest.end]
            for group in groups:
                if group.interest.wants(change):
                    found.setdefault(group, []).append(change)
        return found
