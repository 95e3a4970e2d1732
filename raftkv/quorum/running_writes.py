"""Writes under way: the write coordinator joined to messages.

``RunningWrite`` is last-writer-wins: this node stamps the write and every replica joins the same state.
``RunningEvent`` keeps siblings: the write happens at one replica, on what that one holds durably, so that its version
vector only ever covers what it has processed; the state that comes of it is then spread like any other
(Almeida et al. 2014, section 5).
"""

from __future__ import annotations

from raftkv.core.errors import Refused, Unknown
from raftkv.core.requests import Delete, Put
from raftkv.core.results import DeleteDone, Missing, OperationResult, PutDone
from raftkv.quorum import messages
from raftkv.quorum.messages import Declined, Event, EventDone, Store, StoreDone
from raftkv.quorum.operations import LATE, LOST, Dispatch, Group
from raftkv.quorum.targets import Target, Targets
from raftkv.quorum.versions import Stamp, Version, encode_state
from raftkv.quorum.writes import Step, WriteCoordinator


def value_of(operation: Put | Delete) -> bytes | None:
    """What the operation leaves: a value, or a tombstone."""
    return operation.value if isinstance(operation, Put) else None


def expiry_of(operation: Put | Delete, wall_ms: int) -> int:
    """When the value expires, in ms since the epoch; 0 for never."""
    return wall_ms + operation.ttl_ms if isinstance(operation, Put) and operation.ttl_ms else 0


class _Spreading:
    """What both kinds of write share: a state on its way to the replicas."""

    def __init__(
        self, dispatch: Dispatch, operation: Put | Delete, targets: Targets, group: Group, position: int, *, needed: int
    ) -> None:
        self._dispatch = dispatch
        self._operation = operation
        self._targets = targets
        self._group = group
        self._position = position
        self._id = 0
        self._state = b""
        self._told = False
        self._owed = list(targets.unasked)
        self._coordinator = WriteCoordinator(targets, needed=needed + targets.besides_count)

    def lost(self, node: str) -> None:
        """See ``Running``."""
        if node in self._coordinator.waiting:
            self._take_place(node, self._coordinator.lost(node))
            self._consider(LOST)

    def expire(self) -> None:
        """See ``Running``."""
        self._dispatch.end(self._id)
        if not self._told:
            self._fail(LATE)

    def _store(self, target: Target) -> Store:
        return Store(self._id, self._operation.key, self._state, target.stands_for)

    def _take_place(self, node: str, substitute: Target | None) -> None:
        """``substitute`` is asked in place of ``node``; without one, this node owes it the hint."""
        if substitute is not None:
            self._dispatch.ask((substitute,), self._store)
            return
        place = self._targets.place_of(node)
        self._owed.append(place)
        if self._coordinator.acknowledged:
            self._dispatch.keep_hint(place, self._operation.key, self._state)

    def _keep_hints(self) -> None:
        """Once somebody has the write: before, a hint could bring back what everybody has declined."""
        for place in self._owed:
            self._dispatch.keep_hint(place, self._operation.key, self._state)

    def _declined(self, node: str, refusal: Refused) -> None:
        if node in self._coordinator.waiting:
            self._take_place(node, self._coordinator.declined(node, refusal))
            self._consider(LOST)

    def _stored(self, node: str, answer: StoreDone) -> Step:
        is_first = not self._coordinator.acknowledged
        step = self._coordinator.add(node, Stamp(answer.counter, answer.node), replaced=answer.replaced)
        if is_first and self._coordinator.acknowledged:
            self._keep_hints()
        if step is Step.DONE:
            self._tell()
        if self._told and not self._coordinator.waiting:
            self._dispatch.end(self._id)
        return step

    def _give_up_silent(self) -> None:
        for node in self._coordinator.waiting:
            self._take_place(node, self._coordinator.silent(node))
        if self._told:
            self._dispatch.end(self._id)

    def _consider(self, reason: str) -> None:
        if self._told:
            if not self._coordinator.waiting:
                self._dispatch.end(self._id)
        elif self._coordinator.is_hopeless:
            self._dispatch.end(self._id)
            self._fail(reason)

    def _fail(self, reason: str) -> None:
        self._told = True
        self._group.failed(self._position, self._coordinator.failure(reason))

    def _tell(self) -> None:
        self._told = True
        coordinator, stamp = self._coordinator, self._coordinator.stamp
        result: OperationResult
        if isinstance(self._operation, Put):
            result = PutDone(
                version=stamp.counter, revision=stamp.counter, replaced=coordinator.replaced, node=stamp.node
            )
        elif coordinator.replaced:
            result = DeleteDone(revision=stamp.counter, node=stamp.node)
        else:
            result = Missing(key=self._operation.key)
        self._group.written(self._position, result, stamp, tuple(coordinator.acknowledged.values()))


