"""What the operations under way have in common: how they are driven, how they ask, and how several make one outcome.

Must not know the disk, and sends through the outbox only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, cast

from raftkv.core.errors import Refused, Unknown, of_read
from raftkv.core.pages import ANSWER_BYTES, size_of
from raftkv.core.replicator import Pending
from raftkv.core.requests import Get, Operation, Write, is_read
from raftkv.core.results import KeyRecord, Missing, OperationResult, QuorumWritten, Withheld
from raftkv.core.sights import WorkCounts
from raftkv.formats import quorum_messages
from raftkv.formats.quorum_messages import NO_ANSWER, Rows
from raftkv.quorum.coordination.speculation import Speculation
from raftkv.quorum.coordination.targets import Target
from raftkv.quorum.data.versions import Conflicts, HybridClock
from raftkv.quorum.membership.placement import Placement
from raftkv.quorum.outbox import Outbox
from raftkv.quorum.sampling import Sampling
from raftkv.quorum.settings import QuorumSettings
from raftkv.quorum.timers import Timers

LATE: Final = "the deadline passed"
SILENT: Final = "quorum.replica_timeout_s passed"
LOST: Final = "too many replicas were lost, silent or declined"


class Running(Protocol):
    """An operation under way, or several that are made together."""

    deadline_s: float
    """The earliest deadline of what is not done."""

    def answered(self, node: str, answer: quorum_messages.Answer) -> None:
        """``node`` answered. Raises ``MalformedMessageError`` for what does not fit the question."""

    def lost(self, node: str) -> None:
        """The connection to ``node`` is gone."""

    def silent(self) -> None:
        """``replica_timeout_s`` has passed, once more: who has not answered is not counted on any more."""

    def expire(self) -> None:
        """``deadline_s`` has come: end, or go on with a later one."""


@dataclass(kw_only=True, eq=False, repr=False)
class Dispatch:
    """What an operation needs of its node."""

    settings: QuorumSettings
    placement: Placement
    outbox: Outbox
    timers: Timers
    clock: HybridClock
    conflicts: Conflicts
    now_s: Callable[[], float]
    now_ms: Callable[[], int]
    last_id: int
    """Random at first: no answer to an earlier life of this process may mean anything to this one."""

    unanswered: Callable[[str], None]
    """Is told who left a question unanswered for too long."""

    fetch_own: Callable[[bytes, bool], bytes | None]
    """What this node holds of a key, encoded; with ``True``, what it keeps for others counts as well."""

    can_fetch_own: Callable[[], bool]
    """Does what this node holds count in a read now?"""

    speculation: Speculation
    judges: Callable[[str], bool]
    """Does a node judge for whom it is asked to write?"""

    sampling: Sampling

    running: dict[int, Running] = field(default_factory=dict, init=False)

    def start(self, running: Running) -> int:
        """``running`` is under way; answers find it by the id."""
        operation_id = self.new_id()
        self.running[operation_id] = running
        return operation_id

    def new_id(self) -> int:
        """An id that no other question of this process has."""
        self.last_id += 1
        return self.last_id

    def post(self, node: str, message: quorum_messages.Message) -> None:
        """``message`` leaves for ``node`` at the end of the turn."""
        self.outbox.post(node, message)

    def ask(self, targets: tuple[Target, ...], message_for: Callable[[Target], quorum_messages.Question]) -> None:
        """Send each target its message; with the artificial delay, each one to a peer waits for the one before."""
        wait_s = self.settings.delays.leader_after_message_s
        peers = 0
        for target in targets:
            message = message_for(target)
            if not wait_s or target.node == self.settings.node_id or isinstance(message, quorum_messages.Fetch):
                self.outbox.post(target.node, message)
                continue
            self.later(peers * wait_s, partial(self.outbox.post, target.node, message))
            peers += 1

    def later(self, wait_s: float, action: Callable[[], None]) -> None:
        """Do ``action`` after ``wait_s``."""
        self.timers.add(self.now_s() + wait_s, action)

    def watch(self, operation_id: int) -> None:
        """Tell the operation whenever ``silence_s`` has passed, and when a deadline of it comes."""
        _Watch(self.running, self.timers, operation_id, self.now_s(), self.settings.silence_s).go_on()

    def end(self, operation_id: int) -> bool:
        """The operation is over; later answers to it mean nothing. Was it under way?"""
        return self.running.pop(operation_id, None) is not None

    def keep_hints(self, node: str, rows: Rows) -> None:
        """Nobody can stand in for ``node``: this node remembers the writes for it, beside what counts towards W."""
        self.outbox.post(self.settings.node_id, quorum_messages.StoreRows(NO_ANSWER, rows, node))

    def repair(self, targets: tuple[Target, ...], key: bytes, state: bytes) -> None:
        """Let ``targets`` have ``state``; nobody waits for it (Dynamo, section 5: read repair)."""
        self.sampling.tally.repairs += len(targets)
        for target in targets:
            self.outbox.post(target.node, quorum_messages.StoreRows(NO_ANSWER, ((key, state),)))


class _Watch:
    """The one timer of an operation, for its replicas' silence and for its deadlines."""

    __slots__ = ("_id", "_running", "_silence_s", "_silent_s", "_timers")

    def __init__(
        self, running: dict[int, Running], timers: Timers, operation_id: int, now_s: float, silence_s: float
    ) -> None:
        self._running, self._timers, self._id = running, timers, operation_id
        self._silence_s, self._silent_s = silence_s, now_s + silence_s

    def __call__(self) -> None:
        running = self._running.get(self._id)
        if running is None:
            return
        if self._silent_s < running.deadline_s:
            self._silent_s += self._silence_s
            running.silent()
        else:
            running.expire()
        self.go_on()

    def go_on(self) -> None:
        running = self._running.get(self._id)
        if running is not None:
            self._timers.add(min(self._silent_s, running.deadline_s), self, self._is_over)

    def _is_over(self) -> bool:
        return self._id not in self._running


