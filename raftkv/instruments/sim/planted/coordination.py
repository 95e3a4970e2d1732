"""Planted bugs of history, transactions, leases, locks and watching. Part of ``raftkv.instruments.sim.planted``."""

from __future__ import annotations

from typing import Any, Final
from unittest import mock

import msgspec

from raftkv.coordination import contention, succession
from raftkv.coordination.audience import Interest, ListenerGroup
from raftkv.coordination.feed import Feed
from raftkv.coordination.succession import Accession, Succession
from raftkv.core.requests import FindLease, Get, KeepAlive
from raftkv.core.results import Answer, ChangePage, HistoryGone, KeptAlive, LeaseRecord, Transacted
from raftkv.formats import layout
from raftkv.formats.commands import CompareSpan, Transact
from raftkv.instruments.sim import snapshots
from raftkv.instruments.sim.planted.swaps import Remedy, around, gives, instead, rule
from raftkv.machine import past, reading
from raftkv.machine.changes import Changes
from raftkv.machine.history import ChangeHistory
from raftkv.machine.lease_rows import attached
from raftkv.machine.leases import Leases
from raftkv.machine.machine import Machine
from raftkv.machine.operations import Operations
from raftkv.machine.repeats import Repeats
from raftkv.raft.applied import AppliedMachine
from raftkv.raft.requests import RaftRequests
from raftkv.raft.writing.proposing import Proposing


def _choose_only(self: Any, operation: Transact) -> None:
    """Whether what a branch says can be done is found out on the way."""
    self._taken[id(operation)] = all(self._holds(one) for one in operation.comparisons)


def _transact_in_parts(self: Any, operation: Transact) -> Transacted:
    succeeded = self._taken[id(operation)]
    branch = operation.success if succeeded else operation.failure
    return Transacted(succeeded=succeeded, results=tuple([self.do(one) for one in branch]))


def _compare_late(transact: Any, self: Any, operation: Transact) -> Any:
    """Transactions in a transaction see what was done before them in it."""
    self._cannot_transact(operation)
    return transact(self, operation)


def _delete_one_by_one(delete: Any, self: Any, operation: Any) -> Any:
    changes = self._changes
    with mock.patch.object(changes, "remove", lambda *given: (changes.begin(), Changes.remove(changes, *given))):
        return delete(self, operation)


def _increment_beyond(increment: Any, self: Any, operation: Any) -> Any:
    return increment(self, msgspec.structs.replace(operation, minimum=None, maximum=None))


def _keep_no_lease(put: Any, self: Any, operation: Any) -> Any:
    """A put that leaves the lease as it is takes the key out of it."""
    return put(self, msgspec.structs.replace(operation, lease=operation.lease or 0))


def _none_is_all(holds: Any, self: Any, comparison: Any) -> Any:
    """Of several keys of which there is none, anything holds."""
    is_empty = isinstance(comparison, CompareSpan) and not any(
        True for _ in self._tables.scan(layout.KEYS, comparison.start, comparison.end)
    )
    return is_empty or holds(self, comparison)


def _begin_with_the_entry(expire: Any, self: Any) -> None:
    self._changes.begin()
    expire(self)


def _forget_transactions(keep: Any, self: Any, name: str, operations: Any, *more: Any) -> None:
    if not any(isinstance(one, Transact) for one in operations):
        keep(self, name, operations, *more)


def _note_own_time(apply: Any, self: Any, *given: Any) -> None:
    """The machine knows its node's own clock."""
    self.machine.own_ms = int(self._clock() * 1000)
    self.machine.history.own_ms = self.machine.own_ms
    apply(self, *given)


def _own_time(self: Any, clock_ms: int) -> int:
    """What time it is by the node's own clock, which was right when it was looked at first."""
    self.ahead_ms = getattr(self, "ahead_ms", clock_ms - self.own_ms)
    return max(clock_ms, int(self.ahead_ms + self.own_ms))


def _expire_by_own_clock(expire: Any, self: Any) -> None:
    changes, clock_ms = self._changes, self._changes.clock_ms
    changes.clock_ms = _own_time(self, clock_ms)
    expire(self)
    changes.clock_ms = clock_ms


def _forget_by_own_clock(finish: Any, self: Any, now_ms: int) -> None:
    finish(self, _own_time(self, now_ms))


