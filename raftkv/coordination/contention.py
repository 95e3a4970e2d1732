"""How one comes to hold a name, and lets it go: plans for locks and elections alike. Pure.

Who contends puts a key that goes with its lease, and looks who came before; it holds once fewer than ``permits`` did
and are still there. Nobody can come before it any more, so it holds until its key goes: by its release, or with its
lease. Whoever waits looks again when one of the keys just before its own may have gone: of any so many departures as it
needs, one is among those, so that a release wakes ``permits`` contenders at most. All looks are linearizable.

An attempt that is repeated with the same lease puts the same key again: it stands in the same place, with the same
token. What an attempt takes back is what it put itself, known by its revision: never the place of a later attempt.
"""

from __future__ import annotations

from typing import Final

import msgspec

from raftkv.coordination.names import Contender, ContenderNote, Queue, contender_of, encode_note, in_order
from raftkv.coordination.steps import AwaitChange, Circumstances, Plan, read_failure, submitted
from raftkv.core.errors import Code, Failure, Refused, Unknown
from raftkv.core.requests import (
    AnyOperation,
    ComparedField,
    Delete,
    FindLease,
    Get,
    Grant,
    KeepAlive,
    KeyComparison,
    List,
    Put,
    Read,
    Revoke,
    Transaction,
    Write,
)
from raftkv.core.results import (
    Answer,
    AnyResult,
    Granted,
    KeptAlive,
    KeyPage,
    KeyRecord,
    NoLease,
    PutDone,
    Transacted,
    Written,
)

CONTENDERS_MAX: Final = 1_000
"""Who comes when so many are before it is turned away: whoever looks reads them all."""

PAGE_KEYS: Final = 1_000
PAGES_MAX: Final = 20
"""What one look reads at most: beyond the limit there are only those who are about to be turned away."""

PAUSE_S: Final = 0.2
"""How long to wait before trying again what failed."""

LIVES: Final = 3
"""A lease of its own is kept alive so many times in its life while its contender waits."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to hold, and how long it waits for that.

    With ``lease`` 0 a lease of ``ttl_ms`` is granted for it. ``idempotency_key``: a repeat of the whole attempt finds
    that lease again. ``timeout_s`` is how long each step may take that is not waiting.
    """

    queue: Queue
    content: bytes
    lease: int = 0
    ttl_ms: int = 0
    wait_s: float = 0.0
    permits: int = 1
    timeout_s: float
    idempotency_key: str | None = None