class Group:
    """The operations of one write request, whose results make one outcome; ``n``, ``r`` and ``w`` are in force."""

    __slots__ = (
        "_acknowledged",
        "_hinted",
        "_left",
        "_pending",
        "_read_bytes",
        "_results",
        "_revision",
        "_settled",
        "_tally",
        "deadline_s",
        "later",
        "n",
        "operations",
        "r",
        "reading_count",
        "sloppy",
        "unread",
        "w",
        "write",
    )

    def __init__(
        self,
        write: Write,
        deadline_s: float,
        pending: Pending,
        *,
        n: int,
        r: int,
        w: int,
        sloppy: bool,
        settled: Callable[[Group, int], None],
        tally: WorkCounts,
    ) -> None:
        """``settled`` is called with the position of each operation that has its result, if some are to follow.

        Writes are counted in ``tally``.
        """
        self.write = write
        self.operations = cast("tuple[Operation, ...]", write.operations)  # all others were refused
        self.later: dict[bytes, deque[int]] = {}
        """The operations, by their positions, that follow another of the same key."""
        self.unread: deque[int] = deque()
        """The reads, by their positions, that wait for others to end, so that few values are on the way at a time."""
        self.reading_count = 0
        self.deadline_s = deadline_s
        self.n, self.r, self.w, self.sloppy = n, r, w, sloppy
        self._pending = pending
        self._settled = settled
        self._tally = tally
        self._results: list[OperationResult | Refused | Unknown | None] = [None] * len(write.operations)
        self._left = len(write.operations)
        self._acknowledged: tuple[Target, ...] | None = None
        self._hinted = 0
        self._read_bytes = 0
        self._revision = 0

    def written(self, position: int, result: OperationResult, counter: int, acknowledged: tuple[Target, ...]) -> None:
        """A write is done. Of several, the one with the fewest replicas speaks for the request."""
        if acknowledged is not self._acknowledged:
            self._hinted = max(self._hinted, sum(1 for target in acknowledged if target.stands_for))
            if self._acknowledged is None or len(acknowledged) < len(self._acknowledged):
                self._acknowledged = acknowledged
        self._revision = max(self._revision, counter)
        self._tally.writes += 1
        self._settle(position, result)

    def read(self, position: int, result: KeyRecord | Missing) -> None:
        """A read is done; one that the answer has no room for is withheld, and what it read let go."""
        if isinstance(result, KeyRecord):
            if self.is_full:
                self.withhold(position)
                return
            self._read_bytes += size_of(result)
        self._settle(position, result)

    @property
    def is_full(self) -> bool:
        """Has the answer no room for another value?"""
        return self._read_bytes > ANSWER_BYTES

    def withhold(self, position: int) -> None:
        """Tell of a read that the answer had no room for it."""
        self._settle(position, Withheld(key=self.operations[position].key))

    def failed(self, position: int, failure: Refused | Unknown) -> None:
        """An operation has failed."""
        self._tally.writes_failed += not isinstance(self.operations[position], Get)
        self._settle(position, failure)

    def _settle(self, position: int, result: OperationResult | Refused | Unknown) -> None:
        assert self._results[position] is None
        self._results[position] = result
        self._left -= 1
        if self._left == 0:
            self._pending.resolve(self._outcome())
        elif self.later or self.reading_count:
            self._settled(self, position)

    def _outcome(self) -> QuorumWritten | Refused | Unknown:
        results: list[OperationResult] = []
        refusals: list[Refused] = []
        for result in self._results:
            assert result is not None
            if isinstance(result, Unknown):
                return of_read(result) if is_read(self.write) else result
            if isinstance(result, Refused):
                refusals.append(result)
            else:
                results.append(result)
        if refusals and all(isinstance(result, KeyRecord | Missing | Withheld) for result in results):
            return refusals[0]
        if refusals:
            detail = f"{len(refusals)} of {len(self._results)} operations were refused, the others were applied"
            return Unknown(detail=f"{detail}: {refusals[0].detail}")
        replicas = tuple([target.node for target in self._acknowledged or ()])
        return QuorumWritten(
            results=tuple(results), revision=self._revision, acks=len(replicas), replicas=replicas, hinted=self._hinted
        )
