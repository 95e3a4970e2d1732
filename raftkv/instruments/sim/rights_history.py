"""Whether users of a simulated leaderless cluster were told, and did, what the rights of the time allowed.

All documents of rights that any replica ever held are known here, with the time at which the first of them did, and so
is when a change was acknowledged. What is asked at some time is judged by one of those documents that is not older than
the latest change that was acknowledged ``validity_s`` before. So whatever was done must be allowed by one of these, and
who was refused for want of a right must lack it by one. No two documents have one stamp. Of changes that no more
members had than disks were lost, nothing is promised; and a node that knows authentication to be off lets everybody in
until it hears otherwise, since nobody's file says here that it is on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from raftkv.core.judgement import of_span
from raftkv.core.rights import NOBODY, Access, Rights
from raftkv.formats.rights import NEVER, Document, Stamp, encode_document, rights_of, stamp_of
from raftkv.instruments.sim.notes import FAILED, OK, Asked

_LISTED: Final = (b"k", b"l")


class _Held(msgspec.Struct, frozen=True):
    """A document, and since when somebody has had it."""

    since_s: float
    rights: Rights
    encoded: bytes


class RightsHistory:
    """See the module."""

    def __init__(self) -> None:
        self.validity_s = 0.0
        self._held: dict[Stamp, _Held] = {NEVER: _Held(0.0, Rights(), encode_document(()))}
        self._acknowledged: list[tuple[float, int, int]] = []
        self._taken: dict[str, list[tuple[float, Stamp]]] = {}
        """What each node has judged by, and since when."""

    def began(self, node: str, document: Document, now_s: float) -> None:
        """A replica ``node`` starts, and judges by ``document`` from now on: an old copy of its disk may have less."""
        self._taken.setdefault(node, [(0.0, NEVER)]).append((now_s, stamp_of(document)))

    def taken(self, node: str, document: Document, now_s: float) -> None:
        """The replica ``node`` judges by ``document`` from now on, which it was told or has made."""
        self.began(node, document, now_s)
        stamp = stamp_of(document)
        held, encoded = self._held.get(stamp), encode_document(document)
        if held is None:
            rights = rights_of((row.key, row.value) for row in document if row.value is not None)
            self._held[stamp] = _Held(now_s, rights, encoded)
        else:
            assert held.encoded == encoded, f"two documents of rights have the stamp {stamp}"

    def acknowledged(self, counter: int, holders_count: int, now_s: float) -> None:
        """The change with that counter is done, and so many have it."""
        if any(stamp[0] == counter for stamp in self._held):
            self._acknowledged.append((now_s, counter, holders_count))

    def check(self, asked: Iterable[Asked], found: set[bytes], losses: int) -> None:
        """Judge what was ``asked``, of which the values ``found`` were written for sure; ``losses`` disks were lost."""
        self._acknowledged = [one for one in self._acknowledged if one[2] > losses]
        for one in asked:
            allowing = {self._allows(rights, one) for rights in self._judging(one)}
            if one.outcome == OK or one.value in found:
                assert True in allowing, f"done without the right to it: {one.story()} as {one.caller}"
            elif one.outcome == FAILED and "FORBIDDEN" in one.note and not one.is_write:
                assert False in allowing, f"refused in spite of the right to it: {one.story()} as {one.caller}"

    def _judging(self, one: Asked) -> list[Rights]:
        """By which rights it may have been judged."""
        assert one.returned_s is not None
        heard_s = one.invoked_s - self.validity_s
        oldest = max([counter for time_s, counter, _ in self._acknowledged if time_s <= heard_s], default=0)
        own = [stamp for since_s, stamp in self._taken.get(one.node, [(0.0, NEVER)]) if since_s <= one.invoked_s]
        return [
            held.rights
            for stamp, held in self._held.items()
            if held.since_s <= one.returned_s and (stamp[0] >= oldest or (stamp == own[-1] and not held.rights.enabled))
        ]

    @staticmethod
    def _allows(rights: Rights, one: Asked) -> bool:
        start, end = _LISTED if one.kind == "list" else (one.key, one.key + b"\0")
        access = Access.WRITE if one.is_write else Access.READ
        return of_span(rights, one.caller or NOBODY, access, start, end) is None
