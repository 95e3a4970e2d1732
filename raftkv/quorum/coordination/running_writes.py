"""Writes under way: the write coordinator joined to messages.

Writes that are begun in one turn and have the same replicas travel together, whichever requests they are of: one
message to each replica, one answer of each. Each operation has its own stamp, deadline and outcome.

``RunningWrites`` is last-writer-wins: this node stamps the writes and every replica joins the same states.
``RunningEvent`` keeps siblings: the write happens at one replica, on what that one holds durably, so that its version
vector only ever covers what it has processed; the state that comes of it is then spread like any other
(Almeida et al. 2014, section 5). So it travels alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.requests import Delete, Put
from raftkv.core.results import Missing, OperationResult, StampedDelete, StampedPut
from raftkv.core.rights import NOBODY
from raftkv.core.sights import ReplicaAsked, SampleKind
from raftkv.formats import quorum_messages
from raftkv.formats.peers import MalformedMessageError, refused_by
from raftkv.formats.quorum_messages import (
    EventDone,
    QuestionDeclined,
    Rows,
    StoreDone,
    StoreRows,
    StoreRowsFor,
    WriteEvent,
    WriteEventFor,
)
from raftkv.formats.versions import Stamp, Version, encode_state
from raftkv.quorum.coordination.operations import LATE, LOST, SILENT, Dispatch, Group
from raftkv.quorum.coordination.targets import Target, Targets
from raftkv.quorum.coordination.writes import WriteCoordinator


class Wanted(NamedTuple):
    """A put or delete of a request that is to be made."""

    operation: Put | Delete
    group: Group
    position: int


class WriteAttempt(NamedTuple):
    """Which attempt at a write it is. ``without``: nodes that hold a version which no write may pass.

    ``made`` is the counter and state of the attempt before, where the same version is to reach other replicas.
    """

    without: frozenset[str] = frozenset()
    made: tuple[int, bytes] | None = None
    is_stamped_again: bool = False


FIRST = WriteAttempt()

OVERTAKEN: Final = Unknown(
    detail="a write with a later stamp has replaced this one, which may have been seen before; if it is to stand, "
    "write it again"
)


class TryAgain(Protocol):
    """Takes writes that are to be made once more."""

    def __call__(self, wanted: Wanted, attempt: WriteAttempt) -> None:
        """``wanted`` is to be made by ``attempt``."""


def value_of(operation: Put | Delete) -> bytes | None:
    """What the operation leaves: a value, or a tombstone."""
    return operation.value if isinstance(operation, Put) else None


def expiry_of(operation: Put | Delete, now_ms: int) -> int:
    """When the value expires, in ms since the epoch; 0 for never."""
    return now_ms + operation.ttl_ms if isinstance(operation, Put) and operation.ttl_ms else 0


class _Spreading:
    """What both kinds of write share: states on their way to the replicas."""

    def __init__(
        self, dispatch: Dispatch, wanted: Iterable[Wanted], targets: Targets, *, needed: int, attempt: WriteAttempt
    ) -> None:
        self._dispatch = dispatch
        self._wanted: dict[int, Wanted] = dict(enumerate(wanted))
        """What has no outcome yet, by its number in the messages."""
        self._caller = next(iter(self._wanted.values())).group.write.caller  # writes of one caller travel together
        self._first_key, self._count = self._wanted[0].operation.key, len(self._wanted)
        self._targets = targets
        self._id = 0
        self._author = ""
        self._counters: Sequence[int] = ()
        """With ``_author``, the stamps."""
        self._rows: Rows = ()
        self._owed = list(targets.unasked)
        self._coordinator = WriteCoordinator(targets, needed=needed + targets.besides_count, is_first=attempt is FIRST)
        self.deadline_s = min([one.group.deadline_s for one in self._wanted.values()])

    def lost(self, node: str) -> None:
        """See ``Running``."""
        if self._coordinator.awaits(node):
            self._gone(node, self._coordinator.lost(node))

    def expire(self) -> None:
        """See ``Running``."""
        late = [number for number, one in self._wanted.items() if one.group.deadline_s <= self.deadline_s]
        self._fail(late, self._coordinator.failure(LATE))
        if self._wanted:
            self.deadline_s = min([one.group.deadline_s for one in self._wanted.values()])
        else:
            self._end()

    def _end(self) -> None:
        """It is over; a sample of it tells of the first key."""
        dispatch, coordinator = self._dispatch, self._coordinator
        if dispatch.end(self._id) and dispatch.sampling.is_watched:
            dispatch.sampling.take(
                SampleKind.WRITE,
                self._asked(),
                done=len(coordinator.acknowledged) >= coordinator.needed,
                key=self._first_key,
                count=self._count,
                needed=coordinator.needed,
                hinted=tuple(self._owed) if coordinator.acknowledged else (),
            )

    def _asked(self) -> tuple[ReplicaAsked, ...]:
        return self._coordinator.told()

    def _store(self, target: Target) -> StoreRows:
        caller = self._caller or NOBODY
        if not self._dispatch.judges(target.node):
            return StoreRows(self._id, self._rows, target.stands_for)
        return StoreRowsFor(self._id, self._rows, target.stands_for, caller.user, caller.generation)

    def _take_place(self, node: str, substitute: Target | None) -> None:
        """``substitute`` is asked in place of ``node``; without one, this node owes it the hints."""
        if substitute is not None:
            self._dispatch.ask((substitute,), self._store)
            return
        place = self._targets.place_of(node)
        self._owed.append(place)
        if self._coordinator.acknowledged:
            self._dispatch.keep_hints(place, self._rows)

    def _gone(self, node: str, substitute: Target | None) -> None:
        self._take_place(node, substitute)
        self._end_if_over()

    def _declined(self, node: str, refusal: Refused) -> None:
        if not self._coordinator.awaits(node):
            return
        substitute = self._coordinator.declined(node, refusal)
        if refusal.code is Code.FORBIDDEN and self._wanted:
            self._forbidden(node, refusal)
        else:
            self._gone(node, substitute)

    def _forbidden(self, node: str, refusal: Refused) -> None:
        """Nobody else is asked to take what one that knows more must not; but who was asked may have taken it."""
        nobody_took_it = self._coordinator.is_complete and not self._coordinator.acknowledged
        self._end()
        in_doubt = Unknown(detail=f"{node} knows that it is forbidden, but others may have taken it: {refusal.detail}")
        self._fail(tuple(self._wanted), refusal if nobody_took_it else in_doubt)

    def _stored(self, node: str, replaced: Sequence[bool], newer: Iterable[tuple[int, Stamp]] = ()) -> bool:
        """``node`` holds the states; is this the answer that makes W?"""
        is_first = not self._coordinator.acknowledged
        is_done = self._coordinator.add(node, replaced, newer)
        if is_first and self._coordinator.acknowledged:
            # Not earlier: a hint could bring back what everybody has declined.
            for place in self._owed:
                self._dispatch.keep_hints(place, self._rows)
        return is_done

    def _check_fits(self, answer: StoreDone) -> None:
        count = len(self._rows)
        if len(answer.replaced) != count or any(number >= count for number, _, _ in answer.newer):
            raise MalformedMessageError("an answer that is of other writes")

    def _give_up_silent(self) -> None:
        fresh = self._targets.take_fresh()
        for node in self._coordinator.waiting:
            if node not in fresh:
                self._dispatch.unanswered(node)
                self._take_place(node, self._coordinator.silent(node))
        if not self._wanted:
            self._end()
        else:
            self._end_if_over()

    def _end_if_over(self) -> None:
        if self._wanted and self._coordinator.has_failed:
            self._give_up(LOST)
        elif not self._wanted and self._coordinator.is_complete:
            self._end()

    def _give_up(self, reason: str) -> None:
        self._end()
        self._fail(tuple(self._wanted), self._coordinator.failure(reason))

    def _fail(self, numbers: Iterable[int], failure: Refused | Unknown) -> None:
        for number in numbers:
            one = self._wanted.pop(number)
            one.group.failed(one.position, failure)

    def _tell(self) -> None:
        """All that has no outcome yet is done."""
        wanted, self._wanted = self._wanted, {}
        self._tell_of(wanted)

    def _tell_of(self, wanted: Mapping[int, Wanted]) -> None:
        replaced, acknowledged = self._coordinator.replaced, tuple(self._coordinator.acknowledged.values())
        for number, (operation, group, position) in wanted.items():
            counter, node = self._counters[number], self._author
            result: OperationResult
            if isinstance(operation, Put):
                result = StampedPut(version=counter, revision=counter, replaced=replaced[number], node=node)
            elif replaced[number]:
                result = StampedDelete(revision=counter, node=node)
            else:
                result = Missing(key=operation.key)
            group.written(position, result, counter, acknowledged)


class RunningWrites(_Spreading):
    """Puts and deletes that are made together, last writer wins."""

    def __init__(
        self,
        dispatch: Dispatch,
        wanted: Iterable[Wanted],
        targets: Targets,
        *,
        needed: int,
        attempt: WriteAttempt,
        try_again: TryAgain,
    ) -> None:
        """``try_again`` takes those that this attempt cannot finish."""
        super().__init__(dispatch, wanted, targets, needed=needed, attempt=attempt)
        self._attempt = attempt
        self._try_again = try_again
        self._overtaken: dict[int, Wanted] = {}
        """What has lost, until it is certain whether somebody can have seen it."""

    def begin(self, operation_id: int) -> None:
        """Stamp the writes and send them to their replicas, or refuse them if there are too few."""
        self._id = operation_id
        if self._coordinator.is_hopeless:
            self._give_up(LOST)
            return
        self._stamp()
        self._dispatch.ask(self._coordinator.begin(), self._store)

    def answered(self, node: str, answer: quorum_messages.Answer) -> None:
        """See ``Running``."""
        if isinstance(answer, QuestionDeclined):
            self._declined(node, refused_by(answer.refusal))
            self._settle_overtaken()
        elif isinstance(answer, StoreDone):
            self._check_fits(answer)
            newer = [(number, Stamp(counter, name)) for number, counter, name in answer.newer]
            self._avoid(node, newer)
            if self._stored(node, answer.replaced, newer):
                self._set_overtaken_apart()
                self._tell()
            self._settle_overtaken()
            self._end_if_over()

    def lost(self, node: str) -> None:
        """See ``Running``."""
        super().lost(node)
        self._settle_overtaken()

    def silent(self) -> None:
        """See ``Running``."""
        self._leave_overtaken()
        self._give_up_silent()

    def expire(self) -> None:
        """See ``Running``."""
        self._leave_overtaken()
        super().expire()

    def _stamp(self) -> None:
        if self._attempt.made is not None:
            ((_, one),) = self._wanted.items()  # no two writes have a counter in common
            counter, state = self._attempt.made
            self._author, self._counters = self._dispatch.settings.node_id, (counter,)
            self._rows = ((one.operation.key, state),)
            return
        clock, conflicts, name = self._dispatch.clock, self._dispatch.conflicts, self._dispatch.settings.node_id
        now_ms, first = self._dispatch.now_ms(), clock.next(len(self._wanted))
        rows: list[tuple[bytes, bytes]] = []
        for counter, one in enumerate(self._wanted.values(), first):
            operation = one.operation
            version = Version(counter, name, value_of(operation), expiry_of(operation, now_ms))
            rows.append((operation.key, encode_state(conflicts.write(None, version, ()))))
        self._author, self._counters = name, range(first, first + len(rows))
        self._rows = tuple(rows)

    def _avoid(self, node: str, newer: Iterable[tuple[int, Stamp]]) -> None:
        """Make without ``node`` what it holds under the stamp of a clock that ran wild.

        To stamp above that would carry the wild time on to this node and from there to all; so ``node`` is one that
        does not show the write. It is the same version that others are given: it may have been seen.
        """
        for number, standing in newer:
            if number in self._wanted and self._dispatch.clock.is_too_far_ahead(standing.counter):
                without = self._attempt.without | {node}
                made = (self._counters[number], self._rows[number][1])
                self._try_again(self._wanted.pop(number), self._attempt._replace(without=without, made=made))

    def _set_overtaken_apart(self) -> None:
        if not self._attempt.is_stamped_again:
            overtaken = self._coordinator.overtaken
            self._overtaken = {number: self._wanted.pop(number) for number in overtaken if number in self._wanted}

    def _settle_overtaken(self) -> None:
        """Of what has lost: done where enough show it, made once more, above what replicas show, where nobody has."""
        coordinator = self._coordinator
        for number in tuple(self._overtaken):
            if coordinator.is_shown_by_enough(number):
                self._tell_of({number: self._overtaken.pop(number)})
            elif coordinator.is_in_doubt or (coordinator.is_complete and coordinator.is_shown(number)):
                self._leave_unknown(number)
            elif coordinator.is_complete:
                self._dispatch.clock.observe(coordinator.overtaken[number].counter)
                again = self._attempt._replace(made=None, is_stamped_again=True)
                self._try_again(self._overtaken.pop(number), again)

    def _leave_overtaken(self) -> None:
        for number in tuple(self._overtaken):
            self._leave_unknown(number)

    def _leave_unknown(self, number: int) -> None:
        _, group, position = self._overtaken.pop(number)
        group.failed(position, OVERTAKEN)


class RunningEvent(_Spreading):
    """One put or delete on top of ``context``, siblings kept. Nothing is spread until ``_origin`` has answered."""

    def __init__(self, dispatch: Dispatch, wanted: Wanted, targets: Targets, *, needed: int, context: bytes) -> None:
        super().__init__(dispatch, (wanted,), targets, needed=needed, attempt=FIRST)
        self._operation = wanted.operation
        self._context = context
        self._origin = ""

    def begin(self, operation_id: int) -> None:
        """Ask the origin: this node, if it is a replica, else the first that can be reached."""
        self._id = operation_id
        if self._coordinator.is_hopeless:
            self._give_up(LOST)
            return
        self._ask_origin()

    def answered(self, node: str, answer: quorum_messages.Answer) -> None:
        """See ``Running``."""
        if not self._rows:
            if node == self._origin:  # nobody else was asked yet
                self._origin_answered(answer)
        elif isinstance(answer, QuestionDeclined):
            self._declined(node, refused_by(answer.refusal))
        elif isinstance(answer, StoreDone):
            # A newer stamp at a replica is a sibling here, and no reason to write again.
            self._check_fits(answer)
            self._counted(node, answer.replaced)

    def _origin_answered(self, answer: quorum_messages.Answer) -> None:
        if isinstance(answer, QuestionDeclined):
            self._origin_declined(refused_by(answer.refusal))
        elif isinstance(answer, EventDone):
            self._author, self._counters = answer.node, (answer.counter,)
            self._rows = ((self._operation.key, answer.state),)
            asked = self._coordinator.begin()
            self._targets.renew()
            self._dispatch.ask(tuple(target for target in asked if target.node != self._origin), self._store)
            self._counted(self._origin, (answer.replaced,))

    def lost(self, node: str) -> None:
        """See ``Running``; when the origin is gone, nobody knows whether the write happened there."""
        if node == self._origin and not self._rows:
            self._leave_unknown(LOST)
        elif self._rows:
            super().lost(node)
        elif self._coordinator.awaits(node):
            self._coordinator.lost(node)
            if self._coordinator.is_hopeless:
                self._leave_unknown(LOST)

    def expire(self) -> None:
        """See ``Running``."""
        if self._origin and not self._rows:
            self._leave_unknown(LATE)
        else:
            super().expire()

    def silent(self) -> None:
        """See ``Running``; another origin would make a second version of the same write, so none is asked."""
        if self._rows:
            self._give_up_silent()
        elif self._origin not in self._targets.take_fresh():
            self._dispatch.unanswered(self._origin)
            self._leave_unknown(SILENT)

    def _asked(self) -> tuple[ReplicaAsked, ...]:
        if self._rows or not self._origin:
            return super()._asked()
        return (ReplicaAsked(node=self._origin, fate=self._coordinator.fate(self._origin)),)

    def _counted(self, node: str, replaced: Sequence[bool]) -> None:
        if self._stored(node, replaced):
            self._tell()
        self._end_if_over()

    def _leave_unknown(self, reason: str) -> None:
        self._end()
        detail = f"{reason} before node {self._origin}, which was to make the write, had answered"
        self._fail(tuple(self._wanted), Unknown(detail=detail))

    def _ask_origin(self) -> None:
        waiting, here = self._coordinator.waiting, self._dispatch.settings.node_id
        self._origin = here if here in waiting else waiting[0]
        operation = self._operation
        asked = (
            self._id,
            operation.key,
            value_of(operation),
            expiry_of(operation, self._dispatch.now_ms()),
            self._context,
            self._targets.asked[self._origin].stands_for,
        )
        caller, event = self._caller, WriteEvent(*asked)
        if caller is not None and self._dispatch.judges(self._origin):
            event = WriteEventFor(*asked, caller.user, caller.generation)
        self._dispatch.ask((Target(self._origin),), lambda _target: event)

    def _origin_declined(self, refusal: Refused) -> None:
        """Another origin may be asked, because this one has done nothing."""
        self._coordinator.declined(self._origin, refusal)
        if self._coordinator.is_hopeless or refusal.code is Code.FORBIDDEN:
            self._end()
            self._fail(tuple(self._wanted), refusal)
        else:
            self._targets.renew()
            self._ask_origin()