class RunningWrite(_Spreading):
    """One put or delete, last writer wins."""

    def begin(self, operation_id: int) -> None:
        """Stamp the write and send it to its replicas, or refuse it if there are too few."""
        self._id = operation_id
        if self._coordinator.is_hopeless:
            self.expire()
            return
        self._dispatch.ask(self._coordinator.begin(self._stamp()), self._store)

    def answered(self, node: str, answer: messages.Answer) -> None:
        """See ``Running``."""
        if isinstance(answer, Declined):
            self._declined(node, answer.refusal)
        elif isinstance(answer, StoreDone) and self._dispatch.clock.is_too_far_ahead(answer.counter):
            # The replica holds the version of a clock that ran wild. To stamp above that would carry the wild time on
            # to this node and from there to all; so the write is one that this replica does not show.
            self.lost(node)
        elif isinstance(answer, StoreDone) and self._stored(node, answer) is Step.STAMP_AGAIN:
            self._dispatch.clock.observe(self._coordinator.newest.counter)
            self._dispatch.ask(self._coordinator.again(self._stamp()), self._store)

    def silent(self) -> None:
        """See ``Running``."""
        self._give_up_silent()

    def _stamp(self) -> Stamp:
        dispatch, operation = self._dispatch, self._operation
        stamp = Stamp(dispatch.clock.next(), dispatch.settings.node_id)
        version = Version(stamp.counter, stamp.node, value_of(operation), expiry_of(operation, dispatch.wall_ms()))
        self._state = encode_state(dispatch.conflicts.write(None, version, ()))
        return stamp


class RunningEvent(_Spreading):
    """One put or delete, siblings kept. Until ``_origin`` has answered there is no state to spread."""

    def __init__(
        self,
        dispatch: Dispatch,
        operation: Put | Delete,
        targets: Targets,
        group: Group,
        position: int,
        *,
        needed: int,
        context: bytes,
    ) -> None:
        super().__init__(dispatch, operation, targets, group, position, needed=needed)
        self._context = context
        self._origin = ""

    def begin(self, operation_id: int) -> None:
        """Ask the origin: this node, if it is a replica, else the first that can be reached."""
        self._id = operation_id
        if self._coordinator.is_hopeless:
            self.expire()
            return
        self._ask_origin()

    def answered(self, node: str, answer: messages.Answer) -> None:
        """See ``Running``."""
        if not self._state:
            if node == self._origin:  # nobody else was asked yet
                self._origin_answered(answer)
        elif isinstance(answer, Declined):
            self._declined(node, answer.refusal)
        elif isinstance(answer, StoreDone):
            # A newer stamp at a replica is a sibling here, and no reason to write again.
            stamp = self._coordinator.stamp
            self._stored(node, StoreDone(self._id, stamp.counter, stamp.node, answer.replaced))

    def _origin_answered(self, answer: messages.Answer) -> None:
        if isinstance(answer, Declined):
            self._origin_declined(answer.refusal)
        elif isinstance(answer, EventDone):
            self._state = answer.state
            asked = self._coordinator.begin(Stamp(answer.counter, answer.node))
            self._dispatch.ask(tuple(target for target in asked if target.node != self._origin), self._store)
            self._stored(self._origin, StoreDone(self._id, answer.counter, answer.node, answer.replaced))

    def lost(self, node: str) -> None:
        """See ``Running``; when the origin is gone, nobody knows whether the write happened there."""
        if node == self._origin and not self._state:
            self._leave_unknown(LOST)
        elif self._state:
            super().lost(node)
        elif node in self._coordinator.waiting:
            self._coordinator.lost(node)
            if self._coordinator.is_hopeless:
                self._leave_unknown(LOST)

    def expire(self) -> None:
        """See ``Running``."""
        if self._origin and not self._state:
            self._leave_unknown(LATE)
        else:
            super().expire()

    def silent(self) -> None:
        """See ``Running``; another origin would make a second version of the same write, so the first is waited for."""
        if self._state:
            self._give_up_silent()

    def _leave_unknown(self, reason: str) -> None:
        self._dispatch.end(self._id)
        self._told = True
        detail = f"{reason} before node {self._origin}, which was to make the write, had answered"
        self._group.failed(self._position, Unknown(detail=detail))

    def _ask_origin(self) -> None:
        waiting, here = self._coordinator.waiting, self._dispatch.settings.node_id
        self._origin = here if here in waiting else waiting[0]
        operation = self._operation
        event = Event(
            self._id,
            operation.key,
            value_of(operation),
            expiry_of(operation, self._dispatch.wall_ms()),
            self._context,
            self._targets.asked[self._origin].stands_for,
        )
        self._dispatch.ask((Target(self._origin),), lambda _target: event)

    def _origin_declined(self, refusal: Refused) -> None:
        """Another origin may be asked, because this one has done nothing."""
        self._coordinator.declined(self._origin, refusal)
        if self._coordinator.is_hopeless:
            self._dispatch.end(self._id)
            self._told = True
            self._group.failed(self._position, refusal)
        else:
            self._ask_origin()
