"""Hash trees over ring ranges: what two replicas compare instead of their data (Dynamo, section 4.7; Merkle 1987).

The tree of a range has 64 leaves, each for a 64th of its positions, and a root over them. A leaf is the exclusive or of
a hash of each key with its state's mark: it does not depend on the order of writes, and a change is worked in without
reading anything else. So a tree is made by one scan, when it is first asked for, a few keys at a time, and is kept up
to date from then on. Pure but for the scan it is given.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from raftkv.formats.fingerprint import fingerprint
from raftkv.formats.quorum_messages import HASH_BYTES, LEAVES
from raftkv.formats.rows import POSITION_BYTES
from raftkv.quorum.membership.ring import Range

_RANGE_COST: Final = 8
"""A range costs about as much as this many keys, even if it has none."""

Leaves = bytes
"""The hashes of all leaves, one after the other; empty for a range without keys."""

Rows = Iterator[tuple[bytes, bytes]]
"""Order keys and marks, as they were when the iterator was made."""


def leaf_of(piece: Range, order_key: bytes) -> int:
    """The number of the leaf that a key of ``piece`` belongs to."""
    where = int.from_bytes(order_key[:POSITION_BYTES], "big")
    return (where - piece.start) * LEAVES // (piece.last - piece.start + 1)


def root_of(leaves: Leaves) -> bytes:
    """The root over ``leaves``."""
    return fingerprint(leaves) if leaves else b""


def differing(one: Leaves, other: Leaves) -> int:
    """The leaves that differ, as the bits of a number."""
    one, other = one or bytes(LEAVES * HASH_BYTES), other or bytes(LEAVES * HASH_BYTES)
    bits = 0
    for number in range(LEAVES):
        begin = number * HASH_BYTES
        if one[begin : begin + HASH_BYTES] != other[begin : begin + HASH_BYTES]:
            bits |= 1 << number
    return bits


class _Tree:
    """The leaves of one range, whole once ``unread`` has come to its end."""

    def __init__(self, piece: Range, unread: Rows) -> None:
        self.piece = piece
        self._unread = unread
        self._leaves = [0] * LEAVES
        self._count = 0

    def grow(self, limit: int) -> int:
        """Hash ``limit`` keys at most; returns how many there were."""
        before = self._count
        for order_key, mark in islice(self._unread, limit):
            self._turn_over(order_key, mark)
            self._count += 1
        return self._count - before

    def change(self, order_key: bytes, before: bytes | None, now: bytes | None) -> None:
        """The mark of a key changed. Also while growing: what is still unread is read as it was before."""
        for mark in (before, now):
            if mark is not None:
                self._turn_over(order_key, mark)
        self._count += (now is not None) - (before is not None)

    def leaves(self) -> Leaves:
        """The leaves as bytes."""
        if not self._count:
            return b""
        return b"".join(leaf.to_bytes(HASH_BYTES, "big") for leaf in self._leaves)

    def _turn_over(self, order_key: bytes, mark: bytes) -> None:
        """Put the key in, or take it out again."""
        self._leaves[leaf_of(self.piece, order_key)] ^= int.from_bytes(fingerprint(order_key + mark), "big")


class Trees:
    """The trees of this replica's ranges."""

    def __init__(self, scan: Callable[[Range], Rows]) -> None:
        """``scan`` gives order keys and marks of a range, as they are at the call."""
        self._scan = scan
        self._made: dict[Range, _Tree] = {}
        self._starts: list[int] = []
        self._pieces: list[Range] = []
        self._waiting: dict[Range, None] = {}
        self._growing: _Tree | None = None

    @property
    def is_busy(self) -> bool:
        """Is there a tree to be made?"""
        return self._growing is not None or bool(self._waiting)

    def set_ranges(self, pieces: Iterable[Range]) -> None:
        """The ranges that trees will be asked of, none overlapping another; all that was made of others is dropped."""
        self._pieces = sorted(pieces)
        self._starts = [piece.start for piece in self._pieces]
        kept = set(self._pieces)
        self._made = {piece: tree for piece, tree in self._made.items() if piece in kept}
        self._waiting = {piece: None for piece in self._waiting if piece in kept}
        if self._growing is not None and self._growing.piece not in kept:
            self._growing = None

    def leaves(self, piece: Range) -> Leaves | None:
        """The leaves of ``piece``; ``None`` while they are being made, which asking for them begins."""
        tree = self._made.get(piece)
        if tree is not None:
            return tree.leaves()
        if self._growing is None or self._growing.piece != piece:
            self._waiting[piece] = None
        return None

    def knows(self, piece: Range) -> bool:
        """Is ``piece`` one of the ranges?"""
        index = bisect_right(self._starts, piece.start) - 1
        return index >= 0 and self._pieces[index] == piece

    def changed(self, order_key: bytes, before: bytes | None, now: bytes | None) -> None:
        """The mark of a key changed from ``before`` to ``now``; ``None`` where the key is not held."""
        where = int.from_bytes(order_key[:POSITION_BYTES], "big")
        index = bisect_right(self._starts, where) - 1
        if index < 0 or where > self._pieces[index].last:
            return
        piece = self._pieces[index]
        growing = self._growing
        tree = growing if growing is not None and growing.piece == piece else self._made.get(piece)
        if tree is not None:
            tree.change(order_key, before, now)

    def grow(self, limit: int) -> dict[Range, Leaves]:
        """Hash ``limit`` keys or so; returns the trees that were finished."""
        finished: dict[Range, Leaves] = {}
        while limit > 0:
            if self._growing is None:
                if not self._waiting:
                    break
                piece = next(iter(self._waiting))
                del self._waiting[piece]
                self._growing = _Tree(piece, self._scan(piece))
            tree = self._growing
            count = tree.grow(limit)
            if count < limit:
                self._growing = None
                self._made[tree.piece] = tree
                finished[tree.piece] = tree.leaves()
            limit -= count + _RANGE_COST
        return finished
