"""What changes, handed to all who listen: read once for those who are level, and by everybody else at his own pace.

A listener asks for what comes next, and is told once: it is *level* while it waits, and then costs nothing until
something that it wants changes. While it does not wait nothing is queued for it: it is *behind*, and when it asks
again it reads from where it was, what is kept of the last messages first. So what the slow have not taken is held
nowhere but in the state, and who is overtaken by compaction is told so. Positions are revisions, which are the same on
every node: nothing depends on which replica, state or process is asked. Never a gap, a repetition or a disorder:
whoever is told something after revision ``at`` is told all that it wants up to the next ``at``.

Works on any ``Replicator`` by ``subscribe`` and local reads alone, on its thread; no loop, no clock of its own.
Imports ``core`` only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from raftkv.coordination.audience import Audience, Interest, ListenerGroup, Message, Tell
from raftkv.core.replicator import Replicator, Shown, Subscription
from raftkv.core.requests import ChangesAfter, Consistency, LaterQuery, Query, Read
from raftkv.core.results import Answer, Change, ChangePage, HistoryAhead, HistoryGone, Outcome

READ_WITHIN_S: Final = 10.0
RETRY_S: Final = 0.1
"""After a read that was refused: the replica is away, or has too much to do."""


class Portion(msgspec.Struct, frozen=True, gc=False):
    """All that a listener wants up to revision ``through``: whole messages, at least one."""

    content: bytes
    through: int


Heard = Portion | HistoryGone
Hear = Callable[[Heard], bool | None]
Schedule = Callable[[float, Callable[[], None]], object]
"""Call something in so many seconds, on the replicator's thread, never from within this very call."""


class ChangeListener:
    """One that listens, until ``end``; made by ``Feed.listen``."""

    __slots__ = ("_feed", "at", "group", "hear", "is_over", "tell")

    def __init__(self, feed: Feed, group: ListenerGroup[ChangeListener], tell: Tell, after: int) -> None:
        self._feed = feed
        self.is_over = False
        self.group = group
        self.tell = tell
        self.at = after
        """All up to here was told, or not wanted; of one that waits, ``through`` may be further."""

        self.hear: Hear | None = None
        """Set while it waits to be told."""

    @property
    def through(self) -> int:
        """The revision up to which nothing is left that it has not been told."""
        return self._feed.through_of(self)

    def ask(self, hear: Hear) -> None:
        """Call ``hear`` with what comes next, maybe at once; it must not raise. Then one may ask again.

        If it returns true it has asked again: one that can take more at once stays level without another call. After
        ``HistoryGone`` nothing comes any more.
        """
        assert self.hear is None
        self.hear = hear
        self._feed.serve(self)

    def end(self) -> None:
        """Hear nothing more; any number of times."""
        if not self.is_over:
            self.is_over = True
            self.hear = None
            self._feed.left(self)