class Won(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt has come to hold the name. ``token`` is greater than those of all grants before."""

    lease: int
    token: int


class Busy(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt holds nothing and waits no more. ``holders`` held it when it last looked."""

    detail: str
    holders: tuple[Contender, ...] = ()


class Look(msgspec.Struct, frozen=True):
    """Who contended, in order, at a revision or later."""

    contenders: list[Contender]
    revision: int


def look(queue: Queue, timeout_s: float, circumstances: Circumstances) -> Plan[Look | Refused]:
    """Who contends for the name; nobody is overlooked who was there before this began and still is."""
    start, revision = queue.start, 0
    found: list[Contender] = []
    for _ in range(PAGES_MAX):
        query = List(start=start, end=queue.end, limit=PAGE_KEYS, keys_only=not queue.kind.has_short_notes)
        outcome = yield from submitted(Read(query=query), circumstances.now_s() + timeout_s)
        if not isinstance(outcome, Answer):
            return read_failure(outcome)
        assert isinstance(outcome.content, KeyPage)
        found += [contender_of(queue.kind, record) for record in outcome.content.records]
        revision = revision or outcome.revision
        if outcome.content.next_start is None:
            return Look(in_order(found), revision)
        start = outcome.content.next_start
    return Refused(code=Code.OVERLOADED, detail=f"more than {PAGE_KEYS * PAGES_MAX} contend for it", retry_after_s=1.0)


def acquire(attempt: Attempt, circumstances: Circumstances) -> Plan[Won | Busy | Failure]:
    """Come to hold the name, or wait for it in vain, or fail. ``Unknown``: it may hold it, or come to."""
    return (yield from _Acquisition(attempt, circumstances).run())


class _Acquisition:
    """One attempt under way. ``_lease`` is its lease, ``_revision`` that of its put."""

    def __init__(self, attempt: Attempt, circumstances: Circumstances) -> None:
        self._attempt = attempt
        self._queue = attempt.queue
        self._surroundings = circumstances
        self._lease = attempt.lease
        self._is_own = not attempt.lease
        self._revision = 0
        self._ends_s = circumstances.now_s() + attempt.wait_s
        self._keep_alive_s = 0.0
        self._holders: tuple[Contender, ...] = ()

    @property
    def _key(self) -> bytes:
        return self._queue.key(self._attempt.permits, self._lease)

    @property
    def _is_over(self) -> bool:
        return self._surroundings.has_left() or self._surroundings.now_s() >= self._ends_s

    def _deadline_s(self) -> float:
        return self._surroundings.now_s() + self._attempt.timeout_s

    def run(self) -> Plan[Won | Busy | Failure]:
        """See ``acquire``."""
        if self._is_own:
            early = (yield from self._is_taken()) or (yield from self._grant())
            if early is not None:
                return early
        entered = yield from self._enter()
        if isinstance(entered, Written):
            return (yield from self._wait(entered))
        return entered

    def _is_taken(self) -> Plan[Busy | None]:
        """Whoever does not wait leaves no trace where others hold the name; a failure is left to what comes next."""
        attempt = self._attempt
        if attempt.wait_s or attempt.idempotency_key is not None:
            return None
        found = yield from look(self._queue, attempt.timeout_s, self._surroundings)
        if isinstance(found, Look) and len(found.contenders) >= attempt.permits:
            self._holders = tuple(found.contenders[: attempt.permits])
            return self._busy()
        return None

    def _grant(self) -> Plan[Failure | None]:
        name = self._attempt.idempotency_key
        write = Write(
            operations=(Grant(ttl_ms=self._attempt.ttl_ms),),
            idempotency_key=None if name is None else f"lease of {name}",
        )
        granted = result_of((yield from submitted(write, self._deadline_s())))
        if not isinstance(granted, Granted):
            assert isinstance(granted, Refused | Unknown)
            return granted
        self._lease = granted.lease
        self._was_kept_alive()
        return None

    def _was_kept_alive(self) -> None:
        self._keep_alive_s = self._surroundings.now_s() + self._attempt.ttl_ms / 1000 / LIVES

    # -- in --------------------------------------------------------------------------------------------------------

    def _enter(self) -> Plan[Written | Busy | Failure]:
        """Put the own key, if nobody contends for the name with another number of permits.

        An attempt that failed may be tried again: putting the same key twice is putting it once.
        """
        write = Write(operations=(self._entry(),))
        doubt: Unknown | None = None
        while True:
            outcome = yield from submitted(write, self._deadline_s())
            result = result_of(outcome)
            if isinstance(result, Transacted):
                assert isinstance(outcome, Written)
                return outcome if result.succeeded else self._of_others(result)
            assert isinstance(result, Refused | Unknown)
            doubt = result if isinstance(result, Unknown) else doubt
            is_passing = isinstance(result, Unknown) or result.retry_after_s is not None
            if not is_passing or self._is_over:
                return doubt or result
            yield AwaitChange((), 0, min(self._ends_s, self._surroundings.now_s() + PAUSE_S))

    def _entry(self) -> Transaction:
        attempt, queue = self._attempt, self._queue
        start, end = queue.of_permits(attempt.permits)
        value = encode_note(ContenderNote(self._is_own, attempt.content))
        return Transaction(
            comparisons=(_nobody_in(queue.start, start), _nobody_in(end, queue.end)),
            success=(
                Put(key=self._key, value=value, lease=self._lease),
                List(start=start, end=end, limit=attempt.permits + 1, keys_only=not queue.kind.has_short_notes),
            ),
            failure=(List(start=queue.start, end=queue.end, limit=1, keys_only=True),),
        )

    def _of_others(self, done: Transacted) -> Busy:
        (page,) = done.results
        named = ""
        if isinstance(page, KeyPage) and page.records:
            named = f" with {contender_of(self._queue.kind, page.records[0]).permits} permits"
        return Busy(detail=f"others contend for it{named}, not with {self._attempt.permits}")

    # -- there -----------------------------------------------------------------------------------------------------

    def _first_look(self, entered: Written) -> Look | None:
        """Who contended as the own key was put, if there are so few that it was told."""
        (done,) = entered.results
        assert isinstance(done, Transacted)
        put, page = done.results
        assert isinstance(put, PutDone)
        self._revision = put.revision
        if not isinstance(page, KeyPage) or page.next_start is not None:
            return None
        return Look(in_order(contender_of(self._queue.kind, one) for one in page.records), entered.revision)

    def _wait(self, entered: Written) -> Plan[Won | Busy | Failure]:
        attempt, known = self._attempt, self._first_look(entered)
        has_waited = False
        while True:
            found = known or (yield from look(self._queue, attempt.timeout_s, self._surroundings))
            known = None
            if isinstance(found, Refused):
                if self._is_over:
                    return (yield from self._withdraw(found))
                yield AwaitChange((), 0, min(self._ends_s, self._surroundings.now_s() + PAUSE_S))
                continue
            keys = [one.key for one in found.contenders]
            if self._key not in keys:
                return (yield from self._gone())
            place = keys.index(self._key)
            self._holders = tuple(found.contenders[: attempt.permits])
            if place < attempt.permits and not self._surroundings.has_left():
                refusal = (yield from self._keep_alive()) if has_waited and self._is_own else None
                return refusal or Won(lease=self._lease, token=found.contenders[place].token)
            if place >= CONTENDERS_MAX:
                full = Refused(code=Code.OVERLOADED, detail=f"{place} contend for it already", retry_after_s=1.0)
                return (yield from self._withdraw(full))
            if self._is_over:
                return (yield from self._withdraw(self._busy()))
            before = tuple(keys[max(0, place - attempt.permits) : place + 1])
            yield from self._sleep(before, found.revision)
            has_waited = True

    def _sleep(self, keys: tuple[bytes, ...], after: int) -> Plan[None]:
        """Until one of ``keys`` may have changed; a lease of its own is kept alive meanwhile."""
        until_s = min(self._ends_s, self._keep_alive_s) if self._is_own else self._ends_s
        yield AwaitChange(keys, after, until_s)
        if self._is_own and self._surroundings.now_s() >= self._keep_alive_s:
            yield from self._keep_alive()

    def _keep_alive(self) -> Plan[Refused | None]:
        """Let the own lease live on: why it cannot, if it has ended. In doubt the next look says what became of it."""
        outcome = yield from submitted(KeepAlive(leases=(self._lease,)), self._deadline_s())
        self._was_kept_alive()
        if isinstance(outcome, KeptAlive) and isinstance(outcome.leases[0], NoLease):
            return self._lease_gone()
        return None

    def _gone(self) -> Plan[Busy | Refused]:
        """The own key is not there any more: with its lease, or somebody took it away."""
        outcome = yield from submitted(Read(query=FindLease(lease=self._lease)), self._deadline_s())
        if not isinstance(outcome, Answer):
            return read_failure(outcome)
        if isinstance(outcome.content, NoLease):
            return self._lease_gone()
        return Busy(detail="its place was given up while it waited, by another request")

    def _lease_gone(self) -> Refused:
        return Refused(code=Code.LEASE_NOT_FOUND, detail=f"lease {self._lease} has ended, and the place with it")

    def _busy(self) -> Busy:
        return Busy(detail="it is held, and the wait is over", holders=self._holders)

    # -- out -------------------------------------------------------------------------------------------------------

    def _withdraw(self, why: Busy | Refused) -> Plan[Busy | Failure]:
        """Take the own key back, and tell ``why``; where that cannot be done in time, nobody knows what comes of it."""
        if self._is_own and self._attempt.idempotency_key is None:
            take_back: AnyOperation = Revoke(lease=self._lease)
        else:  # a repeat may have the same lease: what it has put since stays
            take_back = Transaction(
                comparisons=(KeyComparison(start=self._key, target=ComparedField.REVISION, operand=self._revision),),
                success=(Delete(key=self._key),),
            )
        write, ends_s = Write(operations=(take_back,)), self._deadline_s()
        while True:
            result = result_of((yield from submitted(write, ends_s)))
            is_done = not isinstance(result, Refused | Unknown) or (
                isinstance(result, Refused) and result.code is Code.LEASE_NOT_FOUND
            )
            if is_done:
                return why
            has_no_right = isinstance(result, Refused) and result.code in (Code.FORBIDDEN, Code.UNAUTHENTICATED)
            if has_no_right or self._surroundings.now_s() + PAUSE_S >= ends_s:
                return Unknown(detail="it waits on, or holds, until its lease ends: it could not be taken back")
            yield AwaitChange((), 0, self._surroundings.now_s() + PAUSE_S)


def release(queue: Queue, token: int, timeout_s: float, circumstances: Circumstances) -> Plan[int | Failure]:
    """Let go of what was granted with ``token``, or of the place that will be; the revision at which it went.

    Only that grant goes, whoever has come since. A lease that was granted for it alone is revoked.
    """
    found = yield from find(queue, token, timeout_s, circumstances)
    if isinstance(found, Refused):
        return found
    comparison = KeyComparison(start=found.key, target=ComparedField.CREATE_REVISION, operand=token)
    removal = Transaction(comparisons=(comparison,), success=(Get(key=found.key), Delete(key=found.key)))
    write = Write(operations=(removal,))
    outcome = yield from submitted(write, circumstances.now_s() + timeout_s)
    result = result_of(outcome)
    if not isinstance(result, Transacted):
        assert isinstance(result, Refused | Unknown)
        return result
    if not result.succeeded:
        return no_such_token(token)
    if _was_own(result.results[0], queue):
        # Whatever comes of it: the lease has no key any more, and ends by itself.
        yield from submitted(Write(operations=(Revoke(lease=found.lease),)), circumstances.now_s() + timeout_s)
    assert isinstance(outcome, Written)
    return outcome.revision


def _was_own(removed: AnyResult, queue: Queue) -> bool:
    note = contender_of(queue.kind, removed).note if isinstance(removed, KeyRecord) else None
    return note is not None and note.is_own


def find(queue: Queue, token: int, timeout_s: float, circumstances: Circumstances) -> Plan[Contender | Refused]:
    """Who holds the name by ``token``, or waits to."""
    found = yield from look(queue, timeout_s, circumstances)
    if isinstance(found, Refused):
        return found
    for one in found.contenders:
        if one.token == token:
            return one
    return no_such_token(token)


def no_such_token(token: int) -> Refused:
    """Nobody has it."""
    detail = f"nobody holds it with token {token}, nor waits to; it may have been let go"
    return Refused(code=Code.NOT_FOUND, detail=detail)


def result_of(outcome: object) -> AnyResult | Failure:
    """What came of a write of one operation."""
    if isinstance(outcome, Written):
        (result,) = outcome.results
        return result
    assert isinstance(outcome, Refused | Unknown)
    return outcome


def _nobody_in(start: bytes, end: bytes) -> KeyComparison:
    return KeyComparison(start=start, end=end, several=True, target=ComparedField.EXISTS, operand=0)