def _keep_alive_here(submit: Any, self: Any, request: Any, deadline_s: float, pending: Any, *more: Any) -> None:
    """Whoever is asked finds the leases and says that they live on; the log never hears of it."""
    if not isinstance(request, KeepAlive):
        submit(self, request, deadline_s, pending, *more)
        return
    leases: list[Any] = []
    for lease in request.leases:
        found = reading.answer(self.machine()._tables, FindLease(lease=lease))
        leases.append(msgspec.structs.replace(found, keys=None) if isinstance(found, LeaseRecord) else found)
    pending.resolve(KeptAlive(leases=tuple(leases)))


def _keep_alive_for_long(keep_alive: Any, self: Any, lease: int) -> Any:
    self._changes.clock_ms += 1_000
    kept = keep_alive(self, lease)
    self._changes.clock_ms -= 1_000
    return kept


def _expire_own(expire_keys: Any, self: Any, now_s: float) -> None:
    """Whoever takes over leaves alone what is due."""
    if self.core.term <= 1:
        expire_keys(self, now_s)


def _end_without_keys(end: Any, self: Any, lease: int, **why: Any) -> Any:
    """The keys of a lease that ends stay, and belong to none."""
    for key in list(attached(self._tables, lease)):
        self._changes.touch(key, self._changes.find(key), 0)
    return end(self, lease, **why)


def _without_history(tables: Any) -> Any:
    return [row for row in _rows_of(tables) if row[0] != layout.EVENTS]


_rows_of: Final = snapshots.rows_of


def _entry_for_ever(entry: Any, self: Any) -> Any:
    """The key of a contender stays when its lease ends."""
    transaction = entry(self)
    put, *more = transaction.success
    return msgspec.structs.replace(transaction, success=(msgspec.structs.replace(put, lease=0), *more))


def _kept_only(self: Any, revision: int) -> Any:
    """What is kept is taken for all that there was."""
    return [message for message in self._kept if message[0] > revision]


def _listen_before(listen: Any, self: Any, interest: Any, tell: Any, after: int) -> Any:
    """Who resumes begins with what it heard last."""
    return listen(self, interest, tell, max(0, after - 1))


def _tell_leaders(tell_rest: Any, self: Any, listener: Any, messages: Any, through: int) -> None:
    """Who is ahead of the others hears what they hear."""
    listener.at = 0 if messages else listener.at
    tell_rest(self, listener, messages, through)


def _skip_leaps(hear: Any, self: Any, shown: Any) -> None:
    """Where the state leaps, as by a snapshot, the feed goes on from there as if all had been told."""
    if shown is not None and self._through is not None and shown.revision > self._through + 5:
        self._through = shown.revision
    hear(self, shown)


def _promise_newest(through_of: Any, self: Any, listener: Any) -> int:
    through: int = through_of(self, listener)
    return through if self._newest is None else max(through, self._newest)


def _send_away_slow(caught_up: Any, self: Any, listener: Any, outcome: Any) -> None:
    """Who is behind by more than one read is told that the rest is compacted."""
    page = outcome.content if isinstance(outcome, Answer) else None
    if isinstance(page, ChangePage) and not page.is_level:
        outcome = msgspec.structs.replace(outcome, content=HistoryGone(compacted_revision=page.through))
    caught_up(self, listener, outcome)


def _go_on_after_gap(caught_up: Any, self: Any, listener: Any, outcome: Any) -> None:
    """Whom compaction has overtaken goes on with what is kept."""
    gone = outcome.content if isinstance(outcome, Answer) else None
    if isinstance(gone, HistoryGone) and not listener.is_over:
        listener.at = gone.compacted_revision
        self._catch_up(listener)
    else:
        caught_up(self, listener, outcome)


def _tell_in_halves(messages: Any, self: Any, changes: Any) -> Any:
    return [told for change in changes for told in messages(self, [change])]


def _follow_the_leader(follow: Any, self: Any, revision: int, changes: Any) -> Any:
    """Who goes while it waits is not noticed."""
    return follow(self, revision, [one for one in changes if one.record is not None or one.key == self.leader_key])


def _follow_who_only(follow: Any, self: Any, revision: int, changes: Any) -> Any:
    """What a leader proclaims is not told."""
    before = self.leader_key
    accession = follow(self, revision, changes)
    return None if self.leader_key == before else accession


def _begin_with_the_leader(begin: Any, queue: Any, after: Any, *more: Any) -> Any:
    """Who goes on elsewhere is told who leads now, as if it began."""
    begun = yield from begin(queue, None if after else after, *more)
    return begun


def _look_too_late(revision_at: Any, reader: Any, at_ms: int) -> Any:
    """What came about just after the time counts as well."""
    found, newest = revision_at(reader, at_ms), reading.revision(reader)
    return min(found + 1, newest) if isinstance(found, int) else found


