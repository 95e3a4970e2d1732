"""Eventual reads: the newest of what several replicas have applied, whoever leads.

Every applied state is a prefix of the same log, so of several views the one with the highest applied index is the
newest in every respect: no other has a later change of any key, and a key that is missing in it was deleted, or never
written. It is the newest as to rights, too: a caller who may not read the key in that state is told nothing. The asked
node's own view counts, and all reachable peers are asked at once: the first answers win, so a replica that hangs delays
nobody.

The coordinator is arithmetic: add, enough, answer. Time enters as a value.
"""

from __future__ import annotations

from typing import Final

import msgspec

from raftkv.core.errors import Code, Refused
from raftkv.core.replicator import Pending
from raftkv.core.requests import Consistency
from raftkv.core.results import Answer, KeyRecord, Missing, Outcome
from raftkv.formats.raft_messages import AppliedView, RecordForbidden, SeenLeasedRecord, SeenRecord


class _Poll(msgspec.Struct, kw_only=True):
    """One read under way and the views that came in so far."""

    key: bytes
    needed: int
    deadline_s: float
    pending: Pending
    views: dict[str, AppliedView | RecordForbidden]


class EventualReads:
    """All eventual reads of this node that have no outcome yet; ``settled`` gathers outcomes."""

    def __init__(self, *, first_number: int, max_waiting: int) -> None:
        """``first_number`` differs in each life of this node, so that late answers to an earlier one match nothing."""
        self._number = first_number
        self._max_waiting = max_waiting
        self._polls: dict[int, _Poll] = {}
        self._earliest_s = float("inf")
        self.settled: list[tuple[Pending, Outcome]] = []

    def add(self, key: bytes, needed: int, deadline_s: float, pending: Pending) -> int | None:
        """Begin to ask ``needed`` replicas for ``key``; returns the question's number, ``None`` when too many wait."""
        if len(self._polls) >= self._max_waiting:
            return None
        self._number += 1
        self._earliest_s = min(self._earliest_s, deadline_s)
        self._polls[self._number] = _Poll(key=key, needed=needed, deadline_s=deadline_s, pending=pending, views={})
        return self._number

    def answered(self, number: int, node: str, view: AppliedView | RecordForbidden) -> None:
        """``node`` showed its view for question ``number``, or that the caller may not see it."""
        poll = self._polls.get(number)
        if poll is None:
            return
        poll.views[node] = view
        if len(poll.views) >= poll.needed:
            del self._polls[number]
            newest = max(poll.views.values(), key=lambda view: view.applied_index)
            if isinstance(newest, RecordForbidden):
                self.settled.append((poll.pending, FORBIDDEN))
                return
            answer = Answer(
                content=Missing(key=poll.key) if newest.record is None else _record(newest.record),
                consistency=Consistency.EVENTUAL,
                revision=newest.revision,
                replicas=tuple(sorted(poll.views)),
            )
            self.settled.append((poll.pending, answer))

    def expire(self, now_s: float) -> None:
        """Refuse the reads whose deadline passed."""
        if now_s < self._earliest_s:
            return
        for number, poll in list(self._polls.items()):
            if poll.deadline_s <= now_s:
                del self._polls[number]
                self.settled.append((poll.pending, too_few(len(poll.views), poll.needed)))
        self._earliest_s = min((poll.deadline_s for poll in self._polls.values()), default=float("inf"))

    def abandon(self, reason: Refused) -> None:
        """The node ends: turn everyone away."""
        self.settled += [(poll.pending, reason) for poll in self._polls.values()]
        self._polls.clear()


FORBIDDEN: Final = Refused(
    code=Code.FORBIDDEN, detail="the user may not read the key, by the newest state that was read"
)


def too_few(count: int, needed: int) -> Refused:
    """Fewer replicas than the read asked for can be heard."""
    detail = f"r={needed}, but only {count} replicas could be read"
    return Refused(code=Code.QUORUM_UNREACHABLE, detail=detail, retry_after_s=1.0)


def _record(seen: SeenRecord | SeenLeasedRecord) -> KeyRecord:
    return KeyRecord(
        key=seen.key,
        value=seen.value,
        version=seen.version,
        create_revision=seen.create_revision,
        mod_revision=seen.mod_revision,
        expires_at_ms=seen.expires_at_ms,
        lease=seen.lease if isinstance(seen, SeenLeasedRecord) else 0,
    )