class Feed:
    """The changes of one replicator. ``now_s`` is the clock of deadlines (monotonic, seconds).

    ``limit_bytes`` is how much one read may bring, and with it what one listener is told at a time, give or take one
    revision and how it is written down.
    """

    def __init__(
        self, replicator: Replicator, *, now_s: Callable[[], float], schedule: Schedule, limit_bytes: int = 1 << 18
    ) -> None:
        self._replicator = replicator
        self._now_s = now_s
        self._schedule = schedule
        self._limit_bytes = limit_bytes
        self._audience: Audience[ChangeListener] = Audience()
        self._listener_count = 0
        self._waiting_count = 0
        self._subscription: Subscription | None = None
        self._newest: int | None = None
        """The revision of what is shown, as it was told last; ``None`` while nobody knows."""

        self._through: int | None = None
        """Who waits has been told everything up to here; ``None`` while nobody waits and it has fallen behind."""

        self._is_due = False
        self._is_reading = False
        self._behind: deque[ChangeListener] = deque()
        """Who is to read by itself: one at a turn, so that however many there are, nothing else waits for them all."""

        self._parked: list[ChangeListener] = []
        """Who asked while something was read for all."""

    @property
    def listener_count(self) -> int:
        """How many listen."""
        return self._listener_count

    @property
    def waiting_count(self) -> int:
        """How many of them are level."""
        return self._waiting_count

    def listen(self, interest: Interest, tell: Tell, after: int) -> ChangeListener:
        """Listen to what changes after revision ``after``, which has been there."""
        listener = ChangeListener(self, self._audience.join(interest, tell), tell, after)
        self._listener_count += 1
        if self._subscription is None:
            self._subscription = self._replicator.subscribe(self._hear)
        return listener

    def wait(self, start: bytes, end: bytes, after: int, hear: Callable[[], None]) -> ChangeListener:
        """Call ``hear`` once, when a key with ``start`` <= key < ``end`` has changed after ``after``, or may have.

        It may have if history does not reach back so far. ``hear`` may be called at once; ``end`` lets it be.
        """
        listener = self.listen(Interest(start=start, end=end), _something, after)

        def told(_: Heard) -> None:
            listener.end()
            hear()

        listener.ask(told)
        return listener

    def left(self, listener: ChangeListener) -> None:
        """``listener`` has ended."""
        if listener.group.waiting.pop(listener, self) is None:
            self._waiting_count -= 1
        self._audience.leave(listener.group, listener.tell)
        self._listener_count -= 1
        if not self._listener_count and self._subscription is not None:
            self._subscription.end()
            self._subscription = self._newest = self._through = None

    def through_of(self, listener: ChangeListener) -> int:
        """See ``ChangeListener.through``."""
        if self._through is not None and listener in listener.group.waiting:
            return max(listener.at, self._through)
        return listener.at

    # -- those who are level --------------------------------------------------------------------------------------

    def _hear(self, shown: Shown | None) -> None:
        self._newest = None if shown is None else shown.revision
        self._expect(0.0)

    def _expect(self, delay_s: float) -> None:
        is_new = self._newest is not None and self._through is not None and self._newest > self._through
        if is_new and not self._is_due:
            self._is_due = True
            self._schedule(delay_s, self._work)

    def _work(self) -> None:
        """Read what is new for all who are level."""
        self._is_due = False
        if self._is_reading or self._through is None:
            return
        if not self._waiting_count:
            self._rest()
            return
        start, end, previous = self._audience.hull
        query = ChangesAfter(
            revision=self._through, start=start, end=end, previous=previous, limit_bytes=self._limit_bytes
        )
        self._is_reading = True
        self.read(query, self._have_read)

    def _rest(self) -> None:
        """Nobody waits: whoever does so next says where to go on."""
        self._through = None
        for group in self._audience:
            group.forget(None)

    def _have_read(self, outcome: Outcome) -> None:
        self._is_reading = False
        content = outcome.content if isinstance(outcome, Answer) else None
        if self._through is not None:  # else all have left meanwhile
            if isinstance(content, ChangePage):
                self._hand_out(content)
            elif isinstance(content, HistoryGone):
                self._send_away()
        # A state that was put back shows the rest again by and by, and tells; a refusal may have been for a moment.
        if not isinstance(content, HistoryAhead):
            self._expect(0.0 if content is not None else RETRY_S)
        parked, self._parked = self._parked, []
        for listener in parked:
            self._again(listener)

    def _hand_out(self, page: ChangePage) -> None:
        assert self._through is not None
        self._through = page.through
        share_bytes = min(self._limit_bytes, self._audience.share_bytes)
        for group, changes in self._audience.sort(page.changes).items():
            if group.member_count == 1 and not group.waiting:
                group.forget(page.through)
                continue
            messages = group.messages(changes)
            group.keep(messages, share_bytes if group.member_count > 1 else 0)
            whole = Portion(b"".join([content for _, content in messages]), page.through)
            first_revision = messages[0][0]
            waiting, group.waiting = group.waiting, {}
            self._waiting_count -= len(waiting)
            for listener in waiting:
                if listener.is_over:
                    continue  # by what another was told
                if listener.at < first_revision:
                    if self._give(listener, whole):
                        self._be_level(listener)
                else:  # it was ahead of the others
                    self._tell_rest(listener, messages, page.through)

    def _tell_rest(self, listener: ChangeListener, messages: list[Message], through: int) -> None:
        rest = [content for revision, content in messages if revision > listener.at]
        if not rest or self._give(listener, Portion(b"".join(rest), max(through, listener.at))):
            self._be_level(listener)

    def _send_away(self) -> None:
        """History does not reach back so far: each finds out by itself what that means for it."""
        waiting = [listener for group in self._audience for listener in group.waiting]
        for listener in waiting:
            listener.at = self.through_of(listener)
        for group in self._audience:
            group.waiting = {}
        self._waiting_count = 0
        self._rest()
        for listener in waiting:
            self._again(listener)

    # -- everybody ------------------------------------------------------------------------------------------------

    def serve(self, listener: ChangeListener) -> None:
        """Tell ``listener``, which has just asked, what comes next, or let it wait for that."""
        if self._is_reading:
            self._parked.append(listener)  # what is on its way may lack what this one wants
            return
        if self._through is None and self._newest is not None and listener.at >= self._newest:
            self._through = self._newest
        if self._through is not None:
            kept = [] if listener.at >= self._through else listener.group.since(listener.at)
            if kept is not None:
                self._tell_rest(listener, kept, self._through)
                return
        self._catch_up(listener)

    def _be_level(self, listener: ChangeListener) -> None:
        assert self._through is not None
        assert listener.hear is not None
        group = listener.group
        group.waiting[listener] = None
        self._waiting_count += 1
        if group.complete_from is None:
            group.complete_from = self._through
        self._expect(0.0)

    def _catch_up(self, listener: ChangeListener) -> None:
        self._behind.append(listener)
        if len(self._behind) == 1:
            self._schedule(0.0, self._read_for_one)

    def _read_for_one(self) -> None:
        listener = self._behind.popleft()
        while listener.is_over and self._behind:
            listener = self._behind.popleft()
        if self._behind:
            self._schedule(0.0, self._read_for_one)
        if listener.is_over:
            return
        interest = listener.group.interest
        query = ChangesAfter(
            revision=listener.at,
            start=interest.start,
            end=interest.end,
            previous=interest.previous,
            limit_bytes=self._limit_bytes,
        )
        self.read(query, partial(self._caught_up, listener))

    def _caught_up(self, listener: ChangeListener, outcome: Outcome) -> None:
        if listener.is_over:
            return
        content = outcome.content if isinstance(outcome, Answer) else None
        if isinstance(content, HistoryGone):
            self._give(listener, content)
        elif isinstance(content, ChangePage):
            group = listener.group
            messages = group.messages([one for one in content.changes if group.interest.wants(one)])
            if messages:
                if self._give(listener, Portion(b"".join([told for _, told in messages]), content.through)):
                    self._schedule(0.0, partial(self._again, listener))  # reads may end at once: no recursion
                return
            listener.at = content.through
            is_read_on = not content.is_level or (self._newest is not None and self._newest > listener.at)
            if content.is_level and not self._is_reading and (self._through is None or self._through <= listener.at):
                self._through = listener.at if self._through is None else self._through
                self._be_level(listener)
            else:  # after a state was put back there is nothing yet that was not read
                self._schedule(0.0 if is_read_on or self._is_reading else RETRY_S, partial(self._again, listener))
        elif isinstance(content, HistoryAhead) and self._through is None and not self._is_reading:
            self._through = content.revision
            self._be_level(listener)
        else:
            self._schedule(RETRY_S, partial(self._again, listener))

    def _again(self, listener: ChangeListener) -> None:
        if not listener.is_over:
            self.serve(listener)

    @staticmethod
    def _give(listener: ChangeListener, heard: Heard) -> bool:
        """Tell it; returns whether it has asked again by that."""
        hear, listener.hear = listener.hear, None
        assert hear is not None
        if isinstance(heard, Portion):
            listener.at = heard.through
        if not hear(heard) or listener.is_over:
            return False
        listener.hear = hear
        return True

    def read(self, query: Query | LaterQuery, have_read: Callable[[Outcome], None]) -> None:
        """Read the applied state, as it is; ``have_read`` may be called at once, and must not raise."""
        read = Read(query=query, consistency=Consistency.LOCAL)
        self._replicator.submit(read, self._now_s() + READ_WITHIN_S).when_done(have_read)


def _something(_revision: int, _changes: Sequence[Change], _interest: Interest) -> bytes:
    """What those are told who only want to know that there was something."""
    return b"."