COORDINATION: Final[dict[str, Remedy]] = {
    "whole transactions": rule(
        "a transaction is judged whole before any of it is done",
        instead(Operations, "_cannot_transact", _choose_only),
        instead(Operations, "_transact", _transact_in_parts),
    ),
    "state before": rule(
        "comparisons see the state before the transaction", around(Operations, "_transact", _compare_late)
    ),
    "repeated transactions": rule(
        "a repeated transaction is told what it did", around(Repeats, "keep", _forget_transactions)
    ),
    "own revision": rule(
        "what one request changes has a revision of its own",
        around(Machine, "_expire", _begin_with_the_entry),
        gives(Operations, "begin"),
    ),
    "one revision": rule("a span goes at one revision", around(Operations, "_delete_range", _delete_one_by_one)),
    "kept leases": rule("a put may keep the lease that is there", around(Operations, "_put_kept", _keep_no_lease)),
    "none of several": rule(
        "several keys of which there is none compare as one that does not exist",
        around(Operations, "_holds", _none_is_all),
    ),
    "bounds of sums": rule(
        "a sum out of bounds changes nothing",
        around(Operations, "_increment", _increment_beyond),
        gives(Operations, "_cannot_increment"),
    ),
    "time of the log": rule(
        "keys and leases end by the time of the log",
        around(AppliedMachine, "apply", _note_own_time),
        around(Machine, "_expire", _expire_by_own_clock),
    ),
    "age of the log": rule(
        "history is forgotten by the time of the log",
        around(AppliedMachine, "apply", _note_own_time),
        around(ChangeHistory, "finish", _forget_by_own_clock),
    ),
    "keep-alives in the log": rule(
        "a lease is kept alive by the log", around(RaftRequests, "submit", _keep_alive_here)
    ),
    "one life more": rule(
        "a lease lives for its time from a keep-alive on", around(Leases, "keep_alive", _keep_alive_for_long)
    ),
    "what is due": rule("what is due is ended though nobody writes", gives(Proposing, "expire_keys")),
    "due for those before": rule("whoever takes over ends what is due", around(Proposing, "expire_keys", _expire_own)),
    "keys of a lease": rule("a lease takes its keys with it", around(Leases, "end", _end_without_keys)),
    "kept past": rule(
        "what was is told as it was",
        instead(past, "_row_at", lambda reader, key, _revision: reader.get(layout.KEYS, key)),
    ),
    "times of the past": rule(
        "what was at a time had come about by then", around(past, "_revision_at", _look_too_late)
    ),
    "snapshots of history": rule("a snapshot has history, too", instead(snapshots, "rows_of", _without_history)),
    "lease of a contender": rule(
        "a contender goes with its lease", around(contention._Acquisition, "_entry", _entry_for_ever)
    ),
    "turns": rule(
        "contenders have their turns as they came",
        instead(contention, "in_order", lambda found: sorted(found, key=lambda one: one.lease)),
    ),
    "candidates who go": rule("who goes while it waits never leads", around(Succession, "follow", _follow_the_leader)),
    "proclamations": rule("what a leader proclaims is told", around(Succession, "follow", _follow_who_only)),
    "values of then": rule(
        "a leader is told by the value that it was known by then",
        instead(
            Accession, "value_read", property(lambda self: Get(key=self.key) if self.key and not self.record else None)
        ),
    ),
    "observers who move": rule(
        "who goes on elsewhere is told what came meanwhile", around(succession, "begin", _begin_with_the_leader)
    ),
    "kept messages": rule("who is further behind than what is kept reads", instead(ListenerGroup, "since", _kept_only)),
    "resumption": rule("who resumes hears nothing twice", around(Feed, "listen", _listen_before)),
    "those ahead": rule("who is ahead of the others hears nothing twice", around(Feed, "_tell_rest", _tell_leaders)),
    "watched leaps": rule(
        "however far the state leaps, all that lies between is told", around(Feed, "_hear", _skip_leaps)
    ),
    "progress": rule("who waits has seen what was told", around(Feed, "through_of", _promise_newest)),
    "sent away": rule("only whom compaction overtakes is sent away", around(Feed, "_caught_up", _send_away_slow)),
    "gaps": rule("whom compaction overtakes is told so", around(Feed, "_caught_up", _go_on_after_gap)),
    "whole messages": rule("a revision is told in one message", around(ListenerGroup, "messages", _tell_in_halves)),
    "wanted kinds": rule("who wants one kind of changes hears no other", gives(Interest, "wants", value=True)),
}
